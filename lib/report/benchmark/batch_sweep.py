"""Other batch sizes and numbers of threads: curves, where they cross, and the same in words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

from matplotlib.axes import Axes

from lib.analysis.judgement import disturbance, widest_floor
from lib.analysis.statistics import SMALLEST_EFFECT, Ratio, median_latency, samples_per_s, verdict
from lib.analysis.sweep_points import batch_points, judged_points, point_ratio, thread_points
from lib.records.schema import BenchmarkRecord, SweepPoint
from lib.report.figures import INK, describe, doublings_axis, new_panels, show, side_colours, styled
from lib.report.gaps import Shown, absent
from lib.report.table import Banner
from lib.report.words import NOT_JUDGED, capital, number

CURVE_STYLES = ("o-", "s--", "D:", "^-.")
_PREDICATES = {"faster": "is faster", "slower": "is slower", "no difference": "shows no difference"}
_EVERY = {"batch_size": "every measured batch size", "num_threads": "every measured number of threads"}


def curves(record: BenchmarkRecord) -> Shown:
    """Curves over batch sizes and threads, and where they cross."""
    if not batch_points(record.sweep):
        if record.status == "ok" and not record.sweep:
            return Banner("Other batch sizes and numbers of threads are measured in the profile full only.", "info")
        return absent(record, "batch sizes and threads")
    if not record.is_network:
        return Banner(f"{record.backend} computes no network: a speedup would mean nothing", "info")
    if batch_points(judged_points(record.sweep)):
        show(plot_sweep(record))
    words = (
        crossing_words(record.sweep, record.backend, widest_floor(record)),
        scaling_words(record.sweep, record.backend, record.reference),
        failure_words(record.sweep),
    )
    return Banner(" ".join(filter(None, words)), "info")


@styled
def plot_sweep(record: BenchmarkRecord) -> Axes:
    """Images per second and speedup over batch sizes, then speedup over numbers of threads; returns the first panel."""
    kept = judged_points(record.sweep)
    points, by_size = batch_points(kept), thread_points(kept)
    panels = new_panels(3 if by_size else 2, 2.9)
    batches = [point.batch_size for point in points]
    colour, second = side_colours(record.backend, record.reference)
    phrases = []
    for name, key, style, shade in (
        (record.backend, "latencies_s", "o-", colour),
        (f"{record.reference} (reference)", "reference_latencies_s", "s--", second),
    ):
        speeds = [samples_per_s(getattr(point, key), point.batch_size) for point in points]
        panels[0].plot(batches, speeds, style, color=shade, markersize=4, label=name)
        phrases.append(f"{name} {number(speeds[0])} to {number(speeds[-1])} images per s")
    panels[0].set_ylabel("images per s")
    panels[0].set_ylim(bottom=0)
    panels[0].legend(loc="lower right")
    panels[0].set_title(f"Throughput, {points[0].num_threads} threads")
    ratios = [point_ratio(point) for point in points]
    _curve(panels[1], batches, ratios, "o-", colour, "")
    panels[1].set_title("Speedup by batch size")
    panels[1].set_ylabel("reference / backend time")
    for panel in panels[:2]:
        doublings_axis(panel, batches, "batch size")
    for (size, alike), style in zip(by_size.items(), CURVE_STYLES, strict=False):
        gains = [point_ratio(point) for point in alike]
        threads = [point.num_threads for point in alike]
        _curve(panels[2], threads, gains, style, colour, f"batch {size}")
        panels[2].set_title("Speedup by threads")
        panels[2].legend()
        doublings_axis(panels[2], threads, "threads of each side")
    speedups = ", ".join(f"{r.value:.2f} at batch {size}" for size, r in zip(batches, ratios, strict=True))
    return describe(panels[0], f"Throughput by batch size: {'; '.join(phrases)}. Speedup: {speedups}.")


def _curve(panel: Axes, at: Sequence[int], ratios: Sequence[Ratio], style: str, colour: str, label: str) -> None:
    """Speedups with their intervals around the line of no difference."""
    spread = [[ratio.value - ratio.low for ratio in ratios], [ratio.high - ratio.value for ratio in ratios]]
    panel.axhline(1, color=INK, linewidth=1)
    panel.errorbar(
        at, [ratio.value for ratio in ratios], spread, fmt=style, color=colour, markersize=4, elinewidth=1, capsize=2,
        label=label,
    )  # fmt: skip


def crossing_words(points: Sequence[SweepPoint], backend: str, noise_floor: float = SMALLEST_EFFECT) -> str:
    """From which batch size and number of threads on the backend is faster or slower; empty without points."""
    points = judged_points(points)
    sentences = [_verdict_words(batch_points(points), "batch_size", backend, noise_floor)]
    sentences += [
        f"At batch {size}: {_verdict_words(alike, 'num_threads', backend, noise_floor)}"
        for size, alike in thread_points(points).items()
    ]
    return " ".join(filter(None, sentences))


def _named(key: str, first: int, last: int | None = None) -> str:
    """`batch 2`, `batch 2 to 8`, `1 thread`, `2 to 4 threads`."""
    values = f"{first}" if last is None else f"{first} to {last}"
    if key == "batch_size":
        return f"batch {values}"
    return f"{values} thread{'' if values == '1' else 's'}"


def _verdict_words(points: Sequence[SweepPoint], key: str, backend: str, noise_floor: float) -> str:
    """Where the verdict changes along one axis, in one sentence; empty without points."""
    judged = [(verdict(point_ratio(point), noise_floor), getattr(point, key)) for point in points]
    spans = [(name, [value for _, value in alike]) for name, alike in groupby(judged, key=itemgetter(0))]
    if not spans:
        return ""
    if len(spans) == 1:
        name, values = spans[0]
        where = f"{_EVERY[key]} from {values[0]} to {values[-1]}" if len(values) > 1 else _named(key, values[0])
        return f"At {where}, {backend} {_PREDICATES[name]}."
    parts = []
    for place, (name, values) in enumerate(spans):
        if len(values) == 1:
            where = f"at {_named(key, values[0])}"
        elif place == len(spans) - 1:
            where = f"from {_named(key, values[0])} on"
        else:
            where = f"up to {_named(key, values[-1])}" if place == 0 else f"from {_named(key, values[0], values[-1])}"
        parts.append(f"{_PREDICATES[name]} {where}")
    return f"{backend} {', '.join(parts[:-1])} and {parts[-1]}."


def scaling_words(points: Sequence[SweepPoint], backend: str, reference: str) -> str:
    """What more threads bring to both sides at each batch size; empty without points."""
    sentences = []
    for size, alike in thread_points(judged_points(points)).items():
        first, last = alike[0], alike[-1]
        gains = [
            median_latency(getattr(first, key)) / median_latency(getattr(last, key))
            for key in ("latencies_s", "reference_latencies_s")
        ]
        sentences.append(
            f"At batch {size}, {last.num_threads} threads do {gains[0]:.2f} times the work of {first.num_threads} "
            f"under {backend} and {gains[1]:.2f} times under {reference}."
        )
    return " ".join(sentences)


def failure_words(points: Sequence[SweepPoint]) -> str:
    """Which points failed and why, and which were disturbed; empty for none."""
    failed, disturbed = [], []
    for point in points:
        place = f"batch {point.batch_size} with {point.num_threads} threads"
        if not point.latencies_s:
            failed.append(f"{place} ({point.error})")
        elif disturbance(point) is not None:
            disturbed.append(place)
    sentences = [f"Not measured: {'; '.join(failed)}."] if failed else []
    sentences += [f"{capital(NOT_JUDGED)}: {'; '.join(disturbed)}."] if disturbed else []
    return " ".join(sentences)
