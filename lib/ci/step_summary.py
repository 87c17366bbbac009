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
from lib.report.compare.backends_table import backends_table
from lib.report.compare.layer_map import layers_table
from lib.report.table import Table
from lib.report.words import scenario_name
from lib.series.summary import answer_lines


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
    sections = {title: _headline(run, verdicts), "Open": _links(environ, page_url)}
    sections |= {"Quality gate": _of_table(verdict_table(verdicts)), **_tables(run)}
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
    warnings = [f"> [!WARNING]\n> {escape(warning)}" for warning in run_caveats(run)]
    lines = [*answer_lines(run), f"Quality gate, of what is in this run: {verdicts.words}"]
    return "\n\n".join([*warnings, "\n".join(f"- {escape(line)}" for line in lines)])


def _links(environ: Mapping[str, str], page_url: str) -> str:
    links = [link("The compare page", page_url)] if page_url else []
    if run := run_url(environ):
        links += [link("Pages and records of this run, as artifacts", f"{run}#artifacts"), link("This run", run)]
    return " · ".join(links)


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
