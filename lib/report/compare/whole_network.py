"""Speedups of the whole network under every backend, as a chart."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from lib.analysis.judgement import DISTURBED, Judgement, judge
from lib.records.schema import BenchmarkRecord, scenario_names
from lib.report.figures import CONTROL, INK, NEUTRAL, VERDICT_COLOURS, describe, new_panels, speedup_axis, styled
from lib.report.verdict_cells import ratio_text
from lib.report.words import (
    NOT_JUDGED,
    capital,
    judgement_words,
    scenario_name,
)


@styled
def plot_ratios(records: Sequence[BenchmarkRecord]) -> Axes:
    """Speedup of every backend with its interval, a panel per scenario, the fastest on top; returns the first panel."""
    scenarios = scenario_names(records)
    panels = new_panels(len(scenarios), 1.0 + 0.36 * len(records))
    for panel, name in zip(panels, scenarios, strict=True):
        measured = {record.backend: scenario for record in records if (scenario := record.scenario(name)) is not None}
        found = {backend: judge(scenario) for backend, scenario in measured.items()}
        order = sorted(found, key=lambda backend: _rank(found[backend]))
        panel.axvline(1, color=INK, linewidth=1)
        for row, backend in enumerate(order):
            _draw_ratio(panel, row, found[backend])
        panel.set_yticks(range(len(order)), order)
        panel.set_ylim(-0.6, len(order) - 0.3)
        panel.tick_params(axis="y", length=0)
        judged = [judgement for judgement in found.values() if judgement.disturbance is None]
        speedup_axis(panel, [value for judgement in judged for value in judgement.ratio])
        panel.set_xlabel("speedup, log scale (grey: noise)")
        panel.grid(axis="x")
        panel.set_title(scenario_name(name))
        parts = [f"{backend} {judgement_words(found[backend])}" for backend in order[::-1]]
        text = f"Speedups, {scenario_name(name)}: {'; '.join(parts)}."
        describe(panel, text, _counted(scenario_name(name), [judgement.verdict for judgement in found.values()]))
    return panels[0]


def _rank(found: Judgement) -> float:
    """What was disturbed is at the bottom."""
    return 0.0 if found.disturbance is not None else found.ratio.value


def _counted(scenario: str, verdicts: Sequence[str]) -> str:
    """`Offline: of 8 backends 5 are faster, 1 slower, 2 without a difference.`"""
    words = {"faster": "faster", "slower": "slower", "no difference": "without a difference", DISTURBED: NOT_JUDGED}
    counts = ", ".join(f"{verdicts.count(name)} {text}" for name, text in words.items() if name in verdicts)
    return f"{capital(scenario)}, {len(verdicts)} backends: {counts}."


def _draw_ratio(panel: Axes, row: int, found: Judgement) -> None:
    ratio, floor = found.ratio, found.noise_floor
    if found.disturbance is not None:
        panel.annotate(
            NOT_JUDGED, (1, row), (6, 0), textcoords="offset points", va="center", fontsize=7.5, color=NEUTRAL
        )
        return
    colour = VERDICT_COLOURS[found.verdict]
    panel.fill_betweenx([row - 0.4, row + 0.4], 1 / (1 + floor), 1 + floor, color=CONTROL, alpha=0.22, linewidth=0)
    panel.plot([ratio.low, ratio.high], [row, row], color=colour, linewidth=3, solid_capstyle="butt", alpha=0.55)
    panel.plot([ratio.value], [row], "o", color=colour, markersize=6)
    panel.annotate(
        ratio_text(ratio, floor), (ratio.value, row), (0, 6), textcoords="offset points", ha="center",
        fontsize=7.5, color=colour, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
    )  # fmt: skip
