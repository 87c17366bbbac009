"""The `sweep` command: the same notebooks for every combination of parameter values, and one table of what came out.

Each combination is a run folder of its own, named by its parameters. What is there already and still belongs to the
same parameters and checkpoint is not run again, so an interrupted sweep goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.analysis.csv_files import to_csv
from lib.analysis.judgement import disturbances, judged
from lib.analysis.statistics import median_latency, samples_per_s, scenario_ratio
from lib.bench import kept_models
from lib.errors import UserError
from lib.files import CHECKPOINT_NAME, project_path, replacing, sha256_file, write_atomic, writing
from lib.progress import to_stderr
from lib.records.run import Job, RunFolder, load_run
from lib.records.schema import BENCHMARK, COMPARE, TRAIN, BenchmarkRecord, ExploreRecord, Record, TrainRecord
from lib.report.caveats import warnings_words
from lib.report.table import Table, Value
from lib.series.jobs import plan_jobs
from lib.series.launcher import run_jobs
from lib.series.preflight import check_data, check_inputs, check_installed
from lib.series.rundir import claimed, prepare_run_dir
from lib.variables import with_variable

TABLE = "sweep.csv"
MOST_POINTS = 1000
Figures = dict[str, float | int | None]


@dataclass(frozen=True)
class Point:
    """One combination of values."""

    folder: str  # name of its run folder
    given: dict[str, str]  # parameter -> value as typed
    jobs: list[Job]


def split_values(name: str, text: str) -> list[str]:
    """`2,4` -> two values. One of several may be empty.

    Raises:
        UserError: no value, or one of them twice.
    """
    values = [value.strip() for value in text.split(",")]
    if values == [""] or len({*values}) < len(values):
        raise UserError(f"parameter {name!r} has no value or one of them twice: {text!r}; write them as A,B")
    return values


def plan_points(notebooks: Sequence[str], values: dict[str, list[str]], backends: Sequence[str]) -> list[Point]:
    """Every combination, the last parameter changing fastest. Everything is checked before anything starts.

    Raises:
        UserError: unknown notebook, parameter or backend, a bad value, too many combinations.
    """
    if not notebooks:
        raise UserError("a sweep needs the notebooks to run, such as `sweep 02 -p num_epochs 2,4`")
    if "run_dir" in values:
        raise UserError("a sweep gives each combination a run folder of its own; choose where with --out")
    count = math.prod(len(choices) for choices in values.values())
    if count > MOST_POINTS:
        raise UserError(f"{count:,} combinations; at most {MOST_POINTS:,} are allowed, give fewer values")
    points = []
    for chosen in itertools.product(*values.values()):
        given = dict(zip(values, chosen, strict=True))
        points.append(Point(folder_name(given), given, plan_jobs(notebooks, given, backends)))
    return points


def folder_name(given: dict[str, str]) -> str:
    """`num_epochs=2,seed=0`; what does not fit into the name of a folder becomes a hash at its end."""
    full = ",".join(f"{name}={value}" for name, value in given.items()) or "defaults"
    safe = re.sub(r"[^A-Za-z0-9_.,=+-]", "_", full)
    if safe == full and len(full) <= 100:
        return full
    return f"{safe[:100]}-{hashlib.sha256(full.encode()).hexdigest()[:8]}"


def sweep(
    notebooks: Sequence[str],
    values: dict[str, list[str]],
    backends: Sequence[str],
    out: str,
    *,
    network_of: str = "",
    again: bool = False,
    cell_limit_s: int | None = None,
    notebook_limit_s: int | None = None,
) -> int:
    """Run all combinations one after another, write `sweep.csv` after each, and print the table.

    A combination that fails is kept, with its reason in the table, and stops nothing.

    Args:
        out: folder for the run folders and the table.
        network_of: run folder whose checkpoint `03_benchmark` measures in every combination.
        again: also run what is there already.

    Returns:
        The exit status: 0, or 1 where something failed.

    Raises:
        UserError: bad input; nothing has been started or written then.
    """
    points = plan_points(notebooks, values, backends)
    checkpoint = _checkpoint_of(network_of, points)
    for point in points:
        if backends or "backend" in values:
            check_installed(point.jobs)
        check_data(point.jobs, to_stderr)
    folder = prepare_run_dir(out)
    failed = False
    with claimed(folder), with_variable(kept_models.VARIABLE, "0"):  # models of every combination would be too many
        for number, point in enumerate(points, start=1):
            run_dir = prepare_run_dir(folder / point.folder)
            _bring(checkpoint, run_dir)
            jobs = point.jobs if again else unfinished(point.jobs, load_run(run_dir))
            done = "" if jobs else ": done already"
            to_stderr(f"combination {number} of {len(points)}: {_words(point.given)}{done}")
            if jobs:
                check_inputs(jobs, run_dir)
                with writing(run_dir):
                    run_jobs(jobs, run_dir, cell_limit_s=cell_limit_s, notebook_limit_s=notebook_limit_s)
            rows = table_rows(folder, points[:number])
            failed = any(row["status"] not in ("ok", "unavailable") for row in rows)
            write_atomic(folder / TABLE, to_csv(rows))
    print(to_table(rows, [name for name, choices in values.items() if len(choices) > 1]))
    print(f"\ntable: {folder / TABLE}\npages: {folder}/*/index.html")
    return 1 if failed else 0


def _words(given: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in given.items()) or "defaults"


def _checkpoint_of(network_of: str, points: Sequence[Point]) -> Path | None:
    if not network_of:
        return None
    notebooks = {job.notebook for point in points for job in point.jobs}
    if TRAIN in notebooks or BENCHMARK not in notebooks:
        raise UserError(f"--network-of is for a sweep of {BENCHMARK} without {TRAIN}: it names the network to measure")
    path = project_path(network_of) / CHECKPOINT_NAME
    if not path.is_file():
        raise UserError(f"no {CHECKPOINT_NAME} in {project_path(network_of)}; give a run folder in which {TRAIN} ran")
    return path


def _bring(checkpoint: Path | None, run_dir: Path) -> None:
    """Copy a checkpoint into a run folder, unless it is there."""
    target = run_dir / CHECKPOINT_NAME
    if checkpoint is None or (target.exists() and sha256_file(target) == sha256_file(checkpoint)):
        return
    with replacing(target) as temporary:
        shutil.copyfile(checkpoint, temporary)


def unfinished(jobs: Sequence[Job], run: RunFolder) -> list[Job]:
    """Those jobs that did not end well in this folder, or ran with other parameters or on another checkpoint.

    One that has to run again takes along all that come after it: they read what it writes.
    """
    checkpoint = run.path / CHECKPOINT_NAME
    sha256 = sha256_file(checkpoint) if checkpoint.exists() else None
    ended = {job.label for job in run.jobs if job.status in ("ok", "unavailable")}
    stale: list[Job] = []
    for job in jobs:
        record = run.records.get(job.label)
        upstream = any(earlier.notebook < job.notebook for earlier in stale)
        if upstream or job.label not in ended or record is None or not _fits(record, job, sha256):
            stale.append(job)
    return stale


def _fits(record: Record, job: Job, sha256: str | None) -> bool:
    if any(record.params.get(name) != value for name, value in job.parameters.items()):
        return False
    measures = job.notebook in (TRAIN, BENCHMARK, COMPARE) and not record.params.get("model")
    return not measures or record.checkpoint_sha256 is None or record.checkpoint_sha256 == sha256


def table_rows(folder: Path, points: Sequence[Point]) -> list[dict[str, Value]]:
    """One row for every job of every combination: parameters, status, headline figures of its record."""
    rows = []
    for point in points:
        run = load_run(folder / point.folder)
        found = {job.label: job for job in run.jobs}
        for job in point.jobs:
            ended = found.get(job.label)
            record = run.records.get(job.label)
            row: dict[str, Value] = dict(point.given)
            row |= {"notebook": job.notebook, "backend": job.backend, "status": ended.status if ended else "not run"}
            disturbed = warnings_words(disturbances(record)) if isinstance(record, BenchmarkRecord) else ""
            row |= {"reason": (ended.reason if ended else "") or disturbed, "folder": point.folder}
            row |= headline(record) if record is not None and ended is not None and ended.status == "ok" else {}
            rows.append(row)
    return rows


def headline(record: Record) -> Figures:
    """The figures of a record that a sweep compares. Shares are 0..1; the unit of a time is in its name."""
    if isinstance(record, ExploreRecord):
        return {"images": sum(record.images_per_class), "tracks": sum(record.tracks_per_class)}
    if isinstance(record, TrainRecord):
        figures: Figures = {}
        for split, accuracy in record.accuracy.items():
            figures[f"{split}_top1"] = accuracy.top1
            figures[f"{split}_worst_class_recall"] = accuracy.worst_class_recall
        return figures | {"weights": record.num_weights, "epochs": record.num_epochs, "train_s": record.train_s}
    if isinstance(record, BenchmarkRecord):
        figures = {"val_top1": record.accuracy["val"].top1} if "val" in record.accuracy else {}
        for scenario in judged(record.scenarios):
            ratio = scenario_ratio(scenario)
            names = ("speedup", "speedup_low", "speedup_high")
            figures |= {f"{scenario.name}_{name}": value for name, value in zip(names, ratio, strict=True)}
            figures[f"{scenario.name}_median_ms"] = 1000 * median_latency(scenario.latencies_s)
            figures[f"{scenario.name}_samples_per_s"] = samples_per_s(scenario.latencies_s, scenario.batch_size)
        return figures
    return {}


def to_table(rows: Sequence[dict[str, Value]], swept: Sequence[str]) -> Table:
    """The table for a terminal: parameters that differ, status, figures; bounds of intervals are in the CSV file."""
    numbers = dict.fromkeys(name for row in rows for name, value in row.items() if isinstance(value, int | float))
    figures = [name for name in numbers if not name.endswith(("_low", "_high"))]
    filled = {name for row in rows for name, value in row.items() if value not in (None, "")}
    columns = [*swept, "notebook", "backend", "status", *figures, "reason"]
    shown = [name for name in columns if name in filled.union(swept)]
    return Table(shown, [[row.get(name, "") for name in shown] for row in rows], row_head=False)
