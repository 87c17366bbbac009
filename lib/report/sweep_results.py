"""The page of a sweep: effect of each parameter, best combinations, front of accuracy and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from lib.analysis.effects import REPEATS, Mean, effects, front, grouped, mean_of
from lib.report.figures import CONTROL, INK, PALETTE, describe, new_axes, new_panels, styled
from lib.report.table import Table, Value
from lib.report.words import number, percent, percent_interval

Row = Mapping[str, Value]
ACCURACY = "val_top1"  # what is chosen by; the test images decide nothing
COSTS = {  # figure -> name with its unit; the first that all points have counts
    "single_stream_median_ms": "latency of one image, ms",
    "offline_median_ms": "time of one large batch, ms",
    "train_s": "training time, s",
}
MOST_BEST = 10


@dataclass(frozen=True)
class Results:
    """What the rows of a sweep say."""

    varied: list[str]  # parameters with several values
    points: list[dict[str, str]]
    accuracies: list[float]
    cost: str  # a key of `COSTS`; empty where there is none
    costs: list[float]

    @property
    def best(self) -> list[tuple[tuple[str, ...], Mean, Mean | None]]:
        """Values, accuracy and cost of each combination over its repetitions, the most accurate first."""
        found = [
            (values, mean_of([self.accuracies[place] for place in places]),
             mean_of([self.costs[place] for place in places]) if self.cost else None)
            for values, places in grouped(self.points, self.varied).items()
        ]  # fmt: skip
        return sorted(found, key=lambda entry: -entry[1].value)

    @property
    def names(self) -> list[str]:
        """Of the parameters in the values of `best`."""
        return [name for name in self.varied if name not in REPEATS]


def results_of(rows: Sequence[Row], parameters: Sequence[str]) -> Results:
    """The points that can be compared: rows of backends where any were measured, else of trainings.

    Args:
        parameters: names of those that the sweep was given.
    """
    trained = {str(row["folder"]): row for row in rows if "train_s" in row}
    kept = [row for row in rows if ACCURACY in row]
    kept = [row for row in kept if row["backend"]] or kept
    full = [{**trained.get(str(row["folder"]), {}), **row} for row in kept]
    points = [{name: str(row.get(name, "")) for name in (*parameters, "backend")} for row in full]
    varied = [name for name in dict.fromkeys((*parameters, "backend")) if len({point[name] for point in points}) > 1]
    cost = next((name for name in COSTS if full and all(name in row for row in full)), "")
    accuracies, costs = ([float(str(row[name])) for row in full] if name else [] for name in (ACCURACY, cost))
    return Results(varied, points, accuracies, cost, costs)


def best_table(results: Results) -> Table:
    """The most accurate combinations."""
    rows = []
    for values, accuracy, cost in results.best[:MOST_BEST]:
        row: dict[str, Value] = dict(zip(results.names, values, strict=True))
        row |= {"top-1, validation": percent(accuracy.value), "95 % interval": percent_interval(accuracy.interval)}
        row |= {COSTS[results.cost]: number(cost.value)} if cost is not None else {}
        rows.append({**row, "runs": accuracy.num})
    return Table.of(rows, caption="Best combinations", note="Runs that differ only in seed or fold count together.")


@styled
def plot_effects(results: Results) -> Axes | None:
    """What each value changes against the first of its parameter, accuracy beside cost; None where nothing compares."""
    sides = [("top-1 on validation, points", [100 * share for share in results.accuracies])]
    sides += [(COSTS[results.cost], results.costs)] if results.cost else []
    found = [(label, effects(results.points, figures, results.varied)) for label, figures in sides]
    names = [f"{effect.parameter} {effect.value} against {effect.base}" for effect in found[0][1]]
    if not names:
        return None
    panels = new_panels(len(found), 1.2 + 0.32 * len(names), share_y=True)
    words = []
    for panel, (label, changes) in zip(panels, found, strict=True):
        places = range(len(names), 0, -1)
        panel.axvline(0, color=CONTROL)
        for place, name, change in zip(places, names, changes, strict=True):
            value, (low, high) = change.difference.value, change.difference.interval or [change.difference.value] * 2
            panel.plot([low, high], [place, place], color=PALETTE[0])
            panel.plot(value, place, "o", color=PALETTE[0])
            words.append(f"{name}: {label} {value:+.3g} [{low:+.3g}, {high:+.3g}]")
        panel.set_yticks(places, names)
        panel.set_ylim(0.5, len(names) + 0.5)
        panel.set_xlabel(f"change of {label}")
        panel.grid(axis="x")
    says = "Mean over pairs of runs that differ in this parameter alone, with the 95 % interval of Student's t."
    return describe(panels[0], f"Effect of each parameter. {'; '.join(words)}.", says)


@styled
def plot_front(results: Results) -> Axes | None:
    """Accuracy over cost of each combination, and those that none beats; None where no cost is known."""
    if not results.cost:
        return None
    combinations = [
        (", ".join(map(" ".join, zip(results.names, values, strict=True))), accuracy.value, cost.value)
        for values, accuracy, cost in results.best
        if cost
    ]
    kept = [combinations[place] for place in front([c[1] for c in combinations], [c[2] for c in combinations])]
    ax = new_axes(4.0)
    ax.plot([c[2] for c in combinations], [100 * c[1] for c in combinations], "o", color=CONTROL)
    ax.plot([c[2] for c in kept], [100 * c[1] for c in kept], "o-", color=PALETTE[0], drawstyle="steps-post")
    for name, accuracy, cost in kept:
        ax.annotate(name, (cost, 100 * accuracy), (4, -12), textcoords="offset points", color=INK)
    ax.set_xlabel(COSTS[results.cost])
    ax.set_ylabel("top-1 on validation, %")
    ax.grid()
    named = "; ".join(f"{name}: {percent(accuracy)} at {number(cost)}" for name, accuracy, cost in kept)
    says = f"{len(kept)} of {len(combinations)} combinations are on the front: none is cheaper and as accurate."
    return describe(ax, f"Accuracy over {COSTS[results.cost]}. {says} {named}.", says)
