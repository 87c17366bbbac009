"""Figures: what they say in words, their colours, and how they reach a notebook."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from nbclient import NotebookClient
from nbformat import v4
from PIL import Image

from lib.analysis.history import History, Point, Trend
from lib.analysis.roofline import Roofline, roofline
from lib.analysis.statistics import Ratio
from lib.data import Data
from lib.data.audit import mean_brightness
from lib.files import PROJECT_ROOT
from lib.report import SERIES_VARIABLE, explore, train
from lib.report.benchmark import batch_sweep, by_layer, clock, machine_limits
from lib.report.compare import answer, costs, layer_map, sweeps, trend, whole_network
from lib.report.explore import tracks_of
from lib.report.figures import IMAGE_LIMIT, PALETTE, RATIO_STEPS, backend_colour, describe, figure_html, figure_of, show
from lib.report.live import is_live
from lib.signs import NUM_CLASSES
from tests.made_data import made_data, made_split
from tests.made_records import (
    MORE_SPEEDUPS,
    SPEEDUPS,
    made_benchmark,
    made_confusion,
    made_explore,
    made_failed_benchmark,
    made_history,
    made_layers,
    made_scenario,
    made_train,
)
from tests.waiting import HANG_S

RECORDS = [*(made_benchmark(name) for name in SPEEDUPS), made_failed_benchmark("x")]
IMAGES = np.random.default_rng(0).integers(0, 256, (86, 3, 32, 32), dtype=np.uint8)
LABELS = np.arange(86) % NUM_CLASSES
RECALLS: dict[str, Any] = made_train().per_class_recall


def _without_peak() -> Roofline:
    record = made_benchmark("torch-blas")
    assert record.peaks is not None
    record.peaks.matmul.clear()
    found = roofline(record, "offline")
    assert found is not None
    return found


def made_trends() -> History:
    """Five runs; in one scenario both measurements of the last are slower than those before."""

    def trend(scenario: str, *speedups: float, second: Trend | None = None) -> Trend:
        start = datetime(2026, 11, 1, tzinfo=UTC)
        points = [
            Point(f"run{day}", start + timedelta(days=day), Ratio(value, value - 0.01, value + 0.01), 0.02)
            for day, value in enumerate(speedups)
        ]
        return Trend("torch-blas", scenario, points, second)

    offline = trend("offline", 0.5, 0.51, 0.5, 0.5, 0.4, second=trend("offline", 0.5, 0.51, 0.5, 0.5, 0.41))
    return History([trend("single_stream", 1, 1, 1.01, 1, 1), offline], 4, {})


FRONT = r"torch-blas \+0.00 points at 0\.4.*No other beats in both: onnxruntime-int8, onnxruntime\."
Plot = Callable[[Axes | None], Axes]
PLOTS: dict[str, tuple[Plot, str]] = {
    "class_balance": (
        lambda ax: explore.plot_class_balance(made_explore().images_per_class, made_explore().tracks_per_class, ax),
        r"28,\d+ training images over 43 classes",
    ),
    "sizes": (
        lambda ax: explore.plot_sizes(np.array([[30, 28], [60, 64], [41, 40]]), ax),
        "larger image side of 3 images",
    ),
    "brightness": (lambda ax: explore.plot_brightness(mean_brightness(IMAGES), ax), "half below 12"),
    "class_gallery": (lambda ax: explore.plot_class_gallery(IMAGES, LABELS, ax), "each of the 43 classes"),
    "track": (lambda ax: explore.plot_track(IMAGES[:40], "stop", ax), "30 of 40 frames of one track: stop"),
    "augmentation": (
        lambda ax: explore.plot_augmentation(IMAGES[:4], IMAGES[None, 4:8] / 255.0, ax),
        "4 training images",
    ),
    "learning_curve": (lambda ax: train.plot_learning_curve(made_history(), ax), "ends at 97.80 %"),
    "confusion": (lambda ax: train.plot_confusion(made_confusion(), ax), "80 km/h taken for speed limit 60 km/h, 21"),
    "confident_errors": (
        lambda ax: train.plot_confident_errors(IMAGES[:7], LABELS[:7], LABELS[1:8], np.linspace(1, 0.6, 7), ax),
        "7 most confident errors. First: speed limit 20 km/h taken for speed limit 30 km/h at 100 %",
    ),
    "no_errors": (lambda ax: train.plot_confident_errors(IMAGES[:0], [], [], [], ax), "No image was misjudged"),
    "per_class_recall": (lambda ax: train.plot_per_class_recall(RECALLS, ax), "Worst: .* 8[0-9]"),
    "latencies": (
        lambda ax: clock.plot_latencies(RECORDS[1].scenarios, "torch-blas", "torch-onednn", list(SPEEDUPS), ax),
        r"torch-blas: p50 2\.\d+, p90 2\.\d+, p99.*again \(control\): p50 2\.\d+",
    ),
    "round_ratios": (
        lambda ax: clock.plot_round_ratios(RECORDS[1].scenarios, ax=ax),
        r"offline: 2\.\d\dx slower \[2.*the control, .* from 0\.9\d to 1\.0\d; within 3\.\d % of 1 is noise",
    ),
    "layers": (
        lambda ax: by_layer.plot_layers(RECORDS[1].layers[1], "torch-blas", "torch-onednn", list(SPEEDUPS), ax),
        "Slowest under torch-blas: stage1.0.conv2",
    ),
    "fused_layers": (
        lambda ax: by_layer.plot_layers(made_benchmark("onnxruntime").layers[1], "onnxruntime", "torch-onednn", (), ax),
        r"Slowest under onnxruntime: stage3\.0\.conv2 \+ pool",
    ),
    "roofline": (
        lambda ax: machine_limits.plot_roofline(
            [found for name in ("single_stream", "offline") if (found := roofline(RECORDS[1], name))],
            "torch-blas",
            (),
            ax,
        ),
        r"offline: 10 of 11 layers multiply; peak 183 GFLOP/s, fp32; they meet at 3\.52 FLOP/byte\. Longest: stage1",
    ),
    "roofline_without_peak": (
        lambda ax: machine_limits.plot_roofline([_without_peak()], "torch-blas", (), ax),
        "peak in this precision is unknown",
    ),
    "sweep": (
        lambda ax: batch_sweep.plot_sweep(made_benchmark("torch-blas", sweep=True), list(SPEEDUPS), ax),
        r"torch-blas \d+ to [\d,]+ images per s; .* Speedup: 0\.3\d at batch 1, .* at batch 512",
    ),
    "layer_heat_map": (
        lambda ax: layer_map.plot_layer_heat_map(RECORDS, "offline", ax=ax),
        r"torch-onednn: 0 layers faster, 0 slower, 11 without.*onnxruntime: .*, 2 run as one step with another",
    ),
    "ratios": (lambda ax: whole_network.plot_ratios(RECORDS, ax=ax), r"onnxruntime-int8 2\.\d\dx faster"),
    "accuracy_speed": (lambda ax: answer.plot_accuracy_speed(RECORDS, "offline", ax=ax), FRONT),
    "sweeps": (
        lambda ax: sweeps.plot_sweeps([made_benchmark("onnxruntime", sweep=True)], ax=ax),
        r"onnxruntime is slower .* is faster from batch .*by threads at batch 256: onnxruntime 1\.\d+x with 1 and",
    ),
    "history": (
        lambda ax: trend.plot_history(made_trends(), ax=ax),
        "over 5 runs, single stream: torch-blas no change.*offline: torch-blas confirmed slower",
    ),
    "cold_start": (
        lambda ax: costs.plot_cold_start(RECORDS, ax),
        r"onnxruntime-int8 0\.304 s.*Peak memory: .*torch-blas 412 MiB",
    ),
}


def shown_by(figure: Figure | Axes, monkeypatch: pytest.MonkeyPatch, **options: Any) -> dict[str, str]:
    displayed: list[dict[str, str]] = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: displayed.append(data))
    show(figure, **options)
    assert len(displayed) == 1
    return displayed[0]


@pytest.mark.parametrize("name", PLOTS)
def test_figure_says_in_words_what_its_data_say(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    draw, words = PLOTS[name]
    before = dict(matplotlib.rcParams)
    html = shown_by(draw(None), monkeypatch)["text/html"]
    alt = re.search(r'alt="([^"]*)"', html)
    assert alt is not None
    assert re.search(words, alt[1]), alt[1]
    assert dict(matplotlib.rcParams) == before
    assert len(html) < 1.4 * IMAGE_LIMIT


def test_settings_of_a_user_change_no_figure() -> None:
    def html() -> str:
        return figure_html(figure_of(costs.plot_cold_start(RECORDS[:1])), "a figure")

    expected = html()
    settings: Any = {"text.usetex": True, "font.family": "no such font", "lines.linewidth": 20, "savefig.bbox": "tight"}
    with matplotlib.rc_context(settings):
        assert html() == expected


def test_figures_with_photographs_or_artwork_keep_their_colours_in_the_dark_theme(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = {name for name, (draw, _) in PLOTS.items() if "r-picture" in shown_by(draw(None), monkeypatch)["text/html"]}
    assert kept >= {"class_gallery", "confusion"}
    assert not kept & {"roofline", "layer_heat_map", "ratios", "learning_curve"}


@pytest.mark.parametrize("name", PLOTS)
def test_figure_is_drawn_into_given_axes(name: str) -> None:
    axes = Figure(figsize=(9, 5)).subplots()
    drawn = PLOTS[name][0](axes)
    assert figure_of(drawn) is axes.figure


@pytest.mark.parametrize("name", [name for name in PLOTS if name not in ("class_gallery", "track", "augmentation")])
def test_figure_keeps_all_its_text_inside_the_frame(name: str) -> None:
    figure = figure_of(PLOTS[name][0](None))
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    box, renderer = figure.bbox, canvas.get_renderer()
    for axes in figure.axes:
        title = axes.get_title(loc="left")
        titles = [text for text in axes.findobj(Text) if isinstance(text, Text) and text.get_text() == title]
        for text in [*axes.texts, axes.xaxis.label, axes.yaxis.label, *titles]:
            if not text.get_text() or not text.get_visible():
                continue
            extent = text.get_window_extent(renderer)
            assert box.x0 - 1 <= extent.x0 < extent.x1 <= box.x1 + 1, text
            assert box.y0 - 1 <= extent.y0 < extent.y1 <= box.y1 + 1, text


def test_axes_have_units_and_bars_start_at_zero() -> None:
    layers = PLOTS["layers"][0](None)
    assert layers.get_xlabel() == "time in one forward pass (ms)"
    assert layers.get_xlim()[0] == 0
    assert PLOTS["cold_start"][0](None).get_xlim()[0] == 0
    assert PLOTS["latencies"][0](None).get_xlabel() == "latency per call (ms)"
    confusion = PLOTS["confusion"][0](None)
    assert (confusion.get_xlabel(), confusion.get_ylabel()) == ("Predicted class", "True class")


def test_heat_map_labels_every_cell_with_a_direction() -> None:
    texts = [text.get_text() for text in layer_map.plot_layer_heat_map(RECORDS, "offline").texts]
    assert len(texts) == 11 * len(SPEEDUPS)
    assert all(re.fullmatch(r"= 1|[▲▼] \d+\.\d\dx|↑", text) for text in texts)
    assert texts.count("↑") == 2 * 2  # two runtimes that fuse two layers each
    assert any(text.startswith("▼") for text in texts)


def test_heat_map_shows_a_layer_that_a_backend_does_not_have() -> None:
    record = made_benchmark("onnxruntime")
    del record.layers[1].layers[0]
    texts = [text.get_text() for text in layer_map.plot_layer_heat_map([RECORDS[1], record], "offline").texts]
    assert texts.count("–") == 2  # both layers of the group


def test_heat_map_of_all_backends_and_many_layers_stays_legible_and_small(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [*SPEEDUPS, *MORE_SPEEDUPS]
    axes = layer_map.plot_layer_heat_map([made_benchmark(name) for name in names], "offline")
    figure = figure_of(axes)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    column = axes.transData.transform((1, 0))[0] - axes.transData.transform((0, 0))[0]
    assert max(text.get_window_extent(renderer).width for text in axes.texts) < column
    assert all(float(text.get_fontsize()) >= 6 for text in axes.texts)
    assert len(shown_by(figure, monkeypatch)["text/html"]) < 1.4 * IMAGE_LIMIT


def test_backends_beyond_the_palette_share_a_colour_and_differ_in_shape() -> None:
    names = [*SPEEDUPS, *MORE_SPEEDUPS]
    axes = answer.plot_accuracy_speed([made_benchmark(name) for name in names], "offline", names)
    points = [cast("Any", container).lines[0] for container in axes.containers]
    looks = {(str(line.get_color()), str(line.get_marker())) for line in points}
    assert len(looks) == len(names)


def test_heat_map_keeps_the_slowest_layers_and_says_so() -> None:
    axes = layer_map.plot_layer_heat_map(RECORDS, "offline", num_layers=4)
    assert len(axes.get_yticklabels()) == 4
    assert "4 of 11 layers" in axes.get_title(loc="left")


def test_figures_of_a_single_round_and_without_data_do_not_break() -> None:
    clock.plot_round_ratios([made_scenario("offline", 1.2, rounds=1)])
    by_layer.plot_layers(made_layers("offline", 1.2, rounds=1), "a", "b")
    train.plot_learning_curve(made_history(1))
    for draw in (whole_network.plot_ratios, costs.plot_cold_start):
        figure_html(figure_of(draw([made_failed_benchmark("x")])), "empty")
    answer.plot_accuracy_speed([], "offline")
    sweeps.plot_sweeps([])
    trend.plot_history(History())
    layer_map.plot_layer_heat_map([], "offline")


# -------------------------------------------------------------------------------------------------- colours


def _luminance(colour: str) -> float:
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_backend_colours_are_distinct_stable_and_seen_on_white() -> None:
    names = list(SPEEDUPS)
    colours = {name: backend_colour(name, names) for name in names}
    assert len(set(colours.values())) == len(names)
    assert {name: backend_colour(name, names[::-1]) for name in names} == colours
    assert backend_colour("new", names) == backend_colour("new", [])
    assert all(1.05 / (_luminance(colour) + 0.05) >= 3 for colour in PALETTE)


def test_dark_text_is_readable_on_all_colours_of_the_heat_map() -> None:
    assert all((_luminance(colour) + 0.05) / (_luminance("#1b1f24") + 0.05) >= 4.5 for colour in RATIO_STEPS)


# ----------------------------------------------------------------------------------------------------- show


def _line() -> Axes:
    axes = Figure(figsize=(4, 2)).subplots()
    axes.plot([1, 2])
    return axes


def test_figure_without_words_is_refused() -> None:
    with pytest.raises(ValueError, match="alternative text"):
        show(_line())


def test_hostile_words_stay_words(monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = '"><script>alert(1)</script>'
    html = shown_by(describe(_line(), hostile), monkeypatch, caption=hostile)["text/html"]
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 2


def test_small_figures_are_vector_images_without_dates_and_equal_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (shown_by(_line(), monkeypatch, alt="a line")["text/html"] for _ in range(2))
    assert first == second
    content = base64.b64decode(first.split("base64,")[1].split('"')[0]).decode()
    assert "<svg" in content
    assert "<dc:date>" not in content


def test_crowded_figures_are_bitmaps_at_twice_the_size_within_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    axes = Figure(figsize=(4, 3)).subplots()
    axes.plot(*np.random.default_rng(0).random((2, 5000)), ".")
    html = shown_by(axes, monkeypatch, alt="noise")["text/html"]
    assert 'width="384" height="288"' in html
    content = base64.b64decode(html.split("data:image/png;base64,")[1].split('"')[0])
    assert Image.open(io.BytesIO(content)).size == (768, 576)


def test_noise_is_made_coarser_until_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    axes = Figure(figsize=(7, 7)).subplots()
    axes.imshow(np.random.default_rng(0).random((900, 900, 3)))
    html = shown_by(axes, monkeypatch, alt="noise")["text/html"]
    assert len(html) < 4 * IMAGE_LIMIT


def test_pyplot_does_not_show_a_figure_a_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    _, axes = plt.subplots()
    shown_by(axes, monkeypatch, alt="empty")
    assert plt.get_fignums() == []


# ---------------------------------------------------------------------------------------------- interactive


def _data() -> Data:
    ids = np.repeat(np.arange(4), [3, 30, 20, 5])
    labels = np.array([14, 14, 2, 2])[ids]
    split = made_split("train", IMAGES[: len(ids)], labels, ids)
    return made_data(split, split)


def test_longest_track_of_a_class_comes_first() -> None:
    assert tracks_of(_data().train, 14) == [1, 0]


def test_nobody_chooses_in_a_launched_run_or_under_papermill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SERIES_VARIABLE, raising=False)
    assert is_live(["x = 1"])
    assert not is_live(["# Parameters\nseed = 1\n"])
    assert not is_live()  # no kernel here
    monkeypatch.setenv(SERIES_VARIABLE, "1")
    assert not is_live(["x = 1"])


def test_executed_notebook_has_the_figure_and_no_widget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv(SERIES_VARIABLE, raising=False)
    source = (
        f"import sys; sys.path[:0] = [{str(PROJECT_ROOT)!r}, {str(PROJECT_ROOT / 'tests')!r}]\n"
        "from test_report_plots import _data\nfrom lib.report.explore import track_browser\ntrack_browser(_data())"
    )
    new_notebook: Any = v4.new_notebook
    new_code_cell: Any = v4.new_code_cell
    notebook = new_notebook(cells=[new_code_cell(source)])
    NotebookClient(notebook, kernel_name="python3", timeout=int(HANG_S)).execute()
    assert "widget" not in str(notebook)
    assert 'alt="30 of 30 frames of one track: stop, track 1, 30 frames' in str(notebook.cells[0].outputs)


@pytest.mark.parametrize("num_backends", [1, 2, 3, 12])
def test_legend_of_the_cold_start_lies_inside_the_figure(num_backends: int) -> None:
    records = [replace(made_benchmark("torch-blas"), backend=f"backend-{n}") for n in range(num_backends)]
    figure = figure_of(costs.plot_cold_start(records))
    figure.canvas.draw()
    (legend,) = figure.legends
    box, page = legend.get_window_extent(), figure.bbox
    assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
