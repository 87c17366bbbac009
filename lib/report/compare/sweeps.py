"""All backends at other batch sizes and numbers of threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from lib.analysis.comparison import Comparison
from lib.analysis.judgement import widest_floor
from lib.analysis.sweep_points import batch_points, judged_points, point_ratio, thread_points
from lib.records.run import networks
from lib.records.schema import BenchmarkRecord, SweepPoint
from lib.report.benchmark.batch_sweep import crossing_words, failure_words
from lib.report.figures import (
    INK,
    backend_colour,
    describe,
    doublings_axis,
    figure_of,
    marker,
    new_panels,
    show,
    speedup_axis,
    styled,
)
from lib.report.gaps import Shown, with_records
from lib.report.table import Banner, Table, Value


@with_records
def curves(comparison: Comparison) -> Shown:
    """Speedups at other batch sizes and numbers of threads, and where the verdict changes."""
    measured = [record for record in networks(comparison.measured) if record.sweep]
    records = [record for record in measured if record.backend != record.reference]
    if not records:
        return Banner("Other batch sizes and numbers of threads are measured in the profile full only.", "info")
    show(plot_sweeps(records))
    rows: list[list[Value]] = [
        [
            record.backend,
            crossing_words(record.sweep, record.backend, widest_floor(record)),
            failure_words(record.sweep),
        ]
        for record in records
    ]
    columns = ["backend", "against the reference, by batch size and threads", "left out"]
    return Table(columns, rows, caption="Where the verdict changes", compact=True)


@styled
def plot_sweeps(records: Sequence[BenchmarkRecord]) -> Axes:
    """Speedup by batch size, and by number of threads at the batch sizes where it was measured."""
    points = {record.backend: judged_points(record.sweep) for record in records}
    by_threads = {name: thread_points(found) for name, found in points.items()}
    sizes = sorted({size for found in by_threads.values() for size in found})
    panels = new_panels(1 + len(sizes), 3.4 + 0.17 * (len(records) // 3))
    by_size = {name: found for name, all_points in points.items() if (found := batch_points(all_points))}
    _draw_curves(panels[0], by_size, "batch_size")
    panels[0].set_title("by batch size, all threads")
    panels[0].set_ylabel("speedup (log scale)")
    parts = [crossing_words(record.sweep, record.backend, widest_floor(record)) for record in records]
    describe(panels[0], f"Speedup by batch size. {' '.join(parts) or 'No data.'}", _ends_words(by_size))
    for panel, size in zip(panels[1:], sizes, strict=True):
        alike = {name: found[size] for name, found in by_threads.items() if size in found}
        _draw_curves(panel, alike, "num_threads")
        panel.set_title(f"by threads, batch {size}")
        ends = [
            f"{name} " + " and ".join(f"{point_ratio(end).value:.2f}x with {end.num_threads}" for end in (low, high))
            for name, (low, *_, high) in alike.items()
        ]
        describe(panel, f"Speedup by threads at batch {size}: {'; '.join(ends)}.")
    if records:
        handles, labels = panels[0].get_legend_handles_labels()
        figure_of(panels[0]).legend(handles, labels, loc="outside lower center", ncols=4)
    return panels[0]


def _ends_words(by_size: Mapping[str, Sequence[SweepPoint]]) -> str:
    """Which backend is the fastest at the smallest and at the largest batch."""
    if not by_size:
        return ""
    ends = []
    for place in (0, -1):
        name = max(by_size, key=lambda name: point_ratio(by_size[name][place]).value)
        point = by_size[name][place]
        ends.append(f"{name} ({point_ratio(point).value:.2f}x) at batch {point.batch_size}")
    return f"The highest speedup is that of {' and that of '.join(ends)}."


def _draw_curves(panel: Axes, curves: Mapping[str, Sequence[SweepPoint]], what: str) -> None:
    """Args: what: the field of a point that is the horizontal axis."""
    panel.axhline(1, color=INK, linewidth=1)
    values, ticks = [], list[int]()
    for name, points in curves.items():
        at, ratios = [getattr(point, what) for point in points], [point_ratio(point) for point in points]
        middle, low, high = (list(side) for side in zip(*ratios, strict=True))
        colour = backend_colour(name)
        panel.plot(at, middle, marker=marker(name), markersize=4, linewidth=1.2, color=colour, label=name)
        panel.fill_between(at, low, high, color=colour, alpha=0.13, linewidth=0)
        values += [*low, *high]
        ticks += at
    doublings_axis(panel, ticks, {"batch_size": "batch size", "num_threads": "threads"}[what])
    speedup_axis(panel, values, "y")
