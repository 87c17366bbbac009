"""03_benchmark: one backend beside the reference backend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from lib.analysis.batch_sweep import batch_points, judged_points, thread_points
from lib.analysis.roofline import Roofline
from lib.analysis.statistics import (
    Ratio,
    median_latency,
    noise_floor,
    paired_ratio,
    percentiles,
    samples_per_s,
    scenario_ratio,
    verdict,
)
from lib.records.schema import BenchmarkRecord, Layer, LayerTable, Scenario
from lib.report.figures import NEUTRAL, VERDICT_COLOURS, backend_colour, describe, new_axes, new_panels, styled
from lib.report.tables.common import group_name
from lib.report.words import number, ratio_interval, ratio_words, scenario_name

NUM_RESAMPLES = 1000
LABEL_LENGTH = 44  # characters of a layer's name beside a bar
NUM_NAMED = 5  # layers that are named in a roofline
CONTROL = "#8a939b"  # of the control, and of the band within which nothing differs
CURVE_STYLES = ("o-", "s--", "D:", "^-.")


def _sides(
    scenario: Scenario, backend: str, reference: str, names: Sequence[str]
) -> list[tuple[str, list[list[float]], str, str]]:
    """Name, latencies, line style and colour of backend, reference and control."""
    colour = backend_colour(backend, names)
    second = NEUTRAL if backend == reference else backend_colour(reference, names)
    return [
        (backend, scenario.latencies_s, "-", colour),
        (f"{reference} (reference)", scenario.reference_latencies_s, "--", second),
        (f"{reference}, again (control)", scenario.control_latencies_s, ":", CONTROL),
    ]


@styled
def plot_latencies(
    scenarios: Sequence[Scenario], backend: str, reference: str, names: Sequence[str] = (), ax: Axes | None = None
) -> Axes:
    """Cumulative distribution of all calls of all sides, a panel per scenario; returns the first panel.

    Calls beyond the 99.5th percentile are not drawn (their number is told): they would flatten the rest.
    """
    panels = new_panels(ax, len(scenarios), 2.9)
    for panel, scenario in zip(panels, scenarios, strict=True):
        starts: list[float] = []
        ends: list[float] = []
        told = []
        for name, latencies_s, style, colour in _sides(scenario, backend, reference, names):
            calls = np.sort(np.concatenate([np.asarray(calls) for calls in latencies_s])) * 1000
            shares = 100 * np.arange(1, len(calls) + 1) / len(calls)
            panel.step(calls, shares, style, color=colour, label=name, where="post")
            p50, p90, p99 = (1000 * value for value in percentiles(latencies_s))
            panel.plot([p50, p90, p99], [50, 90, 99], "o", color=colour, markersize=4)
            starts.append(float(calls[0]))
            ends.append(float(np.percentile(calls, 99.5)))
            told.append(f"{name}: p50 {number(p50)}, p90 {number(p90)}, p99 {number(p99)} ms ({len(calls):,} calls)")
        room = 0.04 * (max(ends) - min(starts))
        panel.set_xlim(min(starts) - room, max(ends) + room)
        panel.set_ylim(0, 101)
        panel.set_xlabel("latency per call (ms)")
        panel.set_title(f"{scenario_name(scenario.name)}, batch {scenario.batch_size}")
        panel.grid()
        describe(panel, f"Latency distribution, {scenario_name(scenario.name)}: {'; '.join(told)}.")
    panels[0].set_ylabel("share of calls (%)")
    panels[0].legend(loc="lower right", title="dots: p50, p90, p99", title_fontsize=8)
    return panels[0]


@styled
def plot_round_ratios(scenarios: Sequence[Scenario], ax: Axes | None = None) -> Axes:
    """Speedup of every round, their trimmed mean with its interval, and what the reference differs from its control,
    a panel per scenario; returns the first panel."""
    panels = new_panels(ax, len(scenarios), 2.7)
    for panel, scenario in zip(panels, scenarios, strict=True):
        floor, ratio = noise_floor(scenario), scenario_ratio(scenario)
        speedups = _round_ratios(scenario.latencies_s, scenario.reference_latencies_s, scenario.control_latencies_s)
        controls = _round_ratios(scenario.control_latencies_s, scenario.reference_latencies_s)
        rounds = np.arange(1, len(speedups) + 1)
        colour = VERDICT_COLOURS[verdict(ratio, floor)]
        panel.axhspan(1 / (1 + floor), 1 + floor, color=CONTROL, alpha=0.18, linewidth=0)
        panel.axhline(1, color="#24292f", linewidth=1)
        panel.axhspan(ratio.low, ratio.high, color=colour, alpha=0.2, linewidth=0)
        panel.axhline(ratio.value, color=colour, linewidth=1.4)
        panel.plot(rounds, controls, "D", color=CONTROL, markersize=3.4, markerfacecolor="white", label="control")
        panel.plot(rounds, speedups, "o", color=colour, markersize=4.5, label="backend")
        drawn = [1.0, *speedups, *controls, ratio.low, ratio.high]
        room = 0.12 * max(max(drawn) - min(drawn), 4 * floor)
        panel.set_ylim(min(drawn) - room, max(drawn) + room)
        panel.set_xlim(0.4, len(speedups) + 0.6)
        panel.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        panel.set_xlabel("round (line: all rounds, band: 99 % interval, grey: noise)")
        words = f"{ratio_words(ratio, floor)} {ratio_interval(ratio, floor)}"
        panel.set_title(f"{scenario_name(scenario.name)}: {words}")
        panel.grid(axis="y")
        describe(
            panel,
            f"Speedup per round, {scenario_name(scenario.name)}: {words} over {len(speedups)} rounds, single rounds "
            f"from {min(speedups):.2f} to {max(speedups):.2f}; the control, which is the reference once more, from "
            f"{min(controls):.2f} to {max(controls):.2f}; within {100 * floor:.1f} % of 1 is noise.",
        )
    panels[0].set_ylabel("speedup\n(reference / backend time)")
    panels[0].legend(loc="best", ncols=2)
    return panels[0]


def _round_ratios(latencies_s: Sequence[Sequence[float]], *references: Sequence[Sequence[float]]) -> list[float]:
    """Speedup of each round; over the geometric mean of the reference's processes, where there are two."""
    logs = np.mean([[np.log(np.median(calls)) for calls in side] for side in references if side], axis=0)
    return [float(np.exp(log) / np.median(calls)) for calls, log in zip(latencies_s, logs, strict=True)]


def median_interval(latencies_s: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """The middle round's median call with a 95 % bootstrap interval over rounds, seconds."""
    samples = np.array([np.median(calls) for calls in latencies_s])
    draws = np.random.default_rng(0).integers(len(samples), size=(NUM_RESAMPLES, len(samples)))
    low, high = np.percentile(np.median(samples[draws], axis=1), (2.5, 97.5))
    return float(np.median(samples)), float(low), float(high)


def slowest_layers(layers: Sequence[Layer], num_layers: int) -> list[Layer]:
    """The layers that take longest (either side), in the order of the network."""
    cost = [max(median_latency(layer.latencies_s), median_latency(layer.reference_latencies_s)) for layer in layers]
    kept = sorted(sorted(range(len(layers)), key=lambda index: -cost[index])[:num_layers])
    return [layers[index] for index in kept]


@styled
def plot_layers(
    table: LayerTable,
    backend: str,
    reference: str,
    names: Sequence[str] = (),
    ax: Axes | None = None,
    num_layers: int = 24,
) -> Axes:
    """Milliseconds of each layer under both sides as paired bars with 95 % intervals of their medians."""
    layers = slowest_layers(table.layers, num_layers)
    ax = new_axes(ax, 1.1 + 0.3 * len(layers))
    rows = np.arange(len(layers))
    second = f"{reference} (reference)"
    for offset, name, key in ((-0.19, backend, "latencies_s"), (0.19, second, "reference_latencies_s")):
        found = np.array([median_interval(getattr(layer, key)) for layer in layers]) * 1000
        colour = backend_colour(backend if offset < 0 else reference, names)
        if backend == reference and offset > 0:
            colour = NEUTRAL
        spread = np.stack([found[:, 0] - found[:, 1], found[:, 2] - found[:, 0]])
        ax.barh(
            rows + offset, found[:, 0], 0.36, xerr=spread, color=colour, label=name,
            error_kw={"elinewidth": 1, "ecolor": "#24292f"},
        )  # fmt: skip
    ax.set_yticks(rows, [_layer_label(layer) for layer in layers], fontsize=7.5)
    ax.set_ylim(len(layers) - 0.4, -0.6)
    ax.set_xlim(left=0)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    ax.set_xlabel("time in one forward pass (ms)")
    ax.legend(loc="lower right")
    shown = "" if len(layers) == len(table.layers) else f"; the {len(layers)} slowest of {len(table.layers)} layers"
    ax.set_title(f"Layers, {scenario_name(table.scenario)}, batch {table.batch_size}{shown}")
    slowest = max(layers, key=lambda layer: median_latency(layer.latencies_s))
    totals = [1000 * sum(median_latency(getattr(layer, key)) for layer in table.layers) for key in
              ("latencies_s", "reference_latencies_s")]  # fmt: skip
    return describe(
        ax,
        f"Time per layer, {scenario_name(table.scenario)}: all layers together take {number(totals[0])} ms under "
        f"{backend} and {number(totals[1])} ms under {reference}. Slowest under {backend}: "
        f"{group_name(slowest.members)} with "
        f"{number(1000 * median_latency(slowest.latencies_s))} ms.",
    )


def _layer_label(layer: Layer) -> str:
    """Name and kind; a fused group by the names of its members, which say more than their kinds."""
    name = group_name(layer.members)
    if len(layer.members) == 1:
        return f"{name} ({layer.kind})"
    return _shortened(name, LABEL_LENGTH)


def _shortened(name: str, length: int) -> str:
    return name if len(name) <= length else f"{name[: length - 3]}..."


@styled
def plot_roofline(
    rooflines: Sequence[Roofline], backend: str, names: Sequence[str] = (), ax: Axes | None = None
) -> Axes:
    """Operations per byte against operations per second of every layer under the machine's two roofs, a panel per
    scenario; returns the first panel. Both scales are logarithmic; the larger a dot, the longer the layer takes."""
    panels = new_panels(ax, len(rooflines), 3.6, share_y=True)
    colour = backend_colour(backend, names)
    heights: list[float] = []
    for panel, roofline in zip(panels, rooflines, strict=True):
        drawn = [layer for layer in roofline.layers if layer.intensity and layer.flops_per_s]
        total = sum(layer.seconds for layer in roofline.layers) or 1.0
        xs = np.array([layer.intensity or 1.0 for layer in drawn] or [1.0])
        ys = np.array([(layer.flops_per_s or 1.0) / 1e9 for layer in drawn] or [1.0])
        limits = roofline.limits
        low, high = xs.min() / 2.5, xs.max() * 2.5
        roof_words = "the machine's peak in this precision is unknown"
        if limits is not None:
            bandwidth = limits.copy.per_s / 1e9
            if limits.matmul is not None and limits.ridge is not None:
                peak = limits.matmul.per_s / 1e9
                high = max(high, 3 * limits.ridge)
                panel.plot([limits.ridge, high], [peak, peak], color="#24292f", linewidth=1.4)
                panel.plot([low, limits.ridge], [low * bandwidth, peak], color="#24292f", linewidth=1.4, linestyle="--")
                panel.annotate(
                    f"{number(peak)} GFLOP/s, {limits.precision}", (limits.ridge, peak), (2, 3),
                    textcoords="offset points", ha="left", va="bottom", fontsize=8,
                )  # fmt: skip
                roof_words = (
                    f"peak {number(peak)} GFLOP/s, {limits.precision}; they meet at {number(limits.ridge)} FLOP/byte"
                )
            else:
                panel.plot([low, high], [low * bandwidth, high * bandwidth], color="#24292f", linestyle="--")
            panel.annotate(
                f"{number(bandwidth)} GB/s", (low, low * bandwidth), (4, 30), textcoords="offset points", fontsize=8
            )
        seconds = np.array([layer.seconds for layer in drawn] or [0.0])
        if drawn:
            panel.scatter(
                xs, ys, 14 + 320 * seconds / total, color=colour, alpha=0.55, edgecolors="#24292f", linewidths=0.6
            )
        slowest = sorted(drawn, key=lambda layer: -layer.seconds)[:NUM_NAMED]
        by_speed = sorted(slowest, key=lambda layer: layer.flops_per_s or 0.0)
        for rank, layer in enumerate(by_speed):  # fanned out, as layers of one size lie on one spot
            panel.annotate(
                str(slowest.index(layer) + 1), (layer.intensity or 1.0, (layer.flops_per_s or 1.0) / 1e9),
                (24, 11 * (rank - (len(by_speed) - 1) / 2)), textcoords="offset points", fontsize=8, weight="bold",
                va="center", arrowprops={"arrowstyle": "-", "linewidth": 0.6, "color": CONTROL, "shrinkA": 0},
            )  # fmt: skip
        key = [f"{place} {_shortened(group_name(one.layer.members), 30)}" for place, one in enumerate(slowest, start=1)]
        panel.text(
            0.98, 0.03, "\n".join(["longest:", *key]), transform=panel.transAxes, ha="right", va="bottom", fontsize=7.5,
            bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0},
        )  # fmt: skip
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xlim(low, high)
        heights += [*ys, limits.matmul.per_s / 1e9] if limits is not None and limits.matmul is not None else [*ys]
        for line in (panel.xaxis, panel.yaxis):
            line.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            line.set_minor_formatter(NullFormatter())
        panel.set_xlabel("arithmetic intensity (FLOP per byte)")
        panel.set_title(f"{scenario_name(roofline.scenario)}, batch {roofline.batch_size}")
        panel.grid()
        told = [
            f"{group_name(layer.layer.members)} {number((layer.flops_per_s or 0) / 1e9)} GFLOP/s at "
            f"{number(layer.intensity or 0)} FLOP/byte"
            for layer in slowest
        ]
        describe(
            panel,
            f"Roofline, {scenario_name(roofline.scenario)}: {len(drawn)} of {len(roofline.layers)} layers multiply; "
            f"{roof_words}. Longest: {'; '.join(told) or 'none'}.",
        )
    panels[0].set_ylim(min(heights) / 2.5, 2.5 * max(heights))  # shared by the panels
    panels[0].set_ylabel("achieved (GFLOP/s)")
    return panels[0]


@styled
def plot_sweep(record: BenchmarkRecord, names: Sequence[str] = (), ax: Axes | None = None) -> Axes:
    """Images per second and speedup over batch sizes, then speedup over numbers of threads; returns the first panel."""
    kept = judged_points(record.sweep)
    points, by_size = batch_points(kept), thread_points(kept)
    panels = new_panels(ax, 3 if by_size else 2, 2.9)
    batches = [point.batch_size for point in points]
    colour = backend_colour(record.backend, names)
    second = NEUTRAL if record.backend == record.reference else backend_colour(record.reference, names)
    told = []
    for name, key, style, shade in (
        (record.backend, "latencies_s", "o-", colour),
        (f"{record.reference} (reference)", "reference_latencies_s", "s--", second),
    ):
        speeds = [samples_per_s(getattr(point, key), point.batch_size) for point in points]
        panels[0].plot(batches, speeds, style, color=shade, markersize=4, label=name)
        told.append(f"{name} {number(speeds[0])} to {number(speeds[-1])} images per s")
    panels[0].set_ylabel("images per s")
    panels[0].set_ylim(bottom=0)
    panels[0].legend(loc="lower right")
    panels[0].set_title(f"Throughput, {points[0].num_threads} threads")
    ratios = [paired_ratio(point.latencies_s, point.reference_latencies_s) for point in points]
    _curve(panels[1], batches, ratios, "o-", colour, "")
    panels[1].set_title("Speedup by batch size")
    panels[1].set_ylabel("reference / backend time")
    for panel in panels[:2]:
        _powers(panel, batches, "batch size")
    for (size, alike), style in zip(by_size.items(), CURVE_STYLES, strict=False):
        gains = [paired_ratio(point.latencies_s, point.reference_latencies_s) for point in alike]
        threads = [point.num_threads for point in alike]
        _curve(panels[2], threads, gains, style, colour, f"batch {size}")
        panels[2].set_title("Speedup by threads")
        panels[2].legend()
        _powers(panels[2], threads, "threads of each side")
    speedups = ", ".join(f"{r.value:.2f} at batch {size}" for size, r in zip(batches, ratios, strict=True))
    return describe(panels[0], f"Throughput by batch size: {'; '.join(told)}. Speedup: {speedups}.")


def _curve(panel: Axes, at: Sequence[int], ratios: Sequence[Ratio], style: str, colour: str, label: str) -> None:
    """Speedups with their intervals around the line of no difference."""
    spread = [[ratio.value - ratio.low for ratio in ratios], [ratio.high - ratio.value for ratio in ratios]]
    panel.axhline(1, color="#24292f", linewidth=1)
    panel.errorbar(
        at, [ratio.value for ratio in ratios], spread, fmt=style, color=colour, markersize=4, elinewidth=1, capsize=2,
        label=label,
    )  # fmt: skip


def _powers(panel: Axes, values: Sequence[int], label: str) -> None:
    """A scale of doublings with the measured numbers on it."""
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_locator(FixedLocator(sorted(set(values))))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xlabel(label)
    panel.grid()
