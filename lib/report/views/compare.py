"""04_compare. Without records every view says which command makes them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from lib.backends import backend_names
from lib.records.comparison import Comparison, layer_noise_floors, noise_floors
from lib.report.figures import show
from lib.report.plots import plot_accuracy_speed, plot_cold_start, plot_layer_heat_map, plot_ratios
from lib.report.run import networks
from lib.report.table import SMOKE_TEXT, Banner, Stack, Table, Value
from lib.report.tables import compare_layers_table, compare_scenarios_table
from lib.report.views.benchmark import Shown

_View = TypeVar("_View", bound=Callable[..., Shown])
HOW_TO = (
    "run `python -m lib run` for the whole series, or `python -m lib run 03_benchmark -p backend NAME` for one backend"
)


def _with_records(view: _View) -> _View:
    """Where nothing was measured, say how to measure."""

    @wraps(view)
    def guarded(comparison: Comparison, *arguments: Any) -> Shown:
        if not comparison.measured:
            return Banner(f"There are no measurements here; {HOW_TO}.", "info")
        return view(comparison, *arguments)

    return cast(_View, guarded)


def answer(comparison: Comparison) -> Shown:
    """The first sentence, then what is missing or did not run."""
    if not comparison.records:
        return Banner(f"There are no benchmark records here; {HOW_TO}.", "info")
    banners = [Banner(SMOKE_TEXT)] if comparison.profile == "smoke" else []
    banners.append(Banner(comparison.headline(), "info"))
    if comparison.missing:
        names = ", ".join(comparison.missing)
        banners.append(
            Banner(f"No record of: {names}. To measure one: `python -m lib run 03_benchmark -p backend NAME`.")
        )
    for record in comparison.unmeasured:
        kind: Any = "error" if record.status == "failed" else "info"
        banners.append(Banner(f"{record.backend} is {record.status}: {record.error}", kind))
    return Stack(*banners)


@_with_records
def layer_map(comparison: Comparison, scenario: str) -> Shown:
    """Heat map of speedups, layers by backends."""
    records = networks(comparison.measured)
    show(plot_layer_heat_map(records, scenario, layer_noise_floors(comparison.measured, scenario)))
    return None


@_with_records
def layer_numbers(comparison: Comparison, scenario: str) -> Shown:
    """The heat map as a table, with milliseconds."""
    records = networks(comparison.measured)
    return compare_layers_table(records, scenario, layer_noise_floors(comparison.measured, scenario))


@_with_records
def ratios(comparison: Comparison) -> Shown:
    """Speedups with intervals, per scenario."""
    show(plot_ratios(networks(comparison.measured), noise_floors(comparison.measured)))
    return None


@_with_records
def verdicts(comparison: Comparison) -> Shown:
    """One row per backend."""
    return compare_scenarios_table(comparison.records, noise_floors(comparison.measured))


@_with_records
def accuracy_speed(comparison: Comparison) -> Shown:
    """Top-1 against the speedup in the offline scenario."""
    show(plot_accuracy_speed(networks(comparison.measured), "offline", backend_names()))
    return None


@_with_records
def cold_starts(comparison: Comparison) -> Shown:
    """Import, load and first inference, stacked."""
    show(plot_cold_start(networks(comparison.measured)))
    return None


@_with_records
def machines(comparison: Comparison) -> Shown:
    """Which machine each record comes from."""
    rows: list[list[Value]] = []
    for record in comparison.measured:
        machine = record.environment
        threads = f"{machine.num_threads} of {machine.num_cores}"
        rows.append(
            [record.backend, machine.cpu_model, machine.architecture, threads, machine.machine_id, record.started]
        )
    alone = len(comparison.machines) == 1
    note = (
        "All on one machine in one boot: milliseconds may be compared."
        if alone
        else "Different machines: compare speedups only, never milliseconds."
    )
    columns = ["backend", "CPU", "architecture", "threads of cores", "machine", "started (UTC)"]
    return Table(columns, rows, caption="Machines", note=note)
