"""Layers against what the machine can do at most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from lib.analysis.judgement import disturbance, judged
from lib.analysis.roofline import LayerRoofline, Limits, Roofline
from lib.analysis.roofline import roofline as roofline_of
from lib.records.schema import BenchmarkRecord, Peaks
from lib.report.figures import CONTROL, INK, backend_colour, describe, new_panels, show, styled
from lib.report.gaps import Shown, absent, disturbed
from lib.report.table import Cell, Stack, Table, Value
from lib.report.words import UNKNOWN, capital, group_name, milliseconds, number, percent, scenario_name, shortened

NUM_ROOFLINE = 24  # rows of a roofline, the slowest layers
MARKS = "¹²³⁴⁵⁶⁷⁸⁹"
NUM_NAMED = 5  # layers that are named in a roofline


def roofline(record: BenchmarkRecord, network_layers: Sequence[str] = ()) -> Shown:
    """Every layer against the machine's peaks, in a figure and in a table per scenario.

    Args:
        network_layers: names of all layers of the network, so that those without a time of their own are named.
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
    show(plot_roofline(drawn, record.backend))
    return Stack(peaks_table(record.peaks), banner, *(roofline_table(one, record.backend) for one in drawn))


def peaks_table(peaks: Peaks) -> Table:
    """What the machine can do at most."""
    found = {f"multiply and add, {precision}": (peak, "GFLOP/s") for precision, peak in peaks.matmul.items()}
    found |= {"copy, read and written": (peaks.copy, "GB/s")}
    rows = [
        {"what": what, "at most": f"{number(peak.per_s / 1e9)} {unit}", "how it was reached": peak.how}
        for what, (peak, unit) in found.items()
    ]
    note = "Measured once in this run on this machine, with the same number of threads: the best of several libraries "
    note += "and sizes."
    return Table.of(rows, caption="The machine's peaks", note=note, compact=True, align_numbers=False)


@styled
def plot_roofline(rooflines: Sequence[Roofline], backend: str) -> Axes:
    """Operations per byte against operations per second of every layer under the machine's two roofs, a panel per
    scenario; returns the first panel. Both scales are logarithmic; the larger a dot, the longer the layer takes."""
    panels = new_panels(len(rooflines), 3.6, share_y=True)
    heights: list[float] = []
    for panel, roofline in zip(panels, rooflines, strict=True):
        drawn = [layer for layer in roofline.layers if layer.intensity and layer.flops_per_s]
        total = sum(layer.seconds for layer in roofline.layers) or 1.0
        places = [_place(layer) for layer in drawn] or [(1.0, 1.0)]
        xs, ys = np.array(places).T
        low, high = xs.min() / 2.5, xs.max() * 2.5
        heights += [*ys]
        roof_words = "the machine's peak in this precision is unknown"
        if (limits := roofline.limits) is not None:
            if limits.matmul is not None and limits.ridge is not None:
                low, high = min(low, limits.ridge / 3), max(high, 3 * limits.ridge)  # both roofs are seen
                peak = limits.matmul.per_s / 1e9
                heights.append(peak)
                roof_words = f"peak {number(peak)} GFLOP/s, {limits.precision}; "
                roof_words += f"they meet at {number(limits.ridge)} FLOP/byte"
            _draw_roofs(panel, limits, low, high)
        if drawn:
            sizes = 14 + 320 * np.array([layer.seconds for layer in drawn]) / total
            colour = backend_colour(backend)
            panel.scatter(xs, ys, sizes, color=colour, alpha=0.55, edgecolors=INK, linewidths=0.6)
        slowest = sorted(drawn, key=lambda layer: -layer.seconds)[:NUM_NAMED]
        _name_slowest(panel, slowest)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xlim(low, high)
        for line in (panel.xaxis, panel.yaxis):
            line.set_major_formatter(StrMethodFormatter("{x:g}"))
            line.set_minor_formatter(NullFormatter())
        panel.set_xlabel("arithmetic intensity (FLOP per byte)")
        panel.set_title(f"{scenario_name(roofline.scenario)}, batch {roofline.batch_size}")
        panel.grid()
        parts = [
            f"{group_name(layer.layer.members)} {number(height)} GFLOP/s at {number(intensity)} FLOP/byte"
            for layer in slowest
            for intensity, height in [_place(layer)]
        ]
        text = (
            f"Roofline, {scenario_name(roofline.scenario)}: {len(drawn)} of {len(roofline.layers)} layers multiply; "
            f"{roof_words}. Longest: {'; '.join(parts) or 'none'}."
        )
        describe(panel, text, _share_words(roofline, slowest))
    panels[0].set_ylim(min(heights) / 2.5, 2.5 * max(heights))  # shared by the panels
    panels[0].set_ylabel("achieved (GFLOP/s)")
    return panels[0]


def _place(layer: LayerRoofline) -> tuple[float, float]:
    """FLOP per byte and GFLOP/s."""
    return layer.intensity or 1.0, (layer.flops_per_s or 1.0) / 1e9


def _draw_roofs(panel: Axes, limits: Limits, low: float, high: float) -> None:
    """The slope of the memory's bandwidth and, where it is known, the flat roof of the peak."""
    bandwidth, end = limits.copy.per_s / 1e9, high
    if limits.matmul is not None and limits.ridge is not None:
        end, peak = limits.ridge, limits.matmul.per_s / 1e9
        panel.plot([end, high], [peak, peak], color=INK, linewidth=1.4)
        text = f"{number(peak)} GFLOP/s, {limits.precision}"
        panel.annotate(text, (end, peak), (2, 3), textcoords="offset points", ha="left", va="bottom", fontsize=8)
    panel.plot([low, end], [low * bandwidth, end * bandwidth], color=INK, linewidth=1.4, linestyle="--")
    text = f"{number(bandwidth)} GB/s"
    panel.annotate(text, (low, low * bandwidth), (4, 30), textcoords="offset points", fontsize=8)


def _name_slowest(panel: Axes, slowest: Sequence[LayerRoofline]) -> None:
    by_speed = sorted(slowest, key=lambda layer: layer.flops_per_s or 0.0)
    for rank, layer in enumerate(by_speed):  # fanned out, as layers of one size lie on one spot
        panel.annotate(
            str(slowest.index(layer) + 1), _place(layer), (24, 11 * (rank - (len(by_speed) - 1) / 2)),
            textcoords="offset points", fontsize=8, weight="bold", va="center",
            arrowprops={"arrowstyle": "-", "linewidth": 0.6, "color": CONTROL, "shrinkA": 0},
        )  # fmt: skip
    key = [f"{place} {shortened(group_name(one.layer.members), 30)}" for place, one in enumerate(slowest, start=1)]
    panel.text(
        0.98, 0.03, "\n".join(["longest:", *key]), transform=panel.transAxes, ha="right", va="bottom", fontsize=7.5,
        bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0},
    )  # fmt: skip


def _share_words(roofline: Roofline, slowest: Sequence[LayerRoofline]) -> str:
    """How near the whole call and the longest layer come to what the machine allows; empty where that is unknown."""
    parts = []
    if roofline.network.bound_share is not None:
        parts.append(f"the whole call reaches {percent(roofline.network.bound_share, 0)} of what the machine allows")
    if slowest and slowest[0].bound_share is not None:
        name = group_name(slowest[0].layer.members)
        parts.append(f"{name}, which takes longest, {percent(slowest[0].bound_share, 0)} (bound by {slowest[0].limit})")
    return f"{capital(scenario_name(roofline.scenario))}: {'; '.join(parts)}." if parts else ""


def roofline_table(roofline: Roofline, backend: str, num_layers: int = NUM_ROOFLINE) -> Table:
    """The slowest layers, in the order of the network, against what the machine can do at most."""
    reasons: dict[str, str] = {}  # with their marks
    rows = []
    slowest = sorted(roofline.layers, key=lambda found: -found.seconds)[:num_layers]
    for found in (layer for layer in roofline.layers if layer in slowest):
        mark = ""
        if found.explanation:
            mark = reasons.setdefault(found.explanation, MARKS[len(reasons)] if len(reasons) < len(MARKS) else "*")
        rows.append(
            {
                "layer": group_name(found.layer.members),
                "time (ms)": milliseconds(found.seconds),
                "FLOP per byte": number(found.intensity) if found.intensity else None,
                "GFLOP/s": _rate(found.flops_per_s, found.peak_share),
                "GB/s": _rate(found.bytes_per_s, found.bandwidth_share),
                "bound by": found.limit or UNKNOWN,
                "share of the bound": _share(found.bound_share, mark),
            }
        )
    whole = roofline.network
    rows.append(
        {
            "layer": Cell("whole call", tone="mark"),
            "time (ms)": milliseconds(whole.seconds),
            "FLOP per byte": None,
            "GFLOP/s": _rate(whole.flops_per_s, whole.peak_share),
            "GB/s": None,
            "bound by": "",
            "share of the bound": _share(whole.bound_share),
        }
    )
    note = (
        "In brackets the share of the machine's peak. FLOP: two per multiply-accumulate. Bytes: inputs, weights and "
        "outputs, each moved once. Share of the bound: the least possible time over the measured one; 100 % would be "
        "a perfect kernel."
    )
    left_out = len(roofline.layers) - len(slowest)
    note += f" {left_out} faster layers are not shown." if left_out else ""
    note += "".join(f" {mark} {capital(reason)}." for reason, mark in reasons.items())
    note += f" {whole.sentence}" if whole.sentence else ""
    caption = f"Roofline of {backend}, {scenario_name(roofline.scenario)}, batch {roofline.batch_size}"
    return Table.of(rows, caption=caption, note=note, compact=True, num_totals=1)


def _share(share: float | None, mark: str = "") -> Value:
    return Cell(percent(share, 0), mark) if share is not None else None


def _rate(per_s: float | None, share: float | None) -> Value:
    """Billions per second and the share of the machine's peak."""
    if per_s is None:
        return None
    return Cell(number(per_s / 1e9), f"({percent(share, 0)})" if share is not None else "")
