"""Where it was measured, and whether milliseconds may be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from string import ascii_uppercase

from lib.records.schema import BenchmarkRecord, Record
from lib.report.environment import machine_facts, span
from lib.report.table import Table, Value


def machine_letters(records: Iterable[Record]) -> dict[str, str]:
    """Short names for machine ids, in the order of the records; empty where there is only one machine."""
    ids = list(dict.fromkeys(record.environment.machine_id for record in records))
    names = [*ascii_uppercase, *map(str, range(27, len(ids) + 1))]
    return dict(zip(ids, names, strict=False)) if len(ids) > 1 else {}


def with_machine(record: BenchmarkRecord, letters: dict[str, str]) -> str:
    letter = letters.get(record.environment.machine_id)
    return f"{record.backend} ({letter})" if letter else record.backend


def machines_table(records: Mapping[str, Record]) -> Table:
    """One column per machine: what it is, what ran on it, and whether milliseconds may be compared.

    Args:
        records: by a name for what ran.
    """
    groups: dict[str, dict[str, Record]] = {}
    for name, record in records.items():
        groups.setdefault(record.environment.machine_id, {})[name] = record
    facts: list[dict[str, Value]] = [
        {
            "machine id": machine_id,
            "what ran": ", ".join(group),
            **machine_facts([record.environment for record in group.values()]),
            "started (UTC)": span(sorted(f"{record.started:.19}".replace("T", " ") for record in group.values())),
        }
        for machine_id, group in groups.items()
    ]
    letters = machine_letters(records.values())
    note = "All on one machine in one boot: milliseconds may be compared."
    if letters:
        note = "Different machines: compare speedups only, never milliseconds of different letters."
    columns = ["what", *(letters.get(machine_id, "this machine") for machine_id in groups)]
    rows = [[name, *(machine[name] for machine in facts)] for name in (facts[0] if facts else ())]
    return Table(columns, rows, caption="Machines", note=note, compact=True, align_numbers=False)
