"""03_benchmark: one backend beside the reference backend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lib.records.results import Layer, LayerTable, Scenario
from lib.records.statistics import SMALLEST_EFFECT, median_latency, percentiles, scenario_ratio, verdict
from lib.report.figures import NEUTRAL, VERDICT_COLOURS, backend_colour, describe, new_axes, new_panels, styled
from lib.report.words import number, ratio_interval, ratio_words, scenario_name

NUM_RESAMPLES = 1000


def _sides(scenario: Scenario, backend: str, reference: str) -> list[tuple[str, list[list[float]], str]]:
    """Name, latencies and line style; an A/A control keeps its two sides apart."""
    second = f"{reference} (reference)"
    return [(backend, scenario.latencies_s, "-"), (second, scenario.reference_latencies_s, "--")]


@styled
def plot_latencies(
    scenarios: Sequence[Scenario], backend: str, reference: str, names: Sequence[str] = (), ax: Axes | None = None
) -> Axes:
    """Cumulative distribution of all calls of both sides, a panel per scenario; returns the first panel.

    Calls beyond the 99.5th percentile are not drawn (their number is told): they would flatten the rest.
    """
    panels = new_panels(ax, len(scenarios), 2.9)
    for panel, scenario in zip(panels, scenarios, strict=True):
        starts: list[float] = []
        ends: list[float] = []
        told = []
        for name, latencies_s, style in _sides(scenario, backend, reference):
            calls = np.sort(np.concatenate([np.asarray(calls) for calls in latencies_s])) * 1000
            colour = backend_colour(backend if style == "-" else reference, names)
            if backend == reference and style == "--":
                colour = NEUTRAL
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
def plot_round_ratios(
    scenarios: Sequence[Scenario], noise_floor: float = SMALLEST_EFFECT, ax: Axes | None = None
) -> Axes:
    """Speedup of every round with the median and its interval, a panel per scenario; returns the first panel."""
    panels = new_panels(ax, len(scenarios), 2.5)
    for panel, scenario in zip(panels, scenarios, strict=True):
        pairs = zip(scenario.latencies_s, scenario.reference_latencies_s, strict=True)
        speedups = [float(np.median(reference) / np.median(backend)) for backend, reference in pairs]
        ratio = scenario_ratio(scenario)
        rounds = np.arange(1, len(speedups) + 1)
        colour = VERDICT_COLOURS[verdict(ratio, noise_floor)]
        panel.axhspan(1 / (1 + noise_floor), 1 + noise_floor, color="#8a939b", alpha=0.18, linewidth=0)
        panel.axhline(1, color="#24292f", linewidth=1)
        panel.axhspan(ratio.low, ratio.high, color=colour, alpha=0.2, linewidth=0)
        panel.axhline(ratio.value, color=colour, linewidth=1.4)
        panel.plot(rounds, speedups, "o", color=colour, markersize=4.5)
        low, high = min([1.0, *speedups, ratio.low]), max([1.0, *speedups, ratio.high])
        room = 0.12 * max(high - low, 4 * noise_floor)
        panel.set_ylim(low - room, high + room)
        panel.set_xlim(0.4, len(speedups) + 0.6)
        panel.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        panel.set_xlabel("round (line: median, band: 95 % interval, grey: noise)")
        words = f"{ratio_words(ratio, noise_floor)} {ratio_interval(ratio, noise_floor)}"
        panel.set_title(f"{scenario_name(scenario.name)}: {words}")
        panel.grid(axis="y")
        describe(
            panel,
            f"Speedup per round, {scenario_name(scenario.name)}: {words} over {len(speedups)} rounds, single rounds "
            f"from {min(speedups):.2f} to {max(speedups):.2f}; within {100 * noise_floor:.1f} % of 1 is noise.",
        )
    panels[0].set_ylabel("speedup\n(reference / backend time)")
    return panels[0]


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
    """Milliseconds of each layer under both sides as paired bars with 95 % intervals; the slowest layers."""
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
    ax.set_yticks(rows, [f"{layer.name} ({layer.kind})" for layer in layers], fontsize=7.5)
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
        f"{backend} and {number(totals[1])} ms under {reference}. Slowest under {backend}: {slowest.name} with "
        f"{number(1000 * median_latency(slowest.latencies_s))} ms.",
    )
