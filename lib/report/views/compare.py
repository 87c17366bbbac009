"""04_compare. Without records every view says which command makes them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from lib.analysis.batch_sweep import crossing_words, failure_words
from lib.analysis.comparison import Comparison
from lib.analysis.csv_files import LAYERS_CSV, SCENARIOS_CSV
from lib.analysis.history import CONFIRMED, History, Trend
from lib.analysis.judgement import undecided
from lib.analysis.pace import pace_warnings
from lib.backends import backend_names
from lib.records.run import networks
from lib.report.caveats import disturbed_backends_words, warning_words
from lib.report.figures import show
from lib.report.plots import (
    plot_accuracy_speed,
    plot_cold_start,
    plot_history,
    plot_layer_heat_map,
    plot_ratios,
    plot_sweeps,
)
from lib.report.plots.compare import widest_floor
from lib.report.recommend import recommendations
from lib.report.table import SMOKE_TEXT, Banner, Cell, Stack, Table, Value
from lib.report.tables import (
    compare_costs_table,
    compare_layers_table,
    compare_proofs_table,
    compare_scenarios_table,
    compare_starts_table,
    history_table,
    machines_table,
    recommendation_table,
)
from lib.report.views.benchmark import Shown
from lib.report.words import scenario_name

_View = TypeVar("_View", bound=Callable[..., Shown])
HOW_TO = "run python -m lib run for the whole series, or python -m lib run 03_benchmark -p backend NAME for one backend"


def _with_records(view: _View) -> _View:
    """Where nothing was measured, say how to measure."""

    @wraps(view)
    def guarded(comparison: Comparison, *arguments: Any) -> Shown:
        if not networks(comparison.measured):
            return Banner(f"There are no measurements of a network here; {HOW_TO}.", "info")
        return view(comparison, *arguments)

    return cast(_View, guarded)


def answer(comparison: Comparison) -> Shown:
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


@_with_records
def layer_map(comparison: Comparison, scenario: str) -> Shown:
    """Heat map of speedups, layers by backends."""
    show(plot_layer_heat_map(networks(comparison.measured), scenario))
    return None


@_with_records
def layer_numbers(comparison: Comparison, scenario: str) -> Shown:
    """The heat map as a table, with milliseconds."""
    return compare_layers_table(networks(comparison.measured), scenario)


@_with_records
def ratios(comparison: Comparison) -> Shown:
    """Speedups with intervals, per scenario."""
    show(plot_ratios(networks(comparison.measured)))
    return None


@_with_records
def verdicts(comparison: Comparison) -> Shown:
    """One row per backend."""
    return compare_scenarios_table(networks(comparison.records))


@_with_records
def accuracy_speed(comparison: Comparison, scenario: str) -> Shown:
    """Top-1 against the speedup."""
    records = networks(comparison.measured)
    if all(record.random_weights for record in records):
        return Banner("The network has random weights: its accuracy means nothing, so there is no front.", "info")
    show(plot_accuracy_speed(records, scenario, backend_names()))
    return None


@_with_records
def recommended(comparison: Comparison) -> Shown:
    """What to use, by stated rules."""
    found = recommendations(comparison.measured)
    if not found and comparison.profile == "smoke":
        return Banner("Records of a smoke run give no recommendation.", "info")
    if not found:
        return Banner("There is no recommendation: no backend was compared with the reference here.", "info")
    told = {(item.architecture, item.scenario, item.backend): item for item in reversed(found)}  # "any" wins over fp32
    both = [item for item in found if told[item.architecture, item.scenario, item.backend] is item]
    return Stack(*(Banner(item.text, "info") for item in both), recommendation_table(found))


@_with_records
def sweeps(comparison: Comparison) -> Shown:
    """Speedups at other batch sizes and numbers of threads, and where the verdict changes."""
    records = [
        record for record in networks(comparison.measured) if record.sweep and record.backend != record.reference
    ]
    if not records:
        return Banner("Other batch sizes and numbers of threads are measured in the profile full only.", "info")
    show(plot_sweeps(records, backend_names()))
    rows: list[list[Value]] = [
        [
            record.backend,
            crossing_words(record.sweep, record.backend, widest_floor(record)),
            failure_words(record.sweep),
        ]
        for record in records
    ]
    columns = ["backend", "against the reference, by batch size and threads", ""]
    if not any(row[2] for row in rows):
        columns, rows = columns[:2], [row[:2] for row in rows]
    return Table(columns, rows, caption="Where the verdict changes", compact=True)


@_with_records
def cold_starts(comparison: Comparison) -> Shown:
    """Import, load, compile and first inference, stacked; memory; then the numbers with what was prepared."""
    show(plot_cold_start(networks(comparison.measured)))
    return compare_starts_table(networks(comparison.measured))


@_with_records
def costs(comparison: Comparison) -> Shown:
    """Images per dollar."""
    return compare_costs_table(networks(comparison.measured))


@_with_records
def proofs(comparison: Comparison) -> Shown:
    """Which kernels ran."""
    return compare_proofs_table(networks(comparison.records))


@_with_records
def earlier_runs(comparison: Comparison, history: History | None) -> Shown:
    """Speedups over earlier runs; an alarm only where a second measurement of this run confirms a slow-down."""
    if history is None:
        return Banner(
            "No earlier runs were given. With the parameter history = 'runs' this page compares with them.", "info"
        )
    if not any(trend.earlier for trend in history.trends):
        return Banner(f"Nothing to compare with: {history.words()}", "info")
    show(plot_history(history, backend_names()))
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


@_with_records
def machines(comparison: Comparison) -> Shown:
    """The machines that measured."""
    return machines_table(comparison.measured)


@_with_records
def compare_files(comparison: Comparison) -> Shown:
    """Links to the numbers of this page as files, seen from its place in the run folder."""
    files = {
        "04_compare.json": "verdicts, ratios, recommendations",
        SCENARIOS_CSV: "one row per backend and scenario",
        LAYERS_CSV: "one row per backend, scenario and layer",
    }
    rows: list[list[Value]] = [[Cell(name, href=f"../results/{name}"), what] for name, what in files.items()]
    return Table(["file", "what it holds"], rows, caption="The numbers of this page", compact=True)
