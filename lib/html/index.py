"""`index.html` of a run: every notebook and backend with its state, the headline figures, links to all files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import fields
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from markupsafe import Markup

from lib.analysis.judgement import judge
from lib.analysis.pace import pace_warnings
from lib.analysis.recommendation import undecided
from lib.files import write_atomic
from lib.html.charts import Speed, bars_chart, curve_chart, speed_chart
from lib.html.frame import assets, safe, template_environment
from lib.html.provenance import hosted
from lib.records.run import Job, RunFolder, load_run, networks
from lib.records.schema import BenchmarkRecord, CompareRecord, Environment, ExploreRecord, Record, TrainRecord
from lib.report.caveats import disturbed_backends_words, warning_words
from lib.report.compare.whole_network import backends_table
from lib.report.environment import environment_table
from lib.report.gate_result import doubts_table, read_judged
from lib.report.headline import STATUS_SIGNS, best_backends, headline, top1_text
from lib.report.table import SMOKE_TEXT, Banner, Cell, Table, Tone, Value
from lib.report.words import UNKNOWN, duration, scenario_name

SHORT_HASH = 12  # characters

STATUS_TONES: dict[str, Tone] = {"ok": "good", "failed": "bad", "unavailable": "muted", "skipped": "warn"}


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
                job.reason or (_result(record) if record is not None else ""),
                _link("page", job.page),
                _link("notebook", job.executed),
                _link("record", job.record),
            ]
        )
    columns = ["notebook", "backend", "status", "time", "result or reason", "page", "notebook file", "record"]
    return Table(columns, rows, caption="Notebooks of this run")


def _result(record: Record) -> str:
    """The headline of a record; that of the comparison stands over the table already."""
    if not isinstance(record, CompareRecord):
        return headline(record)
    missing = f"; missing: {', '.join(record.missing)}" if record.missing else ""
    return f"{len(record.backends)} backends compared{missing}"


def _link(text: str, href: str | None) -> Cell:
    return Cell(text, href=href) if href else Cell(UNKNOWN, tone="muted")


def _facts(run: RunFolder) -> list[tuple[str, str]]:
    """Number and meaning, for the line under the title."""
    facts = []
    if run.train is not None:
        split, top1, interval = top1_text(run.train)
        facts.append((top1, f"top-1 on {split} {interval}".strip()))
    facts += [(best.backend, f"best in {best.scenario}: {best.words}") for best in best_backends(run.benchmarks)]
    if (judged := read_judged(run.path)) is not None:
        facts.append((judged.outcome, f"quality gate: {judged.words.partition(': ')[2]}"))
    num_ok = sum(job.status == "ok" for job in run.jobs)
    facts.append((f"{num_ok} of {len(run.jobs)}", "notebook runs done"))
    if run.duration_s is not None:
        facts.append((duration(run.duration_s), "in all"))
    return facts


def _origins(run: RunFolder) -> list[tuple[str, str]]:
    """What was measured: data, profile, network, checkpoint and code, each in all the ways that the records name."""
    records = list(run.records.values())
    later = [record for record in records if isinstance(record, TrainRecord | BenchmarkRecord)]
    benchmarks = networks(run.benchmarks)
    models = [f"{record.model}, random weights" if record.random_weights else record.model for record in benchmarks]
    if run.train is not None:
        trained = [f"{run.train.architecture}, recipe {run.train.recipe}"]
        models = trained + [model for model in models if model != run.train.architecture]
    used = [record.data for record in later or records if record.data is not None]
    data = [f"{of.source}, {sum(of.num_images.values()):,} images, {of.manifest_hash[:SHORT_HASH]}" for of in used]
    commits = [record.environment.git_commit or "" for record in records]
    commits = [commit[:SHORT_HASH] + (" with changes" if commit.endswith("+") else "") for commit in commits]
    found = [
        ("data", _named(data)),
        ("profile", _named(record.profile for record in records)),
        ("network", _named(models)),
        ("checkpoint", _named((record.checkpoint_sha256 or "")[:SHORT_HASH] for record in later)),
        ("commit", _named(commits)),
    ]
    return [(name, value) for name, value in found if value]


def _named(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(value for value in values if value))


def _when(started: str) -> str:
    try:
        return datetime.fromisoformat(started).strftime("%d %b %Y, %H:%M UTC")
    except ValueError:
        return started


def _machines(run: RunFolder) -> list[Markup]:
    """One table per machine, as matrix jobs run on several."""
    seen: dict[str, dict[str, Environment]] = {}
    for label, record in run.records.items():
        seen.setdefault(record.environment.machine_id, {})[label] = record.environment
    return [safe(environment_table(merged_environment(found)).to_html()) for found in seen.values()]


def merged_environment(found: dict[str, Environment]) -> Environment:
    """One machine as all its records tell it; `found` is by label.

    Of each field the first that is known. Versions of all packages that any notebook loaded; where they differ, the
    most frequent one, and the others with the notebooks that had them.
    """
    merged: dict[str, Any] = {}
    for field in fields(Environment):
        known = (getattr(environment, field.name) for environment in found.values())
        merged[field.name] = next((value for value in known if value is not None), None)
    names = dict.fromkeys(name for environment in found.values() for name in environment.versions)
    return Environment(**{**merged, "versions": {name: _version(name, found) for name in names}})


def _version(name: str, found: dict[str, Environment]) -> str:
    versions = {
        label: environment.versions[name] for label, environment in found.items() if name in environment.versions
    }
    (usual, _), *others = Counter(versions.values()).most_common()
    told = [f"{other} in {', '.join(key for key in versions if versions[key] == other)}" for other, _ in others]
    return f"{usual} ({'; '.join(told)})" if told else usual


def _problems(jobs: list[Job]) -> list[Markup]:
    return [
        safe(Banner(f"{job.label} {job.status}: {job.reason or 'no reason was written down'}", "error").to_html())
        for job in jobs
        if job.status in ("failed", "skipped")
    ]


def _charts(run: RunFolder) -> list[Markup]:
    """Speed by scenario, what the network learned, what it learned from."""
    records = [record for record in networks(run.benchmarks) if record.status == "ok"]
    speeds: dict[str, list[Speed]] = {}
    for record in records:
        for scenario in record.scenarios:
            if record.backend != record.reference:
                judgement = judge(scenario)
                found = Speed(record.backend, judgement.ratio, judgement.verdict)
                speeds.setdefault(scenario_name(scenario.name), []).append(found)
    charts = [speed_chart(name, records[0].reference, found) for name, found in speeds.items()]
    if run.train is not None and run.train.history:
        charts.append(curve_chart("Top-1 on the validation images", [epoch.val_top1 for epoch in run.train.history]))
    explore = next((record for record in run.records.values() if isinstance(record, ExploreRecord)), None)
    if explore is not None and explore.images_per_class:
        charts.append(bars_chart("Training images by class", explore.images_per_class))
    return charts


def run_warnings(run: RunFolder) -> list[str]:
    """What readers of a run must know before anything else, the note of a hosted run first."""
    texts = [hosted().get("note") or run.note, SMOKE_TEXT if run.is_smoke else "", run.stale_compare]
    texts += [warning_words(warning) for warning in [*pace_warnings(run.benchmarks), *undecided(run.benchmarks)]]
    return [text for text in [*texts, disturbed_backends_words(run.benchmarks)] if text]


def _banners(run: RunFolder) -> list[Markup]:
    return [*(safe(Banner(text).to_html()) for text in run_warnings(run)), *_problems(run.jobs)]


def _links() -> Markup:
    """Where code and run can be looked up, of a hosted run."""
    found = hosted()
    links = [(found[key], text) for key, text in (("run", "run on GitHub"), ("repository", "code")) if key in found]
    return safe(", ".join(f'<a href="{escape(address)}">{text}</a>' for address, text in links))


def write_index(run_dir: Path) -> Path:
    """Write `index.html` of a run and return its path. Missing and broken parts are named, never an error.

    Raises:
        UserError: the folder is not writable.
    """
    run = load_run(run_dir)
    benchmarks = networks(run.benchmarks)
    judged = read_judged(run_dir)
    content = (
        template_environment()
        .get_template("index.html.j2")
        .render(
            assets=assets(),
            title=f"Run of {_when(run.started)}" if run.started else f"Run {run_dir.name}",
            lead=run.compare.headline if run.compare is not None and not run.stale_compare else "",
            origins=_origins(run),
            banners=_banners(run),
            facts=_facts(run),
            charts=_charts(run),
            doubts=safe(doubts_table(judged).to_html()) if judged is not None and judged.doubts else "",
            jobs=safe(_jobs_table(run).to_html()) if run.jobs else "",
            backends=safe(backends_table(benchmarks).to_html()) if benchmarks else "",
            machines=_machines(run),
            links=_links(),
        )
    )
    path = run_dir / "index.html"
    write_atomic(path, content)
    return path
