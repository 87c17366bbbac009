"""Layers against what the machine can do at most."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from lib.analysis.judgement import disturbance, judged
from lib.analysis.roofline import LayerRoofline, Roofline
from lib.analysis.roofline import roofline as roofline_of
from lib.backends import backend_names
from lib.records.schema import BenchmarkRecord, Peaks
from lib.report.benchmark.by_layer import shortened
from lib.report.benchmark.clock import CONTROL
from lib.report.figures import backend_colour, describe, new_panels, show, styled
from lib.report.gaps import Shown, absent, disturbed
from lib.report.table import Cell, Stack, Table, Value
from lib.report.words import UNKNOWN, group_name, milliseconds, number, percent, scenario_name

NUM_ROOFLINE = 24  # rows of a roofline, the slowest layers
_SIZES = re.compile(r"\bits [\d.,]+ [kM]?B\b")  # differ from layer to layer, and the reason is the same
MARKS = "¹²³⁴⁵⁶⁷⁸⁹"
NUM_NAMED = 5  # layers that are named in a roofline


def roofline(record: BenchmarkRecord, network_layers: Sequence[str] = ()) -> Shown:
    """Every layer against the machine's peaks, in a figure and in a table per scenario.

    Args:
        network_layers: names of all layers of the network, so that those nobody tells the time of are named.
    """
    if record.peaks is None:
        return absent(record, "roofline")
    banner = disturbed("roofline", [*record.scenarios, *record.layers])
    kept = {scenario.name for scenario in judged(record.scenarios)}
    tables = [table for table in record.layers if table.scenario in kept and disturbance(table) is None]
    found = [roofline_of(record, table.scenario, network_layers) for table in tables]
    drawn = [one for one in found if one is not None and one.layers]
    if not drawn:
        return Stack(peaks_table(record.peaks), banner or absent(record, "roofline"))
    show(plot_roofline(drawn, record.backend, backend_names()))
    return Stack(peaks_table(record.peaks), banner, *(roofline_table(one, record.backend) for one in drawn))


def peaks_table(peaks: Peaks) -> Table:
    """What the machine can do at most."""
    rows: list[list[Value]] = [
        [f"multiply and add, {precision}", f"{number(peak.per_s / 1e9)} GFLOP/s", peak.how]
        for precision, peak in peaks.matmul.items()
    ]
    rows.append(["copy, read and written", f"{number(peaks.copy.per_s / 1e9)} GB/s", peaks.copy.how])
    note = "Measured once in this run on this machine, with the same number of threads: the best of several libraries "
    note += "and sizes."
    columns = ["what", "at most", "how it was reached"]
    return Table(columns, rows, caption="The machine's peaks", note=note, compact=True, align_numbers=False)


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
        key = [f"{place} {shortened(group_name(one.layer.members), 30)}" for place, one in enumerate(slowest, start=1)]
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


def roofline_table(roofline: Roofline, backend: str, num_layers: int = NUM_ROOFLINE) -> Table:
    """The slowest layers, in the order of the network, against what the machine can do at most."""
    reasons: list[str] = []
    rows: list[list[Value]] = []
    slowest = sorted(roofline.layers, key=lambda found: -found.seconds)[:num_layers]
    for found in roofline.layers:
        if found not in slowest:
            continue
        mark = ""
        if found.explanation:
            reason = _SIZES.sub("its data", found.explanation).rstrip(".")
            if reason not in reasons:
                reasons.append(reason)
            mark = _mark(reasons.index(reason))
        rows.append(_roofline_row(found, mark))
    whole = roofline.network
    unknown = Cell(UNKNOWN, tone="muted")
    share = unknown if whole.bound_share is None else Cell(percent(whole.bound_share, 0), tone="mark")
    rate = _rate(whole.flops_per_s, whole.peak_share)
    rows.append([Cell("whole call", tone="mark"), milliseconds(whole.whole_s), unknown, rate, unknown, "", share])
    columns = ["layer", "time (ms)", "FLOP per byte", "GFLOP/s", "GB/s", "bound by", "share of the bound"]
    note = (
        "In brackets the share of the machine's peak. FLOP: two per multiply-accumulate. Bytes: inputs, weights and "
        "outputs, each moved once. Share of the bound: the least possible time over the measured one; 100 % would be "
        "a perfect kernel."
    )
    left_out = len(roofline.layers) - len(slowest)
    note += f" {left_out} faster layers are not shown." if left_out else ""
    note += "".join(f" {_mark(place)} {reason[:1].upper()}{reason[1:]}." for place, reason in enumerate(reasons))
    note += f" {roofline.network.sentence}" if roofline.network.sentence else ""
    caption = f"Roofline of {backend}, {scenario_name(roofline.scenario)}, batch {roofline.batch_size}"
    return Table(columns, rows, caption=caption, note=note, compact=True, num_totals=1)


def _mark(position: int) -> str:
    return MARKS[position] if position < len(MARKS) else f"({position + 1})"


def _rate(per_s: float | None, share: float | None) -> Cell:
    """Billions per second and the share of the machine's peak."""
    if per_s is None:
        return Cell(UNKNOWN, tone="muted")
    return Cell(number(per_s / 1e9), f"({percent(share, 0)})" if share is not None else "")


def _roofline_row(found: LayerRoofline, mark: str) -> list[Value]:
    return [
        Cell(group_name(found.layer.members)),
        milliseconds(found.seconds),
        number(found.intensity) if found.intensity else Cell(UNKNOWN, tone="muted"),
        _rate(found.flops_per_s, found.peak_share),
        _rate(found.bytes_per_s, found.bandwidth_share),
        found.limit or UNKNOWN,
        Cell(percent(found.bound_share, 0), mark) if found.bound_share is not None else Cell(UNKNOWN, tone="muted"),
    ]
