"""The page of a workflow run: Markdown for `$GITHUB_STEP_SUMMARY`, from the records, the most important first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lib.analysis.judgement import undecided
from lib.analysis.pace import pace_warnings
from lib.ci.gate import judge_folder
from lib.ci.github import run_url
from lib.ci.limits import load_limits
from lib.ci.verdicts import Verdicts, verdict_table
from lib.html.markdown import escape, link, table_lines
from lib.records.run import RunFolder, load_run, networks, run_folder
from lib.report import NOTE_VARIABLE
from lib.report.caveats import disturbed_backends_words, warning_words
from lib.report.compare.layer_map import layers_table
from lib.report.compare.whole_network import backends_table
from lib.report.headline import best_backends, top1_text
from lib.report.table import SMOKE_TEXT, Table, Value
from lib.report.words import scenario_name

LIMIT = 1024 * 1024  # bytes of one step's summary; GitHub shows nothing at all of a longer one
RESERVE = 2048  # for what is said about the cut itself


@dataclass
class Section:
    """A heading, lines of text, a table's lines, and what stands below it."""

    title: str
    text: list[str] = field(default_factory=list)
    table: list[str] = field(default_factory=list)  # head and rule first
    note: str = ""


def summary(run_dir: Path, environ: Mapping[str, str], *, page_url: str = "", architecture: str = "") -> str:
    """Markdown of a run, cut visibly where GitHub would refuse it.

    Args:
        environ: GITHUB_STEP_SUMMARY names the file that already holds something; GITHUB_SERVER_URL, GITHUB_REPOSITORY
            and GITHUB_RUN_ID give the address of the run; RUN_NOTE is a sentence for the top.
        page_url: of the page of 04 that the job uploaded; it opens in the browser.

    Raises:
        UserError: no such folder.
    """
    run = load_run(run_folder(run_dir))
    verdicts = Verdicts(judge_folder(run, load_limits()))
    sections = [
        _headline(run, verdicts, environ.get(NOTE_VARIABLE, ""), architecture),
        _links(environ, page_url),
        _problems(run),
        _of_table("Quality gate", verdict_table(verdicts)),
        *_tables(run),
    ]
    left = LIMIT - _size_of(environ.get("GITHUB_STEP_SUMMARY", ""))
    return fit([section for section in sections if section is not None], left)


def gate_section(verdicts: Verdicts) -> str:
    """The gate's own verdict as Markdown: it also knows how the jobs ended, which no run folder tells."""
    return fit([_of_table("Gate", verdict_table(verdicts))], LIMIT)


def append_summary(text: str, environ: Mapping[str, str]) -> None:
    """Add to the summary of the step, where there is one and GitHub would still take it."""
    path = environ.get("GITHUB_STEP_SUMMARY", "")
    if path and _size_of(path) + _length(text) <= LIMIT:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)


def _size_of(path: str) -> int:
    try:
        return Path(path).stat().st_size if path else 0
    except OSError:
        return 0


def _headline(run: RunFolder, verdicts: Verdicts, note: str, architecture: str) -> Section:
    told = [note or run.note, SMOKE_TEXT if run.is_smoke else "", run.stale_compare]
    told += [warning_words(warning) for warning in [*pace_warnings(run.benchmarks), *undecided(run.benchmarks)]]
    told += [disturbed_backends_words(run.benchmarks)]
    text = [f"> [!WARNING]\n> {escape(warning)}" for warning in told if warning]
    rows: list[list[Value]] = []
    if run.train is not None:
        split, top1, interval = top1_text(run.train)
        source = run.train.data.source if run.train.data is not None else "unknown data"
        rows.append([f"top-1 on {split or 'no split'} ({source})", f"{top1} {interval}".strip()])
    rows += [
        [f"best backend, {best.scenario}", f"{best.backend}: {best.words}"] for best in best_backends(run.benchmarks)
    ]
    rows.append(["quality gate, of what is in this run", verdicts.words])
    done = sum(job.status == "ok" for job in run.jobs)
    rows.append(["notebook runs done", f"{done} of {len(run.jobs)}"])
    if run.compare is not None and not run.stale_compare:
        text.append(escape(run.compare.headline))
    title = "German traffic signs on CPUs" + (f", {architecture}" if architecture else "")
    return Section(title, text, table_lines(Table(["what", "this run"], rows, align_numbers=False)))


def _links(environ: Mapping[str, str], page_url: str) -> Section | None:
    links = [link("The compare page", page_url)] if page_url else []
    if run := run_url(environ):
        links += [link("Pages and records of this run, as artifacts", f"{run}#artifacts"), link("This run", run)]
    return Section("Open", [" · ".join(links)]) if links else None


def _problems(run: RunFolder) -> Section | None:
    rows: list[list[Value]] = [
        [job.label, job.status, job.reason or "no reason was written down"]
        for job in run.jobs
        if job.status not in ("ok", "unknown")
    ]
    return _of_table("Not done", Table(["notebook", "status", "reason"], rows)) if rows else None


def _tables(run: RunFolder) -> list[Section]:
    records = networks(run.benchmarks)
    measured = [record for record in records if record.status == "ok"]
    sections = [_of_table("Backends", backends_table(records))] if records else []
    for scenario in sorted({table.scenario for record in measured for table in record.layers}):
        shown = layers_table(measured, scenario)
        if shown.rows:
            sections.append(_of_table(f"Layers, {scenario_name(scenario)}", shown))
    return sections


def _of_table(title: str, table: Table) -> Section:
    return Section(title, [], table_lines(table), escape(table.note))


def fit(sections: Sequence[Section], num_bytes: int) -> str:
    """Sections as Markdown of at most `num_bytes` bytes. What does not fit is left out from the end, row by row, and
    the text says what; empty where not even that fits."""
    whole = "".join(_markdown(section, len(section.table), last=False) for section in sections)
    if _length(whole) <= num_bytes:
        return whole
    budget, shown = num_bytes - RESERVE, ""
    for number, section in enumerate(sections):
        left = budget - _length(shown)
        part = _markdown(section, len(section.table), last=False)
        if _length(part) <= left:
            shown += part
            continue
        rows = _rows_that_fit(section, left)
        if rows:
            shown += _markdown(section, rows, last=True)
        hidden = sections[number + 1 :] if rows else sections[number:]
        notice = "\n> [!IMPORTANT]\n> This summary is cut: GitHub takes no more than 1 MiB."
        if rows:
            notice += f" Of *{escape(section.title)}*, {len(section.table) - rows} rows are left out."
        if hidden:
            notice += f" Left out: {escape(', '.join(part.title for part in hidden))}."
        notice += " The pages among the artifacts have all of it.\n"
        return (shown + notice) if _length(shown + notice) <= num_bytes else ""
    return shown


def _rows_that_fit(section: Section, num_bytes: int) -> int:
    """How many lines of the table fit, head and rule among them; 0 where no row does."""
    used = _length(_markdown(section, 0, last=True))
    for number, line in enumerate(section.table):
        used += _length(line) + 1
        if used > num_bytes:
            return number if number > 2 else 0
    return len(section.table)


def _markdown(section: Section, num_lines: int, *, last: bool) -> str:
    parts = [f"## {escape(section.title)}", *section.text]
    if num_lines:
        parts.append("\n".join(section.table[:num_lines]))
    if section.note and not last:
        parts.append(f"<sub>{section.note}</sub>")
    return "\n\n".join(parts) + "\n\n"


def _length(text: str) -> int:
    return len(text.encode())
