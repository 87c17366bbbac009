"""How a page was made: the parameters of the run, its machine and its software."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from lib.records.schema import Environment, ParameterValue
from lib.report.table import Cell, Table, Value
from lib.report.words import size


class Parameter(Protocol):
    """What a table needs of a declared parameter (`lib.series.parameters` has it)."""

    @property
    def default(self) -> ParameterValue: ...

    @property
    def help(self) -> str: ...


def parameter_table(parameters: Mapping[str, ParameterValue], schema: Mapping[str, Parameter] | None = None) -> Table:
    """The resolved parameters; with a schema, those that differ from their default are marked, in words and bold."""
    rows: list[list[Value]] = []
    for name, value in parameters.items():
        declared = schema.get(name) if schema is not None else None
        if declared is None:
            rows.append([name, repr(value), "", ""])
            continue
        changed = value != declared.default
        origin = Cell(f"changed from {declared.default!r}", "", "mark") if changed else Cell("default", "", "muted")
        help_text = Cell(declared.help, tone="muted")
        rows.append([name, Cell(repr(value), tone="mark" if changed else ""), origin, help_text])
    columns = ["parameter", "value", "origin", "meaning"]
    return Table(columns, rows, caption="Parameters of this run", compact=True, align_numbers=False)


def environment_table(environment: Environment) -> Table:
    """The machine and software of a record; what is not known says so."""
    rows = [[name, value] for name, value in machine_facts([environment]).items()]
    rows.insert(-1, ["capability torch uses", environment.cpu_capability or "unknown"])
    rows.insert(-1, ["git commit", environment.git_commit or "unknown"])
    columns = ["what", "of the machine that ran this"]
    return Table(columns, rows, caption="Machine and software", compact=True, align_numbers=False)


def machine_facts(environments: Sequence[Environment]) -> dict[str, Value]:
    """One machine as several records describe it, in words; where they differ, all that they say."""
    first = environments[0]
    emulated = any(other.emulated for other in environments)
    loads = sorted(other.load_average for other in environments if other.load_average is not None)
    acl = {True: "yes", False: "no", None: ""}
    architecture = first.architecture + (" (emulated: times mean nothing)" if emulated else "")
    return {
        "CPU": _either(first.cpu_model),
        "architecture": Cell(architecture, tone="bad" if emulated else ""),
        "instruction sets": _either(", ".join(first.isa_flags)),
        "threads on cores": _either(*(f"{other.num_threads} on {other.num_cores}" for other in environments)),
        "memory": _either(size(first.memory_bytes) if first.memory_bytes is not None else ""),
        "kernel": first.kernel,
        "BLAS": _either(*(other.blas for other in environments)),
        "oneDNN": _either(*(other.onednn for other in environments)),
        "Arm Compute Library": _either(*(acl[other.acl] for other in environments)),
        "load at the start": span([f"{load:.2f}" for load in loads]) if loads else "unknown",
        "versions": _either(_versions(environments)),
    }


def _either(*values: str | None) -> str:
    return ", ".join(dict.fromkeys(value or "unknown" for value in values))


def span(values: Sequence[str]) -> str:
    """The first and the last of sorted values, or the only one."""
    return values[0] if values[0] == values[-1] else f"{values[0]} to {values[-1]}"


def _versions(environments: Sequence[Environment]) -> str:
    """Of all records together; a package in two versions is named with both."""
    found: dict[str, list[str]] = {}
    for environment in environments:
        for name, version in environment.versions.items():
            if version not in found.setdefault(name, []):
                found[name].append(version)
    return ", ".join(f"{name} {' and '.join(versions)}" for name, versions in found.items())
