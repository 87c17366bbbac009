"""Pages as a browser shows them: the answer comes first, nothing is loaded, nothing foreign runs, all can use them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lib.analysis.judgement import disturbances
from lib.analysis.recommendation import speeds
from lib.html.index import write_index
from lib.html.page import Failure
from lib.html.provenance import run_metadata
from lib.records.schema import Conditions, Record, RecordWarning, record_path, write_record
from lib.report import PEAK_MEMORY, environment, train
from lib.report.benchmark import by_layer, correctness, glance
from lib.report.compare import layer_map
from lib.report.compare.backends_table import backends_table
from lib.report.release import links_table
from lib.report.table import SORT_ROWS, Banner, Cell, Table
from tests.browser import CHROMIUM, Browser, Opened, browser, findings
from tests.made_notebooks import HOSTILE, PIXEL, code_cell, html_output, new_markdown_cell, new_output, rendered
from tests.made_records import (
    MORE_SPEEDUPS,
    SPEEDUPS,
    made_accuracy,
    made_benchmark,
    made_common,
    made_compare,
    made_confusion,
    made_environment,
    made_explore,
    made_failed_benchmark,
    made_released,
    made_train,
    write_made_run,
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt install chromium")

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="300" height="90"><circle r="40" fill="teal"/></svg>'
TRACEBACK = [
    "\x1b[31mZeroDivisionError\x1b[0m",
    "\x1b[1;32m----> 1\x1b[0m 1\x1b[38;5;28m/\x1b[39m0",
    "division by zero",
]
SCREENS = {"a laptop": (1280, 800), "a phone": (390, 844)}
BUSY = Conditions(0.87, 0.02, 0.6, spare_cores=0, num_measured=2, waited_s=60.0)
ENVIRONMENT = made_environment(cpu_model="Intel(R) Xeon(R) Platinum 8488C with more letters, sixty here")
WARNINGS = [
    RecordWarning("too_many_threads", figures={"threads": 8, "cores": 4}),
    RecordWarning("unstable", "offline", {"torch-blas": 0.12, "torch-onednn": 0.2}),
    RecordWarning("variables", figures={"notebook": "OMP_NUM_THREADS=3", "measured": "MALLOC_ARENA_MAX=1"}),
    RecordWarning("near_chance"),
    RecordWarning("random_weights"),
]
# From the top of the page; where text is smaller than 14 px, with pictures drawn as large as they are shown.
BOTTOMS = "names => names.map(name => document.querySelector(name)?.getBoundingClientRect().bottom ?? null)"
SMALL_TEXT = """() => [...document.querySelectorAll('body *')].filter(element => {
  const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
  const svg = element.closest('svg');
  const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
  return own && element.getClientRects().length && parseFloat(getComputedStyle(element).fontSize) * scale < 13.95;
}).map(element => element.outerHTML.slice(0, 100))"""
UNFOLD = "document.querySelectorAll('details').forEach(box => { box.open = true; })"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


def cells_of(*shown: Any) -> list[Any]:
    """A notebook with everything that pages know to show."""
    described = run_metadata("03_benchmark", made_common(seed=3))
    header = {"text/html": environment.environment_table(made_environment())._repr_html_(), "text/plain": "x"}
    picture = new_output("display_data", data={"image/svg+xml": SVG}, metadata={"image/svg+xml": {"alt": "Teal"}})
    lines = new_output("stream", name="stdout", text="".join(f"\x1b[3{n % 8}mline {n}\x1b[0m\n" for n in range(24)))
    warned = new_output("stream", name="stderr", text="careful\n")
    source = "from lib import x  # why\nprint('text', 1.5, None, len(x))\n@decorated\ndef f(a: int) -> str: ...\n"
    papermill = {"papermill": {"duration": 1.5}, PEAK_MEMORY: 300 * 2**20}
    return [
        new_markdown_cell(
            "# A title that takes two lines on a phone, as ours do\n\n"
            "Text with `code`, [a link](#more) and\n\n- a list\n\n> a quote\n\n"
            "| a | b |\n|-|-|\n| 1 | 2 |"
        ),
        code_cell('backend: str = "torch-blas"  # which\nseed: int = 0  # seed', tags=["parameters"]),
        code_cell("run", [new_output("execute_result", data=header, metadata={"text/html": described})]),
        new_markdown_cell("## More\n\n### Deeper"),
        *(code_cell(source, [html_output(table._repr_html_())], **papermill) for table in shown),
        code_cell("x", [picture, lines, warned]),
    ]


def kinds() -> dict[str, tuple[Record, list[Any], Failure | None]]:
    """One page of each kind, with what its notebook shows."""
    records = [made_benchmark(name) for name in [*SPEEDUPS, "openvino-int8"]] + [made_failed_benchmark("x")]
    benchmark = made_benchmark("onnxruntime")
    error = new_output("error", ename="ZeroDivisionError", evalue="division by zero", traceback=TRACEBACK)
    broken = [*cells_of(Banner("look", "error")), code_cell("1/0", [error]), code_cell("never")]
    number = sum(cell.cell_type == "code" for cell in broken) - 1
    reason = "ZeroDivisionError: division by zero, " + "for a long reason " * 12
    trained = [train.accuracy_table(made_accuracy()), train.confused_pairs_table(made_confusion())]
    measured = [glance.glance_table(benchmark), correctness.parity(benchmark), correctness.proof(benchmark)]
    measured += [by_layer.layers(benchmark, name) for name in ("single_stream", "offline")]
    compare = [backends_table(records), layer_map.layers_table(records, "offline")]
    more: dict[str, Any] = {"environment": ENVIRONMENT, "warnings": WARNINGS}
    disturbed = made_benchmark("openvino-int8", **more)
    disturbed.scenarios = [replace(scenario, conditions=BUSY) for scenario in disturbed.scenarios]
    disturbed.warnings = [*disturbances(disturbed), *WARNINGS]
    full = [made_benchmark(name) for name in [*SPEEDUPS, *MORE_SPEEDUPS]]
    compared = made_compare(
        headline="From torch-blas to torch-onednn at batch 256, 14 of 50 layers run another kernel: 11 run faster, by "
        "1.90x to 3.75x, with most time saved in stage3.0.conv2; 1 run slower, by 1.12x, with most time lost in head; "
        "2 show no difference. The other 36 run the same kernel.",
        speeds=speeds(full),
        **more,
    )
    return {
        "01_explore": (made_explore(**more), cells_of(Banner("no test images", "info"), Banner("careful")), None),
        "02_train": (made_train(**more), cells_of(*trained), None),
        "03_benchmark.onnxruntime": (benchmark, cells_of(*measured), None),
        "03_benchmark.disturbed": (disturbed, cells_of(), None),
        "03_benchmark.failed": (made_failed_benchmark("failed", "failed", "logits differ. " * 20), cells_of(), None),
        "03_benchmark.broken": (made_train(**more), broken, Failure(number, number + 1, reason)),
        "04_compare": (compared, cells_of(*compare), None),
        "05_release": (made_released(**more), cells_of(links_table(made_released().links)), None),
        "05_release.nothing": (made_released(digest="", reason="onnxruntime was not measured", **more), [], None),
    }


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every kind of page, and the index of a run that has all of them."""
    made: dict[str, Path] = {}
    run_dir = write_made_run(tmp_path_factory.mktemp("run"), [*SPEEDUPS, *MORE_SPEEDUPS], environment=ENVIRONMENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUN_NOTE", "The download host was down: synthetic images instead.")
        for title, (record, cells, failure) in kinds().items():
            folder = tmp_path_factory.mktemp("page")
            metadata = {"papermill": {"parameters": {"profile": "smoke"}}}
            rendered(folder, cells, record=record, title=title, failure=failure, index="index.html", metadata=metadata)
            made[title] = folder / "demo.html"
            write_record(record, run_dir / "results" / f"{title}.json")
        (run_dir / "pages").mkdir()
        (run_dir / "pages" / "02_train.html").write_text("x")
        made["index"] = write_index(run_dir)
    made["empty index"] = write_index(tmp_path_factory.mktemp("empty"))
    return made


KINDS = [*kinds(), "index", "empty index"]


@pytest.fixture(scope="module", params=[name for name in KINDS if not name.endswith(("disturbed", "failed"))])
def shown(request: pytest.FixtureRequest, chromium: Browser, pages: dict[str, Path]) -> Iterator[Opened]:
    """Each kind of page, opened once for all tests of it, with everything unfolded."""
    with chromium.open(pages[request.param]) as opened:
        opened.page.evaluate(UNFOLD)
        yield opened


def test_page_asks_for_nothing_and_breaks_no_rule_of_its_own(shown: Opened) -> None:
    assert shown.requests == [shown.page.url]
    assert shown.complaints == [] and shown.dialogs == []


def test_nothing_keeps_people_from_reading_a_page(shown: Opened) -> None:
    assert findings(shown) == []
    shown.page.emulate_media(color_scheme="dark")  # the same page in other colours
    assert findings(shown, rules=["color-contrast"]) == []


def test_axe_would_find_what_keeps_people_from_reading(chromium: Browser, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text('<html><body><img src="data:,x"><p style="color:#ccc;background:#fff">pale</p><button></button>')
    with chromium.open(page) as opened:
        found = " ".join(findings(opened))
    assert all(name in found for name in ("image-alt", "color-contrast", "button-name", "html-has-lang"))


@pytest.mark.parametrize("screen", list(SCREENS))
@pytest.mark.parametrize("title", KINDS)
def test_first_screen_has_answer_chart_and_what_must_be_known(
    chromium: Browser, pages: dict[str, Path], title: str, screen: str
) -> None:
    width, height = SCREENS[screen]
    nothing = ("03_benchmark.failed", "03_benchmark.broken", "05_release.nothing", "empty index")
    with chromium.open(pages[title], width=width, height=height) as opened:
        answer, charts, caveats, line = opened.page.evaluate(BOTTOMS, [".answer", ".charts", ".caveats", ".prov"])
        assert 0 < answer <= height and (charts or 0) <= height and (caveats or 0) <= height
        assert (charts is None) == (title in nothing), "nothing was measured"
        assert (caveats is None) == (title == "empty index") and opened.page.locator(".caveats > ul li").count() <= 3
        assert line - opened.page.locator(".prov").bounding_box()["y"] < 50, "one line, however long the CPU's name"
        opened.page.evaluate(UNFOLD)
        assert opened.page.evaluate(SMALL_TEXT) == []


def test_page_fits_a_phone(shown: Opened) -> None:
    shown.page.set_viewport_size({"width": 390, "height": 844})
    wide = shown.page.evaluate(
        "Array.from(document.body.querySelectorAll('*'))"
        ".filter(e => !e.closest('.r-scroll, .r-figure, .highlight, pre, .skip, svg'))"
        ".filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 120))"
    )
    assert wide == [], "only tables, figures, code and printed text may be wider, and scroll inside themselves"
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_hostile_names_run_nothing(chromium: Browser, tmp_path: Path) -> None:
    hostile = Table([HOSTILE, "x"], [[HOSTILE, Cell(HOSTILE, href=HOSTILE)]] * SORT_ROWS, caption=HOSTILE)
    error = new_output("error", ename=HOSTILE, evalue=HOSTILE, traceback=[HOSTILE])
    raw = "<img src=x onerror=alert(3)><a href='javascript:alert(4)'>x</a><svg onload=alert(5)></svg>"
    cells = [
        new_markdown_cell(f"# {HOSTILE}\n\n{raw}"),
        code_cell(HOSTILE, [html_output(hostile.to_html() + raw), error]),
    ]
    failure = Failure(1, 1, HOSTILE)
    record = made_failed_benchmark(HOSTILE, "failed", HOSTILE)
    record.params, record.environment = {HOSTILE: HOSTILE}, made_environment(cpu_model=HOSTILE)
    rendered(tmp_path, cells, failure=failure, record=record, title="demo", source=HOSTILE)
    with chromium.open(tmp_path / "demo.html", settle_ms=100) as opened:
        assert opened.dialogs == []
        assert len(opened.requests) == 1
        assert opened.complaints == [], "the sanitizer leaves nothing for the policy to stop"
    write_record(record, record_path(tmp_path, "03_benchmark", "hostile"))
    with chromium.open(write_index(tmp_path), settle_ms=100) as opened:
        assert opened.dialogs == [] and len(opened.requests) == 1 and opened.complaints == []


def test_policy_stops_what_would_get_past_the_sanitizer(chromium: Browser, tmp_path: Path) -> None:
    """The same page without the policy does what is asked, so that this test means something."""
    rendered(tmp_path, [code_cell("x", [html_output(f'<img alt="" src="data:image/png;base64,{PIXEL}">')])])
    page, host = tmp_path / "demo.html", "http://signs.test"
    active = (
        f'<img src="{host}/image"><script>alert("inline")</script><script src="{host}/script"></script>'
        f'<iframe src="{host}/frame"></iframe><link rel="stylesheet" href="{host}/style">'
        f'<p style="background:url({host}/background)" onclick="1">x</p>'
    )
    guarded = page.read_text().replace("</body>", active + "</body>")
    page.write_text(guarded)
    asked: set[str] = set()

    def answer(route: Any) -> None:
        asked.add(route.request.url.removeprefix(host))
        route.fulfill(body="")

    with chromium.open("about:blank") as opened:
        opened.page.route(f"{host}/*", answer)
        opened.page.goto(page.as_uri())
        opened.until(lambda: "Content Security Policy" in str(opened.complaints), "the policy stopped something")
        opened.page.wait_for_timeout(300)
        assert opened.dialogs == [] and asked == set()
        page.write_text(re.sub(r'<meta [^>]*"Content-Security-Policy"[^>]*>', "", guarded))
        opened.page.reload()
        wanted = {"/image", "/script", "/frame", "/style", "/background"}
        opened.until(lambda: opened.dialogs == ["inline"] and asked == wanted, "all of it was done")


def test_long_tables_sort_by_keyboard_and_say_so(chromium: Browser, tmp_path: Path) -> None:
    texts = ["90 ms", "2.0 s", "–", "1 min 05 s", "3.0 s", "1.0 s", "80 ms", "70 ms"]
    rows = [[f"layer {number}", text] for number, text in enumerate(texts, start=3)]
    table = Table(["layer", "time"], [*rows, ["together", "9.0 s"]], num_totals=1)
    rendered(tmp_path, [code_cell("x", [html_output(table.to_html())])])
    rising = ["70 ms", "80 ms", "90 ms", "1.0 s", "2.0 s", "3.0 s", "1 min 05 s"]
    with chromium.open(tmp_path / "demo.html") as opened:
        names, times = (opened.page.locator(f".r-sort tbody tr > :nth-child({column})") for column in (1, 2))
        head = opened.page.locator(".r-sort thead th").nth(1)
        opened.page.locator(".r-sort button.sort").nth(1).focus()
        for key, order, expected in (
            ("Enter", "ascending", [*rising, "–", "9.0 s"]),
            ("Space", "descending", [*rising[::-1], "–", "9.0 s"]),
            ("Enter", None, [*texts, "9.0 s"]),
        ):
            opened.page.keyboard.press(key)
            assert head.get_attribute("aria-sort") == order and times.all_text_contents() == expected
        opened.page.locator(".r-sort button.sort").nth(0).click()
        assert names.all_text_contents() == [*(f"layer {number}" for number in range(3, 11)), "together"]


def test_code_unfolds_at_once_and_a_link_into_something_folded_opens_it(
    chromium: Browser, pages: dict[str, Path]
) -> None:
    with chromium.open(pages["02_train"]) as opened:
        page = opened.page
        folded = "document.querySelectorAll('details.code:not([open])').length"
        assert page.evaluate(folded) > 3
        page.get_by_role("button", name="Show all code").click()
        assert page.evaluate(folded) == 0
        assert page.get_by_role("button", name="Hide all code").get_attribute("aria-pressed") == "true"
        page.get_by_role("button", name="Hide all code").click()
        assert page.evaluate("document.querySelectorAll('details.code[open]').length") == 0
    with chromium.open(pages["03_benchmark.broken"]) as opened:
        opened.page.get_by_role("link", name="Go to the failing cell").click()
        assert opened.page.evaluate("document.querySelector(location.hash).classList.contains('failed')")
        assert opened.page.get_by_text("1/0").first.is_visible()


def test_print_leaves_out_what_only_a_screen_can_use(chromium: Browser, pages: dict[str, Path]) -> None:
    with chromium.open(pages["04_compare"]) as opened:
        opened.page.emulate_media(media="print")
        for selector in (".bar", ".toc", "details.code", ".fold"):
            assert not opened.page.locator(selector).first.is_visible(), selector
        opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert opened.page.locator(".prov dl").is_visible()
        assert len(opened.page.pdf()) > 10_000
