"""Words and tables: what a reader sees; and the sanitizer: what may pass into a page."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from bs4 import BeautifulSoup

from lib.analysis.roofline import roofline
from lib.analysis.statistics import Ratio
from lib.html.frame import assets
from lib.html.sanitize import clean_html
from lib.records.schema import BenchmarkRecord, Recommendation, RecordWarning
from lib.report import environment, train, words
from lib.report.benchmark import batch_sweep, by_layer, clock, correctness, end_to_end, glance, machine_limits
from lib.report.compare import answer, costs, layer_map, machines, proofs
from lib.report.compare.backends_table import backends_table
from lib.report.table import SORT_ROWS, Banner, Cell, Table, profile_banner, sort_key
from tests.made_notebooks import HOSTILE, text_of
from tests.made_records import (
    made_accuracy,
    made_benchmark,
    made_confusion,
    made_environment,
    made_failed_benchmark,
    made_layers,
    made_parity,
    made_scenario,
)

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
    assert text_of(soup, "caption") == HOSTILE and soup.select("a[href*=':']") == []
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


@pytest.mark.parametrize(
    "texts",
    [
        ["90 ms", "2.5 s", "1 min 05 s", "2 min 00 s", "1 h 02 min"],
        ["317 B", "2 KiB", "1,023 KiB", "1.3 MiB", "2.0 GiB"],
        ["▼ 2.24x slower", "▼ 1.08x slower", "= no difference", "▲ 1.08x faster", "▲ 12.00x faster"],
        ["-3.5", "−1", "0", "1e-05", "0.5", "12 %", "1,024"],
    ],
)
def test_numbers_of_a_column_sort_by_what_they_mean(texts: list[str]) -> None:
    keys = [sort_key(text) for text in texts]
    assert None not in keys
    assert keys == sorted(keys, key=lambda key: key or 0.0) and len(set(keys)) == len(keys)


@pytest.mark.parametrize("text", ["–", "", "onnxruntime", "1.2.3", "."])
def test_what_is_no_number_has_no_place_among_numbers(text: str) -> None:
    assert sort_key(text) is None


def test_long_tables_can_be_sorted_and_keep_their_totals_apart() -> None:
    rows = [[f"layer {number}", f"{number} ms"] for number in range(SORT_ROWS)]
    assert "r-sort" not in Table(["layer", "time"], rows[1:]).to_html()
    assert "r-sort" not in Table(["layer", "time"], rows, num_totals=1).to_html()
    soup = BeautifulSoup(
        clean_html(Table(["layer", "time"], [*rows, ["all", 1]], num_totals=1).to_html()), "html.parser"
    )
    assert soup.select_one(".r-table.r-sort") is not None
    assert [row.th.get_text() for row in soup.select("tr.r-total") if row.th] == ["all"]
    assert [cell.get("data-v") for cell in soup.select("tbody tr td")][:3] == ["0", "0.001", "0.002"]


def test_table_is_readable_as_plain_text() -> None:
    text = str(Table(["backend", "ms"], [["torch-blas", 12.5], ["x", None]], caption="Times"))
    assert text.splitlines() == [
        "Times",
        "backend       ms",
        "----------  ----",
        "torch-blas  12.5",
        "x              –",
    ]


def test_column_without_anything_in_it_is_left_out_and_a_cell_too_many_is_refused() -> None:
    with pytest.raises(ValueError, match="2 cells in a table of 1 columns"):
        Table(["a"], [[1, 2]])
    assert Table(["a", "b", "c"], [["x", "", 1], ["y", Cell(""), None]]).columns == ["a", "c"]


def test_parameter_table_marks_what_differs_from_its_default() -> None:
    schema = {"seed": SimpleNamespace(default=0, help="of all"), "data_root": SimpleNamespace(default="", help="where")}
    text = str(environment.parameter_table({"seed": 0, "data_root": "x"}, schema))
    assert "changed from ''" in text and text.count("default") == 1


def test_environment_table_says_unknown_and_emulated() -> None:
    text = str(environment.environment_table(made_environment(cpu_model=None, acl=None, emulated=True)))
    assert re.search(r"CPU\s+unknown", text)
    assert re.search(r"Arm Compute Library\s+unknown", text)
    assert "times mean nothing" in text


def test_scenarios_show_both_sides_a_signed_ratio_and_the_noise_that_judges_it() -> None:
    scenario = made_scenario("offline", 0.5)
    text = repr(clock.scenarios(made_benchmark(scenarios=[scenario])))
    assert re.search(r"torch-blas .*▼ \d\.\d\dx slower \[", text) and "unstable" not in text
    assert re.search(r"torch-onednn .*reference", text)
    scenario.latencies_s[3] = [10 * value for value in scenario.latencies_s[3]]
    assert "torch-blas unstable" in repr(clock.scenarios(made_benchmark(scenarios=[scenario])))
    scenario = made_scenario("offline", 1.05)
    assert "▲ 1.0" in repr(clock.scenarios(made_benchmark(scenarios=[scenario])))
    scenario.control_latencies_s = [[0.9 * call for call in calls] for calls in scenario.reference_latencies_s]
    text = repr(clock.scenarios(made_benchmark(scenarios=[scenario])))
    assert "= no difference" in text
    assert re.search(r"torch-onednn, again \(control\) .*noise floor 11\.1 % \[1\.111, 1\.111\]", text)


def test_layers_show_fused_groups_as_one_row_the_runtime_and_the_first_kernels() -> None:
    table = made_layers("offline", 1.5, fused=True)
    table.layers[0].reference_kernels = ["conv", "onednn jit", "reorder a", "reorder b", "reorder b"]
    text = repr(by_layer.layers(made_benchmark("onnxruntime", layers=[table]), "offline"))
    assert re.search(r"stem: conv \+ norm fused .* 1\.08 .* slow_conv2d_forward +conv, onednn jit and 2 more", text)
    assert re.search(r"outside layers steps of the runtime .*ReorderInput, ReorderOutput", text)
    assert "share one row, against the sum of the reference's" in text


def test_layers_and_runtime_steps_and_what_is_missing_add_up_to_the_call() -> None:
    record = made_benchmark("onnxruntime")
    table = by_layer.layer_sum_table(record, record.layers)
    assert table is not None
    for cells in table.cells:
        layers_ms, runtime_ms, call_ms, missing_ms = (float(cell.text.replace("–", "0")) for cell in cells[2:])
        assert layers_ms + runtime_ms + missing_ms == pytest.approx(call_ms, rel=0.01)
    assert [cells[3].text == "–" for cells in table.cells] == [False, True, False, True]


def test_kernels_say_where_the_scenarios_differ() -> None:
    single, offline = made_layers("single_stream", 0.5), made_layers("offline", 0.5)
    assert "different kernels" not in repr(by_layer.kernels(made_benchmark(layers=[single, offline])))
    single.layers[0].kernels = ["native_conv"]
    text = repr(by_layer.kernels(made_benchmark(layers=[single, offline])))
    assert re.search(r"slow_conv2d_forward +7 +8", text) and "different kernels" in text


def test_roofline_explains_shares_above_100_percent_and_keeps_the_slowest_layers() -> None:
    record = made_benchmark("onnxruntime")
    assert record.peaks is not None
    record.peaks.matmul["fp32"].per_s = 1e9
    found = roofline(record, "offline")
    assert found is not None
    table = machine_limits.roofline_table(found, "onnxruntime", num_layers=3)
    assert re.search(r"stage1\.0\.conv1 .* compute +\d{3,},?\d* % ¹", str(table))
    assert " ¹ " in table.note and "6 faster layers are not shown" in table.note
    assert re.search(r"\nwhole call .* \(\d[\d,]* %\) .* \d[\d,]* %\n", str(table))
    order = ["stage1.0.conv1", "stage1.0.conv2", "stage3.0: conv2 + pool", "stage3.0.conv2 + pool", "whole call"]
    assert [row[0].text for row in table.cells] == [name for name in order if name in str(table)]

    found = roofline(replace(record, peaks=None), "offline")
    assert found is not None
    (row,) = re.findall(r"^stage1\.0\.conv1 .*$", str(machine_limits.roofline_table(found, "x")), re.MULTILINE)
    assert row.endswith("–") and "%" not in row, "unknown where no peak was measured"


def test_cost_of_an_image_shares_out_the_whole() -> None:
    (table,) = end_to_end.image_cost(made_benchmark("onnxruntime")).parts
    for column in (1, 2):
        micros = [float(row[column].text.replace(",", "")) for row in table.cells]
        assert sum(micros[:-1]) == pytest.approx(micros[-1], rel=0.01)
        shares = [int(re.sub(r"\D", "", row[column].detail)) for row in table.cells[:-1]]
        assert sum(shares) == pytest.approx(100, abs=2)


def test_names_of_fused_layers_say_once_what_they_share() -> None:
    assert words.group_name(["stage1.b1.conv2", "stage1.b1.bn2", "stage1.b1.add"]) == "stage1.b1: conv2 + bn2 + add"
    assert words.group_name(["stage3.conv", "pool"]) == "stage3.conv + pool"
    assert words.group_name(["head"]) == "head"
    assert words.counted(["a", "b", "a"]) == "a x2, b"


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (made_benchmark(), r"With torch-blas instead of torch-onednn: single stream .*, offline 2\."),
        (made_failed_benchmark("x", "failed", "logits differ"), "ERROR: X failed: logits differ"),
        (made_failed_benchmark("x", "unavailable", "no wheel"), "X unavailable: no wheel"),
        (made_benchmark("null", parity=None), "The harness alone: "),
    ],
)
def test_top_of_the_page_has_the_answer_and_every_warning(
    record: BenchmarkRecord, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    updates: list[object] = []
    monkeypatch.setattr("IPython.display.update_display", lambda shown, display_id: updates.append(shown))
    unstable = RecordWarning("unstable", "single_stream", {"torch-blas": 0.042})
    variables = RecordWarning("variables", figures={"notebook": "OMP_PROC_BIND=close"})
    glance.fill(replace(record, warnings=[unstable, variables]))
    (shown,) = map(repr, updates)
    assert re.match(f".*{words}", shown) and "Single stream: times of torch-blas (±4 %) are unstable" in shown
    assert "OMP_PROC_BIND" not in shown, "said where the machine is shown"


def test_answer_at_a_glance_names_speed_parity_kernels_and_the_first_answer() -> None:
    record = made_benchmark("torch-onednn-fastmath")
    text = str(glance.glance_table(record))
    assert re.search(r"offline, batch 256 +(=|[▲▼])", text) and "unstable" not in text
    assert "passed top-1 99.10 %, 0.00 points lost" in text
    assert "investigate the same kernels" in text
    assert "first answer after" in text
    assert "random weights" in str(glance.glance_table(made_benchmark("x", random_weights=True)))
    record.scenarios[1].latencies_s[3] = [10 * call for call in record.scenarios[1].latencies_s[3]]
    assert re.search(r"offline.*unstable: measure again", str(glance.glance_table(record)))


def test_what_was_not_measured_is_named_with_the_reason() -> None:
    assert "in the profile full only" in repr(batch_sweep.curves(made_benchmark()))
    assert "x failed: gone" in repr(batch_sweep.curves(made_failed_benchmark("x", "failed", "gone")))
    silent = made_benchmark("torch-aoti", layers=[])
    records = [made_benchmark("torch-blas"), made_failed_benchmark("x", "unavailable", "no wheel"), silent]
    assert "unavailable no wheel" in str(backends_table(records))
    table = layer_map.layers_table(records, "offline")
    assert not {"x", "torch-aoti"} & set(table.columns) and "cannot time their layers: torch-aoti." in table.note


def test_layers_of_all_backends_have_sign_factor_and_milliseconds_also_where_they_are_fused() -> None:
    records = [made_benchmark(name) for name in ("torch-blas", "onnxruntime")]
    table = layer_map.layers_table(records, "offline")
    assert re.search(r"stage1.0.conv1 .*▼ \d\.\d\dx \d+ ms .*▲ \d\.\d\dx [\d.]+ ms", str(table))
    assert re.search(r"whole call .*▼ 2\.\d\dx \d+ ms", str(table))
    cells = {row[0].text: row[3] for row in table.cells}
    assert (cells["stem.norm"].text, cells["stem.norm"].detail) == ("", "↑")
    assert cells["outside layers"].detail == "2.49 ms"
    assert "runs as one step with a layer above or below" in table.note
    fused = next(layer for layer in records[1].layers[1].layers if layer.name == "stage3.0.conv2+pool")
    fused.members = ["stage1.0.conv1", "pool"]
    cells = {row[0].text: row[3] for row in layer_map.layers_table(records, "offline").cells}
    assert cells["pool"].detail == "in stage1.0.conv1", "the next number is another one's"
    assert cells["pool"].tone == cells["stage1.0.conv1"].tone


def test_heat_map_shows_the_layers_that_compute_and_folds_the_others() -> None:
    records = [made_benchmark(name) for name in ("torch-onednn", "torch-blas", "onnxruntime")]
    table, fold = layer_map.layers(records, "offline").parts
    assert isinstance(table, Table) and len(table.cells) == 12 and "offline with milliseconds: 13 rows" in str(fold)
    assert table.note.startswith("Most layers gain under onnxruntime: 8 faster,") and "milliseconds" not in table.note
    signs = {cell.text[:1]: cell.tone[:1] for row in table.cells for cell in row[2:] if cell.text}
    assert signs == {"▲": "f", "▼": "s", "=": ""} and not re.search(r"\d ms", str(table))
    few = layer_map.layers(records, "offline", num_shown=4).parts[0]
    assert isinstance(few, Table) and "; 4 of 11: " in few.caption and len(few.cells) == 5
    assert all("conv" in row[0].text for row in few.cells[:4]) and few.cells[4][0].text == "whole call"


def test_categories_have_speedup_and_share_and_name_the_bottleneck() -> None:
    records = [made_benchmark(name) for name in ("onnxruntime", "onnxruntime-int8")]
    table = layer_map.categories(records, "offline")
    assert re.search(r"convolution +▲ 1\.\d\dx \d+ %", str(table)) and re.search(r"data movement +\d+ %", str(table))
    assert re.search(
        r"onnxruntime-int8 spends least time in layers; the bottleneck there is .*, with \d+ %", str(table)
    )
    assert "No backend has layers" in str(layer_map.categories([made_benchmark(layers=[])], "offline"))


def test_milliseconds_of_different_machines_carry_the_letter_of_their_machine() -> None:
    records = [made_benchmark("torch-blas"), made_benchmark("onnxruntime")]
    assert "onnxruntime" in layer_map.layers_table(records, "offline").columns
    records[1].environment.machine_id = "another"
    assert "onnxruntime (B)" in layer_map.layers_table(records, "offline").columns
    table = machines.machines_table({record.backend: record for record in records})
    assert table.columns == ["what", "A", "B"]
    assert "never milliseconds of different letters" in table.note
    assert "may be compared" in machines.machines_table({"torch-blas": records[0]}).note


def test_backends_table_tells_what_accuracy_was_lost_and_how_sure_that_is() -> None:
    undecided = made_benchmark("onnxruntime-bf16")
    undecided.parity = made_parity(0.004, top1_drop_allowed=0.003, outcome="inconclusive")
    random = made_benchmark("onnxruntime", random_weights=True)
    text = str(backends_table([made_benchmark("onnxruntime-int8"), undecided, random]))
    assert re.search(r"onnxruntime-int8 .*98\.51 % +0\.20 \[-0\.10, 0\.60\]", text)
    assert "0.40 [0.10, 0.80] inconclusive" in text
    assert "– random weights" in text


def test_proofs_tell_what_ran_and_what_to_investigate() -> None:
    odd, broken = made_benchmark("torch-onednn-fastmath"), made_benchmark("torch-blas")
    assert odd.proof is not None and broken.proof is not None
    broken.proof.passed, broken.proof.reason = False, "oneDNN ran"
    broken.proof.found = {f"kernel{number}": number for number in range(1, 8)}
    text = str(proofs.proofs_table([made_benchmark("onnxruntime"), odd, broken]))
    assert re.search(r"9 x aten::mkldnn_convolution, 1 x aten::addmm +passed", text)
    assert "investigate the same kernels as without the switch" in text
    assert "7 x kernel7, 6 x kernel6, 5 x kernel5, 4 x kernel4, 3 more  FAILED oneDNN ran" in text
    assert "THE PROMISE DOES NOT HOLD" in str(correctness.proof_table(broken.proof))
    text = repr(correctness.proof(odd))
    assert "The promise holds" in text and "To investigate: the same kernels" in text


def test_starts_and_costs_add_up() -> None:
    records = [made_benchmark("torch-compile"), made_benchmark("onnxruntime-int8"), made_benchmark("torch-blas")]
    starts = str(costs.starts_table(records))
    assert "10,454" in starts
    assert re.search(r"onnxruntime-int8 .* 412 MiB +1\.8 s +317 KiB +512", starts)
    assert re.search(r"onnxruntime-int8 +\d+\.\d", str(costs.costs_table(records)))
    assert "10,454" in repr(end_to_end.cold_start(records[0])), "with compilation, without preparation"
    assert records[1].preparation is not None
    records[1].preparation = replace(records[1].preparation, kept="models/ab12", files={"model.onnx": "cd" * 32})
    shown = repr(end_to_end.cold_start(records[1]))
    assert re.search(r"1\.8 s +317 KiB +512", shown) and "models/ab12: model.onnx (cdcdcdcdcdcd)" in shown
    records[0].environment.num_threads = 1
    assert "1 threads on 4 cores" in str(costs.costs_table(records))


def test_recommendations_are_shown_at_a_glance() -> None:
    ratio = (1.9, 1.8, 2.0)
    found = [Recommendation("offline", "fp32", "aarch64", "openvino", ratio, ["ncnn"], [], "text"),
             Recommendation("single_stream", "any", "aarch64", "torch-onednn", None, [], [], "text")]  # fmt: skip
    text = str(answer.recommendation_table(found))
    assert re.search(r"offline +fp32 only +openvino +▲ 1\.90x faster \[1\.80, 2\.00\] +ncnn", text)
    assert re.search(r"single stream +any +torch-onednn += nothing is faster", text)


def test_confused_pairs_are_sorted_and_leave_out_the_diagonal() -> None:
    rows = str(train.confused_pairs_table(made_confusion(), limit=2)).splitlines()
    assert "5 speed limit 80 km/h" in rows[3] and "3 speed limit 60 km/h" in rows[3] and " 21 " in rows[3]
    assert "1 speed limit 30 km/h" in rows[4]
    assert len(rows) == 5


def test_parity_names_outcome_images_and_interval() -> None:
    parity = made_parity(num_images=1920, num_tracks=64, num_lost=11, num_gained=2, top1_drop_allowed=0.003,
                         top1_drop_interval=(0.001, 0.0083), outcome="inconclusive", reason="cannot tell")  # fmt: skip
    text = repr(correctness.parity(made_benchmark(parity=parity)))
    assert "inconclusive cannot tell" in text and "1,920 of 64 tracks" in text
    assert "0.47 points [0.10, 0.83] allowed 0.30 points" in text
    assert "98.71 % [98.11, 99.21] %" in text, "accuracy by split"
    failed = replace(parity, outcome="failed", reason="top-1 fell by 0.6 %")
    assert "FAILED top-1 fell by 0.6 %" in str(correctness.parity_table(failed))
    table = correctness.parity_table(parity, random_weights=True)
    assert "top-1" not in str(table) and "accuracy means nothing" in table.note


def test_backends_table_never_mixes_two_sets_of_images_in_a_column() -> None:
    def record(backend: str, **num_images: int) -> BenchmarkRecord:
        found = {split: replace(made_accuracy(0.9)["val"], num_images=number) for split, number in num_images.items()}
        return made_benchmark(backend, accuracy=found)

    def shown(*records: BenchmarkRecord) -> tuple[list[str], str]:
        table = backends_table(records)
        (column,) = (column for column in table.columns if column.startswith("top-1"))
        place = table.columns.index(column)
        return [column, *(row[place].text for row in table.cells)], table.note

    both = record("onnxruntime-int8", val=1920, test=860)
    column, note = shown(record("torch-onednn", val=1920, test=860), both)
    assert column == ["top-1, test", "90.40 %", "90.40 %"] and "of 860 images of test" in note
    column, note = shown(record("torch-onednn", val=1920), both)
    assert column == ["top-1, val", "90.40 %", "90.40 %"] and "of 1,920 images of val" in note
    column, note = shown(record("torch-onednn", val=1000), both)
    assert column == ["top-1", "–", "–"] and "Top-1: of" not in note


def test_smoke_profile_has_a_banner_and_others_have_none() -> None:
    assert profile_banner("fast") is None
    assert "mean nothing" in str(profile_banner("smoke"))
