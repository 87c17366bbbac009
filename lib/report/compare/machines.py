"""Where it was measured, and whether milliseconds may be compared."""

from __future__ import annotations

from collections.abc import Sequence

from lib.analysis.comparison import Comparison
from lib.records.schema import BenchmarkRecord, Environment
from lib.report.gaps import Shown, with_records
from lib.report.table import Cell, Table, Value
from lib.report.words import size


def machine_letters(records: Sequence[BenchmarkRecord]) -> dict[str, str]:
    """Short names for machine ids, in the order of the records; empty where there is only one machine."""
    ids = list(dict.fromkeys(record.environment.machine_id for record in records if record.status == "ok"))
    return {machine_id: _letter(number) for number, machine_id in enumerate(ids)} if len(ids) > 1 else {}


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else f"{number + 1}"


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
    facts = [_machine_facts(machine_id, group) for machine_id, group in groups.items()]
    names = list(dict.fromkeys(name for machine in facts for name in machine))
    rows: list[list[Value]] = [[name, *(machine.get(name) for machine in facts)] for name in names]
    note = (
        "Different machines: compare speedups only, never milliseconds of different letters."
        if letters
        else "All on one machine in one boot: milliseconds may be compared."
    )
    columns = ["what", *(letters.get(machine_id, "this machine") for machine_id in groups)]
    return Table(columns, rows, caption="Machines", note=note, compact=True, align_numbers=False)


def _machine_facts(machine_id: str, records: Sequence[BenchmarkRecord]) -> dict[str, Value]:
    machines = [record.environment for record in records]
    machine, unknown = machines[0], "unknown"
    emulated = any(other.emulated for other in machines)
    acl = {True: "yes", False: "no", None: unknown}
    return {
        "machine id": machine_id,
        "backends": ", ".join(record.backend for record in records),
        "CPU": machine.cpu_model or unknown,
        "architecture": Cell(machine.architecture, "emulated: times mean nothing" if emulated else "",
                             "bad" if emulated else ""),
        "instruction sets": ", ".join(machine.isa_flags) or unknown,
        "threads on cores": _span([f"{other.num_threads} on {other.num_cores}" for other in machines]),
        "memory": unknown if machine.memory_bytes is None else size(machine.memory_bytes),
        "BLAS": _span([other.blas or unknown for other in machines]),
        "oneDNN": _span([other.onednn or unknown for other in machines]),
        "Arm Compute Library": _span([acl[other.acl] for other in machines]),
        "kernel": machine.kernel,
        "versions": _versions(machines),
        "load at the start": _loads(machines),
        "started (UTC)": _times(records),
    }  # fmt: skip


def _span(values: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def _versions(machines: Sequence[Environment]) -> str:
    """Of all records together; a package in two versions is named with both."""
    found: dict[str, list[str]] = {}
    for machine in machines:
        for name, version in machine.versions.items():
            if version not in found.setdefault(name, []):
                found[name].append(version)
    return ", ".join(f"{name} {' and '.join(versions)}" for name, versions in found.items()) or "unknown"


def _loads(machines: Sequence[Environment]) -> str:
    loads = [machine.load_average for machine in machines if machine.load_average is not None]
    if not loads:
        return "unknown"
    return f"{min(loads):.2f}" if len(loads) == 1 else f"{min(loads):.2f} to {max(loads):.2f}"


def _times(records: Sequence[BenchmarkRecord]) -> str:
    times = sorted(record.started.replace("+00:00", "").replace("T", " ") for record in records)
    return times[0] if times[0] == times[-1] else f"{times[0]} to {times[-1]}"
