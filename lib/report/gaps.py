"""Where a section has nothing to show, it says why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lib.analysis.judgement import disturbance
from lib.records.schema import BenchmarkRecord, LayerTable, Scenario
from lib.report.table import Banner
from lib.report.words import NOT_JUDGED, capital, scenario_name

Shown = Any  # something that a notebook displays, or None
RAW = "Raw numbers"


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
