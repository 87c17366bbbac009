"""Latency and throughput beside the reference and its control."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lib.analysis.judgement import judge, judged
from lib.analysis.statistics import is_unstable, paired_ratio, percentiles, round_ratios_of, samples_per_s
from lib.records.schema import BenchmarkRecord, Scenario
from lib.report.figures import CONTROL, INK, VERDICT_COLOURS, describe, new_panels, show, side_colours, styled
from lib.report.gaps import RAW, Shown, absent, disturbed
from lib.report.table import Banner, Cell, Fold, Stack, Table, Value
from lib.report.verdict_cells import judgement_cell, raw_cell
from lib.report.words import (
    capital,
    duration,
    floor_words,
    milliseconds,
    number,
    place_of,
    ratio_interval,
    ratio_words,
    scenario_name,
)

WORTH_SAYING_S = 0.01  # of a compilation: less is the call that does nothing


def scenarios(record: BenchmarkRecord) -> Shown:
    """Latency, throughput and speedup; of what was disturbed the raw numbers in a fold."""
    if not record.scenarios:
        return absent(record, "latency and throughput")
    quiet = judged(record.scenarios)
    noisy = [scenario for scenario in record.scenarios if scenario not in quiet]
    raw = Fold(RAW, scenario_table(record, noisy, raw=True)) if noisy else None
    again = [
        f"{scenario_name(scenario.name)}: {found.num_measured} attempts, waiting {duration(found.waited_s)} for quiet"
        for scenario in quiet
        if (found := scenario.conditions) is not None and found.num_measured > 1
    ]
    tried = f"Disturbed at first, undisturbed in the end. {capital('; '.join(again))}."
    return Stack(Banner(tried, "info") if again else None, scenario_table(record, record.scenarios), raw)


def scenario_table(record: BenchmarkRecord, scenarios: Sequence[Scenario], *, raw: bool = False) -> Table:
    """Latency percentiles, throughput and speedup: backend, reference and control of each scenario.

    Args:
        raw: with the numbers of what was disturbed, which are not a result.
    """
    columns = ["scenario", "backend", "p50 (ms)", "p90 (ms)", "p99 (ms)", "images per s", "speed [99 %]"]
    rows: list[list[Value]] = []
    unstable = False
    for scenario in scenarios:
        found, place = judge(scenario), place_of(scenario)
        if found.disturbance is not None and not raw:
            rows.append([place, record.backend, *[None] * 4, judgement_cell(found)])
            continue
        speed = raw_cell(found.ratio) if raw else judgement_cell(found, ratio_interval(found.ratio, found.noise_floor))
        control = paired_ratio(scenario.control_latencies_s, scenario.reference_latencies_s)
        floor = f"noise floor {floor_words(found.noise_floor)}"
        noise = Cell(floor, f"[{control.low:.3f}, {control.high:.3f}]", "muted")
        for name, latencies_s, cell in (
            (record.backend, scenario.latencies_s, speed),
            (record.reference, scenario.reference_latencies_s, Cell("reference", tone="muted")),
            (f"{record.reference}, again (control)", scenario.control_latencies_s, noise),
        ):
            times = [milliseconds(value) for value in percentiles(latencies_s)]
            side = Cell(name, "unstable", "warn") if is_unstable(latencies_s) else Cell(name)
            rows.append([place, side, *times, samples_per_s(latencies_s, scenario.batch_size), cell])
            place, unstable = "", unstable or bool(side.detail)
    note = _scenario_note(scenarios, unstable) if raw or judged(scenarios) else ""
    caption = "As measured, while it was disturbed: no result" if raw else "Latency and throughput"
    return Table(columns, rows, caption=caption, note=note)


def _scenario_note(scenarios: Sequence[Scenario], unstable: bool) -> str:
    note = (
        "Compared round by round: time of the reference / time of the backend, trimmed mean over rounds. The control "
        "is the reference once more in another process: the difference between the two is the noise floor, and less "
        "is not a difference."
    )
    if unstable:
        note += " Unstable: the rounds scatter so much that their mean is uncertain by 3 % or more; "
        note += "believe the speedup rather than the times."
    compiled = ", ".join(
        f"{duration(scenario.compile_s)} for batch {scenario.batch_size}"
        for scenario in scenarios
        if scenario.compile_s >= WORTH_SAYING_S
    )
    return note + (f" Compiled before the clock started: {compiled}." if compiled else "")


def latencies(record: BenchmarkRecord) -> Shown:
    """Distribution of all calls."""
    if not record.scenarios:
        return absent(record, "latency of every call")
    if found := judged(record.scenarios):
        show(plot_latencies(record, found))
    return disturbed("latency of every call", record.scenarios)


@styled
def plot_latencies(record: BenchmarkRecord, scenarios: Sequence[Scenario]) -> Axes:
    """Cumulative distribution of all calls of all sides, a panel per scenario; returns the first panel.

    Calls beyond the 99.5th percentile are not drawn: they would flatten the rest.
    """
    panels = new_panels(len(scenarios), 2.9)
    colour, second = side_colours(record.backend, record.reference)
    for panel, scenario in zip(panels, scenarios, strict=True):
        starts, ends, parts = list[float](), list[float](), []
        for name, latencies_s, style, shade in (
            (record.backend, scenario.latencies_s, "-", colour),
            (f"{record.reference} (reference)", scenario.reference_latencies_s, "--", second),
            (f"{record.reference}, again (control)", scenario.control_latencies_s, ":", CONTROL),
        ):
            calls = np.sort(np.concatenate([np.asarray(calls) for calls in latencies_s])) * 1000
            shares = 100 * np.arange(1, len(calls) + 1) / len(calls)
            panel.step(calls, shares, style, color=shade, label=name, where="post")
            p50, p90, p99 = (1000 * value for value in percentiles(latencies_s))
            panel.plot([p50, p90, p99], [50, 90, 99], "o", color=shade, markersize=4)
            starts.append(float(calls[0]))
            ends.append(float(np.percentile(calls, 99.5)))
            parts.append(f"{name}: p50 {number(p50)}, p90 {number(p90)}, p99 {number(p99)} ms ({len(calls):,} calls)")
        room = 0.04 * (max(ends) - min(starts))
        panel.set_xlim(min(starts) - room, max(ends) + room)
        panel.set_ylim(0, 101)
        panel.set_xlabel("latency per call (ms)")
        panel.set_title(place_of(scenario))
        panel.grid()
        text = f"Latency distribution, {scenario_name(scenario.name)}: {'; '.join(parts)}."
        describe(panel, text, _tail_words(record.backend, scenario))
    panels[0].set_ylabel("share of calls (%)")
    panels[0].legend(loc="lower right", title="dots: p50, p90, p99", title_fontsize=8)
    return panels[0]


def _tail_words(backend: str, scenario: Scenario) -> str:
    """`Offline: the slowest 1 % of calls of openvino take at least 1.12 times its median call, ...`"""
    sides = (percentiles(scenario.latencies_s), percentiles(scenario.reference_latencies_s))
    tail, reference = (found.p99 / found.p50 for found in sides)
    return (
        f"{capital(scenario_name(scenario.name))}: 1 % of the calls of {backend} take more than {tail:.2f} times its "
        f"median call; under the reference, {reference:.2f} times."
    )


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
def plot_round_ratios(scenarios: Sequence[Scenario]) -> Axes:
    """Speedup of every round, their trimmed mean with its interval, and what the reference differs from its control,
    a panel per scenario; returns the first panel."""
    panels = new_panels(len(scenarios), 2.7)
    for panel, scenario in zip(panels, scenarios, strict=True):
        ratio, floor = (found := judge(scenario)).ratio, found.noise_floor
        speedups = round_ratios_of(scenario.latencies_s, scenario.reference_latencies_s, scenario.control_latencies_s)
        controls = round_ratios_of(scenario.control_latencies_s, scenario.reference_latencies_s)
        rounds = np.arange(1, len(speedups) + 1)
        colour = VERDICT_COLOURS[found.verdict]
        panel.axhspan(1 / (1 + floor), 1 + floor, color=CONTROL, alpha=0.18, linewidth=0)
        panel.axhline(1, color=INK, linewidth=1)
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
            f"{capital(scenario_name(scenario.name))}: single rounds from {min(speedups):.2f} to {max(speedups):.2f}, "
            f"the same code twice from {min(controls):.2f} to {max(controls):.2f}.",
        )
    panels[0].set_ylabel("speedup\n(reference / backend time)")
    panels[0].legend(loc="best", ncols=2)
    return panels[0]
