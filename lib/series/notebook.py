"""What a notebook's second cell calls: check the parameters, find the run folder, describe the machine."""

from __future__ import annotations

import ast
import os
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lib.data import Data
from lib.errors import UserError
from lib.granted import num_cores
from lib.html.provenance import run_metadata
from lib.machine import collect_environment
from lib.records.schema import Environment, Figure, ParameterValue, Record, RecordWarning, record_path, write_record
from lib.report import LIMITS_VARIABLE, SERIES_VARIABLE
from lib.report.caveats import warnings_words
from lib.report.environment import environment_table, parameter_table
from lib.report.table import Banner
from lib.series.parameters import Schema, load_schema
from lib.series.rundir import prepare_run_dir
from lib.variables import tuning, written

INJECTED = "# Parameters\n"  # papermill's first line of the cell that it injects


@dataclass
class Run:
    """One execution of one notebook. Displayed, it shows its warnings, the resolved parameters and the machine."""

    notebook: str
    schema: Schema
    params: dict[str, ParameterValue]
    run_dir: Path
    environment: Environment
    started: str
    warnings: list[RecordWarning] = field(default_factory=list)
    _begun: float = field(default_factory=time.monotonic)

    @property
    def duration_s(self) -> float:
        """Seconds since the notebook was started."""
        return round(time.monotonic() - self._begun, 3)

    def common(self, data: Data | None = None, checkpoint_sha256: str | None = None) -> dict[str, Any]:
        """The fields that every record has."""
        return {
            "profile": self.params.get("profile", "fast"),
            "params": self.params,
            "environment": self.environment,
            "data": data.info() if data is not None else None,
            "checkpoint_sha256": checkpoint_sha256,
            "started": self.started,
            "duration_s": self.duration_s,
            "warnings": self.warnings,
        }

    def write(self, record: Record, backend: str = "") -> Path:
        """Write the record of this notebook and return where it lies."""
        path = record_path(self.run_dir, self.notebook, backend)
        write_record(record, path)
        return path

    def _repr_html_(self) -> str:
        return "".join(table._repr_html_() for table in self._tables())

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        """The tables, and in the metadata what the page says on top, also if the run breaks later."""
        warnings = [asdict(warning) for warning in self.warnings]
        common = {**self.common(), "environment": asdict(self.environment), "warnings": warnings}
        described = run_metadata(self.notebook, common)
        return {"text/html": self._repr_html_(), "text/plain": repr(self)}, {"text/html": described}

    def __repr__(self) -> str:
        return "\n\n".join(str(table) for table in self._tables())

    def _tables(self) -> list[Any]:
        banners = [Banner(warnings_words(self.warnings))] if self.warnings else []
        return [*banners, parameter_table(self.params, self.schema), environment_table(self.environment)]


def start(notebook: str, namespace: dict[str, Any]) -> Run:
    """Check the parameters of a running notebook and give them their declared types, in `namespace` too.

    Plain papermill passes misspelt names with a warning only. They are found in the cell that it injected, and not
    among all globals, so that cells can be run again.

    Args:
        namespace: the notebook's `globals()`.

    Raises:
        UserError: an unknown parameter, a bad value, a run folder that cannot be written to, or a copy of a notebook
            that has another name and would overwrite its record.
    """
    schema = load_schema(notebook)
    executed = os.environ.get(SERIES_VARIABLE) or schema.notebook
    if executed != schema.notebook:
        raise UserError(
            f"this is {executed}, and it would write the record of {schema.notebook}; "
            f"give it its own name: start({executed!r}, globals())"
        )
    injected = injected_names(namespace.get("In", []))
    schema.resolve({name: namespace[name] for name in injected if name in namespace})
    missing = [name for name in schema if name not in namespace]
    if missing:
        raise UserError(f"parameters are not set: {', '.join(missing)}; run the cell tagged 'parameters' first")
    params = schema.resolve({name: namespace[name] for name in schema})
    if "num_threads" in schema:
        import torch  # so that the environment can tell which libraries it brings

        torch.set_num_threads(int(params["num_threads"]) or num_cores())  # whatever OMP_NUM_THREADS says
    namespace.update(params)
    return Run(
        notebook=schema.notebook,
        schema=schema,
        params=params,
        run_dir=prepare_run_dir(str(params["run_dir"])),
        environment=collect_environment(int(params.get("num_threads", 0))),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        warnings=_warnings(),
    )


def _warnings() -> list[RecordWarning]:
    """Variables of the shell that started this kernel and change how libraries compute."""
    kept, others = tuning()
    figures: dict[str, Figure] = {
        where: written(found) for where, found in (("notebook", others), ("measured", kept)) if found
    }
    return [RecordWarning("variables", figures=figures)] if figures else []


def seconds_left() -> float | None:
    """Until the launcher ends the cell that has just begun; None where no launcher set a limit."""
    if not (limits := os.environ.get(LIMITS_VARIABLE)):
        return None
    cell_limit_s, ends = (float(limit) for limit in limits.split())
    return min(cell_limit_s, ends - time.time())


def injected_names(history: list[str]) -> list[str]:
    """Names that the newest injected-parameters cell assigned.

    Args:
        history: sources of the cells that ran, oldest first (IPython's `In`).
    """
    for source in reversed(history):
        if source.startswith(INJECTED):
            return [
                target.id
                for statement in ast.parse(source).body
                if isinstance(statement, ast.Assign)
                for target in statement.targets
                if isinstance(target, ast.Name)
            ]
    return []
