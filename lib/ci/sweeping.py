"""A sweep as jobs of a workflow: one for each combination, and what they leave put together."""

from __future__ import annotations

import json
from pathlib import Path

from lib.backends import get_backend
from lib.ci.settings import data_key
from lib.errors import UserError
from lib.files import PROJECT_ROOT, project_path
from lib.series.rundir import prepare_run_dir
from lib.series.sweep import Plan, plan_points, read_plan, write_results

MOST_JOBS = 256  # of a matrix at GitHub


def sweep_settings(file: str) -> dict[str, str]:
    """Outputs of the plan job: folders (JSON list for the matrix), extras, dataset, data_key.

    Raises:
        UserError: a file outside of the repository, bad content, too many combinations, or several data sets.
    """
    plan = _plan(file)
    points = plan_points(plan)
    if len(points) > MOST_JOBS:
        raise UserError(f"{len(points)} combinations; a workflow runs at most {MOST_JOBS} jobs, give fewer values")
    datasets = sorted({str(job.values["dataset"]) for point in points for job in point.jobs if "dataset" in job.values})
    if len(datasets) > 1:
        raise UserError(f"the sweep has several data sets: {', '.join(datasets)}; make a file for each")
    named = {job.backend for point in points for job in point.jobs if job.backend}
    return {
        "folders": json.dumps([point.folder for point in points]),
        "extras": " ".join(sorted({extra for name in named if (extra := get_backend(name).extra)})),
        "dataset": "".join(datasets),
        "data_key": data_key(datasets[0]) if datasets else "",
    }


def collect_sweep(file: str, out: Path) -> str:
    """Write the table and the page of a sweep from the run folders that came; returns how many, in a line.

    Args:
        out: folder with the run folders, made if needed.
    """
    plan, target = _plan(file), prepare_run_dir(out)
    rows = write_results(target, plan_points(plan), plan)
    return f"{sum(row['status'] == 'ok' for row in rows)} of {len(rows)} notebook runs are ok: {target}"


def _plan(file: str) -> Plan:
    if not project_path(file).resolve().is_relative_to(PROJECT_ROOT):
        raise UserError(f"{file} is not in this repository; give a file that is, such as docs/sweeps/seeds.toml")
    return read_plan(file)
