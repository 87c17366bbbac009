"""`index.html` of a run: every notebook and backend with its state, the headline figures, links to all files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import fields
from html import escape
from pathlib import Path
from typing import Any

from markupsafe import Markup

from lib.analysis.judgement import undecided
from lib.analysis.pace import pace_warnings
from lib.files import write_atomic
from lib.html.frame import render, safe
from lib.html.provenance import SHORT_HASH, Fact, hosted, when
from lib.html.top import Top, charts_of, sentence, speed_charts
from lib.records.run import RunFolder, load_run, networks
from lib.records.schema import BenchmarkRecord, CompareRecord, Environment, ExploreRecord, Record, TrainRecord
from lib.report.caveats import disturbed_backends_words, warning_words
from lib.report.compare.whole_network import backends_table
from lib.report.environment import environment_table
from lib.report.gate_result import Judged, doubts_table, read_judged
from lib.report.headline import STATUS_SIGNS, best_backends, best_sentence, headline, top1_text
from lib.report.table import SMOKE_TEXT, Cell, Table, Tone, Value
from lib.report.words import UNKNOWN, duration

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
    """The headline of a record; that of the comparison is the answer of the index already."""
    if not isinstance(record, CompareRecord):
        return headline(record)
    missing = f"; missing: {', '.join(record.missing)}" if record.missing else ""
    return f"{len(record.backends)} backends compared{missing}"


def _link(text: str, href: str | None) -> Cell:
    return Cell(text, href=href) if href else Cell(UNKNOWN, tone="muted")


def _numbers(run: RunFolder, judged: Judged | None) -> list[tuple[str, str]]:
    """Number and meaning, for the row of figures under the first screen."""
    numbers = []
    if run.train is not None:
        split, top1, interval = top1_text(run.train)
        numbers.append((top1, f"top-1 on {split} {interval}".strip()))
    numbers += [(best.backend, f"best in {best.scenario}: {best.words}") for best in best_backends(run.benchmarks)]
    if judged is not None:
        numbers.append((judged.outcome, f"quality gate: {judged.words.partition(': ')[2]}"))
    return numbers


def _done(run: RunFolder) -> str:
    """`8 of 10 notebook runs done`."""
    return f"{sum(job.status == 'ok' for job in run.jobs)} of {len(run.jobs)} notebook runs done"


def _facts(run: RunFolder) -> list[Fact]:
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
        ("Done", f"{_done(run)} in {duration(run.duration_s)}" if run.duration_s is not None else _done(run)),
        ("Data", _named(data)),
        ("Profile", _named(record.profile for record in records)),
        ("Network", _named(models)),
        ("Checkpoint", _named((record.checkpoint_sha256 or "")[:SHORT_HASH] for record in later)),
        ("Commit", _named(commits)),
        ("Machine", _named(record.environment.cpu_model or "unknown CPU" for record in records)),
    ]
    return [Fact(name, safe(escape(value))) for name, value in found if value]


def _named(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(value for value in values if value))


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
    differing = [f"{other} in {', '.join(key for key in versions if versions[key] == other)}" for other, _ in others]
    return f"{usual} ({'; '.join(differing)})" if differing else usual


def run_warnings(run: RunFolder) -> list[str]:
    """What readers of a run must know before anything else, the note of a hosted run first."""
    texts = [hosted().get("note") or run.note, SMOKE_TEXT if run.is_smoke else "", run.stale_compare]
    if run.num_older:
        texts.append(f"{run.num_older} records of an earlier version of this project are left out; run them again")
    texts += [warning_words(warning) for warning in [*pace_warnings(run.benchmarks), *undecided(run.benchmarks)]]
    return [text for text in [*texts, disturbed_backends_words(run.benchmarks)] if text]


def _problems(run: RunFolder) -> list[str]:
    failed = [job for job in run.jobs if job.status in ("failed", "skipped")]
    return [f"{job.label} {job.status}: {job.reason or 'no reason is known'}" for job in failed]


def _answer(run: RunFolder) -> str:
    """That of 04; before 04 has run, what the other records say."""
    if run.compare is not None and not run.stale_compare:
        return run.compare.headline
    others = [headline(record) for record in (run.train, *run.records.values()) if record is not None]
    if answer := next((text for text in (best_sentence(run.benchmarks), *others) if text), ""):
        return sentence(answer)
    return sentence(_done(run)) if run.jobs else "Nothing has run yet: the folder has no pages or records."


def _top(run: RunFolder, title: str) -> Top:
    facts, problems = _facts(run), _problems(run)
    measured = [record for record in networks(run.benchmarks) if record.status == "ok"]
    return Top(
        heading=safe(f"<h1>{escape(title)}</h1>"),
        status="" if problems or not run.jobs else "ok",
        answer=_answer(run),
        charts=speed_charts(measured),
        caveats=[*problems, *run_warnings(run)],
        line=" · ".join(fact.value.unescape() for fact in facts if fact.name not in ("Checkpoint", "Commit")),
        facts=facts,
    )


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
    title = f"Run of {when(run.started) or run.started}" if run.started else f"Run {run_dir.name}"
    explore = next((record for record in run.records.values() if isinstance(record, ExploreRecord)), None)
    content = render(
        "index.html.j2",
        title=title,
        top=_top(run, title),
        numbers=_numbers(run, judged),
        doubts=safe(doubts_table(judged).to_html()) if judged is not None and judged.doubts else "",
        jobs=safe(_jobs_table(run).to_html()) if run.jobs else "",
        backends=safe(backends_table(benchmarks).to_html()) if benchmarks else "",
        charts=[*charts_of(run.train), *charts_of(explore)],
        machines=_machines(run),
        links=_links(),
    )
    path = run_dir / "index.html"
    write_atomic(path, content)
    return path
