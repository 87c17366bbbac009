"""Latency and throughput beside the reference and its control."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lib.analysis.judgement import disturbance, judge, judged
from lib.analysis.statistics import (
    is_unstable,
    noise_floor,
    paired_ratio,
    percentiles,
    samples_per_s,
    scenario_ratio,
    verdict,
)
from lib.backends import backend_names
from lib.records.schema import BenchmarkRecord, Scenario
from lib.report.figures import NEUTRAL, VERDICT_COLOURS, backend_colour, describe, new_panels, show, styled
from lib.report.gaps import RAW, Shown, absent, disturbed
from lib.report.table import Banner, Cell, Fold, Stack, Table, Value
from lib.report.verdict_cells import judgement_cell, ratio_cell, raw_cell
from lib.report.words import (
    capital,
    duration,
    floor_words,
    milliseconds,
    number,
    ratio_interval,
    ratio_words,
    scenario_name,
)

WORTH_TELLING_S = 0.01  # of a compilation: less is the call that does nothing
CONTROL = "#8a939b"  # of the control, and of the band within which nothing differs


def scenarios(record: BenchmarkRecord) -> Shown:
    """Latency, throughput and speedup."""
    if not record.scenarios:
        return absent(record, "latency and throughput")
    names = record.backend, record.reference
    disturbed = [scenario for scenario in record.scenarios if disturbance(scenario) is not None]
    raw = Fold(RAW, scenario_table(disturbed, *names, raw=True)) if disturbed else None
    return Stack(_tried(record.scenarios), scenario_table(record.scenarios, *names), raw)


def _tried(scenarios: Sequence[Scenario]) -> Banner | None:
    """What was measured more than once, because of others, before it could be judged."""
    told = [
        f"{scenario_name(scenario.name)}: {scenario.conditions.num_measured} attempts, after waiting "
        f"{duration(scenario.conditions.waited_s)} for quiet"
        for scenario in judged(scenarios)
        if scenario.conditions is not None and scenario.conditions.num_measured > 1
    ]
    return Banner(f"Disturbed at first, undisturbed in the end. {capital('; '.join(told))}.", "info") if told else None


def scenario_table(scenarios: Sequence[Scenario], backend: str, reference: str, *, raw: bool = False) -> Table:
    """Latency percentiles, throughput and speedup: backend, reference and control of each scenario.

    Args:
        raw: with the numbers of what was disturbed, which are not a result.
    """
    rows: list[list[Value]] = []
    unstable = False
    for scenario in scenarios:
        judgement = judge(scenario)
        if judgement.disturbance is not None and not raw:
            question = f"{scenario_name(scenario.name)}, batch {scenario.batch_size}"
            rows.append([question, backend, *[None] * 4, judgement_cell(judgement)])
            continue
        floor, ratio = noise_floor(scenario), scenario_ratio(scenario)
        control = paired_ratio(scenario.control_latencies_s, scenario.reference_latencies_s)
        judged = ratio_cell(ratio, ratio_interval(ratio, floor), floor)
        question = f"{scenario_name(scenario.name)}, batch {scenario.batch_size}"
        sides: list[tuple[str, Cell, list[list[float]], Value]] = [
            (question, Cell(backend), scenario.latencies_s, raw_cell(ratio) if raw else judged),
            ("", Cell(reference), scenario.reference_latencies_s, Cell("reference", tone="muted")),
            (
                "",
                Cell(f"{reference}, again (control)", tone="muted"),
                scenario.control_latencies_s,
                Cell(f"noise floor {floor_words(floor)}", f"[{control.low:.3f}, {control.high:.3f}]", "muted"),
            ),
        ]
        for head, side, latencies_s, speed in sides:
            times = [milliseconds(value) for value in percentiles(latencies_s)]
            if is_unstable(latencies_s):
                side, unstable = Cell(side.text, "unstable", "warn"), True
            rows.append([head, side, *times, samples_per_s(latencies_s, scenario.batch_size), speed])
    columns = ["scenario", "backend", "p50 (ms)", "p90 (ms)", "p99 (ms)", "images per s", "speed [99 %]"]
    note = (
        "Compared round by round: time of the reference / time of the backend, trimmed mean over rounds. The control "
        "is the reference once more in another process: what these two differ by is the noise floor, and less is no "
        "difference for anybody."
    )
    if unstable:
        note += " Unstable: the rounds scatter so much that their mean is uncertain by 3 % or more; "
        note += "believe the speedup rather than the times."
    compiled = [
        f"{duration(s.compile_s)} for batch {s.batch_size}" for s in scenarios if s.compile_s >= WORTH_TELLING_S
    ]
    note += f" Compiled before the clock started: {', '.join(compiled)}." if compiled else ""
    if not raw and all(disturbance(scenario) is not None for scenario in scenarios):
        note = ""
    caption = "As measured, while it was disturbed: no result" if raw else "Latency and throughput"
    return Table(columns, rows, caption=caption, note=note)


def latencies(record: BenchmarkRecord) -> Shown:
    """Distribution of all calls."""
    if not record.scenarios:
        return absent(record, "latency of every call")
    if found := judged(record.scenarios):
        show(plot_latencies(found, record.backend, record.reference, backend_names()))
    return disturbed("latency of every call", record.scenarios)


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


def round_ratios(record: BenchmarkRecord) -> Shown:
    """Speedup of every round."""
    if not record.scenarios:
        return absent(record, "speedup of every round")
    if not record.is_network:
        return Banner(f"{record.backend} computes no network: a speedup would mean nothing", "info")
    if found := judged(record.scenarios):
        show(plot_round_ratios(found))
    return disturbed("speedup of every round", record.scenarios)


@styled
def plot_round_ratios(scenarios: Sequence[Scenario], ax: Axes | None = None) -> Axes:
    """Speedup of every round, their trimmed mean with its interval, and what the reference differs from its control,
    a panel per scenario; returns the first panel."""
    panels = new_panels(ax, len(scenarios), 2.7)
    for panel, scenario in zip(panels, scenarios, strict=True):
        floor, ratio = noise_floor(scenario), scenario_ratio(scenario)
        speedups = round_ratios_of(scenario.latencies_s, scenario.reference_latencies_s, scenario.control_latencies_s)
        controls = round_ratios_of(scenario.control_latencies_s, scenario.reference_latencies_s)
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


def round_ratios_of(latencies_s: Sequence[Sequence[float]], *references: Sequence[Sequence[float]]) -> list[float]:
    """Speedup of each round; over the geometric mean of the reference's processes, where there are two."""
    logs = np.mean([[np.log(np.median(calls)) for calls in side] for side in references if side], axis=0)
    return [float(np.exp(log) / np.median(calls)) for calls, log in zip(latencies_s, logs, strict=True)]
