"""`index.html` of a run: every notebook and backend with its state, the headline figures, links to all files."""

from __future__ import annotations

from html import escape
from pathlib import Path

from markupsafe import Markup

from lib.analysis.comparison import run_warnings
from lib.analysis.recommendation import speeds
from lib.files import write_atomic
from lib.html.frame import render, safe
from lib.html.provenance import SHORT_HASH, hosted, when
from lib.html.top import Top, charts_of, speed_charts
from lib.records.run import Job, RunFolder, load_run, networks
from lib.records.schema import BenchmarkRecord, CompareRecord, ExploreRecord, Record, TrainRecord
from lib.release.reader import DEMO, FOLDER
from lib.report.caveats import warning_lines
from lib.report.compare.backends_table import backends_table
from lib.report.compare.machines import machines_table
from lib.report.gate_result import Judged, doubts_table, read_judged
from lib.report.headline import STATUS_SIGNS, answer, best_sentence, headline, top1_text
from lib.report.table import SMOKE_TEXT, Cell, Table, Tone, Value
from lib.report.words import UNKNOWN, duration, sentence

STATUS_TONES: dict[str, Tone] = {"ok": "good", "failed": "bad", "unavailable": "muted", "skipped": "warn"}


def _jobs_table(run: RunFolder) -> Table:
    def row(job: Job) -> dict[str, Value]:
        record = run.records.get(job.label)
        return {
            "notebook": Cell(job.notebook, href=job.page or ""),
            "backend": job.backend,
            "status": Cell(
                f"{STATUS_SIGNS.get(job.status, '?')} {job.status}", tone=STATUS_TONES.get(job.status, "warn")
            ),
            "time": duration(job.seconds),
            "result or reason": job.reason or (_result(record) if record is not None else ""),
            "page": _link("page", job.page),
            "notebook file": _link("notebook", job.executed),
            "record": _link("record", job.record),
        }

    return Table.of([row(job) for job in run.jobs], caption="Notebooks of this run")


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
    if judged is not None:
        numbers.append((judged.outcome, f"quality gate: {judged.words.partition(': ')[2]}"))
    return numbers


def _done(run: RunFolder) -> str:
    """`8 of 10 notebook runs done`."""
    return f"{sum(job.status == 'ok' for job in run.jobs)} of {len(run.jobs)} notebook runs done"


def _facts(run: RunFolder) -> dict[str, str]:
    """What was measured: data, profile, network, checkpoint and code, each in all the ways that the records name."""
    records = list(run.records.values())
    later = [record for record in records if isinstance(record, TrainRecord | BenchmarkRecord)]
    models = [f"{run.train.architecture}, recipe {run.train.recipe}"] if run.train is not None else []
    for record in networks(run.benchmarks):
        if run.train is None or record.model != run.train.architecture:
            models.append(record.model + (", random weights" if record.random_weights else ""))
    used = [record.data for record in later or records if record.data is not None]
    data = [f"{of.source}, {sum(of.num_images.values()):,} images, {of.manifest_hash[:SHORT_HASH]}" for of in used]
    data += [f"extra training images {of.extra_hash[:SHORT_HASH]}" for of in used if of.extra_hash]
    commits = [record.environment.git_commit or "" for record in records]
    commits = [commit[:SHORT_HASH] + (" with changes" if commit.endswith("+") else "") for commit in commits]
    found: dict[str, list[str]] = {
        "Done": [f"{_done(run)} in {duration(run.duration_s)}" if run.duration_s is not None else _done(run)],
        "Data": data,
        "Profile": [record.profile for record in records],
        "Network": models,
        "Checkpoint": [(record.checkpoint_sha256 or "")[:SHORT_HASH] for record in later],
        "Commit": commits,
        "Machine": [record.environment.cpu_model or "unknown CPU" for record in records],
    }
    named = {name: "; ".join(dict.fromkeys(filter(None, values))) for name, values in found.items()}
    return {name: text for name, text in named.items() if text}


def run_caveats(run: RunFolder) -> list[str]:
    """What readers of a run must know before anything else, the note of a hosted run first."""
    older = ""
    if run.num_older:
        older = f"{run.num_older} records of an earlier version of this project are left out; run them again"
    texts = [hosted().get("note") or run.note, SMOKE_TEXT if run.is_smoke else "", run.stale_compare, older]
    return [*filter(None, texts), *warning_lines(run_warnings(run.benchmarks))]


def _problems(run: RunFolder) -> list[str]:
    failed = [job for job in run.jobs if job.status in ("failed", "skipped")]
    return [f"{job.label} {job.status}: {job.reason or 'no reason is known'}" for job in failed]


def _answer(run: RunFolder) -> str:
    """That of 04; before 04 has run, what the other records say."""
    if run.compare is not None and not run.stale_compare:
        return run.compare.headline
    if best := best_sentence(run.benchmarks):
        return best
    if found := next((record for record in (run.train, *run.records.values()) if record is not None), None):
        return answer(found)
    return sentence(_done(run)) if run.jobs else "Nothing has run yet: the folder has no pages or records."


def _top(run: RunFolder, title: str) -> Top:
    facts, problems = _facts(run), _problems(run)
    return Top(
        heading=safe(f"<h1>{escape(title)}</h1>"),
        status="" if problems or not run.jobs else "ok",
        answer=_answer(run),
        charts=speed_charts(speeds(networks(run.benchmarks))),
        caveats=[*problems, *run_caveats(run)],
        line=" · ".join(text for name, text in facts.items() if name not in ("Checkpoint", "Commit")),
        facts=[(name, safe(escape(text))) for name, text in facts.items()],
    )


def _links(run_dir: Path) -> Markup:
    """The page that tries the network, and where code and run can be looked up, of a hosted run."""
    found = hosted()
    links = [(found[key], text) for key, text in (("run", "run on GitHub"), ("repository", "code")) if key in found]
    if (run_dir / FOLDER / DEMO).is_file():
        links.insert(0, (f"{FOLDER}/{DEMO}", "try the network"))
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
        machines=safe(machines_table(run.records).to_html()) if run.records else "",
        links=_links(run_dir),
    )
    path = run_dir / "index.html"
    write_atomic(path, content)
    return path
