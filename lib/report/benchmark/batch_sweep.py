"""Other batch sizes and numbers of threads: curves, where they cross, and the same in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter

from matplotlib.axes import Axes

from lib.analysis.judgement import disturbance, judged, widest_floor
from lib.analysis.statistics import SMALLEST_EFFECT, median_latency, samples_per_s, verdict
from lib.analysis.sweep_points import batch_points, point_ratio, thread_points
from lib.records.schema import BenchmarkRecord, SweepPoint
from lib.report import figures
from lib.report.gaps import Shown, absent
from lib.report.table import Banner
from lib.report.words import NOT_JUDGED, capital, number

NOT_ASKED = Banner("Other batch sizes and numbers of threads are measured in the profile full only.", "info")


def curves(record: BenchmarkRecord) -> Shown:
    """Curves over batch sizes and threads, and where they cross."""
    if not batch_points(record.sweep):
        return NOT_ASKED if record.status == "ok" and not record.sweep else absent(record, "batch sizes and threads")
    if not record.is_network:
        return Banner(f"{record.backend} computes no network: a speedup would mean nothing", "info")
    if batch_points(judged(record.sweep)):
        figures.show(plot_sweeps([record]))
    words = (
        crossing_words(record.sweep, widest_floor(record)),
        gain_words(record),
        failure_words(record.sweep),
    )
    return Banner(" ".join(filter(None, words)), "info")


@figures.styled
def plot_sweeps(records: Sequence[BenchmarkRecord]) -> Axes:
    """Speedup by batch size, and by number of threads at the batch sizes where it was measured."""
    points = {record.backend: judged(record.sweep) for record in records}
    by_size = {name: found for name, all_points in points.items() if (found := batch_points(all_points))}
    by_threads = {name: thread_points(found) for name, found in points.items()}
    sizes = sorted({size for found in by_threads.values() for size in found})
    panels = figures.new_panels(1 + len(sizes), 3.4 + 0.17 * (len(records) // 3))
    _draw_curves(panels[0], by_size, "batch_size")
    panels[0].set_title("by batch size, all threads")
    panels[0].set_ylabel("speedup (log scale)")
    parts = [f"{record.backend}: {crossing_words(record.sweep, widest_floor(record))}" for record in records]
    figures.describe(
        panels[0], f"Speedup by batch size. {' '.join(parts)}", _ends_words(by_size) if len(records) > 1 else ""
    )
    for panel, size in zip(panels[1:], sizes, strict=True):
        alike = {name: found[size] for name, found in by_threads.items() if size in found}
        _draw_curves(panel, alike, "num_threads")
        panel.set_title(f"by threads, batch {size}")
        ends = [
            f"{name} " + " and ".join(f"{point_ratio(end).value:.2f}x with {end.num_threads}" for end in (low, high))
            for name, (low, *_, high) in alike.items()
        ]
        figures.describe(panel, f"Speedup by threads at batch {size}: {'; '.join(ends)}.")
    figures.legend_below(panels[0])
    return panels[0]


def _draw_curves(panel: Axes, curves: Mapping[str, Sequence[SweepPoint]], what: str) -> None:
    """Args: what: the field of a point that is the horizontal axis."""
    panel.axhline(1, color=figures.INK, linewidth=1)
    values, ticks = [], list[int]()
    for name, points in curves.items():
        at, ratios = [getattr(point, what) for point in points], [point_ratio(point) for point in points]
        middle, low, high = (list(side) for side in zip(*ratios, strict=True))
        colour = figures.backend_colour(name)
        panel.plot(at, middle, marker=figures.marker(name), markersize=4, linewidth=1.2, color=colour, label=name)
        panel.fill_between(at, low, high, color=colour, alpha=0.13, linewidth=0)
        values += [*low, *high]
        ticks += at
    figures.doublings_axis(panel, ticks, {"batch_size": "batch size", "num_threads": "threads"}[what])
    figures.speedup_axis(panel, values, "y")


def _ends_words(by_size: Mapping[str, Sequence[SweepPoint]]) -> str:
    """Which backend is the fastest at the smallest and at the largest batch."""
    ends = []
    for place in (0, -1) if by_size else ():
        name = max(by_size, key=lambda name: point_ratio(by_size[name][place]).value)
        point = by_size[name][place]
        ends.append(f"{name} ({point_ratio(point).value:.2f}x) at batch {point.batch_size}")
    return f"The highest speedup is that of {' and that of '.join(ends)}." if ends else ""


def crossing_words(points: Sequence[SweepPoint], noise_floor: float = SMALLEST_EFFECT) -> str:
    """Where the backend is faster or slower than the reference, by batch size and by threads; empty without points.

    `By batch size: slower at 1 to 4, no difference at 16, faster at 64 to 256.`
    """
    points = judged(points)
    axes = {"By batch size": ("batch_size", batch_points(points))}
    axes |= {f"By threads, batch {size}": ("num_threads", alike) for size, alike in thread_points(points).items()}
    sentences = []
    for axis, (key, found) in axes.items():
        verdicts = [(verdict(point_ratio(point), noise_floor), getattr(point, key)) for point in found]
        spans = [(name, [value for _, value in alike]) for name, alike in groupby(verdicts, key=itemgetter(0))]
        parts = [f"{name} at {' to '.join(map(str, sorted({at[0], at[-1]})))}" for name, at in spans]
        sentences += [f"{axis}: {', '.join(parts)}."] if parts else []
    return " ".join(sentences)


def gain_words(record: BenchmarkRecord) -> str:
    """What larger batches and more threads bring to both sides; empty without points."""
    points, sentences = judged(record.sweep), []
    sides = {record.backend: "latencies_s", record.reference: "reference_latencies_s"}
    if by_size := batch_points(points):
        first, last = by_size[0], by_size[-1]
        speeds = [
            f"{number(samples_per_s(getattr(first, key), first.batch_size))} to "
            f"{number(samples_per_s(getattr(last, key), last.batch_size))} under {name}"
            for name, key in sides.items()
        ]
        place = f"From batch {first.batch_size} to {last.batch_size}"
        sentences.append(f"{place} the images per s go from {' and from '.join(speeds)}.")
    for size, alike in thread_points(points).items():
        first, last = alike[0], alike[-1]
        gains = [median_latency(getattr(first, key)) / median_latency(getattr(last, key)) for key in sides.values()]
        sentences.append(
            f"At batch {size}, {last.num_threads} threads do {gains[0]:.2f} times the work of {first.num_threads} "
            f"under {record.backend} and {gains[1]:.2f} times under {record.reference}."
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
