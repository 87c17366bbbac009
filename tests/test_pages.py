"""The page of a notebook: what stands on top, what a reader can do, and what must never get into it."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bs4 import BeautifulSoup

from lib.errors import UserError
from lib.html.frame import assets
from lib.html.outputs import OUTPUT_LIMIT
from lib.html.page import PAGE_LIMIT, Failure, render_page
from lib.html.provenance import hosted, run_metadata
from lib.report import NOTE_VARIABLE
from lib.report.table import SMOKE_TEXT, Banner, Table
from tests.made_notebooks import (
    HOSTILE,
    PIXEL,
    WIDGET,
    code_cell,
    html_output,
    new_code_cell,
    new_markdown_cell,
    new_output,
    rendered,
)
from tests.made_records import made_benchmark, made_environment, made_failed_benchmark, made_train


def test_page_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    cells = [
        new_markdown_cell("# T\n\n![logo](https://example.org/logo.png) <script src=https://example.org></script>"),
        code_cell("x", [html_output("<img src='//example.org/a.png' alt='far'><script>1</script>")]),
    ]
    soup = rendered(tmp_path, cells)
    for tag in soup.find_all(True):
        for name in ("src", "srcset", "data", "poster", "action"):
            assert str(tag.get(name, "data:")).startswith("data:")
    assert soup.find_all(["link", "iframe", "object", "embed", "base"]) == []
    assert "url(" not in str(soup.style)
    assert "@import" not in str(soup.style)
    assert "image not embedded: far" in soup.get_text()
    assert len(soup.find_all("script")) == 1


def test_page_policy_allows_our_style_and_script_and_nothing_else(tmp_path: Path) -> None:
    soup = rendered(tmp_path, [code_cell("x", [html_output("<p style='color:red' onclick='x()'>text</p>")])])
    meta = soup.find("meta", attrs={"http-equiv": "Content-Security-Policy"})
    assert meta is not None
    policy = str(meta["content"])
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag, directive in ((soup.style, "style-src"), (soup.script, "script-src")):
        assert tag is not None
        digest = base64.b64encode(hashlib.sha256(str(tag.string).encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert soup.find_all(style=True) == []
    assert soup.find_all(onclick=True) == []


def test_style_and_script_stay_within_their_budget() -> None:
    assert len(assets()["style"]) + len(assets()["script"]) < 40_000


def test_hostile_names_are_text_everywhere(tmp_path: Path) -> None:
    table = Table([HOSTILE], [[HOSTILE]])
    error = new_output("error", ename=HOSTILE, evalue=HOSTILE, traceback=[HOSTILE])
    cells = [
        new_markdown_cell(f"# {HOSTILE}\n\n## {HOSTILE}"),
        code_cell(f"data_root = {HOSTILE!r}", [html_output(table._repr_html_())], tags=["injected-parameters"]),
        code_cell("x", [new_output("stream", name="stdout", text=HOSTILE), error]),
    ]
    failure = Failure(2, 2, HOSTILE, HOSTILE + "\n" + HOSTILE)
    soup = rendered(tmp_path, cells, title=HOSTILE, source=HOSTILE, failure=failure)
    assert len(soup.find_all("script")) == 1
    assert soup.find_all("img") == []
    assert not [tag for tag in soup.find_all(True) if any(name.startswith("on") for name in tag.attrs)]
    assert soup.title is not None
    assert soup.title.get_text() == HOSTILE


def test_headings_are_in_order_with_one_title_and_all_in_the_contents(tmp_path: Path) -> None:
    cells = [
        new_markdown_cell("# Title\n\n### Deep\n\n## Section\n\n#### Deeper"),
        code_cell("x", [html_output("<h1>In an output</h1>")]),
        new_markdown_cell("# Another title\n\n## Section"),
    ]
    soup = rendered(tmp_path, cells)
    levels = [int(tag.name[1]) for tag in soup.find_all(re.compile("^h[1-6]$"))]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [str(tag["id"]) for tag in soup.find_all(id=True)]
    assert len(ids) == len(set(ids))
    toc = [str(link["href"])[1:] for link in soup.select(".toc a")]
    assert set(toc) <= set(ids)
    assert [link.get_text() for link in soup.select(".toc a")].count("Section") == 2


def test_page_without_a_title_gets_the_given_one(tmp_path: Path) -> None:
    soup = rendered(tmp_path, [new_markdown_cell("## Only a section")], title="03_benchmark.torch-blas")
    titles = soup.find_all("h1")
    assert [title.get_text() for title in titles] == ["03_benchmark.torch-blas"]


def test_every_image_has_alternative_text(tmp_path: Path) -> None:
    png = new_output("display_data", data={"image/png": PIXEL}, metadata={"image/png": {"alt": 'A "curve"'}})
    svg = new_output("display_data", data={"image/svg+xml": "<svg><script>alert(1)</script></svg>"})
    bare = html_output(f'<img src="data:image/png;base64,{PIXEL}">')
    soup = rendered(tmp_path, [code_cell("x", [png, svg, bare])])
    assert [image["alt"] for image in soup.find_all("img")] == ['A "curve"', *["Figure without a description"] * 2]
    assert len(soup.find_all("script")) == 1  # the SVG is an image, in which scripts do not run


def test_widgets_leave_their_text_and_nothing_else(tmp_path: Path) -> None:
    widget = new_output("display_data", data={WIDGET: {"model_id": "1"}, "text/plain": "IntSlider(value=1)"})
    script = new_output("display_data", data={"application/javascript": "alert(1)"})
    metadata: Any = {"widgets": {"application/vnd.jupyter.widget-state+json": {"state": {}}}}
    soup = rendered(tmp_path, [code_cell("x", [widget, script])], metadata=metadata)
    assert "jupyter.widget" not in str(soup)
    assert "IntSlider(value=1)" in soup.get_text()
    assert "alert" not in str(soup)


def test_code_is_folded_and_parameters_are_labelled(tmp_path: Path) -> None:
    cells = [
        code_cell("seed: int = 0  # seed", tags=["parameters"]),
        code_cell("seed = 3", tags=["injected-parameters"]),
        code_cell("print(seed)"),
        new_code_cell("never"),
        code_cell("   "),
    ]
    soup = rendered(tmp_path, cells)
    blocks = soup.select("details.code")
    assert [block.summary.get_text() for block in blocks if block.summary] == [
        "Code: parameters and their defaults",
        "Code: parameters of this run",
        "Code",
        "Code, not run",
    ]
    assert not any(block.has_attr("open") for block in blocks)
    assert soup.select_one("button.fold") is not None


def test_failure_is_on_top_and_links_to_its_open_cell(tmp_path: Path) -> None:
    traceback = ["\x1b[31mZeroDivisionError\x1b[0m Traceback", "----> 1 1/0", "ZeroDivisionError: division by zero"]
    error = new_output("error", ename="ZeroDivisionError", evalue="division by zero", traceback=traceback)
    cells = [
        new_markdown_cell("papermill says", metadata={"tags": ["papermill-error-cell-tag"]}),
        new_markdown_cell("# T"),
        code_cell("a = 1"),
        code_cell("1/0", [error]),
        code_cell("never"),
    ]
    failure = Failure(2, 3, "ZeroDivisionError: division by zero", "\n".join(traceback))
    soup = rendered(tmp_path, cells, failure=failure)
    main = soup.main
    assert main is not None
    banner = main.find(True)
    assert banner is not None
    assert "failed in code cell 2 of 3: ZeroDivisionError" in banner.get_text()
    link = soup.select_one("#failure a")
    assert link is not None
    culprit = soup.find(id=str(link["href"])[1:])
    assert culprit is not None
    assert "1/0" in culprit.get_text()
    assert culprit.details is not None
    assert culprit.details.has_attr("open")
    assert culprit.select(".crash p strong")[-1].get_text() == "ZeroDivisionError: division by zero"
    assert culprit.select_one(".crash .r-a-red") is not None
    assert "papermill says" not in soup.get_text()


def test_failure_without_a_cell_still_tells_the_reason(tmp_path: Path) -> None:
    soup = rendered(tmp_path, [code_cell("x")], failure=Failure(0, 0, "no executed notebook was written", ""))
    assert "This run failed: no executed notebook was written" in soup.get_text()
    assert soup.select_one("#failure a") is None


def test_error_of_one_line_is_shown_once(tmp_path: Path) -> None:
    message = "unknown backend 'x'; available: torch-blas"
    error = new_output("error", ename="UserError", evalue=message, traceback=[f"UserError: {message}"])
    soup = rendered(tmp_path, [code_cell("x", [error])], failure=Failure(1, 1, message, f"UserError: {message}"))
    assert soup.get_text().count(message) == 2  # in the banner and at the cell
    assert soup.select("details.trace") == []


def test_a_cell_that_the_runner_interrupted_says_why(tmp_path: Path) -> None:
    error = new_output("error", ename="KeyboardInterrupt", evalue="", traceback=["KeyboardInterrupt"])
    failure = Failure(1, 1, "time limit of 8 s for the cell reached", "")
    soup = rendered(tmp_path, [code_cell("x", [error])], failure=failure)
    cell = soup.find(id="cell-1")
    assert cell is not None
    assert "interrupted this cell: time limit of 8 s for the cell reached" in cell.get_text()


def test_long_prints_keep_their_end_and_say_that_they_are_cut(tmp_path: Path) -> None:
    pieces = [new_output("stream", name="stdout", text=f"line {number}\n") for number in range(900)]
    text = rendered(tmp_path, [code_cell("x", pieces)]).get_text()
    assert "line 899" in text
    assert "line 5\n" not in text
    assert "The beginning is left out" in text


def test_page_stays_below_its_limit_and_says_what_was_left_out(tmp_path: Path) -> None:
    noise = base64.b64encode(np.random.default_rng(0).bytes(900_000)).decode()
    big = html_output(f'<img alt="the large one" src="data:image/png;base64,{noise}">')
    small = html_output(f'<img alt="the small one" src="data:image/png;base64,{PIXEL}">')
    soup = rendered(tmp_path, [code_cell("x", [big, small]), code_cell("y", [big])])
    assert (tmp_path / "demo.html").stat().st_size <= PAGE_LIMIT
    assert "the large one" in soup.get_text()
    assert [image["alt"] for image in soup.find_all("img")] == ["the small one"]


# ----------------------------------------------------------------------------------------------- provenance

PARAMETERS = code_cell(
    'profile: str = "fast"  # size\nseed: int = 0  # seed\nmin_seconds: float = -1.5  # time', tags=["parameters"]
)


def be_hosted(monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
    names = {"SERVER_URL": "https://github.com", "REPOSITORY": "me/signs", "RUN_ID": "4711", "SHA": "ab12" * 10}
    for name, value in {**names, **changes}.items():
        monkeypatch.setenv(f"GITHUB_{name}", value)


def facts_of(soup: BeautifulSoup) -> dict[str, str]:
    names, values = soup.select(".prov dt"), soup.select(".prov dd")
    return {name.get_text(): " ".join(value.get_text().split()) for name, value in zip(names, values, strict=True)}


def run_output(**environment: Any) -> Any:
    """What a notebook's cell `run` leaves in its outputs."""
    described = run_metadata(
        "02_train", {"seed": 3}, vars(made_environment(**environment)), "2026-11-24T14:00:00+00:00"
    )
    data = {"text/html": "<p>all parameters</p>", "text/plain": "x"}
    return new_output("execute_result", data=data, metadata={"text/html": described})


def test_top_says_what_ran_how_it_ended_and_where_all_came_from(tmp_path: Path) -> None:
    metadata = {"papermill": {"start_time": "2026-11-24T14:50:00.123456+00:00", "duration": 83.2, "parameters": {}}}
    record = made_benchmark("onnxruntime", params={"profile": "fast", "seed": 3, "min_seconds": -1.5})
    cells = [new_markdown_cell("# Title"), PARAMETERS]
    soup = rendered(tmp_path, cells, metadata=metadata, record=record, title="03_benchmark.onnxruntime")
    facts = facts_of(soup)
    assert facts["What ran"] == "03_benchmark, backend onnxruntime, profile fast"
    assert facts["Commit"] == "89f3f58c0b1d with changes since"
    assert facts["Parameters changed"] == "seed = 3 (default 0)"
    assert facts["Others, as by default"] == "profile = 'fast'; min_seconds = -1.5"
    assert facts["Data"] == f"synthetic: 7,200 train, 800 val, 2,600 test images; SHA-256 {'ab' * 32}"
    assert facts["Checkpoint"] == f"SHA-256 {'cd' * 32}"
    assert "Neoverse-N2 (aarch64), 4 threads on 4 cores, 16.0 GiB memory" in facts["Machine"]
    assert "BLAS openblas, oneDNN 3.9.1 with the Arm Compute Library" in facts["Machine"]
    assert "torch 2.14.1" in facts["Versions"]
    assert (facts["Started"], facts["Duration"]) == ("2026-11-24 14:50:00 UTC", "1 min 23 s")
    verdict = soup.select_one(".verdict")
    assert verdict is not None and re.match(r"✓ ok: single stream 2\.\d+x faster, offline 1\.\d+x", verdict.get_text())
    assert "Run" not in facts


def test_title_verdict_and_provenance_come_before_the_story(tmp_path: Path) -> None:
    soup = rendered(tmp_path, [new_markdown_cell("# Title\n\nThe story.")])
    assert soup.main is not None
    text = " ".join(soup.main.get_text().split())
    assert text.index("Title") < text.index("ok: all cells ran") < text.index("What ran") < text.index("The story.")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (made_failed_benchmark("x", "unavailable", "no aarch64 wheel"), "○ unavailable: no aarch64 wheel"),
        (made_train(), "✓ ok: top-1 99.11 % on val, top-1 98.71 % on test, 12 epochs in 1 min 18 s"),
        (made_benchmark("torch-onednn-fastmath"), "To investigate: the same kernels as without the switch"),
        (None, "✓ ok: all cells ran; no record was written"),
    ],
)
def test_verdict_is_that_of_the_record(tmp_path: Path, record: Any, words: str) -> None:
    verdict = rendered(tmp_path, [], record=record).select_one(".verdict")
    assert verdict is not None and words in verdict.get_text()


def test_page_of_a_run_that_broke_knows_its_machine_and_parameters_without_a_record(tmp_path: Path) -> None:
    cells = [PARAMETERS, code_cell("run", [run_output()]), code_cell("1/0")]
    soup = rendered(tmp_path, cells, failure=Failure(3, 3, "ZeroDivisionError", ""), title="02_train")
    facts = facts_of(soup)
    assert facts["What ran"] == "02_train, profile fast"
    assert facts["Parameters changed"] == "seed = 3 (default 0)"
    assert "Neoverse-N2" in facts["Machine"]
    assert facts["Started"] == "2026-11-24 14:00:00 UTC"
    assert "Data" not in facts and "Checkpoint" not in facts, "nobody wrote them down, so nobody claims them"
    assert soup.select_one(".verdict") is None, "the banner says it"


def test_what_stands_on_top_is_folded_where_the_notebook_says_it_at_length(tmp_path: Path) -> None:
    soup = rendered(tmp_path, [code_cell("run", [run_output(), html_output("<p>other</p>")])])
    folded = soup.select_one("details.more")
    assert folded is not None and not folded.has_attr("open") and "all parameters" in folded.get_text()
    assert [part.get_text() for part in soup.select(".output")] == ["other"]


def test_hosted_run_links_to_its_run_and_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    be_hosted(monkeypatch)
    addresses = [str(link["href"]) for link in rendered(tmp_path, []).select(".prov a")]
    assert addresses == [
        f"https://github.com/me/signs/commit/{'ab12' * 10}",
        "https://github.com/me/signs/actions/runs/4711",
    ]


def test_page_made_again_elsewhere_links_to_the_run_of_its_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_hosted(monkeypatch)
    output = run_output()
    be_hosted(monkeypatch, REPOSITORY="you/elsewhere", RUN_ID="1")
    soup = rendered(tmp_path, [code_cell("run", [output])])
    assert "me/signs/actions/runs/4711" in str(soup)
    assert "you/elsewhere" not in str(soup)


@pytest.mark.parametrize(
    "changes",
    [
        {"SERVER_URL": "javascript:alert(1)//"},
        {"SERVER_URL": 'https://github.com/"><script>'},
        {"SERVER_URL": "http://github.com"},
        {"REPOSITORY": "../../evil"},
        {"REPOSITORY": "a/b?c"},
    ],
)
def test_hosted_variables_of_another_form_make_no_link(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]
) -> None:
    be_hosted(monkeypatch, **changes)
    assert set(hosted()) == {"commit"}
    be_hosted(monkeypatch, RUN_ID="4711/../1", SHA="main")
    assert set(hosted()) == {"repository"}


def test_edited_metadata_gives_no_other_addresses_and_no_markup(tmp_path: Path) -> None:
    output = run_output(cpu_model=HOSTILE, versions={HOSTILE: HOSTILE}, git_commit=HOSTILE)
    described = output.metadata["text/html"]["run"]
    described["hosted"] = {"repository": "https://evil.example/a/b/c", "run": "javascript:alert(1)", "note": HOSTILE}
    described["parameters"] = {HOSTILE: HOSTILE}
    described["notebook"] = HOSTILE
    soup = rendered(tmp_path, [code_cell("run", [output])])
    assert len(soup.find_all("script")) == 1 and soup.find_all("img") == []
    assert soup.select(".prov a") == []
    assert HOSTILE in facts_of(soup)["Machine"]
    described["environment"] = described["hosted"] = described["parameters"] = 7
    assert "Machine" not in facts_of(rendered(tmp_path, [code_cell("run", [output])]))


def test_note_about_a_run_is_on_top_of_its_pages_even_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = f"The download host was down: synthetic images instead. {HOSTILE}"
    monkeypatch.setenv(NOTE_VARIABLE, note)
    output = run_output()
    for cells in ([], [code_cell("run", [output])]):
        soup = rendered(tmp_path, cells)
        assert soup.main is not None
        banner = soup.main.find(True)
        assert banner is not None and note in banner.get_text()
        assert len(soup.find_all("script")) == 1
        monkeypatch.delenv(NOTE_VARIABLE, raising=False)


def test_appendix_has_time_and_memory_of_each_cell(tmp_path: Path) -> None:
    cells = [
        code_cell("import lib", papermill={"duration": 12.34}, peak_memory_bytes=300 * 2**20),
        code_cell("train()\nmore()", papermill={"duration": 125.0}, peak_memory_bytes=1300 * 2**20),
        code_cell("never run"),
    ]
    appendix = rendered(tmp_path, cells).select_one(".appendix")
    assert appendix is not None
    rows = [row.get_text("|", strip=True) for row in appendix.select("tbody tr")]
    assert rows == ["1|import lib|12.3 s|300 MiB", "2|train()|2 min 05 s|1.3 GiB"]
    assert "together: 2 min 17 s; at most 1.3 GiB of memory" in appendix.get_text()
    assert [link["href"] for link in appendix.select("a")] == ["#cell-1", "#cell-2"]
    assert rendered(tmp_path, [code_cell("x")]).select_one(".appendix") is None


# ---------------------------------------------------------------------------------------------- large notebooks


def printed(texts: list[str]) -> list[Any]:
    return [new_output("stream", name=("stdout", "stderr")[number % 2], text=text) for number, text in enumerate(texts)]


def large_png() -> Any:
    return new_output("display_data", data={"image/png": PIXEL * 2000}, metadata={"image/png": {"alt": "ä" * 5000}})


LARGE = {
    "one long line": lambda: printed(["x" * 8_000_000]),
    "a progress bar of one line": lambda: printed(["\r 50 %" * 1_000_000]),
    "many lines": lambda: printed(["".join(f"{number} of 10000\n" for number in range(10_000))]),
    "two streams in turn": lambda: printed(["x\n"] * 1500),
    "a huge table": lambda: [html_output("<table>" + "<tr><td>x</td></tr>" * 200_000 + "</table>")],
    "many texts": lambda: [html_output("<p>" + "ä" * 100_000 + "</p>") for _ in range(12)],
    "deep nesting": lambda: [html_output("<div>" * 2000 + "x")],
    "many figures": lambda: [large_png()] * 500,
    "a huge message": lambda: [new_output("error", ename="E", evalue="x" * 3_000_000, traceback=["y" * 3_000_000])],
}


def timed(tmp_path: Path, outputs: list[Any]) -> tuple[BeautifulSoup, float]:
    """The page of a cell with these outputs and of a second cell, and the time on the CPU that it took."""
    begun = time.process_time()
    soup = rendered(tmp_path, [code_cell("x", outputs), code_cell("after", [html_output("the end")])])
    return soup, time.process_time() - begun


@pytest.mark.parametrize("name", list(LARGE))
def test_page_of_a_cell_that_left_too_much_is_small_and_quick(tmp_path: Path, name: str) -> None:
    table = "<table>" + "<tr><td>x</td></tr>" * 2000 + "</table>"
    soup, ordinary_s = timed(tmp_path, [html_output(table)])
    assert "left out" not in soup.get_text()
    soup, seconds = timed(tmp_path, LARGE[name]())
    assert seconds < 5 * ordinary_s
    assert (tmp_path / "demo.html").stat().st_size < PAGE_LIMIT
    text = soup.get_text()
    assert "the end" in text
    assert name in ("deep nesting", "a progress bar of one line", "a huge message") or "left out" in text
    assert "50 %" in text or name != "a progress bar of one line"
    assert "9999 of 10000" in text or name != "many lines"


def test_many_outputs_keep_the_first_and_the_last(tmp_path: Path) -> None:
    cells = [code_cell("x", [html_output(f"<p>number {number}.</p>") for number in range(OUTPUT_LIMIT + 50)])]
    text = rendered(tmp_path, cells).get_text()
    assert "number 0." in text and f"number {OUTPUT_LIMIT + 49}." in text
    assert "50 more outputs left out" in text


def test_huge_code_and_text_are_cut(tmp_path: Path) -> None:
    cells = [new_markdown_cell("word " * 500_000), code_cell("values = '" + "x" * 3_000_000 + "'")]
    text = rendered(tmp_path, cells).get_text()
    assert (tmp_path / "demo.html").stat().st_size < PAGE_LIMIT
    assert "left out here" in text


def test_smoke_run_has_exactly_one_banner(tmp_path: Path) -> None:
    metadata = {"papermill": {"parameters": {"profile": "smoke"}}}
    assert rendered(tmp_path, [code_cell("x")], metadata=metadata).get_text().count(SMOKE_TEXT) == 1
    shown = code_cell("x", [html_output(Banner(SMOKE_TEXT)._repr_html_() + Table(["a"], [[1]])._repr_html_())])
    soup = rendered(tmp_path, [shown], metadata=metadata)
    assert soup.get_text().count(SMOKE_TEXT) == 1 and soup.select_one(".output table") is not None


def test_page_can_be_used_by_keyboard_and_screen_reader(tmp_path: Path) -> None:
    soup = rendered(tmp_path, [new_markdown_cell("# T\n\n| a | b |\n|---|---|\n| 1 | 2 |")])
    assert soup.html is not None
    assert soup.html["lang"] == "en"
    assert soup.body is not None
    first = soup.body.find(["a", "button"])
    assert first is not None
    assert (first["class"], first["href"]) == (["skip"], "#main")
    assert soup.find(id="main") is not None
    assert ":focus-visible" in assets()["style"]
    assert soup.select_one(".r-scroll > table") is not None  # tables of the text scroll too


def test_page_has_dark_print_and_phone_styles() -> None:
    style = assets()["style"]
    assert "prefers-color-scheme:dark" in style
    assert "@media print" in style
    assert "@media (max-width" in style


def test_index_link_is_there_only_when_asked_for(tmp_path: Path) -> None:
    assert rendered(tmp_path, [], index="../index.html").select_one(".bar a") is not None
    assert rendered(tmp_path, []).select_one(".bar a") is None


@pytest.mark.parametrize("content", ["", "no json", "[]", '{"cells": 3}'])
def test_unreadable_notebook_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "broken.ipynb"
    path.write_text(content)
    with pytest.raises(UserError, match=r"broken\.ipynb"):
        render_page(path, tmp_path / "page.html", title="x")
    assert not (tmp_path / "page.html").exists()
