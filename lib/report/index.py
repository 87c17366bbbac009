"""`index.html` of a run: every notebook and backend with its state, the headline figures, links to all files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from markupsafe import Markup

from lib.files import write_atomic
from lib.records.recommendation import fastest
from lib.records.results import BenchmarkRecord, CompareRecord, ExploreRecord, Record, TrainRecord
from lib.records.statistics import median_latency, noise_floor, scenario_ratio
from lib.report.page import assets, template_environment
from lib.report.run import Job, RunFolder, is_network, load_run, networks
from lib.report.table import SMOKE_TEXT, Banner, Cell, Table, Tone, Value
from lib.report.tables import compare_scenarios_table, environment_table
from lib.report.words import UNKNOWN, duration, percent, percent_interval, ratio_words, scenario_name

STATUS_TONES: dict[str, Tone] = {"ok": "good", "failed": "bad", "unavailable": "muted", "skipped": "warn"}
STATUS_SIGNS = {"ok": "✓", "failed": "✗", "unavailable": "○", "skipped": "–"}


def headline(record: Record) -> str:
    """The one thing that a record says, for a table cell."""
    if isinstance(record, ExploreRecord):
        counts = record.images_per_class
        rarest = min(counts, default=0)
        spread = f", most frequent class {max(counts) / rarest:.1f}x the rarest" if rarest else ""
        return f"{sum(counts):,} training images in {sum(count > 0 for count in counts)} classes{spread}"
    if isinstance(record, TrainRecord):
        parts = [f"top-1 {percent(found.top1)} on {split}" for split, found in record.accuracy.items()]
        return ", ".join([*parts, f"{record.num_epochs} epochs in {duration(record.train_s)}"])
    if isinstance(record, CompareRecord):
        return record.headline
    if isinstance(record, BenchmarkRecord) and record.status == "ok":
        if record.backend == record.reference:
            return "the reference beside itself: shows the noise"
        if not is_network(record.backend):
            calls = ", ".join(
                f"{scenario_name(scenario.name)} {1e6 * median_latency(scenario.latencies_s):.1f} µs a call"
                for scenario in record.scenarios
            )
            return f"the harness alone: {calls}"
        return ", ".join(
            f"{scenario_name(scenario.name)} {ratio_words(scenario_ratio(scenario), noise_floor(scenario))}"
            for scenario in record.scenarios
        )
    return ""


def top1_text(train: TrainRecord) -> tuple[str, str, str]:
    """Split, top-1 and interval of the split that counts: test where present."""
    split = "test" if "test" in train.accuracy else next(iter(train.accuracy), "")
    if not split:
        return "", UNKNOWN, ""
    found = train.accuracy[split]
    return split, percent(found.top1), percent_interval(found.top1_interval)


def _jobs_table(run: RunFolder) -> Table:
    rows: list[list[Value]] = []
    for job in run.jobs:
        record = run.records.get(job.label)
        rows.append(
            [
                Cell(job.notebook, href=job.page or ""),
                job.backend or Cell(""),
                Cell(f"{STATUS_SIGNS.get(job.status, '?')} {job.status}", tone=STATUS_TONES.get(job.status, "warn")),
                duration(job.seconds),
                job.reason or (headline(record) if record is not None else ""),
                _link("page", job.page),
                _link("notebook", job.executed),
                _link("record", job.record),
            ]
        )
    columns = ["notebook", "backend", "status", "time", "result or reason", "page", "notebook file", "record"]
    return Table(columns, rows, caption="Notebooks of this run")


def _link(text: str, href: str | None) -> Cell:
    return Cell(text, href=href) if href else Cell(UNKNOWN, tone="muted")


def _facts(run: RunFolder) -> list[tuple[str, str]]:
    """Number and meaning, for the line under the title."""
    facts = []
    if run.train is not None:
        split, top1, interval = top1_text(run.train)
        facts.append((top1, f"top-1 on {split} {interval}".strip()))
    facts += [(best.backend, f"best in {best.scenario}: {best.words}") for best in best_backends(run)]
    num_ok = sum(job.status == "ok" for job in run.jobs)
    facts.append((f"{num_ok} of {len(run.jobs)}", "notebook runs done"))
    if run.duration_s is not None:
        facts.append((duration(run.duration_s), "in all"))
    return facts


@dataclass(frozen=True)
class Best:
    """The fastest right backend of one scenario."""

    scenario: str
    backend: str
    words: str  # how much faster, with the interval


def best_backend(records: list[BenchmarkRecord], scenario: str) -> Best | None:
    """The fastest backend among those whose accuracy and kernels hold, by the lower end of its interval.

    The reference where none is faster beyond noise; None where nothing was measured.
    """
    measured = [record for record in records if any(found.name == scenario for found in record.scenarios)]
    if not measured:
        return None
    found = fastest(measured, scenario)
    if found is None:
        return Best(scenario_name(scenario), measured[0].reference, "no backend beats the reference")
    return Best(scenario_name(scenario), found.record.backend, found.words)


def best_backends(run: RunFolder) -> list[Best]:
    """One line per scenario that was measured."""
    candidates = [record for record in networks(run.benchmarks) if record.status == "ok"]
    names = dict.fromkeys(scenario.name for record in candidates for scenario in record.scenarios)
    return [best for name in names if (best := best_backend(candidates, name)) is not None]


def _when(started: str) -> str:
    try:
        return datetime.fromisoformat(started).strftime("%d %b %Y, %H:%M UTC")
    except ValueError:
        return started


def _machines(run: RunFolder) -> list[Markup]:
    """One table per machine, as matrix jobs run on several."""
    seen: dict[str, Record] = {}
    for record in run.records.values():
        seen.setdefault(record.environment.machine_id, record)
    return [_safe(environment_table(record.environment).to_html()) for record in seen.values()]


def _safe(html: str) -> Markup:
    """Tables and banners escape their content themselves."""
    return Markup(html)  # noqa: S704


def _problems(jobs: list[Job]) -> list[Markup]:
    return [
        _safe(Banner(f"{job.label} {job.status}: {job.reason or 'no reason was written down'}", "error").to_html())
        for job in jobs
        if job.status in ("failed", "skipped")
    ]


def write_index(run_dir: Path) -> Path:
    """Write `index.html` of a run and return its path. Missing and broken parts are named, never an error.

    Raises:
        UserError: the folder is not writable.
    """
    run = load_run(run_dir)
    banners = [_safe(Banner(SMOKE_TEXT).to_html())] if run.is_smoke else []
    benchmarks = networks(run.benchmarks)
    content = (
        template_environment()
        .get_template("index.html.j2")
        .render(
            assets=assets(),
            title=f"Run of {_when(run.started)}" if run.started else f"Run {run_dir.name}",
            lead=run.compare.headline if run.compare is not None else "",
            banners=[*banners, *_problems(run.jobs)],
            facts=_facts(run),
            jobs=_safe(_jobs_table(run).to_html()) if run.jobs else "",
            backends=_safe(compare_scenarios_table(benchmarks).to_html()) if benchmarks else "",
            machines=_machines(run),
        )
    )
    path = run_dir / "index.html"
    write_atomic(path, content)
    return path
