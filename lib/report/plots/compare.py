"""04_compare: all backends, each against the reference of its own job."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from lib.analysis.batch_sweep import batch_points, crossing_words, judged_points, thread_points
from lib.analysis.comparison import first_answer_s
from lib.analysis.history import History, Trend
from lib.analysis.judgement import disturbance, judge, judged
from lib.analysis.layer_grid import Column, layer_grid
from lib.analysis.recommendation import front
from lib.analysis.statistics import (
    SMALLEST_EFFECT,
    Ratio,
    layer_ratio,
    noise_floor,
    paired_ratio,
    scenario_ratio,
    verdict,
)
from lib.records.schema import BenchmarkRecord, Scenario, SweepPoint
from lib.report.figures import (
    FASTER,
    NEUTRAL,
    PALETTE,
    RATIO_COLOURS,
    VERDICT_COLOURS,
    backend_colour,
    describe,
    figure_of,
    new_axes,
    new_panels,
    styled,
)
from lib.report.words import NOT_JUDGED, SIGNS, factor, judgement_words, number, scenario_name

COLOUR_LIMIT = 4.0  # a speedup of 4 or 1/4 has the full colour
SPEEDUP_TICKS = (0.05, 0.1, 0.2, 0.25, 0.33, 0.5, 0.67, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 8, 10, 20, 50)
COARSE_TICKS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
MANY = 8  # backends beyond which a column has no room for words
INK = "#1b1f24"
MARKERS = "osD^v"


def _ok(records: Sequence[BenchmarkRecord]) -> list[BenchmarkRecord]:
    return [record for record in records if record.status == "ok"]


def _scenarios(records: Sequence[BenchmarkRecord]) -> list[str]:
    return list(dict.fromkeys(scenario.name for record in records for scenario in record.scenarios))


def _scenario(record: BenchmarkRecord, name: str) -> Scenario | None:
    return next((scenario for scenario in record.scenarios if scenario.name == name), None)


def _marker(name: str, names: Sequence[str]) -> str:
    """Another shape for each round of the palette: with more backends than colours, two share a colour."""
    ordered = sorted(names)
    return MARKERS[(ordered.index(name) // len(PALETTE)) % len(MARKERS)] if name in ordered else MARKERS[0]


def _speedup_axis(ax: Axes, values: Sequence[float], axis: str = "x") -> None:
    """Logarithmic, so that twice as fast and half as fast lie equally far from 1; plain numbers on the ticks."""
    low, high = min([0.8, *values]) / 1.12, max([1.25, *values]) * 1.12
    ticks = [tick for tick in SPEEDUP_TICKS if low <= tick <= high]
    if len(ticks) > 6:
        ticks = [tick for tick in ticks if tick in COARSE_TICKS]
    getattr(ax, f"set_{axis}scale")("log")
    getattr(ax, f"set_{axis}lim")(low, high)
    line = ax.xaxis if axis == "x" else ax.yaxis
    line.set_major_locator(FixedLocator(ticks))
    line.set_minor_locator(NullLocator())
    line.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))


def _cell_text(ratio: Ratio, floor: float) -> str:
    judged = verdict(ratio, floor)
    return "= 1" if judged == "no difference" else f"{SIGNS[judged]} {factor(ratio.value):.2f}x"


def _narrow_text(ratio: Ratio, floor: float) -> str:
    """For a column without room: sign and factor."""
    judged = verdict(ratio, floor)
    value = factor(ratio.value)
    return "=" if judged == "no difference" else f"{SIGNS[judged]}{value:.{2 if value < 9.995 else 1}f}"


@styled
def plot_layer_heat_map(
    records: Sequence[BenchmarkRecord], scenario: str, ax: Axes | None = None, num_layers: int = 30
) -> Axes:
    """Layer x backend: speedup against the reference of the same job; blue is faster, orange slower, white equal.

    Layers that a backend runs as one step have one colour, and their number stands in one of them.

    Args:
        num_layers: at most so many, those that compute and take longest first, in the order of the network.
    """
    grid = layer_grid(records, scenario)
    names, columns = grid.slowest(num_layers), list(grid.columns.values())
    crowded = len(columns) > MANY
    ax = new_axes(ax, (2.2 if crowded else 1.5) + 0.245 * max(1, len(names)))
    speedups = np.full((max(1, len(names)), max(1, len(columns))), np.nan)
    told = []
    for position, column in enumerate(columns):
        told.append(_fill_column(ax, speedups, position, column, names, crowded))
    _draw_map(ax, speedups, crowded)
    _name_map(ax, names, list(grid.columns), crowded)
    reference = next((record.reference for record in records), "the reference")
    shown = (
        f"\n{len(names)} of {len(grid.rows)} layers: convolutions, linear ones, then the slowest of the reference"
        if len(grid.rows) > len(names)
        else ""
    )
    ax.set_title(f"Speedup per layer against {reference} in the same job, {scenario_name(scenario)}{shown}", pad=12)
    told += [f"{name} cannot tell its layers" for name in grid.silent]
    told += [f"{name} {NOT_JUDGED}" for name in grid.disturbed]
    return describe(
        ax,
        f"Heat map of {len(names)} layers and {len(columns)} backends, {scenario_name(scenario)}, speedup against "
        f"{reference}. {'; '.join(told)}.",
    )


def _fill_column(
    ax: Axes, speedups: np.ndarray, position: int, column: Column, names: Sequence[str], crowded: bool
) -> str:
    """Numbers and colours of one backend; returns in words what they say."""
    counts = dict.fromkeys(("faster", "slower", "no difference"), 0)
    floor = column.noise_floor
    for row, name in enumerate(names):
        layer = column.shown.get(column.hidden.get(name, name))
        if layer is None:
            ax.text(position, row, "–", ha="center", va="center", fontsize=7, color=NEUTRAL)
            continue
        ratio = layer_ratio(layer)
        judged = verdict(ratio, floor)
        speedups[row, position] = 1.0 if judged == "no difference" else ratio.value
        if name in column.hidden:
            mark = _direction(names, name, column.hidden[name])
            ax.text(position, row, mark, ha="center", va="center", fontsize=7, color=INK)
            continue
        counts[judged] += 1
        text = _narrow_text(ratio, floor) if crowded else _cell_text(ratio, floor)
        ax.text(position, row, text, ha="center", va="center", fontsize=6.2 if crowded else 7.5, color=INK)
    told = f"{counts['faster']} layers faster, {counts['slower']} slower, {counts['no difference']} without difference"
    fused = sum(name in column.hidden for name in names)
    return f"{column.record.backend}: {told}" + (f", {fused} run as one step with another" if fused else "")


def _direction(names: Sequence[str], name: str, shown_at: str) -> str:
    if shown_at not in names:
        return "·"
    return "↑" if names.index(shown_at) < names.index(name) else "↓"


def _draw_map(ax: Axes, speedups: np.ndarray, crowded: bool) -> None:
    norm = LogNorm(1 / COLOUR_LIMIT, COLOUR_LIMIT)
    clipped = np.clip(speedups, 1 / COLOUR_LIMIT, COLOUR_LIMIT)
    picture = ax.imshow(clipped, cmap=RATIO_COLOURS, norm=norm, aspect="auto")
    num_rows = speedups.shape[0]
    if crowded:  # below, where it takes no width
        bar = figure_of(ax).colorbar(picture, ax=ax, location="bottom", shrink=0.5, pad=0.01, aspect=40)
    else:
        shrink = min(1.0, 5 / max(3, 0.245 * num_rows))
        bar = figure_of(ax).colorbar(picture, ax=ax, shrink=shrink, pad=0.02, aspect=28)
    bar.set_ticks([0.25, 0.5, 1, 2, 4], labels=["4x slower", "2x slower", "equal", "2x faster", "4x faster"])
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)


def _name_map(ax: Axes, names: Sequence[str], backends: Sequence[str], crowded: bool) -> None:
    if crowded:
        ax.set_xticks(range(len(backends)), backends, fontsize=7.5, rotation=45, ha="left", rotation_mode="anchor")
    else:
        ax.set_xticks(range(len(backends)), [_wrapped(name) for name in backends], fontsize=8)
    ax.set_yticks(range(len(names)), names, fontsize=7.5)
    ax.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    ax.set_xticks(np.arange(len(backends) + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=1 if crowded else 2)
    ax.tick_params(which="minor", length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _wrapped(name: str) -> str:
    return name.replace("-", "-\n", 1) if len(name) > 10 else name


@styled
def plot_ratios(records: Sequence[BenchmarkRecord], ax: Axes | None = None) -> Axes:
    """Speedup of every backend with its interval, a panel per scenario, the fastest on top; returns the first panel."""
    records = _ok(records)
    scenarios = _scenarios(records)
    panels = new_panels(ax, max(1, len(scenarios)), 1.0 + 0.36 * max(1, len(records)))
    for panel, name in zip(panels, scenarios, strict=False):
        measured = {record.backend: scenario for record in records if (scenario := _scenario(record, name)) is not None}
        found = {backend: judge(scenario) for backend, scenario in measured.items()}
        disturbed = [backend for backend, judgement in found.items() if judgement.disturbance is not None]
        ratios = {backend: judgement.ratio for backend, judgement in found.items() if backend not in disturbed}
        floors = {backend: judgement.noise_floor for backend, judgement in found.items()}
        order = [*disturbed, *sorted(ratios, key=lambda backend: ratios[backend].value)]
        panel.axvline(1, color="#24292f", linewidth=1)
        for row, backend in enumerate(order):
            if backend in disturbed:
                panel.annotate(
                    NOT_JUDGED, (1, row), (6, 0), textcoords="offset points", va="center", fontsize=7.5, color=NEUTRAL
                )
                continue
            ratio, floor = ratios[backend], floors[backend]
            colour = VERDICT_COLOURS[verdict(ratio, floor)]
            band = [row - 0.4, row + 0.4]
            panel.fill_betweenx(band, 1 / (1 + floor), 1 + floor, color="#8a939b", alpha=0.22, linewidth=0)
            interval = [ratio.low, ratio.high]
            panel.plot(interval, [row, row], color=colour, linewidth=3, solid_capstyle="butt", alpha=0.55)
            panel.plot([ratio.value], [row], "o", color=colour, markersize=6)
            panel.annotate(
                _cell_text(ratio, floor), (ratio.value, row), (0, 6), textcoords="offset points", ha="center",
                fontsize=7.5, color=colour, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
            )  # fmt: skip
        panel.set_yticks(range(len(order)), order)
        panel.set_ylim(-0.6, len(order) - 0.3)
        panel.tick_params(axis="y", length=0)
        _speedup_axis(panel, [value for ratio in ratios.values() for value in ratio])
        panel.set_xlabel("speedup, log scale (grey: noise)")
        panel.grid(axis="x")
        panel.set_title(scenario_name(name))
        told = [f"{backend} {judgement_words(found[backend])}" for backend in order[::-1]]
        describe(panel, f"Speedups, {scenario_name(name)}: {'; '.join(told)}.")
    return panels[0]


@styled
def plot_accuracy_speed(
    records: Sequence[BenchmarkRecord], scenario: str, names: Sequence[str] = (), ax: Axes | None = None
) -> Axes:
    """Change of top-1 against speedup, both against the reference on the same images: the upper right is best.

    Backends that no other one beats in both are ringed, named and joined: whoever leaves them loses something.
    """
    ax = new_axes(ax, 4.0)
    best, places, told = front(records, scenario), dict[str, tuple[float, float]](), []
    values: list[float] = []
    for record in _ok(records):
        found, parity = _scenario(record, scenario), record.parity
        if found is None or parity is None or record.random_weights:
            continue
        if disturbance(found) is not None:
            told.append(f"{record.backend} {NOT_JUDGED}")
            continue
        ratio = Ratio(1, 1, 1) if record.backend == record.reference else scenario_ratio(found)
        gain = 100 * (0 - parity.top1_drop)
        low, high = (100 * (0 - end) for end in reversed(parity.top1_drop_interval or (parity.top1_drop,) * 2))
        label = record.backend + (", parity inconclusive" if parity.outcome == "inconclusive" else "")
        colour, marker = backend_colour(record.backend, names), _marker(record.backend, names)
        ax.errorbar(
            ratio.value, gain,
            xerr=[[ratio.value - ratio.low], [ratio.high - ratio.value]],
            yerr=[[max(0.0, gain - low)], [max(0.0, high - gain)]],
            fmt=marker, color=colour, markersize=6, elinewidth=1, ecolor=colour, alpha=0.95, label=label,
        )  # fmt: skip
        places[record.backend] = (ratio.value, gain)
        values += list(ratio)
        told.append(f"{label} {gain:+.2f} points at {ratio.value:.2f}x")
    ringed = [places[name] for name in best if name in places]
    if ringed:
        ax.plot(*zip(*ringed, strict=True), "--", color=NEUTRAL, linewidth=1, zorder=1)
        ax.plot(*zip(*ringed, strict=True), "o", markersize=12, markerfacecolor="none", markeredgecolor=INK)
    ax.axvline(1, color="#24292f", linewidth=1)
    ax.axhline(0, color="#24292f", linewidth=0.6)
    _speedup_axis(ax, values)
    ax.margins(y=0.15)
    ax.set_xlabel(f"speedup, {scenario_name(scenario)} (log scale; right is faster)")
    ax.set_ylabel("top-1 against the reference (points)")
    ax.grid()
    if told:
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    ax.set_title("Accuracy (95 %) and speed (99 % intervals); ringed: beaten by no other in both")
    named = ", ".join(best)
    return describe(
        ax,
        f"Top-1 against speedup, {scenario_name(scenario)}: {'; '.join(told) or 'no data'}."
        + (f" No other beats in both: {named}." if named else ""),
    )


@styled
def plot_sweeps(records: Sequence[BenchmarkRecord], names: Sequence[str] = (), ax: Axes | None = None) -> Axes:
    """Speedup by batch size, and by number of threads at the batch sizes where it was measured."""
    records = [record for record in _ok(records) if record.sweep]
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


def widest_floor(record: BenchmarkRecord) -> float:
    """Noise floor for what has no control of its own: the widest of the scenarios."""
    return max([SMALLEST_EFFECT, *(noise_floor(scenario) for scenario in judged(record.scenarios))])


def _point_ratio(point: SweepPoint) -> Ratio:
    return paired_ratio(point.latencies_s, point.reference_latencies_s)


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
        panel.plot(at, middle, marker=_marker(name, names), markersize=4, linewidth=1.2, color=colour, label=name)
        panel.fill_between(at, low, high, color=colour, alpha=0.13, linewidth=0)
        values += [*low, *high]
        ticks |= set(at)
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_locator(FixedLocator(sorted(ticks)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    _speedup_axis(panel, values, "y")
    panel.set_xlabel({"batch_size": "batch size", "num_threads": "threads"}[what])
    panel.grid()


@styled
def plot_cold_start(records: Sequence[BenchmarkRecord], ax: Axes | None = None) -> Axes:
    """Import, load, compile and first inference stacked, the quickest on top; beside them the peak memory."""
    found = [(record.backend, record.cold_start) for record in _ok(records) if record.cold_start is not None]
    totals = {name: first_answer_s(cold) for name, cold in found}
    found.sort(key=lambda item: -totals[item[0]])
    panels = new_panels(ax, 2, 1.8 + 0.32 * max(1, len(found)))
    times, memory = panels
    left = np.zeros(len(found))
    # Greys and one blue, light to dark: the colours of backends would claim to be backends here.
    for part, label, colour in (
        ("import_s", "import", "#d5dce2"),
        ("load_s", "load", "#a3adb7"),
        ("compile_s", "compile", "#5c6670"),
        ("first_inference_s", "first inference", FASTER),
    ):
        widths = np.array([getattr(cold, part) for _, cold in found])
        times.barh(range(len(found)), widths, 0.62, left=left, color=colour, label=label)
        left += widths
    for row, total in enumerate(left):
        text = f"{number(float(total))} s"
        times.annotate(text, (total, row), (4, 0), textcoords="offset points", va="center", fontsize=8)
    times.set_xlim(0, max([*left, 1e-9]) * 1.2)
    times.set_xlabel("time until the first answer (s)")
    figure_of(times).legend(*times.get_legend_handles_labels(), loc="outside lower left", ncols=4, columnspacing=1)
    times.set_title("Cold start; one measurement each")
    peaks = [None if cold.peak_memory_bytes is None else cold.peak_memory_bytes / 2**20 for _, cold in found]
    for row, peak in enumerate(peaks):
        memory.barh([row], [peak or 0.0], 0.62, color="#7c8894")
        text = "unknown" if peak is None else f"{peak:,.0f}"
        memory.annotate(text, (peak or 0.0, row), (4, 0), textcoords="offset points", va="center", fontsize=8)
    memory.set_xlim(0, max([1.0, *(peak for peak in peaks if peak is not None)]) * 1.2)
    memory.set_xlabel("peak memory of the process (MiB)")
    memory.set_title("Memory")
    for panel in panels:
        panel.set_yticks(range(len(found)), [backend for backend, _ in found] if panel is times else [])
        panel.set_ylim(-0.6, max(1, len(found)) - 0.4)
        panel.tick_params(axis="y", length=0)
        panel.grid(axis="x")
    told = "; ".join(f"{name} {number(totals[name])} s" for name, _ in found[::-1])
    describe(times, f"Time until the first answer: {told or 'no data'}.")
    used = "; ".join(
        f"{name} {peak:,.0f} MiB" for (name, _), peak in list(zip(found, peaks, strict=True))[::-1] if peak is not None
    )
    describe(memory, f"Peak memory: {used or 'no data'}.")
    return times


@styled
def plot_history(history: History, names: Sequence[str] = (), ax: Axes | None = None) -> Axes:
    """Speedups of earlier runs and of this one, a panel per scenario; a change of this run has a mark of its own, and
    a second measurement a cross."""
    scenarios = list(dict.fromkeys(trend.scenario for trend in history.trends))
    panels = new_panels(ax, max(1, len(scenarios)), 3.4 + 0.17 * (len(history.trends) // 6))
    moments = sorted({(point.started, point.run) for trend in history.trends for point in trend.points})
    runs = list(dict.fromkeys(run for _, run in moments))
    for panel, scenario in zip(panels, scenarios, strict=False):
        trends = [trend for trend in history.trends if trend.scenario == scenario]
        panel.axhline(1, color="#24292f", linewidth=1)
        for trend in trends:
            _draw_trend(panel, trend, runs, names)
        _speedup_axis(panel, [value for trend in trends for point in trend.points for value in point.ratio], "y")
        panel.set_xlim(-0.4, max(1, len(runs)) - 0.6)
        panel.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _run_label(value, len(runs))))
        panel.set_xlabel("run, the oldest first")
        panel.set_ylabel("speedup (log scale)")
        panel.set_title(scenario_name(scenario))
        panel.grid(axis="y")
        told = "; ".join(f"{trend.backend} {trend.verdict}" for trend in trends)
        describe(panel, f"Speedup over {len(runs)} runs, {scenario_name(scenario)}: {told}.")
    if scenarios:
        handles, labels = panels[0].get_legend_handles_labels()
        figure_of(panels[0]).legend(handles, labels, loc="outside lower center", ncols=4)
    return panels[0]


def _run_label(value: float, num_runs: int) -> str:
    place = round(value)
    return "this" if place == num_runs - 1 else str(place - num_runs + 1) if 0 <= place < num_runs else ""


def _draw_trend(panel: Axes, trend: Trend, runs: Sequence[str], names: Sequence[str]) -> None:
    at = [runs.index(point.run) for point in trend.points]
    ratios = [point.ratio for point in trend.points]
    colour, values = backend_colour(trend.backend, names), [ratio.value for ratio in ratios]
    errors = [[ratio.value - ratio.low for ratio in ratios], [ratio.high - ratio.value for ratio in ratios]]
    panel.errorbar(
        at, values, yerr=errors, marker=_marker(trend.backend, names), markersize=4, linewidth=1.2, elinewidth=0.8,
        color=colour, label=trend.backend,
    )  # fmt: skip
    if trend.second is not None:  # in the place of this run
        panel.plot(at[-1:], [trend.second.points[-1].ratio.value], "x", markersize=7, color=colour)
    if trend.verdict.startswith(("suspected", "confirmed")):
        mark = "!" if trend.verdict.startswith("confirmed") else "?"
        panel.plot(at[-1:], values[-1:], "o", markersize=11, markerfacecolor="none", markeredgecolor=INK)
        panel.annotate(mark, (at[-1], values[-1]), (8, 0), textcoords="offset points", va="center", weight="bold")
