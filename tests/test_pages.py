"""The page of a notebook: what is on top, what a reader can do, and what must never get into it."""

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
from lib.html.frame import PAGE_LIMIT, assets
from lib.html.page import Failure, render_page
from lib.html.provenance import hosted, run_metadata
from lib.html.sanitize import ansi_to_html, clean_html, last_writes
from lib.records.schema import RecordWarning
from lib.report import NOTE_VARIABLE
from lib.report.table import SMOKE_TEXT, Banner, Table
from tests.made_notebooks import (
    PIXEL,
    WIDGET,
    code_cell,
    html_output,
    new_code_cell,
    new_markdown_cell,
    new_output,
    rendered,
    text_of,
)
from tests.made_records import made_benchmark, made_common, made_explore, made_failed_benchmark, made_train


def test_page_loads_nothing_from_elsewhere_and_allows_its_own_style_and_script_alone(tmp_path: Path) -> None:
    cells = [
        new_markdown_cell("# T\n\n![logo](https://example.org/logo.png) <script src=https://example.org></script>"),
        code_cell("x", [html_output("<img src='//example.org/a.png' alt='far'><p style='color:red' onclick='x()'>t")]),
    ]
    soup = rendered(tmp_path, cells)
    for element in soup.find_all(True):
        for name in ("src", "srcset", "data", "poster", "action"):
            assert str(element.get(name, "data:")).startswith("data:")
        assert not element.has_attr("style") and not element.has_attr("onclick")
    assert soup.find_all(["link", "iframe", "object", "embed", "base"]) == []
    assert "url(" not in str(soup.style) and "@import" not in str(soup.style)
    assert "image not embedded: far" in soup.get_text()
    policy = str(soup.select_one("meta[http-equiv=Content-Security-Policy]"))
    assert "default-src 'none'" in policy and "unsafe" not in policy
    for tag, directive in ((soup.style, "style-src"), (soup.script, "script-src")):
        assert tag is not None
        digest = base64.b64encode(hashlib.sha256(str(tag.string).encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert len(assets()["style"]) + len(assets()["script"]) < 40_000


def test_headings_are_in_order_with_one_title_and_all_in_the_contents(tmp_path: Path) -> None:
    cells = [
        new_markdown_cell("# Title\n\n### Deep\n\n## Section\n\n#### Deeper\n\n| a |\n|---|\n| 1 |"),
        code_cell("x", [html_output("<h1>In an output</h1>")]),
        new_markdown_cell("# Another title\n\n## Section\n\n## Cell 1"),
    ]
    soup = rendered(tmp_path, cells)
    levels = [int(tag.name[1]) for tag in soup.find_all(re.compile("^h[1-6]$"))]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [str(tag["id"]) for tag in soup.find_all(id=True)]
    assert len(ids) == len(set(ids))
    toc = soup.select(".toc a")
    assert {str(link["href"])[1:] for link in toc} <= set(ids)
    assert [link.get_text() for link in toc].count("Section") == 2
    assert soup.select_one(".r-scroll > table") is not None, "tables of the text scroll too"


def test_every_image_has_alternative_text(tmp_path: Path) -> None:
    png = new_output("display_data", data={"image/png": PIXEL}, metadata={"image/png": {"alt": 'A "curve"'}})
    svg = new_output("display_data", data={"image/svg+xml": "<svg><script>alert(1)</script></svg>"})
    bare = html_output(f'<img src="data:image/png;base64,{PIXEL}">')
    soup = rendered(tmp_path, [code_cell("x", [png, svg, bare])])
    assert [image["alt"] for image in soup.find_all("img")] == ['A "curve"', *["Figure without a description"] * 2]
    assert len(soup.find_all("script")) == 1, "the SVG is an image, in which scripts do not run"


def test_widgets_leave_their_text_and_nothing_else(tmp_path: Path) -> None:
    widget = new_output("display_data", data={WIDGET: {"model_id": "1"}, "text/plain": "IntSlider(value=1)"})
    script = new_output("display_data", data={"application/javascript": "alert(1)"})
    metadata: Any = {"widgets": {"application/vnd.jupyter.widget-state+json": {"state": {}}}}
    soup = rendered(tmp_path, [code_cell("x", [widget, script])], metadata=metadata)
    assert "IntSlider(value=1)" in soup.get_text()
    assert "jupyter.widget" not in str(soup) and "alert" not in str(soup)


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
    names = ["Code: parameters and their defaults", "Code: parameters of this run", "Code", "Code, not run"]
    assert [block.summary.get_text() for block in blocks if block.summary] == names
    assert not any(block.has_attr("open") for block in blocks)


# --------------------------------------------------------------------------------------------------- failures


def test_failure_is_on_top_and_links_to_its_open_cell(tmp_path: Path) -> None:
    traceback = ["\x1b[31mZeroDivisionError\x1b[0m Traceback", "----> 1 1/0", "ZeroDivisionError: division by zero"]
    error = new_output("error", ename="ZeroDivisionError", evalue="division by zero", traceback=traceback)
    cells = [
        new_markdown_cell("papermill says", metadata={"tags": ["papermill-error-cell-tag"]}),
        code_cell("a = 1"),
        code_cell("1/0", [error]),
        code_cell("never"),
    ]
    soup = rendered(tmp_path, cells, failure=Failure(2, 3, "ZeroDivisionError: division by zero"))
    assert "failed in code cell 2 of 3: ZeroDivisionError" in text_of(soup, ".answer")
    assert "papermill says" not in soup.get_text()
    (link,) = soup.select("#failure a")
    (culprit,) = soup.select(str(link["href"]))
    assert culprit.details is not None and culprit.details.has_attr("open") and "1/0" in culprit.get_text()
    assert culprit.select(".crash p strong")[-1].get_text() == "ZeroDivisionError: division by zero"
    assert culprit.select_one(".crash .ansi-red-fg") is not None


@pytest.mark.parametrize(
    ("error", "reason", "words"),
    [
        ("UserError: unknown backend 'x'; available: null", "unknown backend 'x'; available: null", "backend 'x'"),
        ("KeyboardInterrupt", "time limit of 8 s for the cell reached", "interrupted this cell: time limit of 8 s for"),
    ],
)
def test_error_of_one_line_is_shown_once_and_an_interrupted_cell_says_why(
    tmp_path: Path, error: str, reason: str, words: str
) -> None:
    name, _, value = error.partition(": ")
    output = new_output("error", ename=name, evalue=value, traceback=[error])
    soup = rendered(tmp_path, [code_cell("x", [output])], failure=Failure(1, 1, reason))
    assert text_of(soup, "#cell-1").count(words) == 1 and soup.select("details.trace") == []


def test_failure_without_a_cell_still_has_its_reason(tmp_path: Path) -> None:
    soup = rendered(tmp_path, [code_cell("x")], failure=Failure(0, 0, "no executed notebook was written"))
    assert "This run failed: no executed notebook was written" in text_of(soup, ".answer")
    assert soup.select_one("#failure a") is None
    assert text_of(soup, "h1") == "demo", "the given title, where the notebook has none"


@pytest.mark.parametrize("content", ["", "no json", "[]", '{"cells": 3}'])
def test_unreadable_notebook_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "broken.ipynb"
    path.write_text(content)
    with pytest.raises(UserError, match=r"broken\.ipynb"):
        render_page(path, tmp_path / "page.html", title="x")
    assert not (tmp_path / "page.html").exists()


# -------------------------------------------------------------------------------- the top and where all comes from

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
    described = run_metadata("02_train", made_common(seed=3, **environment))
    data = {"text/html": "<p>all parameters</p>", "text/plain": "x"}
    return new_output("execute_result", data=data, metadata={"text/html": described})


def test_answer_comes_first_and_all_where_it_comes_from_is_folded_behind_a_line(tmp_path: Path) -> None:
    metadata = {"papermill": {"start_time": "2026-11-24T14:50:00.123456+00:00", "duration": 83.2, "parameters": {}}}
    record = made_benchmark("onnxruntime", params={"profile": "fast", "seed": 3, "min_seconds": -1.5})
    cells = [new_markdown_cell("# Title\n\nThe story."), PARAMETERS]
    soup = rendered(tmp_path, cells, metadata=metadata, record=record, title="03_benchmark.onnxruntime")
    answer = text_of(soup, ".answer")
    assert re.fullmatch(r"✓ With onnxruntime instead of torch-onednn: single stream 2\.\d+x faster, .*\.", answer)
    line = text_of(soup, ".prov summary")
    where = "profile fast · synthetic · Neoverse-N2 · 4 threads"
    assert line == f"03_benchmark, onnxruntime · {where} · 24 Nov 2026, 14:50 UTC"
    text = " ".join(soup.get_text().split())
    assert text.index("Title") < text.index(answer) < text.index(line) < text.index("The story.")
    assert not soup.select(".prov[open]")
    facts = facts_of(soup)
    assert facts["What ran"] == "03_benchmark, onnxruntime"
    assert facts["Commit"] == "89f3f58c0b1d with changes since"
    assert facts["Data"] == f"synthetic: 7,200 train, 800 val, 2,600 test images; SHA-256 {'ab' * 32}"
    assert facts["Checkpoint"] == f"SHA-256 {'cd' * 32}"
    assert (facts["Started"], facts["Duration"]) == ("24 Nov 2026, 14:50 UTC", "1 min 23 s")
    assert "Run" not in facts


EXPLORED = "30 training images in 2 classes, most frequent class 2.0x the rarest"
FAIR = "training and validation share no track;"


@pytest.mark.parametrize(
    ("record", "words", "chart"),
    [
        (made_failed_benchmark("x", "unavailable", "no wheel"), "○ X unavailable: no wheel.", ""),
        (made_train(), "✓ Top-1 99.11 % on val, top-1 98.71 % on test, 12 epochs in 1 min 18 s.", "Top-1 on the"),
        (
            made_explore(images_per_class=[10, 20]),
            f"✓ {EXPLORED}; {FAIR} no image is in two splits.",
            "Training images",
        ),
        (
            made_explore(images_per_class=[10, 20], duplicates=[["train: a", "train: b"], ["train: c", "test: d"]]),
            f"✓ {EXPLORED}; {FAIR} images in two splits, pixel for pixel: 1.",
            "Training images",
        ),
        (None, "✓ All cells ran; there is no record that this version reads.", ""),
    ],
)
def test_answer_and_chart_are_those_of_the_record(tmp_path: Path, record: Any, words: str, chart: str) -> None:
    soup = rendered(tmp_path, [], record=record)
    assert text_of(soup, ".answer") == words
    assert [str(found["aria-label"]).startswith(chart) for found in soup.select(".top svg")] == [True] * bool(chart)


def test_three_short_caveats_are_on_top_and_all_of_them_in_full_behind_a_fold(tmp_path: Path) -> None:
    look = RecordWarning("investigate", figures={"reason": "the same kernels as without the switch"})
    warnings = [look, RecordWarning("emulated"), RecordWarning("near_chance"), RecordWarning("random_weights")]
    record = made_benchmark("torch-onednn-fastmath", warnings=warnings, profile="smoke")
    soup = rendered(tmp_path, [], record=record)
    shown = [item.get_text() for item in soup.select(".caveats > ul li")]
    assert len(shown) == 3 and all(len(text) <= 90 for text in shown)
    assert shown[1] == "To investigate: the same kernels as without the switch."
    folded = [item.get_text() for item in soup.select(".caveats details li")]
    assert folded[0] == SMOKE_TEXT and len(folded) == 5 and "This CPU is emulated" in folded[2]
    record.warnings, record.profile = [RecordWarning("near_chance")], "fast"
    assert rendered(tmp_path, [], record=record).select(".caveats details") == [], "there is nothing more to read"


def test_page_of_a_run_that_broke_knows_its_machine_and_parameters_without_a_record(tmp_path: Path) -> None:
    cells = [PARAMETERS, code_cell("run", [run_output(), html_output("<p>other</p>")]), code_cell("1/0")]
    soup = rendered(tmp_path, cells, failure=Failure(3, 3, "ZeroDivisionError"), title="02_train")
    facts = facts_of(soup)
    assert "Neoverse-N2" in text_of(soup, ".prov summary")
    assert facts["Started"] == "24 Nov 2026, 14:00 UTC"
    assert "Data" not in facts and "Checkpoint" not in facts, "they are not known, so the page does not claim any"
    assert "all parameters" in text_of(soup, ".prov:not([open])")
    assert [part.get_text() for part in soup.select(".output")] == ["other"]


def test_page_links_to_its_hosted_run_and_commit_even_made_again_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_hosted(monkeypatch)
    mine = [f"https://github.com/me/signs/{what}" for what in (f"commit/{'ab12' * 10}", "actions/runs/4711")]
    assert [link["href"] for link in rendered(tmp_path, []).select(".prov a")] == mine
    output = run_output(git_commit="ab12" * 10)
    be_hosted(monkeypatch, REPOSITORY="you/elsewhere", RUN_ID="1")
    assert [link["href"] for link in rendered(tmp_path, [code_cell("run", [output])]).select(".prov a")] == mine


def test_hosted_variables_of_another_form_make_no_link(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = ("javascript:alert(1)//", 'https://github.com/"><script>', "http://github.com")
    bad = [("SERVER_URL", server) for server in servers] + [("REPOSITORY", "../../x"), ("REPOSITORY", "a/b?c")]
    for name, value in bad:
        be_hosted(monkeypatch, **{name: value})
        assert set(hosted()) == {"commit"}
    be_hosted(monkeypatch, RUN_ID="4711/../1", SHA="main")
    assert set(hosted()) == {"repository"}


def test_edited_metadata_gives_no_other_addresses_and_breaks_nothing(tmp_path: Path) -> None:
    output = run_output()
    described = output.metadata["text/html"]["run"]
    described["hosted"] = {"GITHUB_SERVER_URL": "javascript:alert(1)//", "GITHUB_REPOSITORY": "a/b", "GITHUB_SHA": 7}
    assert rendered(tmp_path, [code_cell("run", [output])]).select(".prov a") == []
    described["record"] = described["hosted"] = 7
    assert "Started" not in facts_of(rendered(tmp_path, [code_cell("run", [output])]))


def test_note_about_a_run_is_its_first_caveat_even_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NOTE_VARIABLE, "The download host was down: synthetic images instead.")
    output = run_output()
    for cells in ([], [code_cell("run", [output])]):
        first = text_of(rendered(tmp_path, cells), ".caveats li")
        assert first == "The download host was down: synthetic images instead."
        monkeypatch.delenv(NOTE_VARIABLE, raising=False)


def test_what_the_top_says_is_not_said_again_by_a_banner_of_the_notebook(tmp_path: Path) -> None:
    described = code_cell("run", [run_output(profile="smoke")])
    shown = code_cell("x", [html_output(Banner(SMOKE_TEXT)._repr_html_() + Table(["a"], [[1]])._repr_html_())])
    soup = rendered(tmp_path, [described, shown])
    assert soup.get_text().count(SMOKE_TEXT) == 1 and soup.select_one(".output table") is not None


def test_appendix_has_time_and_memory_of_each_cell(tmp_path: Path) -> None:
    cells = [
        code_cell("import lib", papermill={"duration": 12.34}, peak_memory_bytes=300 * 2**20),
        code_cell("train()\nmore()", papermill={"duration": 125.0}, peak_memory_bytes=1300 * 2**20),
        code_cell("never run"),
    ]
    (appendix,) = rendered(tmp_path, cells).select(".appendix")
    rows = [row.get_text("|", strip=True) for row in appendix.select("tbody tr")]
    assert rows == ["1|import lib|12.3 s|300 MiB", "2|train()|2 min 05 s|1.3 GiB"]
    assert "together: 2 min 17 s; at most 1.3 GiB of memory" in appendix.get_text()
    assert [link["href"] for link in appendix.select("a")] == ["#cell-1", "#cell-2"]
    assert rendered(tmp_path, [code_cell("x")]).select_one(".appendix") is None


# ---------------------------------------------------------------------------------------------- large notebooks


def figure(alt: str, num_bytes: int) -> Any:
    noise = base64.b64encode(np.random.default_rng(0).bytes(3 * num_bytes // 4)).decode()
    return html_output(f'<img alt="{alt}" src="data:image/png;base64,{noise}">')


def prints(text: str, count: int = 1) -> list[Any]:
    return [new_output("stream", name=("stdout", "stderr")[number % 2], text=text) for number in range(count)]


LARGE: dict[str, tuple[list[Any], str]] = {
    "a progress bar of one line": (prints("\r 50 %" * 1_000_000), "50 %"),
    "one print": (prints("".join(f"{number} of 400000\n" for number in range(400_000))), "399999 of 400000"),
    "two streams in turn": (prints("x\n", 1500), "x"),
    "a huge table": ([html_output("<table>" + "<tr><td>x</td></tr>" * 200_000 + "</table>")], "Output left out"),
    "deep nesting": ([html_output("<div>" * 2000 + "x")], "x"),
    "many figures": ([figure("ä" * 5000, 50_000)] * 100, "Figure left out here"),
    "a huge message": ([new_output("error", ename="E", evalue="x" * 3_000_000, traceback=["y"])], "Error left out"),
}


def timed(folder: Path, *cells: Any) -> tuple[str, float]:
    """The text of a page, and the time on the CPU that it took to make."""
    begun = time.process_time()
    return rendered(folder, cells).get_text(), time.process_time() - begun


@pytest.mark.parametrize("name", list(LARGE))
def test_page_of_a_cell_that_left_too_much_is_small_and_quick(tmp_path: Path, name: str) -> None:
    outputs, words = LARGE[name]
    _, ordinary_s = timed(tmp_path, code_cell("x", [html_output(f"<table>{'<tr><td>x</td></tr>' * 5000}</table>")]))
    text, seconds = timed(tmp_path, code_cell("x", outputs), code_cell("after", [html_output("the end")]))
    assert seconds < 10 * ordinary_s
    assert (tmp_path / "demo.html").stat().st_size <= PAGE_LIMIT
    assert words in text and "the end" in text


def test_the_largest_piece_is_left_out_with_its_description_and_the_others_stay(tmp_path: Path) -> None:
    cells = [code_cell("x", [figure("the large one", 1_400_000), figure("the small one", 200_000)])]
    soup = rendered(tmp_path, [*cells, new_markdown_cell("word " * 10_000)])
    assert "Figure left out here (1,400 kB); the executed notebook has it. It shows: the large one" in soup.get_text()
    assert [image["alt"] for image in soup.find_all("img")] == ["the small one"]
    assert soup.get_text().count("word") == 10_000
    text = rendered(tmp_path, [new_markdown_cell("word " * 500_000), code_cell("'" + "x" * 3_000_000 + "'")]).get_text()
    assert "Text left out here" in text and "Code left out here" in text


# --------------------------------------------------------------------------------------------------- sanitizer


@pytest.mark.parametrize(
    "html",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<svg><script>alert(1)</script></svg>",
        "<a href='javascript:alert(1)'>x</a>",
        "<a href='java&#10;script:alert(1)'>x</a>",
        "<a href='data:text/html,<script>alert(1)</script>'>x</a>",
        "<iframe src='https://example.org'></iframe>",
        "<form action='https://example.org'><input name=a></form>",
        "<style>body{background:url(https://example.org)}</style>",
        "<div style='background:url(https://example.org)'>x</div>",
        "<img src='https://example.org/x.png'>",
        "<img src='data:text/html;base64,PHNjcmlwdD4='>",
        "<link rel=stylesheet href=https://example.org>",
        "<meta http-equiv=refresh content='0;url=https://example.org'>",
        "<p class='bar skip'>covers the page</p>",
        "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
        "<img src=x alt='&lt;script&gt;alert(1)&lt;/script&gt;'>",
        "<p id=main tabindex=5 data-v=x>x</p>",
    ],
)
def test_nothing_active_or_foreign_passes(html: str) -> None:
    cleaned = clean_html(html)
    assert not re.search(r"<(script|style|iframe|form|svg|link|meta|math)|\son\w+=|alert\(1\)</s|style=", cleaned)
    assert not re.search(r"(src|href)=.?(https?:|javascript|java|data:text)", cleaned)
    assert not re.search("skip| id=|tabindex|data-v", cleaned)


@pytest.mark.parametrize(
    "html",
    [
        '<table class="dataframe"><tbody><tr><th scope="col">a &lt; b</th></tr></tbody></table>',
        '<p><a href="#x">x</a> <a href="pages/a%20b.html">y</a> <a href="https://example.org/?a=1&amp;b">z</a></p>',
        f'<figure class="r-figure"><img alt="&quot;" width="9" src="data:image/svg+xml;base64,{PIXEL}"></figure>',
        '<td class="r-num" data-v="-1.5e+03">−1,500</td>'.join(("<table><tbody><tr>", "</tr></tbody></table>")),
        '<div class="r-scroll" role="region" tabindex="0" aria-label="Table"><details open=""><p>x</p></details></div>',
        '<ul><li class="task-list-item"><input checked="" type="checkbox" disabled="">done</li></ul>',
    ],
)
def test_ordinary_html_passes_unchanged(html: str) -> None:
    assert clean_html(html) == html


def test_ansi_colours_become_classes_and_other_sequences_go() -> None:
    html = ansi_to_html(
        "\x1b[1;31mError\x1b[0m <b>\x1b[38;2;10;20;250mblue\x1b[0m \x1b[2Kx\x1b]8;;https://x\x07link\x07"
    )
    assert html == '<span class="ansi-red-intense-fg ansi-bold">Error</span> &lt;b&gt;<span>blue</span> xlink'


def test_progress_lines_show_their_last_state_only() -> None:
    assert last_writes("10 %\r50 %\r100 %\r\nnext\n") == "100 %\nnext\n"
