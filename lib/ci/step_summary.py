"""The page of a workflow run: Markdown for `$GITHUB_STEP_SUMMARY`, from the records, the most important first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lib.ci.gate import judge_folder
from lib.ci.github import run_url
from lib.ci.limits import load_limits
from lib.ci.verdicts import Verdicts, verdict_table
from lib.html.index import run_caveats
from lib.html.markdown import escape, link, table_lines
from lib.records.run import RunFolder, load_run, networks, run_folder
from lib.report.compare.layer_map import layers_table
from lib.report.compare.whole_network import backends_table
from lib.report.headline import best_backends, top1_text
from lib.report.table import Table, Value
from lib.report.words import scenario_name


def summary(run_dir: Path, environ: Mapping[str, str], *, page_url: str = "", architecture: str = "") -> str:
    """Markdown of a run.

    Args:
        environ: GITHUB_SERVER_URL, GITHUB_REPOSITORY and GITHUB_RUN_ID give the address of the run.
        page_url: of the page of 04 that the job uploaded; it opens in the browser.

    Raises:
        UserError: no such folder.
    """
    run = load_run(run_folder(run_dir))
    verdicts = Verdicts(judge_folder(run, load_limits()))
    title = "German traffic signs on CPUs" + (f", {architecture}" if architecture else "")
    sections = {title: _headline(run, verdicts), "Open": _links(environ, page_url), "Not done": _problems(run),
                "Quality gate": _of_table(verdict_table(verdicts)), **_tables(run)}  # fmt: skip
    return "".join(f"## {escape(title)}\n\n{text}\n\n" for title, text in sections.items() if text)


def gate_section(verdicts: Verdicts) -> str:
    """The gate's own verdict as Markdown: it also knows how the jobs ended, which no run folder does."""
    return f"## Gate\n\n{_of_table(verdict_table(verdicts))}\n\n"


def append_summary(text: str, environ: Mapping[str, str]) -> None:
    """Add to the summary of the step, where there is one."""
    if path := environ.get("GITHUB_STEP_SUMMARY"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)


def _headline(run: RunFolder, verdicts: Verdicts) -> str:
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
    parts = [f"> [!WARNING]\n> {escape(warning)}" for warning in run_caveats(run)]
    if run.compare is not None and run.compare.layers and not run.stale_compare:
        parts.append(escape(run.compare.layers))
    return "\n\n".join([*parts, _of_table(Table(["what", "this run"], rows, align_numbers=False))])


def _links(environ: Mapping[str, str], page_url: str) -> str:
    links = [link("The compare page", page_url)] if page_url else []
    if run := run_url(environ):
        links += [link("Pages and records of this run, as artifacts", f"{run}#artifacts"), link("This run", run)]
    return " · ".join(links)


def _problems(run: RunFolder) -> str:
    rows: list[list[Value]] = [
        [job.label, job.status, job.reason or "no reason was written down"]
        for job in run.jobs
        if job.status not in ("ok", "unknown")
    ]
    return _of_table(Table(["notebook", "status", "reason"], rows)) if rows else ""


def _tables(run: RunFolder) -> dict[str, str]:
    records = networks(run.benchmarks)
    measured = [record for record in records if record.status == "ok"]
    sections = {"Backends": _of_table(backends_table(records))} if records else {}
    for scenario in sorted({table.scenario for record in measured for table in record.layers}):
        layers = layers_table(measured, scenario)
        if layers.cells:
            sections[f"Layers, {scenario_name(scenario)}"] = _of_table(layers)
    return sections


def _of_table(table: Table) -> str:
    note = [f"<sub>{escape(table.note)}</sub>"] if table.note else []
    return "\n\n".join(["\n".join(table_lines(table)), *note])
