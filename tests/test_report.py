"""Tables and the page of a notebook: what a reader sees, and what must never get into a page."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from nbformat import NotebookNode, v4

from lib.errors import UserError
from lib.records.results import BenchmarkRecord, Recommendation
from lib.records.roofline import roofline
from lib.records.statistics import Ratio
from lib.report import tables, views, words
from lib.report.page import PAGE_LIMIT, Failure, assets, render_page
from lib.report.sanitize import ansi_to_html, clean_html, last_writes
from lib.report.table import SMOKE_TEXT, Banner, Cell, Table, profile_banner
from tests.made_records import (
    SPEEDUPS,
    made_accuracy,
    made_benchmark,
    made_confusion,
    made_environment,
    made_failed_benchmark,
    made_layers,
    made_parity,
    made_scenario,
)

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
WIDGET = "application/vnd.jupyter.widget-view+json"
# nbformat has no types.
new_code_cell: Any = v4.new_code_cell
new_markdown_cell: Any = v4.new_markdown_cell
new_notebook: Any = v4.new_notebook
new_output: Any = v4.new_output
write_notebook: Any = nbformat.write
PIXEL = base64.b64encode(b"not really a PNG").decode()


def html_output(html: str) -> Any:
    return new_output("display_data", data={"text/html": html, "text/plain": "plain"})


def code_cell(source: str, outputs: Iterable[NotebookNode] = (), **metadata: Any) -> Any:
    return new_code_cell(source, outputs=list(outputs), metadata=metadata, execution_count=1)


def rendered(tmp_path: Path, cells: Iterable[NotebookNode], **options: Any) -> BeautifulSoup:
    metadata = options.pop("metadata", {})
    notebook = tmp_path / "demo.ipynb"
    write_notebook(new_notebook(cells=list(cells), metadata=metadata), notebook)
    page = tmp_path / "demo.html"
    render_page(notebook, page, **{"title": "Demo", **options})
    return BeautifulSoup(page.read_text(), "html.parser")


# ---------------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.00123, "0.00123"), (2.0, "2.00"), (126.04, "126"), (0.9996, "1.00"), (20255.3, "20,255")],
)
def test_numbers_have_three_digits_and_no_powers(value: float, text: str) -> None:
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.34, "340 ms"), (0.9999, "1.0 s"), (59.97, "1 min 00 s"), (125, "2 min 05 s"), (3725, "1 h 02 min")],
)
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


def test_ratio_words_have_a_direction_and_the_interval_follows_it() -> None:
    slower = Ratio(0.5, 0.48, 0.52)
    assert words.ratio_words(Ratio(1.81, 1.75, 1.88)) == "1.81x faster"
    assert words.ratio_words(slower) == "2.00x slower"
    assert words.ratio_interval(slower) == "[1.92, 2.08]"
    assert words.ratio_words(Ratio(1.01, 0.99, 1.02)) == "no difference"


# --------------------------------------------------------------------------------------------------- tables


def test_table_escapes_whatever_it_is_given() -> None:
    table = Table(
        [HOSTILE, "b"], [[HOSTILE, Cell(HOSTILE, detail=HOSTILE, href=HOSTILE)]], caption=HOSTILE, note=HOSTILE
    )
    html = table.to_html()
    soup = BeautifulSoup(html, "html.parser")
    assert soup.find_all(["script", "img"]) == []
    assert not [tag for tag in soup.find_all(True) if any(name.startswith("on") for name in tag.attrs)]
    assert soup.caption is not None
    assert soup.caption.get_text() == HOSTILE
    assert soup.a is not None
    assert ":" not in str(soup.a["href"])
    assert "<script" not in Banner(HOSTILE).to_html()


def test_table_aligns_numbers_right_and_text_left() -> None:
    table = Table(["name", "ms", "speed"], [["a", 1.5, "▲ 1.20x faster"], ["b", None, "= no difference"]])
    head = BeautifulSoup(table.to_html(), "html.parser").find_all("th", scope="col")
    assert ["r-num" in str(cell.get("class")) for cell in head] == [False, True, True]


def test_table_scrolls_inside_itself_and_can_be_reached_by_keyboard() -> None:
    scroller = BeautifulSoup(Table(["a"], [[1]], caption="Things").to_html(), "html.parser").find(class_="r-scroll")
    assert scroller is not None
    assert (scroller["tabindex"], scroller["role"], scroller["aria-label"]) == ("0", "region", "Things")
    assert ".r-scroll{overflow-x:auto" in assets()["style"]


def test_table_is_readable_as_plain_text() -> None:
    text = str(Table(["backend", "ms"], [["torch-blas", 12.5], ["x", None]], caption="Times"))
    assert text.splitlines() == [
        "Times",
        "backend       ms",
        "----------  ----",
        "torch-blas  12.5",
        "x              –",
    ]


def test_table_refuses_rows_of_another_length() -> None:
    with pytest.raises(ValueError, match="2 cells in a table of 1 columns"):
        Table(["a"], [[1, 2]])


class _Parameter:
    def __init__(self, default: Any, text: str) -> None:
        self.default, self.help = default, text


def test_parameter_table_marks_what_differs_from_its_default() -> None:
    schema = {"seed": _Parameter(0, "of everything"), "data_root": _Parameter("", "folder")}
    table = tables.parameter_table({"seed": 0, "data_root": HOSTILE}, schema)
    assert "changed from ''" in str(table)
    assert str(table).count("default") == 1
    assert "<script" not in table.to_html()


def test_environment_table_says_unknown_and_emulated() -> None:
    text = str(tables.environment_table(made_environment(cpu_model=None, acl=None, emulated=True)))
    assert re.search(r"CPU\s+unknown", text)
    assert re.search(r"Arm Compute Library\s+unknown", text)
    assert "times mean nothing" in text


def test_scenario_table_shows_both_sides_and_a_signed_ratio() -> None:
    text = str(tables.scenario_table([made_scenario("offline", 0.5)], "torch-blas", "torch-onednn"))
    assert re.search(r"torch-blas .*▼ \d\.\d\dx slower \[", text)
    assert re.search(r"torch-onednn .*reference", text)


def test_scenario_table_labels_unstable_samples() -> None:
    scenario = made_scenario("offline", 1.5)
    scenario.latencies_s[3] = [10 * value for value in scenario.latencies_s[3]]
    assert "torch-blas unstable" in str(tables.scenario_table([scenario], "torch-blas", "torch-onednn"))


def test_scenario_table_shows_the_control_and_judges_by_its_noise_floor() -> None:
    scenario = made_scenario("offline", 1.05)
    assert "▲ 1.0" in str(tables.scenario_table([scenario], "new", "torch-onednn"))
    scenario.control_latencies_s = [[0.9 * call for call in calls] for calls in scenario.reference_latencies_s]
    text = str(tables.scenario_table([scenario], "new", "torch-onednn"))
    assert "= no difference" in text
    assert re.search(r"torch-onednn, again \(control\) .*noise floor 11\.1 % \[1\.111, 1\.111\]", text)


def test_layer_table_shows_fused_groups_as_one_row_and_the_runtime_outside_layers() -> None:
    text = str(tables.layer_table(made_layers("offline", 1.5, fused=True), "onnxruntime", "torch-onednn"))
    assert re.search(r"stem: conv \+ norm fused .* 1\.08 .* slow_conv2d_forward +mkldnn_convolution", text)
    assert re.search(r"outside layers steps of the runtime .*ReorderInput, ReorderOutput", text)
    assert "stand in one row, against the sum of the reference's" in text


def test_layers_and_runtime_steps_and_what_is_missing_add_up_to_the_call() -> None:
    record = made_benchmark("onnxruntime")
    table = tables.layer_sum_table(record.layers, record.scenarios, "onnxruntime", "torch-onednn")
    for cells in table._cells:
        layers_ms, runtime_ms, call_ms, missing_ms = (float(cell.text.replace("–", "0")) for cell in cells[2:])
        assert layers_ms + runtime_ms + missing_ms == pytest.approx(call_ms, rel=0.01)
    assert [cells[3].text == "–" for cells in table._cells] == [False, True, False, True]


def test_kernel_table_says_where_the_scenarios_differ() -> None:
    single, offline = made_layers("single_stream", 0.5), made_layers("offline", 0.5)
    assert tables.kernel_table([single, offline], "x").note == ""
    single.layers[0].kernels = ["native_conv"]
    table = tables.kernel_table([single, offline], "x")
    assert re.search(r"slow_conv2d_forward +7 +8", str(table))
    assert "different kernels" in table.note


def test_roofline_table_explains_shares_above_100_percent_and_never_clips_them() -> None:
    record = made_benchmark("onnxruntime")
    assert record.peaks is not None
    record.peaks.matmul["fp32"].per_s = 1e9
    found = roofline(record, "offline")
    assert found is not None
    table = tables.roofline_table(found, "onnxruntime")
    assert re.search(r"stage1\.0\.conv1 .* compute +\d{3,},?\d* % ¹", str(table))
    assert " ¹ " in table.note
    assert re.search(r"\nwhole call .* \(\d[\d,]* %\) .* \d[\d,]* %\n", str(table))


def test_roofline_table_keeps_the_slowest_layers_in_network_order_and_says_so() -> None:
    found = roofline(made_benchmark("torch-blas"), "offline")
    assert found is not None
    table = tables.roofline_table(found, "torch-blas", num_layers=3)
    assert [row[0].text for row in table._cells] == ["stage1.0.conv1", "stage1.0.conv2", "stage3.0.conv2", "whole call"]
    assert "8 faster layers are not shown" in table.note


def test_layer_table_names_the_first_kernels_and_counts_the_rest() -> None:
    layers = made_layers("offline", 0.5)
    layers.layers[0].reference_kernels = ["conv", "onednn jit", "reorder a", "reorder b", "reorder b"]
    line = next(line for line in str(tables.layer_table(layers, "x", "ref")).splitlines() if "stem.conv" in line)
    assert line.endswith("conv, onednn jit and 2 more")


def test_roofline_table_says_unknown_where_no_peak_was_measured() -> None:
    record = made_benchmark("onnxruntime", peaks=None)
    found = roofline(record, "offline")
    assert found is not None
    row = next(
        line for line in str(tables.roofline_table(found, "x")).splitlines() if line.startswith("stage1.0.conv1")
    )
    assert row.endswith("–") and "%" not in row


def test_cost_of_an_image_shares_out_the_whole() -> None:
    record = made_benchmark("onnxruntime")
    assert record.preprocessing is not None
    rows = tables.image_cost_table(record.preprocessing, record.scenarios, "onnxruntime", 4)._cells
    for column in (1, 2):
        micros = [float(row[column].text.replace(",", "")) for row in rows]
        assert sum(micros[:-1]) == pytest.approx(micros[-1], rel=0.01)
        assert sum(int(re.sub(r"\D", "", row[column].detail)) for row in rows[:-1]) == pytest.approx(100, abs=2)


def test_names_of_fused_layers_say_once_what_they_share() -> None:
    assert tables.group_name(["stage1.b1.conv2", "stage1.b1.bn2", "stage1.b1.add"]) == "stage1.b1: conv2 + bn2 + add"
    assert tables.group_name(["stage3.conv", "pool"]) == "stage3.conv + pool"
    assert tables.group_name(["head"]) == "head"
    assert tables.counted(["a", "b", "a"]) == "a x2, b"


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (made_benchmark(warnings=["8 threads on 4 cores", "single_stream: x is unstable"]), "At a glance"),
        (made_failed_benchmark("x", "failed", "logits differ"), "x failed: logits differ"),
        (made_failed_benchmark("x", "unavailable", "no wheel"), "x is unavailable here: no wheel"),
        (made_benchmark("null", parity=None), "null computes no network"),
    ],
)
def test_top_of_the_page_has_the_answer_and_every_warning(
    record: BenchmarkRecord, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    updates: dict[str, Any] = {}
    monkeypatch.setattr("IPython.display.update_display", lambda shown, display_id: updates.update({display_id: shown}))
    views.fill_glance(record)
    (shown,) = updates.values()
    assert words in repr(shown)
    assert ("8 threads on 4 cores. Single stream: x is unstable." in repr(shown)) == bool(record.warnings)


def test_sweep_that_was_not_asked_for_is_told_in_one_line() -> None:
    assert "in the profile full only" in repr(views.sweep(made_benchmark()))
    assert "x failed: gone" in repr(views.sweep(made_failed_benchmark("x", "failed", "gone")))


def test_layer_table_keeps_the_slowest_layers_in_network_order_and_says_so() -> None:
    layers = made_layers("offline", 0.5)
    table = tables.layer_table(layers, "torch-blas", "torch-onednn", num_layers=3)
    names = [layer.name for layer in layers.layers]
    shown = [str(row[0].text) for row in table._cells]
    assert len(shown) == 3
    assert shown == sorted(shown, key=names.index)
    assert "8 faster layers are not shown" in table.note


def test_compare_tables_name_backends_that_did_not_run_with_the_reason() -> None:
    records = [made_benchmark("torch-blas"), made_failed_benchmark("x", "unavailable", f"no wheel {HOSTILE}")]
    table = tables.compare_scenarios_table(records)
    assert "unavailable no wheel" in str(table)
    assert "<script" not in table.to_html()
    assert "x" not in tables.compare_layers_table(records, "offline").columns


def test_compare_layers_table_has_sign_factor_and_milliseconds() -> None:
    text = str(tables.compare_layers_table([made_benchmark(name) for name in SPEEDUPS], "offline"))
    assert re.search(r"stage1.0.conv1 .*▼ \d\.\d\dx \d+ ms .*▲ \d\.\d\dx [\d.]+ ms", text)
    assert re.search(r"whole call .*▼ 2\.\d\dx \d+ ms", text)


def test_compare_layers_table_says_where_a_fused_layer_went_and_what_the_runtime_adds() -> None:
    table = tables.compare_layers_table([made_benchmark("torch-blas"), made_benchmark("onnxruntime")], "offline")
    cells = {str(row[0].text): row[3] for row in table._cells}
    assert re.fullmatch(r"▲ 1\.\d\dx", cells["stem.conv"].text) and cells["stem.conv"].detail.endswith(" ms")
    assert (cells["stem.norm"].text, cells["stem.norm"].detail) == ("", "↑")
    assert cells["outside layers"].detail == "2.49 ms"
    assert "runs as one step with a layer above or below" in table.note


def test_fused_layer_whose_number_is_not_the_next_one_names_its_place() -> None:
    record = made_benchmark("onnxruntime")
    layers = record.layers[1].layers
    fused = next(layer for layer in layers if layer.name == "stage3.0.conv2+pool")
    fused.members = ["stage1.0.conv1", "pool"]
    table = tables.compare_layers_table([made_benchmark("torch-blas"), record], "offline")
    assert {str(row[0].text): row[3].detail for row in table._cells}["pool"] == "in stage1.0.conv1"


def test_milliseconds_of_different_machines_carry_the_letter_of_their_machine() -> None:
    records = [made_benchmark("torch-blas"), made_benchmark("onnxruntime")]
    assert "onnxruntime" in tables.compare_layers_table(records, "offline").columns
    records[1].environment.machine_id = "another"
    assert "onnxruntime (B)" in tables.compare_layers_table(records, "offline").columns
    machines = tables.machines_table(records)
    assert machines.columns == ["what", "A", "B"]
    assert "never milliseconds of different letters" in machines.note
    assert "may be compared" in tables.machines_table(records[:1]).note


def test_backend_that_cannot_tell_its_layers_is_named_under_the_table() -> None:
    silent = made_benchmark("torch-aoti", layers=[])
    table = tables.compare_layers_table([made_benchmark("torch-blas"), silent], "offline")
    assert "torch-aoti" not in table.columns
    assert "cannot tell their layers: torch-aoti." in table.note


def test_compare_scenarios_table_tells_what_accuracy_was_lost_and_how_sure_that_is() -> None:
    text = str(tables.compare_scenarios_table([made_benchmark("torch-onednn"), made_benchmark("onnxruntime-int8")]))
    assert re.search(r"onnxruntime-int8 .*98\.51 % test, [\d,]+ images +0\.20 3 lost, 1 gained +0\.62", text)
    random = made_benchmark("onnxruntime", random_weights=True)
    assert "– random weights" in str(tables.compare_scenarios_table([random]))


def test_compare_proofs_table_tells_what_ran_and_what_to_investigate() -> None:
    odd, broken = made_benchmark("torch-onednn-fastmath"), made_benchmark("torch-blas")
    assert broken.proof is not None
    broken.proof.passed, broken.proof.reason = False, "oneDNN ran"
    broken.proof.found = {f"kernel{number}": number for number in range(1, 8)}
    text = str(tables.compare_proofs_table([made_benchmark("onnxruntime"), odd, broken]))
    assert re.search(r"9 x aten::mkldnn_convolution, 1 x aten::addmm +passed", text)
    assert "investigate the same kernels as without the switch" in text
    assert "7 x kernel7, 6 x kernel6, 5 x kernel5, 4 x kernel4, 3 more  FAILED oneDNN ran" in text


def test_compare_starts_and_costs_tables_add_up() -> None:
    records = [made_benchmark("torch-compile"), made_benchmark("onnxruntime-int8")]
    starts = str(tables.compare_starts_table(records))
    assert "10,454" in starts
    assert re.search(r"onnxruntime-int8 .* 412 MiB +1\.8 s +317 KiB +512", starts)
    assert re.search(r"onnxruntime-int8 +\d+\.\d", str(tables.compare_costs_table(records)))
    records[0].environment.num_threads = 1
    assert "1 threads on 4 cores" in str(tables.compare_costs_table(records))


def test_recommendations_are_shown_at_a_glance() -> None:
    ratio = (1.9, 1.8, 2.0)
    found = [Recommendation("offline", "fp32", "aarch64", "openvino", ratio, ["ncnn"], [], "text"),
             Recommendation("single_stream", "any", "aarch64", "torch-onednn", None, [], [], "text")]  # fmt: skip
    text = str(tables.recommendation_table(found))
    assert re.search(r"offline +fp32 only +openvino +▲ 1\.90x faster \[1\.80, 2\.00\] +ncnn", text)
    assert re.search(r"single stream +any +torch-onednn += nothing is faster", text)


def test_confused_pairs_are_sorted_and_leave_out_the_diagonal() -> None:
    rows = str(tables.confused_pairs_table(made_confusion(), limit=2)).splitlines()
    assert "5 speed limit 80 km/h" in rows[3]
    assert "3 speed limit 60 km/h" in rows[3]
    assert " 21 " in rows[3]
    assert "1 speed limit 30 km/h" in rows[4]
    assert len(rows) == 5


def test_accuracy_and_parity_and_proof_tables_tell_the_verdict() -> None:
    record = made_benchmark("torch-onednn-bf16")
    assert record.parity is not None
    assert record.proof is not None
    record.parity.passed, record.parity.reason = False, "top-1 fell by 0.6 %"
    record.proof.passed, record.proof.reason = False, "a reference kernel ran"
    assert "FAILED top-1 fell by 0.6 %" in str(tables.parity_table(record.parity))
    assert "THE PROMISE DOES NOT HOLD" in str(tables.proof_table(record.proof))
    assert "98.71 % [98.11, 99.21] %" in str(tables.accuracy_table(made_accuracy()))


def test_parity_table_tells_what_an_uneven_split_means() -> None:
    assert "Both read the same images right" in tables.parity_table(made_parity()).note
    even = tables.parity_table(made_parity(0.002))
    assert "1 gained and 3 lost: chance alone" in even.note
    assert re.search(r"McNemar's test, exact p +0\.62", str(even))
    uneven = tables.parity_table(made_parity(0.02, num_gained=1, num_lost=21, mcnemar_p=1.1e-05))
    assert "too uneven for chance (p below 0.05), the reference reads better" in uneven.note


def test_parity_table_of_random_weights_has_no_accuracy() -> None:
    table = tables.parity_table(made_parity(), random_weights=True)
    assert "top-1" not in str(table) and "McNemar" not in str(table)
    assert "accuracy means nothing" in table.note


def test_proof_table_asks_for_a_look_where_the_promise_is_kept_and_doubtful() -> None:
    record = made_benchmark("torch-onednn-fastmath")
    assert record.proof is not None
    assert "The promise holds" in tables.proof_table(record.proof).note
    assert "To investigate: the same kernels" in tables.proof_table(record.proof).note


def test_cold_start_table_adds_up_with_compilation_and_without_preparation() -> None:
    plain, compiled = made_benchmark("torch-blas"), made_benchmark("torch-compile")
    assert "1,054" in str(tables.cold_start_table({"torch-blas": plain.cold_start, "none": None}))
    assert "10,454" in str(tables.cold_start_table({"torch-compile": compiled.cold_start}))


def test_preparation_table_says_nothing_where_nothing_was_written() -> None:
    none, calibrated = made_benchmark("torch-blas").preparation, made_benchmark("openvino-int8").preparation
    assert none is not None and calibrated is not None
    assert re.search(r"torch-blas +0 ms +nothing +none", str(tables.preparation_table(none, "torch-blas")))
    assert re.search(r"1\.8 s +317 KiB +512", str(tables.preparation_table(calibrated, "openvino-int8")))


def test_answer_at_a_glance_names_speed_parity_kernels_and_the_first_answer() -> None:
    text = str(tables.glance_table(made_benchmark("torch-onednn-fastmath")))
    assert re.search(r"offline, batch 256 +(=|[▲▼])", text)
    assert "passed top-1 99.10 %, drop 0.00 points" in text
    assert "investigate the same kernels" in text
    assert "first answer after" in text
    assert "random weights" in str(tables.glance_table(made_benchmark("x", random_weights=True)))


def test_answer_at_a_glance_marks_speeds_that_rest_on_unstable_times() -> None:
    record = made_benchmark("onnxruntime")
    assert "unstable" not in str(tables.glance_table(record))
    record.scenarios[1].latencies_s[3] = [10 * call for call in record.scenarios[1].latencies_s[3]]
    assert re.search(r"offline.*unstable: measure again", str(tables.glance_table(record)))


def test_smoke_profile_has_a_banner_and_others_have_none() -> None:
    assert profile_banner("fast") is None
    assert "mean nothing" in str(profile_banner("smoke"))


# ------------------------------------------------------------------------------------------------- sanitizer


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
    ],
)
def test_nothing_active_or_foreign_passes(html: str) -> None:
    cleaned = clean_html(html)
    assert not re.search(r"<(script|style|iframe|form|svg|link|meta|math)|\son\w+=|alert\(1\)</s|style=", cleaned)
    assert not re.search(r"(src|href)=.?(https?:|javascript|java|data:text)", cleaned)
    assert "skip" not in cleaned


def test_ordinary_html_passes_unchanged() -> None:
    row = '<tr><th scope="col">a &lt; b</th></tr>'
    html = f'<table class="dataframe"><tbody>{row}</tbody></table><p><a href="#x">x</a></p>'
    assert clean_html(html) == html


def test_ansi_colours_become_classes_and_other_sequences_go() -> None:
    html = ansi_to_html(
        "\x1b[1;31mError\x1b[0m <b>\x1b[38;5;28mgreen\x1b[39m \x1b[2Kx\x1b[38;2;10;20;250mblue\x1b[0m\x07"
    )
    assert (
        '<span class="r-a-bold r-a-red">Error</span>' in html or '<span class="r-a-red r-a-bold">Error</span>' in html
    )
    assert '&lt;b&gt;<span class="r-a-green">green</span> x<span class="r-a-blue">blue</span>' in html
    assert "\x1b" not in html
    assert "\x07" not in html


def test_progress_lines_show_their_last_state_only() -> None:
    assert last_writes("10 %\r50 %\r100 %\r\nnext\n") == "100 %\nnext\n"


# ------------------------------------------------------------------------------------------------------ page


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


def test_page_tells_where_it_comes_from_and_how_long_cells_took(tmp_path: Path) -> None:
    papermill = {"start_time": "2026-11-24T14:50:00.123456", "duration": 83.2, "parameters": {}}
    cells = [code_cell("x", papermill={"duration": 12.34})]
    soup = rendered(tmp_path, cells, metadata={"papermill": papermill}, source="notebooks/03_benchmark.ipynb")
    footer = soup.footer
    assert footer is not None
    text = " ".join(footer.get_text().split())
    assert "notebooks/03_benchmark.ipynb, started 2026-11-24 14:50:00 UTC, ran for 1 min 23 s" in text
    assert "Cell 1 12.3 s" in text


def test_smoke_run_has_exactly_one_banner(tmp_path: Path) -> None:
    metadata = {"papermill": {"parameters": {"profile": "smoke"}}}
    assert rendered(tmp_path, [code_cell("x")], metadata=metadata).get_text().count(SMOKE_TEXT) == 1
    shown = code_cell("x", [html_output(Banner(SMOKE_TEXT)._repr_html_())])
    assert rendered(tmp_path, [shown], metadata=metadata).get_text().count(SMOKE_TEXT) == 1


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
