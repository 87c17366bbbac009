"""All backends at other batch sizes and numbers of threads."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lib.analysis.comparison import Comparison
from lib.analysis.judgement import widest_floor
from lib.analysis.statistics import Ratio, paired_ratio
from lib.analysis.sweep_points import batch_points, judged_points, thread_points
from lib.backends import backend_names
from lib.records.run import networks
from lib.records.schema import BenchmarkRecord, SweepPoint
from lib.report.benchmark.batch_sweep import crossing_words, failure_words
from lib.report.figures import backend_colour, describe, figure_of, marker, new_panels, show, speedup_axis, styled
from lib.report.gaps import Shown, with_records
from lib.report.table import Banner, Table, Value


@with_records
def curves(comparison: Comparison) -> Shown:
    """Speedups at other batch sizes and numbers of threads, and where the verdict changes."""
    records = [
        record for record in networks(comparison.measured) if record.sweep and record.backend != record.reference
    ]
    if not records:
        return Banner("Other batch sizes and numbers of threads are measured in the profile full only.", "info")
    show(plot_sweeps(records, backend_names()))
    rows: list[list[Value]] = [
        [
            record.backend,
            crossing_words(record.sweep, record.backend, widest_floor(record)),
            failure_words(record.sweep),
        ]
        for record in records
    ]
    columns = ["backend", "against the reference, by batch size and threads", ""]
    if not any(row[2] for row in rows):
        columns, rows = columns[:2], [row[:2] for row in rows]
    return Table(columns, rows, caption="Where the verdict changes", compact=True)


@styled
def plot_sweeps(records: Sequence[BenchmarkRecord], names: Sequence[str] = (), ax: Axes | None = None) -> Axes:
    """Speedup by batch size, and by number of threads at the batch sizes where it was measured."""
    records = [record for record in records if record.sweep]
    points = {record.backend: judged_points(record.sweep) for record in records}
    by_threads = {name: thread_points(found) for name, found in points.items()}
    sizes = sorted({size for found in by_threads.values() for size in found})
    panels = new_panels(ax, 1 + len(sizes), 3.4 + 0.17 * (len(records) // 3))
    _draw_curves(panels[0], {name: batch_points(found) for name, found in points.items()}, names, "batch_size")
    panels[0].set_title("by batch size, all threads")
    panels[0].set_ylabel("speedup (log scale)")
    told = [crossing_words(record.sweep, record.backend, widest_floor(record)) for record in records]
    describe(panels[0], f"Speedup by batch size. {' '.join(told) or 'No data.'}")
    for panel, size in zip(panels[1:], sizes, strict=True):
        curves = {name: found[size] for name, found in by_threads.items() if size in found}
        _draw_curves(panel, curves, names, "num_threads")
        panel.set_title(f"by threads, batch {size}")
        ends = "; ".join(f"{name} {_ends(points)}" for name, points in curves.items())
        describe(panel, f"Speedup by threads at batch {size}: {ends}.")
    if records:
        handles, labels = panels[0].get_legend_handles_labels()
        figure_of(panels[0]).legend(handles, labels, loc="outside lower center", ncols=4)
    return panels[0]


def _ends(points: Sequence[SweepPoint]) -> str:
    first, last = points[0], points[-1]
    start, end = _point_ratio(first).value, _point_ratio(last).value
    return f"{start:.2f}x with {first.num_threads} and {end:.2f}x with {last.num_threads}"


def _draw_curves(panel: Axes, curves: dict[str, list[SweepPoint]], names: Sequence[str], what: str) -> None:
    """`what`: the field of a point that is the horizontal axis."""
    panel.axhline(1, color="#24292f", linewidth=1)
    values, ticks = [], set()
    for name, points in curves.items():
        at, ratios = [getattr(point, what) for point in points], [_point_ratio(point) for point in points]
        colour = backend_colour(name, names)
        middle, low, high = (list(side) for side in zip(*ratios, strict=True)) if ratios else ([], [], [])
        panel.plot(at, middle, marker=marker(name, names), markersize=4, linewidth=1.2, color=colour, label=name)
        panel.fill_between(at, low, high, color=colour, alpha=0.13, linewidth=0)
        values += [*low, *high]
        ticks |= set(at)
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_locator(FixedLocator(sorted(ticks)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    speedup_axis(panel, values, "y")
    panel.set_xlabel({"batch_size": "batch size", "num_threads": "threads"}[what])
    panel.grid()


def _point_ratio(point: SweepPoint) -> Ratio:
    return paired_ratio(point.latencies_s, point.reference_latencies_s)
