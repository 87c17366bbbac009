"""How a page was made: the parameters of the run, its machine and its software."""

from __future__ import annotations

from collections.abc import Mapping
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
        if schema is None or name not in schema:
            rows.append([name, repr(value), "", ""])
            continue
        default = schema[name].default
        if value == default:
            rows.append([name, repr(value), Cell("default", tone="muted"), Cell(schema[name].help, tone="muted")])
        else:
            changed = Cell(f"changed from {default!r}", tone="mark")
            rows.append([name, Cell(repr(value), tone="mark"), changed, Cell(schema[name].help, tone="muted")])
    columns = ["parameter", "value", "origin", "meaning"]
    if schema is None:
        columns, rows = columns[:2], [row[:2] for row in rows]
    return Table(columns, rows, caption="Parameters of this run", compact=True, align_numbers=False)


def environment_table(environment: Environment) -> Table:
    """The machine and software of a record; what is not known says so."""
    unknown = "unknown"
    acl = {True: "yes", False: "no", None: unknown}[environment.acl]
    emulated = " (emulated: times mean nothing)" if environment.emulated else ""
    rows: list[list[Value]] = [
        ["CPU", environment.cpu_model or unknown],
        ["architecture", Cell(environment.architecture + emulated, tone="bad" if environment.emulated else "")],
        ["instruction sets", ", ".join(environment.isa_flags) or unknown],
        ["threads", f"{environment.num_threads} on {environment.num_cores} cores"],
        ["memory", unknown if environment.memory_bytes is None else size(environment.memory_bytes)],
        ["kernel", environment.kernel],
        ["BLAS", environment.blas or unknown],
        ["oneDNN", environment.onednn or unknown],
        ["Arm Compute Library", acl],
        ["capability torch uses", environment.cpu_capability or unknown],
        ["load at the start", unknown if environment.load_average is None else f"{environment.load_average:.2f}"],
        ["git commit", environment.git_commit or unknown],
        ["versions", ", ".join(f"{name} {version}" for name, version in environment.versions.items()) or unknown],
    ]
    columns = ["what", "of the machine that ran this"]
    return Table(columns, rows, caption="Machine and software", compact=True, align_numbers=False)
