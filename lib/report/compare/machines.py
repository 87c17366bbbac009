"""Where it was measured, and whether milliseconds may be compared."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

from lib.analysis.comparison import Comparison
from lib.records.schema import BenchmarkRecord
from lib.report.environment import machine_facts, span
from lib.report.gaps import Shown, with_records
from lib.report.table import Table, Value


def machine_letters(records: Sequence[BenchmarkRecord]) -> dict[str, str]:
    """Short names for machine ids, in the order of the records; empty where there is only one machine."""
    ids = list(dict.fromkeys(record.environment.machine_id for record in records if record.status == "ok"))
    names = [*ascii_uppercase, *map(str, range(27, len(ids) + 1))]
    return dict(zip(ids, names, strict=False)) if len(ids) > 1 else {}


def with_machine(record: BenchmarkRecord, letters: dict[str, str]) -> str:
    letter = letters.get(record.environment.machine_id)
    return f"{record.backend} ({letter})" if letter else record.backend


@with_records
def table(comparison: Comparison) -> Shown:
    """The machines that measured."""
    return machines_table(comparison.measured)


def machines_table(records: Sequence[BenchmarkRecord]) -> Table:
    """One column per machine: what it is, what ran on it, and whether milliseconds may be compared."""
    letters = machine_letters(records)
    groups: dict[str, list[BenchmarkRecord]] = {}
    for record in records:
        groups.setdefault(record.environment.machine_id, []).append(record)
    facts: list[dict[str, Value]] = [
        {
            "machine id": machine_id,
            "backends": ", ".join(record.backend for record in group),
            **machine_facts([record.environment for record in group]),
            "started (UTC)": span(sorted(f"{record.started:.19}".replace("T", " ") for record in group)),
        }
        for machine_id, group in groups.items()
    ]
    rows = [[name, *(machine[name] for machine in facts)] for name in facts[0]]
    note = "All on one machine in one boot: milliseconds may be compared."
    if letters:
        note = "Different machines: compare speedups only, never milliseconds of different letters."
    columns = ["what", *(letters.get(machine_id, "this machine") for machine_id in groups)]
    return Table(columns, rows, caption="Machines", note=note, compact=True, align_numbers=False)
