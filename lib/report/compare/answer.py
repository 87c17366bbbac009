"""The answer, what to use, and speed beside accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from lib.analysis.comparison import Comparison
from lib.analysis.csv_files import LAYERS_CSV, SCENARIOS_CSV
from lib.analysis.judgement import DISTURBED, disturbance
from lib.analysis.pace import pace_warnings
from lib.analysis.recommendation import front, recommend, undecided
from lib.analysis.statistics import Ratio, scenario_ratio
from lib.backends import backend_names
from lib.records.run import networks
from lib.records.schema import BenchmarkRecord, Recommendation
from lib.report.caveats import disturbed_backends_words, warning_words
from lib.report.figures import INK, NEUTRAL, backend_colour, describe, marker, new_axes, show, speedup_axis, styled
from lib.report.gaps import HOW_TO, Shown, with_records
from lib.report.table import SMOKE_TEXT, Banner, Cell, Stack, Table, Value
from lib.report.words import NOT_JUDGED, UNKNOWN, VERDICT_SIGNS, scenario_name


def summary(comparison: Comparison) -> Shown:
    """The first sentence, the fastest backends, then what is missing or did not run."""
    if not comparison.records:
        return Banner(f"There are no benchmark records here; {HOW_TO}.", "info")
    banners = [Banner(SMOKE_TEXT)] if comparison.profile == "smoke" else []
    headline, found = comparison.headline(), comparison.fastest()
    told = found.removesuffix(".") in headline  # an open question begins with it
    banners.append(Banner(headline if told else f"{headline} {found}", "info"))
    warnings = [*pace_warnings(comparison.records), *undecided(comparison.records)]
    banners += [Banner(warning_words(warning)) for warning in warnings]
    if disturbed := disturbed_backends_words(comparison.records):
        banners.append(Banner(disturbed))
    if comparison.missing:
        names = ", ".join(comparison.missing)
        banners.append(
            Banner(f"No record of: {names}. To measure one: python -m lib run 03_benchmark -p backend NAME.")
        )
    banners += [Banner(f"Left out: {reason}.", "error") for reason in comparison.left_out]
    for record in comparison.unmeasured:
        kind: Any = "error" if record.status == "failed" else "info"
        banners.append(Banner(f"{record.backend} is {record.status}: {record.error}", kind))
    return Stack(*banners)


@with_records
def recommended(comparison: Comparison) -> Shown:
    """What to use, by stated rules."""
    found = recommend(comparison.measured)
    if not found and comparison.profile == "smoke":
        return Banner("Records of a smoke run give no recommendation.", "info")
    if not found:
        return Banner("There is no recommendation: no backend was compared with the reference here.", "info")
    told = {(item.architecture, item.scenario, item.backend): item for item in reversed(found)}  # "any" wins over fp32
    both = [item for item in found if told[item.architecture, item.scenario, item.backend] is item]
    return Stack(*(Banner(item.text, "info") for item in both), recommendation_table(found))


def recommendation_table(found: Sequence[Recommendation]) -> Table:
    """What to use in which scenario, at a glance."""
    alone = len({item.architecture for item in found}) == 1
    rows: list[list[Value]] = [
        [
            scenario_name(item.scenario) + ("" if alone else f", {item.architecture}"),
            "fp32 only" if item.precision == "fp32" else "any",
            Cell(item.backend or UNKNOWN, tone="mark" if item.backend else "muted"),
            _recommended_speed(item),
            ", ".join(item.equally_good) or Cell("none", tone="muted"),
        ]
        for item in found
    ]
    columns = ["scenario", "precision", "use", "speed [99 %]", "equally good"]
    return Table(columns, rows, caption="At a glance", compact=True, align_numbers=False)


def _recommended_speed(item: Recommendation) -> Cell:
    if not item.backend:
        return Cell(f"{VERDICT_SIGNS[DISTURBED]} {NOT_JUDGED}", tone="warn")
    if item.ratio is None:
        return Cell("= nothing is faster", "beyond the noise", "muted")
    ratio = Ratio(*item.ratio)
    return Cell(f"▲ {ratio.value:.2f}x faster", f"[{ratio.low:.2f}, {ratio.high:.2f}]")


@with_records
def accuracy_speed(comparison: Comparison, scenario: str) -> Shown:
    """Top-1 against the speedup."""
    records = networks(comparison.measured)
    if all(record.random_weights for record in records):
        return Banner("The network has random weights: its accuracy means nothing, so there is no front.", "info")
    show(plot_accuracy_speed(records, scenario, backend_names()))
    return None


@styled
def plot_accuracy_speed(
    records: Sequence[BenchmarkRecord], scenario: str, names: Sequence[str] = (), ax: Axes | None = None
) -> Axes:
    """Change of top-1 against speedup, both against the reference on the same images: the upper right is best.

    Backends that no other one beats in both are ringed, named and joined: whoever leaves them loses something.
    """
    ax = new_axes(ax, 4.0)
    best, places, told = front(records, scenario), dict[str, tuple[float, float]](), []
    values: list[float] = []
    for record in records:
        found, parity = record.scenario(scenario), record.parity
        if found is None or parity is None or record.random_weights:
            continue
        if disturbance(found) is not None:
            told.append(f"{record.backend} {NOT_JUDGED}")
            continue
        ratio = Ratio(1, 1, 1) if record.backend == record.reference else scenario_ratio(found)
        gain = 100 * (0 - parity.top1_drop)
        low, high = (100 * (0 - end) for end in reversed(parity.top1_drop_interval or (parity.top1_drop,) * 2))
        label = record.backend + (", parity inconclusive" if parity.outcome == "inconclusive" else "")
        colour, shape = backend_colour(record.backend, names), marker(record.backend, names)
        ax.errorbar(
            ratio.value, gain,
            xerr=[[ratio.value - ratio.low], [ratio.high - ratio.value]],
            yerr=[[max(0.0, gain - low)], [max(0.0, high - gain)]],
            fmt=shape, color=colour, markersize=6, elinewidth=1, ecolor=colour, alpha=0.95, label=label,
        )  # fmt: skip
        places[record.backend] = (ratio.value, gain)
        values += list(ratio)
        told.append(f"{label} {gain:+.2f} points at {ratio.value:.2f}x")
    ringed = [places[name] for name in best if name in places]
    if ringed:
        ax.plot(*zip(*ringed, strict=True), "--", color=NEUTRAL, linewidth=1, zorder=1)
        ax.plot(*zip(*ringed, strict=True), "o", markersize=12, markerfacecolor="none", markeredgecolor=INK)
    ax.axvline(1, color="#24292f", linewidth=1)
    ax.axhline(0, color="#24292f", linewidth=0.6)
    speedup_axis(ax, values)
    ax.margins(y=0.15)
    ax.set_xlabel(f"speedup, {scenario_name(scenario)} (log scale; right is faster)")
    ax.set_ylabel("top-1 against the reference (points)")
    ax.grid()
    if told:
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    ax.set_title("Accuracy (95 %) and speed (99 % intervals); ringed: beaten by no other in both")
    named = ", ".join(best)
    return describe(
        ax,
        f"Top-1 against speedup, {scenario_name(scenario)}: {'; '.join(told) or 'no data'}."
        + (f" No other beats in both: {named}." if named else ""),
    )


@with_records
def files(comparison: Comparison) -> Shown:
    """Links to the numbers of this page as files, seen from its place in the run folder."""
    files = {
        "04_compare.json": "verdicts, ratios, recommendations",
        SCENARIOS_CSV: "one row per backend and scenario",
        LAYERS_CSV: "one row per backend, scenario and layer",
    }
    rows: list[list[Value]] = [[Cell(name, href=f"../results/{name}"), what] for name, what in files.items()]
    return Table(["file", "what it holds"], rows, caption="The numbers of this page", compact=True)
