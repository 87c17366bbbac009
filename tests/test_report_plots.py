"""Figures: what they say in words, their colours, and how they reach a notebook."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from nbclient import NotebookClient
from PIL import Image

from lib.analysis.history import History
from lib.analysis.roofline import Roofline, roofline
from lib.backends import REFERENCE, backend_names
from lib.data import Split
from lib.data.audit import mean_brightness
from lib.files import PROJECT_ROOT
from lib.records.schema import Accuracy, Confidence, Peak, TrackResult
from lib.report import SERIES_VARIABLE, examination, explore, figures, train
from lib.report.benchmark import batch_sweep, by_layer, clock, machine_limits
from lib.report.compare import answer, costs, trend, whole_network
from lib.report.explore import tracks_of
from lib.report.live import is_live
from lib.signs import CLASS_NAMES, NUM_CLASSES
from lib.training.behaviour import CORRUPTIONS
from lib.training.evaluation import Evaluation, evaluate, track_results
from lib.training.saliency import Saliency
from tests.made_data import made_split
from tests.made_notebooks import code_cell, new_notebook
from tests.made_records import (
    SPEEDUPS,
    made_benchmark,
    made_confusion,
    made_explore,
    made_history,
    made_layers,
    made_scenario,
    made_train,
)
from tests.test_history import made_trend
from tests.waiting import HANG_S

RECORDS = [made_benchmark(name) for name in SPEEDUPS]
IMAGES = np.random.default_rng(0).integers(0, 256, (86, 3, 32, 32), dtype=np.uint8)
LABELS = np.arange(86) % NUM_CLASSES
RECALLS: dict[str, Any] = made_train().per_class_recall
RISING = np.arange(81.0).reshape(1, 9, 9)


def made_trends() -> History:
    """Five runs; in one scenario both measurements of the last are slower than those before."""
    offline = replace(made_trend(0.5, 0.51, 0.5, 0.5, 0.4), second=made_trend(0.5, 0.51, 0.5, 0.5, 0.41))
    return History([made_trend(1, 1, 1.01, 1, 1, scenario="single_stream"), offline], 4, {})


def made_confidence() -> Confidence:
    return Confidence(1.5, 0.06, 0.02, 0.6, 0.8, 0.75, 99)


def made_corruptions() -> dict[str, Accuracy]:
    """All corruptions but the last one cost little."""
    plain = Accuracy(0.98, (0.96, 0.99), 500, 40, 3, 0.8)
    made = {name: replace(plain, top1=0.975) for name in CORRUPTIONS}
    return {"as they are": plain, **made, "JPEG quality 10": replace(plain, top1=0.71)}


def judged() -> tuple[Split, Evaluation]:
    """Four tracks of two classes, of which one is misread throughout and with confidence."""
    labels, track_ids = np.repeat([0, 1], 30), np.arange(60) // 15
    split = made_split("val", IMAGES[:60], labels, track_ids)
    answered = np.where(track_ids == 3, 0, labels)
    return split, evaluate(10 * np.eye(NUM_CLASSES, dtype=np.float32)[answered], split)


def judged_tracks() -> tuple[Split, list[TrackResult], int]:
    split, evaluation = judged()
    wrong = [track for track in track_results(evaluation, split) if track.mistaken_for is not None]
    return split, wrong, len(wrong)


def rooflines(**changes: Any) -> list[Roofline]:
    record = replace(RECORDS[1], **changes)
    return [found for name in ("single_stream", "offline") if (found := roofline(record, name))]


# by figure: how it is drawn, what its alternative text says, what the sentence below it says
PLOTS: dict[str, tuple[Callable[[], Axes], str, str]] = {
    "class_balance": (
        lambda: explore.plot_class_balance(made_explore().images_per_class, made_explore().tracks_per_class),
        r"28,\d+ training images over 43 classes",
        r"The most frequent class, .*, has \d+\.\d times as many images as the rarest",
    ),
    "sizes": (
        lambda: explore.plot_sizes(np.array([[30, 28], [60, 64], [41, 40]])),
        "larger image side of 3 images",
        "33 % of the images are smaller than the network's input",
    ),
    "brightness": (lambda: explore.plot_brightness(mean_brightness(IMAGES)), "half below 12", "Half of the images"),
    "class_gallery": (lambda: explore.plot_class_gallery(IMAGES, LABELS), "each of the 43 classes", ""),
    "track": (lambda: explore.plot_track(IMAGES[:40], "stop"), "30 of 40 frames of one track: stop", ""),
    "augmentation": (lambda: explore.plot_augmentation(IMAGES[:4], IMAGES[None, 4:8] / 255.0), "4 training images", ""),
    "learning_curve": (
        lambda: train.plot_learning_curve(made_history()),
        "ends at 97.80 %",
        "Validation top-1 ends at 97.80 %, the best of all epochs",
    ),
    "confusion": (
        lambda: train.plot_confusion(made_confusion()),
        "80 km/h taken for speed limit 60 km/h, 21",
        "The most frequent error: speed limit 80 km/h taken for",
    ),
    "confident_errors": (
        lambda: train.plot_confident_errors(IMAGES[:7], LABELS[:7], LABELS[1:8], np.linspace(1, 0.6, 7)),
        "7 most confident errors. First: speed limit 20 km/h taken for speed limit 30 km/h at 100 %",
        "",
    ),
    "confidence": (
        lambda: train.plot_confidence(replace(judged()[1], temperature=2.0), replace(judged()[0], name="test")),
        "Reliability, and risk by coverage",
        r"Confidence misses the share of right answers by 2\.9 points .*; by 24\.8 without the temperature, 2\.00\. ",
    ),
    "rejection": (
        lambda: examination.plot_rejection(np.linspace(0.5, 1, 99), np.linspace(0, 0.8, 99), made_confidence()),
        "Probability of the answers for signs and for backgrounds",
        r"Below 60\.0 % the answer is \"no sign\"\. So 80\.0 % of the signs are answered, and 75\.0 % of 99 drawn",
    ),
    "corruptions": (
        lambda: examination.plot_corruptions(IMAGES[:1], made_corruptions()),
        "Top-1 of 500 images under each corruption; 98.0 % as they are",
        r"17 of 18 cost at most one point; worst is JPEG quality 10, 71\.0 %",
    ),
    "saliency": (
        lambda: examination.plot_saliency(
            Saliency(IMAGES[:8], RISING.repeat(8, 0), RISING.swapaxes(1, 2).repeat(8, 0))
        ),
        "8 images and their occlusion maps",
        r"31 % of that is in the middle 25 of 81 places\. .* by 0\.22 with those of random weights .* show what",
    ),
    "tracks": (
        lambda: train.plot_tracks(*judged_tracks(), CLASS_NAMES),
        "3: speed limit 30 km/h, taken for speed limit 20 km/h; 0 of 15 right",
        "1 of 4 tracks have a misread frame",
    ),
    "per_class_recall": (lambda: train.plot_per_class_recall(RECALLS), "Worst: .* 8[0-9]", "Worst: "),
    "latencies": (
        lambda: clock.plot_latencies(RECORDS[1], RECORDS[1].scenarios),
        r"torch-blas: p50 2\.\d+, p90 2\.\d+, p99.*again \(control\): p50 2\.\d+",
        r"Single stream: 1 % of the calls of torch-blas take more than \d\.\d\d times its median call",
    ),
    "round_ratios": (
        lambda: clock.plot_round_ratios(RECORDS[1].scenarios),
        r"offline: 2\.\d\dx slower \[2.*the control, .* from 0\.9\d to 1\.0\d; within 3\.\d % of 1 is noise",
        r"Offline: single rounds from 0\.\d\d to 0\.\d\d, the same code twice",
    ),
    "layers": (
        lambda: by_layer.plot_layers(RECORDS[1].layers[1], "torch-blas", "torch-onednn"),
        "Slowest under torch-blas: stage1.0.conv2",
        r"stage1.0.conv2 alone takes \d+ % of the former",
    ),
    "fused_layers": (
        lambda: by_layer.plot_layers(RECORDS[3].layers[1], "onnxruntime", "torch-onednn"),
        r"Slowest under onnxruntime: stage3\.0\.conv2 \+ pool",
        "alone takes",
    ),
    "roofline": (
        lambda: machine_limits.plot_roofline(rooflines(), "torch-blas"),
        r"offline: 10 of 11 layers multiply; peak 183 GFLOP/s, fp32; they meet at 3\.52 FLOP/byte\. Longest: stage1",
        r"Offline: the whole call reaches [\d,]+ % of what the machine allows; stage1.0.conv2, which takes longest, ",
    ),
    "roofline_without_peak": (
        lambda: machine_limits.plot_roofline(rooflines(precision="f16"), "torch-blas"),
        "peak in this precision is unknown",
        "",
    ),
    "sweep": (
        lambda: batch_sweep.plot_sweeps([made_benchmark("torch-blas", sweep=True)]),
        r"torch-blas: By batch size: slower at 1 to 512\.",
        "",
    ),
    "ratios": (
        lambda: whole_network.plot_ratios(RECORDS),
        r"onnxruntime-int8 2\.\d\dx faster",
        "Offline, 5 backends: 3 faster, 1 slower, 1 without a difference.",
    ),
    "accuracy_speed": (
        lambda: answer.plot_accuracy_speed(RECORDS, "offline"),
        r"torch-blas \+0.00 points at 0\.4",
        "No other backend beats onnxruntime-int8, onnxruntime in both speed and accuracy.",
    ),
    "sweeps": (
        lambda: batch_sweep.plot_sweeps([made_benchmark("onnxruntime", sweep=True), RECORDS[1]]),
        r"onnxruntime: By batch size: slower at .* faster at .*by threads at batch 256: onnxruntime 1\.\d+x with 1 and",
        r"The highest speedup is that of onnxruntime \(0\.\d\dx\) at batch 1 and that of onnxruntime \(1\.\d\dx\) at",
    ),
    "history": (
        lambda: trend.plot_history(made_trends()),
        "over 5 runs, single stream: torch-blas no change.*offline: torch-blas confirmed slower",
        "Offline: torch-blas is confirmed slower.",
    ),
    "cold_start": (
        lambda: costs.plot_cold_start(RECORDS),
        r"onnxruntime-int8 0\.304 s.*Peak memory: .*torch-blas 412 MiB",
        r"onnxruntime.* answers first, after 0\.304 s; .* last, after 1\.05 s\.",
    ),
}
SHEETS = ("class_gallery", "track", "tracks", "augmentation")  # of pictures, whose axes are larger than their frame


def shown_by(figure: Figure | Axes, monkeypatch: pytest.MonkeyPatch, **options: Any) -> dict[str, str]:
    displayed: list[dict[str, str]] = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: displayed.append(data))
    figures.show(figure, **options)
    assert len(displayed) == 1
    return displayed[0]


@pytest.mark.parametrize("name", PLOTS)
def test_figure_says_in_words_what_its_data_say_and_keeps_them_inside(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, words, sentence = PLOTS[name]
    before = dict(matplotlib.rcParams)
    axes = draw()
    if name not in SHEETS:
        assert_text_inside(axes)
    html = unescape(shown_by(axes, monkeypatch)["text/html"])
    alt, caption = re.search(r'alt="([^"]*)"', html), re.search(r"<figcaption>(.*)</figcaption>", html)
    assert alt is not None and re.search(words, alt[1]), alt
    assert (caption is not None) == bool(sentence) and (caption is None or re.search(sentence, caption[1])), caption
    assert dict(matplotlib.rcParams) == before
    assert len(html) < 1.4 * figures.IMAGE_LIMIT
    if name in ("class_gallery", "confusion", "roofline", "layer_heat_map", "ratios", "learning_curve"):
        kept = name in ("class_gallery", "confusion")  # photographs and artwork
        assert ("r-picture" in html) == kept, "the dark theme inverts the colours of others"


def drawn(axes: Axes) -> tuple[Figure, Any]:
    """The figure, and what knows how large its texts are."""
    canvas: Any = FigureCanvasAgg(figures.figure_of(axes))
    canvas.draw()
    return canvas.figure, canvas.get_renderer()


def assert_text_inside(plotted: Axes) -> None:
    figure, renderer = drawn(plotted)
    box = figure.bbox
    for axes in figure.axes:
        title = axes.get_title(loc="left")
        titles = [text for text in axes.findobj(Text) if isinstance(text, Text) and text.get_text() == title]
        for text in [*axes.texts, axes.xaxis.label, axes.yaxis.label, *titles]:
            if not text.get_text() or not text.get_visible():
                continue
            extent = text.get_window_extent(renderer)
            assert box.x0 - 1 <= extent.x0 < extent.x1 <= box.x1 + 1, text
            assert box.y0 - 1 <= extent.y0 < extent.y1 <= box.y1 + 1, text


def test_settings_of_a_user_change_no_figure() -> None:
    def html() -> str:
        return figures.figure_html(figures.figure_of(costs.plot_cold_start(RECORDS[:1])), "a figure")

    expected = html()
    settings: Any = {"text.usetex": True, "font.family": "no such font", "lines.linewidth": 20, "savefig.bbox": "tight"}
    with matplotlib.rc_context(settings):
        assert html() == expected


def test_axes_have_units_and_bars_start_at_zero() -> None:
    layers = PLOTS["layers"][0]()
    assert layers.get_xlabel() == "time in one forward pass (ms)"
    assert layers.get_xlim()[0] == 0
    assert PLOTS["cold_start"][0]().get_xlim()[0] == 0
    assert PLOTS["latencies"][0]().get_xlabel() == "latency per call (ms)"
    confusion = PLOTS["confusion"][0]()
    assert (confusion.get_xlabel(), confusion.get_ylabel()) == ("Predicted class", "True class")


def test_both_roofs_are_seen_where_all_layers_are_bound_by_compute() -> None:
    peaks = RECORDS[1].peaks
    assert peaks is not None
    found = rooflines(peaks=replace(peaks, copy=Peak(1e13, "copy")))
    assert all(layer.limit == "compute" for one in found for layer in one.layers if layer.flops_per_s)
    for panel in figures.figure_of(machine_limits.plot_roofline(found, "torch-blas")).axes:
        flat, slope = (np.asarray(line.get_xdata(), float) for line in panel.lines)
        low, high = panel.get_xlim()
        assert low <= slope[0] < slope[1] == flat[0] < flat[1] <= high


def test_figures_of_a_single_round_do_not_break() -> None:
    clock.plot_round_ratios([made_scenario("offline", 1.2, rounds=1)])
    by_layer.plot_layers(made_layers("offline", 1.2, rounds=1), "a", "b")
    train.plot_learning_curve(made_history(1))


# -------------------------------------------------------------------------------------------------- colours


def _luminance(colour: str) -> float:
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_backend_colours_are_distinct_stable_and_seen_on_white() -> None:
    names = backend_names()
    looks = {name: (figures.backend_colour(name), figures.marker(name)) for name in [*names, "new"]}
    assert len({looks[name] for name in names}) == len(names)
    assert [name for name in names if looks[name][0] == looks[REFERENCE][0]] == [REFERENCE]
    assert all(1.05 / (_luminance(colour) + 0.05) >= 3 for colour in figures.PALETTE)


# ----------------------------------------------------------------------------------------------------- show


def _line() -> Axes:
    axes = Figure(figsize=(4, 2)).subplots()
    axes.plot([1, 2])
    return axes


def test_figure_without_words_is_refused() -> None:
    with pytest.raises(ValueError, match="alternative text"):
        figures.show(_line())


def test_hostile_words_stay_words(monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = '"><script>alert(1)</script>'
    html = shown_by(figures.describe(_line(), hostile, hostile), monkeypatch)["text/html"]
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
    axes = Figure(figsize=(7, 7)).subplots()
    axes.imshow(np.random.default_rng(0).random((900, 900, 3)))
    html = shown_by(axes, monkeypatch, alt="noise")["text/html"]
    assert len(html) < 4 * figures.IMAGE_LIMIT, "noise is made coarser until it fits"


def test_pyplot_does_not_show_a_figure_a_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    _, axes = plt.subplots()
    shown_by(axes, monkeypatch, alt="empty")
    assert plt.get_fignums() == []


# ---------------------------------------------------------------------------------------------- interactive


def test_longest_track_of_a_class_comes_first() -> None:
    ids = np.repeat(np.arange(4), [3, 30, 20, 5])
    assert tracks_of(made_split("train", IMAGES[: len(ids)], np.array([14, 14, 2, 2])[ids], ids), 14) == [1, 0]


def test_nobody_chooses_in_a_launched_run_or_under_papermill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SERIES_VARIABLE, raising=False)
    assert is_live(["x = 1"])
    assert not is_live(["# Parameters\nseed = 1\n"])
    assert not is_live()  # no kernel here
    monkeypatch.setenv(SERIES_VARIABLE, "1")
    assert not is_live(["x = 1"])


def test_nobody_chooses_where_nbconvert_executes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SERIES_VARIABLE, raising=False)
    cell: Any = code_cell("from lib.report.live import is_live\nprint(is_live())")
    NotebookClient(
        new_notebook(cells=[cell]), timeout=int(HANG_S), resources={"metadata": {"path": PROJECT_ROOT}}
    ).execute()
    assert cell.outputs[0].text == "False\n"


@pytest.mark.parametrize("num_backends", [1, 2, 3, 12])
def test_legend_of_the_cold_start_lies_inside_the_figure(num_backends: int) -> None:
    records = [replace(made_benchmark("torch-blas"), backend=f"backend-{n}") for n in range(num_backends)]
    figure, _ = drawn(costs.plot_cold_start(records))
    (legend,) = figure.legends
    box, page = legend.get_window_extent(), figure.bbox
    assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
