"""04_compare: all backends, each against the reference of its own job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lib.records.results import BenchmarkRecord, Layer, Scenario
from lib.records.statistics import SMALLEST_EFFECT, Ratio, layer_ratio, median_latency, scenario_ratio, verdict
from lib.report.figures import (
    FASTER,
    NEUTRAL,
    RATIO_COLOURS,
    VERDICT_COLOURS,
    backend_colour,
    describe,
    figure_of,
    new_axes,
    new_panels,
    styled,
)
from lib.report.words import SIGNS, factor, number, ratio_words, scenario_name

COLOUR_LIMIT = 4.0  # a speedup of 4 or 1/4 has the full colour
SPEEDUP_TICKS = (0.05, 0.1, 0.2, 0.25, 0.33, 0.5, 0.67, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 8, 10, 20, 50)


def _floor(noise_floors: Mapping[str, float] | None, backend: str) -> float:
    return (noise_floors or {}).get(backend, SMALLEST_EFFECT)


def _ok(records: Sequence[BenchmarkRecord]) -> list[BenchmarkRecord]:
    return [record for record in records if record.status == "ok"]


def _scenarios(records: Sequence[BenchmarkRecord]) -> list[str]:
    return list(dict.fromkeys(scenario.name for record in records for scenario in record.scenarios))


def _scenario(record: BenchmarkRecord, name: str) -> Scenario | None:
    return next((scenario for scenario in record.scenarios if scenario.name == name), None)


def _speedup_axis(ax: Axes, values: Sequence[float], axis: str = "x") -> None:
    """Logarithmic, so that twice as fast and half as fast lie equally far from 1; plain numbers on the ticks."""
    low, high = min([0.8, *values]) / 1.12, max([1.25, *values]) * 1.12
    ticks = [tick for tick in SPEEDUP_TICKS if low <= tick <= high]
    if len(ticks) > 8:
        ticks = [tick for tick in ticks if tick not in (0.25, 0.33, 0.67, 0.8, 1.25, 1.5, 3, 4, 8)]
    getattr(ax, f"set_{axis}scale")("log")
    getattr(ax, f"set_{axis}lim")(low, high)
    line = ax.xaxis if axis == "x" else ax.yaxis
    line.set_major_locator(FixedLocator(ticks))
    line.set_minor_locator(NullLocator())
    line.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))


def _cell_text(ratio: Ratio, floor: float) -> str:
    judged = verdict(ratio, floor)
    return "= 1" if judged == "no difference" else f"{SIGNS[judged]} {factor(ratio.value):.2f}x"


@styled
def plot_layer_heat_map(
    records: Sequence[BenchmarkRecord],
    scenario: str,
    noise_floors: Mapping[str, float] | None = None,
    ax: Axes | None = None,
    num_layers: int = 30,
) -> Axes:
    """Layer x backend: speedup against the reference of the same job; blue is faster, orange slower, white equal.

    Args:
        noise_floors: per backend, what counts as no difference.
        num_layers: the layers with the largest time under the reference, in the order of the network.
    """
    layers: dict[str, dict[str, Layer]] = {
        record.backend: {layer.name: layer for layer in table.layers}
        for record in _ok(records)
        for table in record.layers
        if table.scenario == scenario
    }
    cost: dict[str, float] = {}
    for by_name in layers.values():
        for name, layer in by_name.items():
            cost[name] = max(cost.get(name, 0.0), median_latency(layer.reference_latencies_s))
    slowest = set(sorted(cost, key=lambda name: -cost[name])[:num_layers])
    names = [name for name in cost if name in slowest]
    backends = list(layers)
    ax = new_axes(ax, 1.5 + 0.245 * max(1, len(names)))
    norm = LogNorm(1 / COLOUR_LIMIT, COLOUR_LIMIT)
    speedups = np.full((max(1, len(names)), max(1, len(backends))), np.nan)
    told = []
    for column, backend in enumerate(backends):
        floor, faster, slower = _floor(noise_floors, backend), 0, 0
        for row, name in enumerate(names):
            if name not in layers[backend]:
                ax.text(column, row, "not run", ha="center", va="center", fontsize=7, color=NEUTRAL)
                continue
            ratio = layer_ratio(layers[backend][name])
            judged = verdict(ratio, floor)
            speedups[row, column] = 1.0 if judged == "no difference" else ratio.value
            ax.text(column, row, _cell_text(ratio, floor), ha="center", va="center", fontsize=7.5, color="#1b1f24")
            faster += judged == "faster"
            slower += judged == "slower"
        equal = len(names) - faster - slower
        told.append(f"{backend}: {faster} layers faster, {slower} slower, {equal} without difference")
    picture = ax.imshow(np.clip(speedups, 1 / COLOUR_LIMIT, COLOUR_LIMIT), cmap=RATIO_COLOURS, norm=norm, aspect="auto")
    ax.set_xticks(range(len(backends)), [_wrapped(name) for name in backends], fontsize=8)
    ax.set_yticks(range(len(names)), names, fontsize=7.5)
    ax.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    ax.set_xticks(np.arange(len(backends) + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=2)
    ax.tick_params(which="minor", length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    bar = figure_of(ax).colorbar(picture, ax=ax, shrink=min(1.0, 5 / max(3, 0.245 * len(names))), pad=0.02, aspect=28)
    ticks = (0.25, 0.5, 1, 2, 4)
    bar.set_ticks(list(ticks), labels=["4x slower", "2x slower", "equal", "2x faster", "4x faster"])
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)
    reference = next((record.reference for record in records), "the reference")
    left_out = len(cost) - len(names)
    shown = f" ({len(names)} slowest of {len(cost)} layers)" if left_out else ""
    ax.set_title(f"Speedup per layer against {reference} in the same job, {scenario_name(scenario)}{shown}", pad=12)
    return describe(
        ax,
        f"Heat map of {len(names)} layers and {len(backends)} backends, {scenario_name(scenario)}, speedup against "
        f"{reference}. {'; '.join(told)}.",
    )


def _wrapped(name: str) -> str:
    return name.replace("-", "-\n", 1) if len(name) > 10 else name


@styled
def plot_ratios(
    records: Sequence[BenchmarkRecord], noise_floors: Mapping[str, float] | None = None, ax: Axes | None = None
) -> Axes:
    """Speedup of every backend with its interval, a panel per scenario, the fastest on top; returns the first panel."""
    records = _ok(records)
    scenarios = _scenarios(records)
    panels = new_panels(ax, max(1, len(scenarios)), 1.0 + 0.36 * max(1, len(records)))
    for panel, name in zip(panels, scenarios, strict=False):
        found = [(record, _scenario(record, name)) for record in records]
        ratios = {record.backend: scenario_ratio(scenario) for record, scenario in found if scenario is not None}
        order = sorted(ratios, key=lambda backend: ratios[backend].value)
        panel.axvline(1, color="#24292f", linewidth=1)
        for row, backend in enumerate(order):
            ratio, floor = ratios[backend], _floor(noise_floors, backend)
            judged = verdict(ratio, floor)
            colour = VERDICT_COLOURS[judged]
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
        told = [f"{backend} {ratio_words(ratios[backend], _floor(noise_floors, backend))}" for backend in order[::-1]]
        describe(panel, f"Speedups, {scenario_name(name)}: {'; '.join(told)}.")
    return panels[0]


@styled
def plot_accuracy_speed(
    records: Sequence[BenchmarkRecord], scenario: str, names: Sequence[str] = (), ax: Axes | None = None
) -> Axes:
    """Top-1 (test where present, else val) against speedup: the upper right corner is the best place."""
    ax = new_axes(ax, 3.6, 7.2)
    told, values, splits = [], [], set[str]()
    for record in _ok(records):
        found = _scenario(record, scenario)
        split = "test" if "test" in record.accuracy else "val"
        if found is None or split not in record.accuracy:
            continue
        ratio, accuracy = scenario_ratio(found), record.accuracy[split]
        splits.add(split)
        colour = backend_colour(record.backend, names)
        low, high = accuracy.top1_interval or (accuracy.top1, accuracy.top1)
        ax.errorbar(
            ratio.value, 100 * accuracy.top1,
            xerr=[[ratio.value - ratio.low], [ratio.high - ratio.value]],
            yerr=[[100 * max(0.0, accuracy.top1 - low)], [100 * max(0.0, high - accuracy.top1)]],
            fmt="o", color=colour, markersize=6, elinewidth=1, ecolor=colour, alpha=0.95, label=record.backend,
        )  # fmt: skip
        values += list(ratio)
        told.append(f"{record.backend} {100 * accuracy.top1:.2f} % at {ratio.value:.2f}x")
    ax.axvline(1, color="#24292f", linewidth=1)
    _speedup_axis(ax, values)
    ax.set_xlabel(f"speedup, {scenario_name(scenario)} (log scale; right is faster)")
    ax.set_ylabel(f"top-1 on {' or '.join(sorted(splits)) or 'val'} (%)")
    ax.grid()
    if told:
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    ax.set_title("Accuracy and speed, with 95 % intervals")
    return describe(ax, f"Top-1 against speedup, {scenario_name(scenario)}: {'; '.join(told) or 'no data'}.")


@styled
def plot_cold_start(records: Sequence[BenchmarkRecord], ax: Axes | None = None) -> Axes:
    """Import, load and first inference stacked, the quickest on top."""
    found = [(record.backend, record.cold_start) for record in _ok(records) if record.cold_start is not None]
    found.sort(key=lambda item: -(item[1].import_s + item[1].load_s + item[1].first_inference_s))
    ax = new_axes(ax, 1.2 + 0.32 * max(1, len(found)))
    left = np.zeros(len(found))
    # Greys and one blue, light to dark: the colours of backends would claim to be backends here.
    for part, label, colour in (
        ("import_s", "import", "#c3ccd4"),
        ("load_s", "load", "#7c8894"),
        ("first_inference_s", "first inference", FASTER),
    ):
        widths = np.array([getattr(cold, part) for _, cold in found])
        ax.barh(range(len(found)), widths, 0.62, left=left, color=colour, label=label)
        left += widths
    for row, total in enumerate(left):
        text = f"{number(float(total))} s"
        ax.annotate(text, (total, row), (4, 0), textcoords="offset points", va="center", fontsize=8)
    ax.set_yticks(range(len(found)), [backend for backend, _ in found])
    ax.tick_params(axis="y", length=0)
    ax.set_xlim(0, max([*left, 1e-9]) * 1.12)
    ax.set_xlabel("time until the first answer (s)")
    ax.grid(axis="x")
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.16 - 0.5 / max(3, len(found))), ncols=3)
    ax.set_title("Cold start; one measurement each, of separate jobs")
    told = "; ".join(
        f"{backend} {number(cold.import_s + cold.load_s + cold.first_inference_s)} s" for backend, cold in found[::-1]
    )
    return describe(ax, f"Time until the first answer: {told or 'no data'}.")
