"""This run against earlier ones."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from lib.analysis.history import CONFIRMED, MIN_RUNS, History, Trend
from lib.report import figures
from lib.report.table import Banner, Cell, Displayed, Stack, Table, Tone, Value
from lib.report.verdict_cells import point_cell
from lib.report.words import VERDICT_SIGNS, capital, scenario_name


def earlier_runs(history: History | None) -> Displayed:
    """Speedups over earlier runs; an alarm only where a second measurement of this run confirms a slow-down."""
    if history is None:
        text = "No earlier runs were given. With the parameter history = 'runs' this page compares with them."
        return Banner(text, "info")
    if not any(trend.earlier for trend in history.trends):
        return Banner(f"Nothing to compare with: {history.words()}", "info")
    figures.show(plot_history(history))
    banners = [Banner(change_words(trend), "warning" if trend.verdict == CONFIRMED else "info")
               for trend in history.trends if trend.direction]  # fmt: skip
    return Stack(*banners, history_table(history))


def change_words(trend: Trend) -> str:
    """A change against earlier runs, with what supports it."""
    values = [point.ratio.value for point in trend.earlier]
    found = f"{trend.points[-1].ratio.value:.2f}x"
    if trend.second is None:
        found += " (not measured again)"
    else:
        found += f", measured again {trend.second.points[-1].ratio.value:.2f}x"
        if trend.second.direction is None:
            found += " on a machine with too few earlier runs to judge it by"
    return (
        f"{trend.backend}, {scenario_name(trend.scenario)}: {trend.verdict}. {found}; "
        f"earlier runs: {min(values):.2f}x to {max(values):.2f}x."
    )


@figures.styled
def plot_history(history: History) -> Axes:
    """Speedups of earlier runs and of this one, a panel per scenario; a change of this run has a mark of its own, and
    a second measurement a cross."""
    scenarios = list(dict.fromkeys(trend.scenario for trend in history.trends))
    panels = figures.new_panels(len(scenarios), 3.4 + 0.17 * (len(history.trends) // 6))
    moments = sorted({(point.started, point.run) for trend in history.trends for point in trend.points})
    runs = list(dict.fromkeys(run for _, run in moments))
    for panel, scenario in zip(panels, scenarios, strict=True):
        trends = [trend for trend in history.trends if trend.scenario == scenario]
        panel.axhline(1, color=figures.INK, linewidth=1)
        for trend in trends:
            _draw_trend(panel, trend, runs)
        figures.speedup_axis(panel, [value for trend in trends for point in trend.points for value in point.ratio], "y")
        panel.set_xlim(-0.4, len(runs) - 0.6)
        panel.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _run_label(value, len(runs))))
        panel.set_xlabel("run, the oldest first")
        panel.set_ylabel("speedup (log scale)")
        panel.set_title(scenario_name(scenario))
        panel.grid(axis="y")
        verdicts = "; ".join(f"{trend.backend} {trend.verdict}" for trend in trends)
        changed = [f"{trend.backend} is {trend.verdict}" for trend in trends if trend.direction]
        says = "; ".join(changed) or f"no backend left the range of its earlier {len(runs) - 1} runs"
        text = f"Speedup over {len(runs)} runs, {scenario_name(scenario)}: {verdicts}."
        figures.describe(panel, text, f"{capital(scenario_name(scenario))}: {says}.")
    figures.legend_below(panels[0])
    return panels[0]


def _run_label(value: float, num_runs: int) -> str:
    place = round(value)
    return "this" if place == num_runs - 1 else str(place - num_runs + 1) if 0 <= place < num_runs else ""


def _draw_trend(panel: Axes, trend: Trend, runs: Sequence[str]) -> None:
    at = [runs.index(point.run) for point in trend.points]
    ratios = [point.ratio for point in trend.points]
    colour, values = figures.backend_colour(trend.backend), [ratio.value for ratio in ratios]
    panel.errorbar(
        at, values, yerr=figures.reach(ratios), marker=figures.marker(trend.backend), markersize=4, linewidth=1.2,
        elinewidth=0.8, color=colour, label=trend.backend,
    )  # fmt: skip
    if trend.second is not None:  # in the place of this run
        panel.plot(at[-1:], [trend.second.points[-1].ratio.value], "x", markersize=7, color=colour)
    if trend.verdict.startswith(("suspected", "confirmed")):
        mark = "!" if trend.verdict.startswith("confirmed") else "?"
        panel.plot(at[-1:], values[-1:], "o", markersize=11, markerfacecolor="none", markeredgecolor=figures.INK)
        panel.annotate(mark, (at[-1], values[-1]), (8, 0), textcoords="offset points", va="center", weight="bold")


def history_table(history: History) -> Table:
    """The speedup of this run beside the range of the earlier ones, the second measurement, and the verdict."""
    again = any(trend.second is not None for trend in history.trends)
    rows = [
        {
            "backend": trend.backend,
            "scenario": scenario_name(trend.scenario),
            "earlier runs": len(trend.earlier),
            "earlier speedups": _earlier_range(trend),
            "this run [99 %]": point_cell(trend.points[-1].ratio),
            "measured again [99 %]": point_cell(trend.second.points[-1].ratio)
            if trend.second
            else None
            if again
            else "",
            "noise": f"{100 * trend.points[-1].noise_floor:.1f} %",
            "verdict": _trend_cell(trend),
        }
        for trend in history.trends
    ]
    note = (
        f"{history.words()} Speedups against the reference of the same job, never milliseconds. Suspected: the "
        "interval of this run is beyond all earlier speedups by more than the noise. Confirmed: a second "
        f"measurement of this run shows it too. It takes {MIN_RUNS} earlier runs to say anything."
    )
    return Table.of(rows, caption="Against earlier runs", note=note, compact=True)


def _earlier_range(trend: Trend) -> Value:
    values = [point.ratio.value for point in trend.earlier]
    if not values:
        return None
    return f"{min(values):.2f}x" if len(values) == 1 else Cell(f"{min(values):.2f}x", f"to {max(values):.2f}x")


def _trend_cell(trend: Trend) -> Cell:
    judged = trend.verdict
    sign = next((sign for word, sign in VERDICT_SIGNS.items() if word in judged), "")
    tones: dict[str, Tone] = {"suspected": "warn", "confirmed": "bad" if judged.endswith("slower") else "good"}
    return Cell(f"{sign} {judged}".strip(), tone=tones.get(judged.split()[0], "muted"))
