"""Which notebooks a launch runs, and with which parameters. Everything is checked before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lib.backends import default_names, get_backend
from lib.errors import UserError
from lib.records.schema import ParameterValue
from lib.series.parameters import Schema, load_schema, notebook_names, notebook_path, unknown_parameter

TRAIN, BENCHMARK, COMPARE = "02_train", "03_benchmark", "04_compare"


@dataclass(frozen=True)
class Job:
    """One execution of one notebook."""

    notebook: str
    backend: str  # "" for notebooks that have none
    parameters: dict[str, ParameterValue]  # those that were given; the notebook has the defaults
    broken: str = ""  # why it cannot run; empty where it can

    @property
    def label(self) -> str:
        """Name of its files, without suffix."""
        return f"{self.notebook}.{self.backend}" if self.backend else self.notebook


def plan_jobs(notebooks: Sequence[str], given: dict[str, str], backends: Sequence[str]) -> list[Job]:
    """Which notebooks run with which parameters. Everything is checked before anything starts.

    A damaged notebook is refused where it is asked for. In the whole series it is a job that fails, and stops no other.

    Args:
        notebooks: names in any accepted form; empty = the whole series.
        given: parameter values as typed.
        backends: that 03 measures; empty = the value of `backend`, or the default ones.

    Raises:
        UserError: unknown notebook, parameter or backend, or a bad value.
    """
    names = sorted({notebook_path(name).stem for name in notebooks}) or notebook_names()
    schemas: dict[str, Schema] = {}
    jobs: list[Job] = []
    for name in names:
        try:
            schemas[name] = load_schema(name)
        except UserError as error:
            if notebooks:
                raise
            jobs.append(Job(name, "", {}, str(error)))
    declared = {parameter: None for schema in schemas.values() for parameter in schema}
    for name in given:
        if name not in declared:
            raise unknown_parameter(name, declared)
    chosen = [get_backend(name).name for name in dict.fromkeys(backends)]
    if chosen and BENCHMARK not in names:
        raise UserError(f"--backends is for {BENCHMARK}, which is not among {', '.join(names)}")
    if "backend" in given:
        if chosen:
            raise UserError("give either --backends or -p backend, not both")
        chosen = [get_backend(given["backend"]).name]
    for name, schema in schemas.items():
        values = _values_for(schema, given)
        if name == BENCHMARK:
            jobs += [Job(name, backend, {**values, "backend": backend}) for backend in chosen or _defaults(names)]
        else:
            jobs.append(Job(name, "", values))
    return [_expecting(job, jobs) for job in sorted(jobs, key=lambda job: job.notebook)]


def _defaults(names: Sequence[str]) -> list[str]:
    """All default backends in a series; the notebook's own default where 03 is run by itself."""
    return default_names() if len(names) > 1 else [str(load_schema(BENCHMARK)["backend"].default)]


def _values_for(schema: Schema, given: dict[str, str]) -> dict[str, ParameterValue]:
    mine = {name: value for name, value in given.items() if name in schema}
    resolved = schema.resolve(mine)
    return {name: resolved[name] for name in mine}


def _expecting(job: Job, jobs: Sequence[Job]) -> Job:
    """Tell 04 which backends this launch measures, so that it can name the missing ones."""
    measured = [other.backend for other in jobs if other.backend]
    if job.notebook != COMPARE or not measured or job.parameters.get("backends"):
        return job
    return replace(job, parameters={**job.parameters, "backends": ",".join(measured)})
