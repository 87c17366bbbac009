"""How a page was made: the parameters of the run, its machine and its software."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from lib.records.schema import Environment, ParameterValue
from lib.report.table import Cell, Table, Tone, Value
from lib.report.words import size


class Parameter(Protocol):
    """What a table needs of a declared parameter (`lib.series.parameters` has it)."""

    @property
    def default(self) -> ParameterValue: ...

    @property
    def help(self) -> str: ...


def parameter_table(parameters: Mapping[str, ParameterValue], schema: Mapping[str, Parameter]) -> Table:
    """The resolved parameters; those that differ from their default are marked, in words and bold."""

    def row(name: str, value: ParameterValue) -> dict[str, Value]:
        default = schema[name].default
        changed: Tone = "mark" if value != default else ""
        return {
            "parameter": name,
            "value": Cell(repr(value), tone=changed),
            "origin": Cell(f"changed from {default!r}" if changed else "default", tone=changed or "muted"),
            "meaning": Cell(schema[name].help, tone="muted"),
        }

    rows = [row(name, value) for name, value in parameters.items()]
    return Table.of(rows, caption="Parameters of this run", compact=True, align_numbers=False)


def environment_table(environment: Environment) -> Table:
    """The machine and software of a record; what is not known says so."""
    columns, facts = ["what", "of the machine that ran this"], machine_facts([environment])
    return Table(columns, facts.items(), caption="Machine and software", compact=True, align_numbers=False)


def machine_facts(environments: Sequence[Environment]) -> dict[str, Value]:
    """One machine as several records describe it, in words; where they differ, all that they say."""

    def said(name: str) -> str:
        return _either(getattr(environment, name) for environment in environments)

    emulated = any(environment.emulated for environment in environments)
    loads = sorted(known for environment in environments if (known := environment.load_average) is not None)
    acl = {True: "yes", False: "no", None: ""}
    return {
        "CPU": said("cpu_model"),
        "architecture": Cell(
            said("architecture") + (" (emulated: times mean nothing)" if emulated else ""),
            tone="bad" if emulated else "",
        ),
        "instruction sets": _either(", ".join(environment.isa_flags) for environment in environments),
        "threads on cores": _either(f"{each.num_threads} on {each.num_cores}" for each in environments),
        "memory": _either(each.memory_bytes and size(each.memory_bytes) for each in environments),
        "kernel": said("kernel"),
        "BLAS": said("blas"),
        "oneDNN": said("onednn"),
        "Arm Compute Library": _either(acl[environment.acl] for environment in environments),
        "capability torch uses": said("cpu_capability"),
        "load at the start": span([f"{load:.2f}" for load in loads]) if loads else "unknown",
        "git commit": said("git_commit"),
        "versions": _versions(environments),
    }


def _either(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value)) or "unknown"


def span(values: Sequence[str]) -> str:
    """The first and the last of sorted values, or the only one."""
    return values[0] if values[0] == values[-1] else f"{values[0]} to {values[-1]}"


def _versions(environments: Sequence[Environment]) -> str:
    """Of all records together; a package in two versions is named with both."""
    found: dict[str, dict[str, None]] = {}
    for environment in environments:
        for name, version in environment.versions.items():
            found.setdefault(name, {})[version] = None
    return ", ".join(f"{name} {' and '.join(versions)}" for name, versions in found.items())
