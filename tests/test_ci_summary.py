"""What GitHub shows of a run: the summary, annotations at cells, pages that stand alone, outputs of steps."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import mistune
import nbformat
import pytest

from lib.ci.annotate import annotate_run
from lib.ci.github import MAX_ANNOTATIONS, command, run_url, write_outputs
from lib.ci.pages import without_dead_links, write_pages
from lib.ci.step_summary import summary
from lib.cli import main
from lib.errors import UserError
from lib.files import PROJECT_ROOT
from lib.html.markdown import escape, link, table_lines
from lib.records.schema import record_path, write_record
from lib.report.table import Cell, Table
from tests.made_records import made_benchmark, made_failed_benchmark, write_made_run

HOSTILE = [
    "a|b", "`code`", "<img src=x onerror=alert(1)>", "line\nbreak", "**bold** _it_ ~~no~~", "[text](https://evil.example)",
    "![i](https://evil.example/i.png)", "www.evil.example", "\\|", "&lt;b&gt;", "# head", "> quote", "\u202eabc",
    "x\x00y", "| --- |", "mailto:a@evil.example",
]  # fmt: skip
ENVIRON = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "me/signs", "GITHUB_RUN_ID": "42"}


def html_of(markdown: str) -> str:
    """As a parser of GitHub's kind reads it, with raw HTML and bare addresses allowed to act."""
    return str(mistune.create_markdown(escape=False, plugins=["table", "strikethrough", "url"])(markdown))


def text_of(html: str) -> str:
    from html import unescape

    return unescape(re.sub(r"<[^>]*>", "", html)).strip()


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_as_it_is_and_stays_in_its_cell(text: str) -> None:
    table = Table(["name", text], [[text, 1], ["other", 2]])
    html = html_of("\n".join(table_lines(table)) + "\n")
    tags = {tag.split()[0] for tag in re.findall(r"</?([a-z0-9]+[^>]*)>", html)}
    assert tags <= {"table", "thead", "tbody", "tr", "th", "td"}, html
    cells = re.findall(r"<td[^>]*>(.*?)</td>", html, re.DOTALL)
    assert len(cells) == 4
    shown = re.sub(r"[\x00\u202e]", "", re.sub(r"\s+", " ", text))
    assert text_of(cells[0]) == shown


def test_a_link_is_one_only_to_https() -> None:
    assert link("page", "https://github.com/me/signs/actions/runs/1#artifacts").startswith("[page](https://github.com")
    for address in ("javascript:alert(1)", "https://x/a)b", "https://x/<b>", "http://x"):
        assert "<a " not in html_of(link("page", address))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_made_run(tmp_path_factory.mktemp("run"))


def test_summary_tells_accuracy_best_backends_gate_layers_and_links(run: Path) -> None:
    text = summary(run, ENVIRON, page_url="https://me.github.io/signs/", architecture="arm64")
    headline = text[: text.index("## Open")]
    assert "98.71 %" in headline and "\\[98.11, 99.21\\]" in headline  # top-1 on test, with its interval
    assert re.search(r"- Speed: single stream: onnxruntime-int8, 2\.\d+x faster \\\[", headline)
    assert re.search(r"- Quality gate, of what is in this run: (pass|fail|investigate): ", headline)
    assert "(https://me.github.io/signs/)" in text
    assert "(https://github.com/me/signs/actions/runs/42#artifacts)" in text
    layers = text[text.index("## Layers, offline") : text.index("## Layers, single stream")]
    assert re.search(r"\| layer \| share \| onnxruntime \| onnxruntime-int8 \| torch-blas \| torch-onednn \|", layers)
    assert re.search(r"\| stage1\.0\.conv1 \| [\d.]+ % \| ▲ \d.*\| ▼ \d.* \| = ", layers)


def test_summary_names_what_is_not_done_and_what_the_run_must_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_made_run(tmp_path, ["torch-onednn"], profile="smoke")
    failed = made_failed_benchmark("ncnn", "failed", "<b>crashed</b>\n| at | once |")
    write_record(failed, tmp_path / "results" / "03_benchmark.ncnn.json")
    monkeypatch.setenv("RUN_NOTE", "the host was down")
    text = summary(run, {})
    assert "the host was down" in text and "smoke run" in text
    assert "- Not done: 03\\_benchmark.ncnn failed (&lt;b&gt;crashed&lt;/b&gt; \\| at \\| once \\|)" in text
    assert "github.com" not in text


def test_summary_says_where_04_is_older_than_the_records(tmp_path: Path) -> None:
    run = write_made_run(tmp_path, ["torch-onednn", "torch-blas"])
    answer = "8 of 11 layers run another kernel"
    assert answer in summary(run, {}) and "is older than" not in summary(run, {})
    write_record(made_benchmark("onnxruntime"), record_path(run, "03_benchmark", "onnxruntime"))
    assert "is older than 1 record; run python" in summary(run, {})


def code_cells(node: Any) -> list[Any]:
    return [cell for cell in node.cells if cell.cell_type == "code"]


def source_of(notebook: str) -> Path:
    return PROJECT_ROOT / "notebooks" / f"{notebook}.ipynb"


def write_executed(run: Path, label: str, failing: int = 0) -> Any:
    """An executed notebook as papermill leaves it, in which the code cell of this number failed; 0: none did."""
    node: nbformat.NotebookNode = nbformat.read(source_of(label.partition(".")[0]), as_version=4)
    injected = nbformat.v4.new_code_cell("# Parameters\nx = 1\n", metadata={"tags": ["injected-parameters"]})
    node.cells.insert(node.cells.index(code_cells(node)[0]) + 1, injected)
    for count, cell in enumerate(code_cells(node)[: failing or None], start=1):
        cell.execution_count = count
    if failing:
        error = nbformat.v4.new_output("error", ename="ValueError", evalue="50% bad\nsecond", traceback=[])
        code_cells(node)[failing - 1].outputs = [error]
    (run / "notebooks").mkdir(parents=True, exist_ok=True)
    nbformat.write(node, run / "notebooks" / f"{label}.ipynb")
    return node


def test_a_failed_notebook_is_annotated_with_its_cell_and_reason(tmp_path: Path) -> None:
    entry = {"notebook": "03_benchmark", "backend": "torch-blas", "status": "failed",
             "reason": "cell 5 of 9: ValueError: 50% bad"}  # fmt: skip
    (tmp_path / "series.json").write_text(json.dumps({"notebooks": [entry]}))
    where = "title=03_benchmark.torch-blas failed,file=notebooks/03_benchmark.ipynb"
    assert annotate_run(tmp_path) == [f"::error {where}::cell 5 of 9: ValueError: 50%25 bad"]


def test_doubts_and_skipped_notebooks_are_warnings_and_what_is_fine_is_silent(tmp_path: Path) -> None:
    run = write_made_run(tmp_path, ["torch-onednn"])
    assert annotate_run(run) == []
    write_record(made_benchmark("torch-onednn-fastmath"), run / "results" / "03_benchmark.torch-onednn-fastmath.json")
    (line,) = annotate_run(run)
    assert line.startswith("::warning title=torch-onednn-fastmath%3A to be looked at,file=notebooks/03_benchmark.ipynb")
    entries = [{"notebook": "04_compare", "status": "skipped", "reason": "02_train failed"}]
    (run / "series.json").write_text(json.dumps({"notebooks": entries}))
    assert annotate_run(run)[0].startswith("::warning title=04_compare was skipped")


def test_no_more_annotations_than_github_shows_and_the_last_one_counts_the_rest(tmp_path: Path) -> None:
    entries = [
        {"notebook": f"../../x{number}", "status": "failed", "reason": "a\r\n::error::b"} for number in range(30)
    ]
    (tmp_path / "series.json").write_text(json.dumps({"notebooks": entries}))
    lines = annotate_run(tmp_path)
    assert len(lines) == MAX_ANNOTATIONS and "21 more" in lines[-1]
    assert lines[0] == "::error title=../../x0 failed::a%0D%0A::error::b", "it has no file in the project"


def test_workflow_commands_are_escaped_as_the_runner_reads_them() -> None:
    line = command("error", "100%\r\nend", file="a:b,c%.ipynb", line=3, title="")
    assert line == "::error file=a%3Ab%2Cc%25.ipynb,line=3::100%25%0D%0Aend"


def test_outputs_have_one_line_each_as_another_could_set_other_outputs(tmp_path: Path) -> None:
    environ = {"GITHUB_OUTPUT": str(tmp_path / "output")}
    for text in ("one\nother=1", "one\rother=1"):
        with pytest.raises(UserError, match="the output text has a line break"):
            write_outputs({"backends": "[]", "text": text}, environ)
    assert not (tmp_path / "output").exists()
    write_outputs({"backends": '["a"]', "text": "a=b"}, environ)
    assert (tmp_path / "output").read_text() == 'backends=["a"]\ntext=a=b\n'
    assert run_url({}) == "" and run_url(ENVIRON) == "https://github.com/me/signs/actions/runs/42"


def test_on_github_a_bad_end_is_an_annotation_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert main(["ci", "check", str(tmp_path), "--backend", "x", "--checkpoint", "50%\n::warning::y"]) == 2
    out = capsys.readouterr().out
    assert out.startswith("::error::'50%25\\n::warning::y' is not a SHA-256") and out.count("\n") == 1
    assert main(["ci", "annotate", str(tmp_path / "none")]) == 2
    assert main(["ci", "summary", str(tmp_path / "none"), "--arch", "x64"]) == 2


def test_pages_stand_alone_under_the_names_of_their_artifacts(tmp_path: Path) -> None:
    run = tmp_path / "run"
    compare = write_executed(run, "04_compare")
    files = Table(["file"], [[Cell("the record", href="../results/04_compare.json")]])
    code_cells(compare)[-1].outputs = [nbformat.v4.new_output("display_data", data={"text/html": files.to_html()})]
    nbformat.write(compare, run / "notebooks" / "04_compare.ipynb")
    write_executed(run, "03_benchmark.torch-blas", 5)
    out = tmp_path / "alone"
    assert [path.name for path in write_pages(run, "arm64", out)] == [
        "03_benchmark.torch-blas.arm64.html", "04_compare.arm64.html",
    ]  # fmt: skip
    for path in out.iterdir():
        html = path.read_text()
        assert not re.findall(r'href="(?!#|https://|data:)', html), path.name
    assert "the record" in (out / "04_compare.arm64.html").read_text()
    assert "ValueError" in (out / "03_benchmark.torch-blas.arm64.html").read_text()


def test_links_into_the_run_become_text_and_others_stay() -> None:
    html = '<a class="x" href="../results/a.json">a <b>c</b></a> <a href="#cell-1">d</a> <a href="https://e.org">e</a>'
    assert without_dead_links(html) == 'a <b>c</b> <a href="#cell-1">d</a> <a href="https://e.org">e</a>'


def test_pages_need_executed_notebooks_and_a_known_architecture(tmp_path: Path) -> None:
    command = ["ci", "pages", str(tmp_path), "--out", str(tmp_path / "out"), "--arch"]
    with pytest.raises(UserError, match="no executed notebooks"):
        write_pages(tmp_path, "arm64", tmp_path / "out")
    assert main([*command, "../x"]) == 2 and not (tmp_path / "out").exists()


def test_escape_keeps_plain_text_readable() -> None:
    assert escape("1.22x faster than torch-onednn (p = 0.03)") == "1.22x faster than torch-onednn (p = 0.03)"
