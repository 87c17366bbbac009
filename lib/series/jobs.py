"""Which notebooks a launch runs, and with which parameters. Everything is checked before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from lib.backends import default_names, get_backend
from lib.errors import UserError
from lib.records.run import PLANNED, Job
from lib.records.schema import BENCHMARK, COMPARE
from lib.series.parameters import Schema, load_schema, notebook_names, notebook_path, unknown_parameter


def plan_jobs(notebooks: Sequence[str], given: dict[str, str], backends: Sequence[str]) -> list[Job]:
    """Which notebooks run with which parameters. Everything is checked before anything starts.

    A damaged notebook is refused where it is asked for. In the whole series it is a job that has failed already, and
    stops no other.

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
            jobs.append(Job(name, status="failed", reason=str(error)))
    declared = {parameter: None for schema in schemas.values() for parameter in schema}
    for name in given:
        if name not in declared:
            raise _belongs_elsewhere(name, names) or unknown_parameter(name, declared)
    chosen = _chosen_backends(names, given, backends)
    for name, schema in schemas.items():
        if name != BENCHMARK:
            jobs.append(_job(schema, given))
            continue
        # all default backends in a series; the notebook's own default if 03 runs alone
        usual = default_names() if len(names) > 1 else [str(schema["backend"].default)]
        jobs += [_job(schema, given, backend) for backend in chosen or usual]
    measured = ",".join(job.backend for job in jobs if job.backend)
    for job in jobs:
        if job.notebook == COMPARE and measured and not job.parameters.get("backends"):
            job.parameters["backends"] = job.values["backends"] = measured  # so that it can name the missing ones
    return sorted(jobs, key=lambda job: job.notebook)


def _belongs_elsewhere(name: str, asked: Sequence[str]) -> UserError | None:
    """The refusal of a parameter that only notebooks have which are not asked for."""
    owners = []
    for notebook in notebook_names():
        with suppress(UserError):  # a damaged notebook that is not asked for
            owners += [notebook] if name in load_schema(notebook) else []
    if not owners:
        return None
    return UserError(
        f"parameter {name!r} belongs to {', '.join(owners)}, and only {', '.join(asked)} would run; "
        f"add {owners[0][:2]}, or leave it out"
    )


def _chosen_backends(names: Sequence[str], given: dict[str, str], backends: Sequence[str]) -> list[str]:
    chosen = [get_backend(name).name for name in dict.fromkeys(backends)]
    if chosen and BENCHMARK not in names:
        raise UserError(f"--backends is for {BENCHMARK}, which is not among {', '.join(names)}")
    if "backend" not in given:
        return chosen
    if chosen:
        raise UserError("give either --backends or -p backend, not both")
    return [get_backend(given["backend"]).name]


def _job(schema: Schema, given: dict[str, str], backend: str = "") -> Job:
    mine = {name: value for name, value in given.items() if name in schema} | ({"backend": backend} if backend else {})
    values = schema.resolve(mine)
    parameters = {name: values[name] for name in mine}
    return Job(schema.notebook, backend, PLANNED, parameters=parameters, values=values)
