"""Where a section has nothing to show, it says why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar, cast

from lib.analysis.comparison import Comparison
from lib.analysis.judgement import disturbance
from lib.records.run import networks
from lib.records.schema import BenchmarkRecord, LayerTable, Scenario
from lib.report.table import Banner
from lib.report.words import NOT_JUDGED, capital, scenario_name

Shown = Any  # something that a notebook displays, or None
RAW = "Raw numbers"
_View = TypeVar("_View", bound=Callable[..., Shown])
HOW_TO = "run python -m lib run for the whole series, or python -m lib run 03_benchmark -p backend NAME for one backend"


def absent(record: BenchmarkRecord, what: str) -> Banner:
    """Why there is no `what`."""
    if record.status == "unavailable":
        return Banner(f"{what}: not measured, {record.backend} is unavailable here: {record.error}", "info")
    if record.status == "failed":
        return Banner(f"{what}: not measured, {record.backend} failed: {record.error}", "error")
    return Banner(f"{what}: nothing to show for {record.backend}", "info")


def disturbed(what: str, measured: Sequence[Scenario | LayerTable]) -> Banner | None:
    """Where `what` is not judged; the reason is at the top of the page. None where nothing was disturbed."""
    names = [
        scenario_name(part.name if isinstance(part, Scenario) else part.scenario)
        for part in measured
        if disturbance(part) is not None
    ]
    if not names:
        return None
    return Banner(f"{capital(what)}, {', '.join(dict.fromkeys(names))}: {NOT_JUDGED}.", "info")


def with_records(view: _View) -> _View:
    """Where nothing was measured, say how to measure."""

    @wraps(view)
    def guarded(comparison: Comparison, *arguments: Any) -> Shown:
        if not networks(comparison.measured):
            return Banner(f"There are no measurements of a network here; {HOW_TO}.", "info")
        return view(comparison, *arguments)

    return cast(_View, guarded)
