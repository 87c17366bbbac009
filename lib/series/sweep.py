"""The `sweep` command: the same notebooks for every combination of parameter values, and one table of what came out.

Each combination is a run folder of its own, named by its parameters. What is there already and still belongs to the
same parameters, images, code and checkpoint is not run again. So an interrupted sweep goes on where it stopped, on
whatever engine.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
import shutil
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TextIO

from lib.analysis.csv_files import to_csv
from lib.analysis.judgement import disturbances, judged
from lib.analysis.statistics import median_latency, samples_per_s, scenario_ratio
from lib.errors import UserError, unknown
from lib.files import CHECKPOINT_NAME, project_path, replacing, sha256_file, write_atomic
from lib.html.sweep_page import PAGE, write_sweep_page
from lib.progress import to_stderr
from lib.records.run import Job, load_run
from lib.records.schema import BENCHMARK, TRAIN, BenchmarkRecord, ExploreRecord, ParameterValue, Record, TrainRecord
from lib.report.caveats import warnings_words
from lib.report.table import Table, Value
from lib.series.combination import Combination, unfinished
from lib.series.engines import Event, Task, get_engine
from lib.series.joblist import add_jobs
from lib.series.jobs import plan_jobs
from lib.series.preflight import check_data, check_installed, image_hashes
from lib.series.rundir import claimed, prepare_run_dir
from lib.series.sources import code_hash

TABLE = "sweep.csv"
MOST_POINTS = 1000
OTHER_INPUT = "it ran on other images or other code than there are where the sweep was started; make them the same"
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


class Plan(NamedTuple):
    """What a sweep runs."""

    notebooks: Sequence[str]
    values: dict[str, list[str]]  # parameter -> values as typed
    backends: Sequence[str]


def read_plan(path: str) -> Plan:
    """The plan in a TOML file: `notebooks` and, if wanted, `backends` are lists, `[parameters]` has a list for each.

    Raises:
        UserError: no such file, or another content.
    """
    file = project_path(path)
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
        given = content.pop("parameters", {})
        values = {name: [_typed(value) for value in choices] for name, choices in given.items()}
        plan = Plan([str(name) for name in content.pop("notebooks")], values, content.pop("backends", []))
        if content:
            raise ValueError(f"it has {', '.join(content)}")
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else f"{error}"
        raise UserError(
            f"{file} is not a sweep ({why}); it needs notebooks = [...] and [parameters] with a list for each, "
            "and may have backends = [...]"
        ) from None
    for name, choices in values.items():
        split_values(name, ",".join(choices))
    return plan


def _typed(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def plan_points(plan: Plan) -> list[Point]:
    """Every combination, the last parameter changing fastest. Everything is checked before anything starts.

    Raises:
        UserError: unknown notebook, parameter or backend, a bad value, too many combinations.
    """
    notebooks, values, backends = plan
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
    plan: Plan,
    out: str,
    *,
    engine: str = "local",
    num_jobs: int = 1,
    at: str = "",
    only: str = "",
    network_of: str = "",
    again: bool = False,
    limits: Mapping[str, int | None] | None = None,
) -> int:
    """Run all combinations, write `sweep.csv` whenever one has ended, and at the end the page; print the table.

    A combination that fails is kept, with its reason in the table, and stops nothing.

    Args:
        out: folder for the run folders and the table.
        engine: what runs them, by its name in `lib.series.engines`.
        num_jobs: combinations at a time on one node, which share its cores.
        at: where the engine runs them; its own.
        only: the folder of the only combination that is run now; empty = all.
        network_of: run folder whose checkpoint `03_benchmark` measures in every combination.
        again: also run what is there already.
        limits: of `run_jobs`.

    Returns:
        The exit status: 0, or 1 where something failed.

    Raises:
        UserError: bad input, when nothing has been started or written; or the engine itself is gone.
    """
    points = plan_points(plan)
    if only and only not in (names := [point.folder for point in points]):
        raise unknown("combination", only, names)
    checkpoint = _checkpoint_of(network_of, points)
    known: dict[tuple[ParameterValue | None, ...], str] = {}
    images: dict[str, dict[str, str]] = {}  # by folder
    for point in points:
        if plan.backends or "backend" in plan.values:
            check_installed(point.jobs)
        images[point.folder] = image_hashes(point.jobs, known) or {}
        if not images[point.folder]:
            check_data(point.jobs, to_stderr)
    runner = get_engine(engine)(num_jobs, at)
    runner.connect()
    folder = prepare_run_dir(out)
    code = {notebook: code_hash(notebook) for notebook in {job.notebook for point in points for job in point.jobs}}
    with claimed(folder):
        tasks = []
        for point in points:
            if only not in ("", point.folder):
                continue
            run_dir = prepare_run_dir(folder / point.folder)
            _bring(checkpoint, run_dir)
            combination = Combination(
                point.folder, plan.notebooks, point.given, plan.backends, code, images[point.folder],
                limits or {}, again,
            )  # fmt: skip
            if again or unfinished(point.jobs, load_run(run_dir), combination):
                tasks.append(Task(combination, run_dir, point.jobs))
            else:
                to_stderr(f"{_words(point.given)}: done already")
        by_folder = {point.folder: point for point in points}
        known_rows = {name: table_rows(folder, [point]) for name, point in by_folder.items()}
        board = Board(sys.stderr, len(tasks))
        for event in runner.run(tasks):
            board.show(event)
            if event.reason is not None:
                _keep_reason(event.task, event.reason)
                name = event.task.combination.folder
                known_rows[name] = table_rows(folder, [by_folder[name]])
                write_atomic(folder / TABLE, to_csv([row for rows in known_rows.values() for row in rows]))
        rows = write_results(folder, points, plan)
    print(to_table(rows, [name for name, choices in plan.values.items() if len(choices) > 1]))
    print(f"\ntable: {folder / TABLE}\npage: {folder / PAGE}\npages: {folder}/*/index.html")
    mine = [row for row in rows if only in ("", row["folder"])]
    return 1 if any(row["status"] not in ("ok", "unavailable") for row in mine) else 0


def write_results(folder: Path, points: Sequence[Point], plan: Plan) -> list[dict[str, Value]]:
    """Write the table and the page of a sweep from its run folders; returns the rows of the table."""
    rows = table_rows(folder, points)
    write_atomic(folder / TABLE, to_csv(rows))
    runs = [load_run(folder / point.folder) for point in points]
    records = {f"{run.path.name} {label}": record for run in runs for label, record in run.records.items()}
    write_sweep_page(folder, rows, list(plan.values), records)
    return rows


def _keep_reason(task: Task, reason: str) -> None:
    """Put into the list of a run folder what its launch could not write there."""
    run = load_run(task.run_dir)
    ended = {job.label: job.status for job in run.jobs}
    left = unfinished(task.jobs, run, task.combination)
    if not reason:
        reason, left = OTHER_INPUT, [job for job in left if ended.get(job.label) == "ok"]
    if left:
        add_jobs(task.run_dir, [replace(job, status="failed", reason=reason) for job in left])


class Board:
    """Progress of all nodes: a table that a terminal rewrites; elsewhere a line when something begins or ends."""

    def __init__(self, stream: TextIO, total: int) -> None:
        self._stream, self._total = stream, total
        self._running: dict[str, Event] = {}
        self._ended = self._height = 0

    def show(self, event: Event) -> None:
        """Take an event, and show what is new."""
        name = event.task.combination.folder
        line = f"{name} on {event.node}: begins" if name not in self._running else ""
        if event.reason is None:
            self._running[name] = event
        else:
            self._running.pop(name, None)
            self._ended += 1
            line = f"[{self._ended}/{self._total}] {name}: {event.reason or 'ended'}"
        live = self._stream.isatty()
        if self._height:
            self._stream.write(f"\x1b[{self._height}A\x1b[J")
        self._stream.write(line + "\n" if line else "")
        self._height = 0
        if live and self._running:
            rows = [(on.node, name, on.line[-60:]) for name, on in self._running.items()]
            text = str(Table(["node", "combination", "progress"], rows, row_head=False))
            self._height = text.count("\n") + 1
            self._stream.write(text + "\n")
        self._stream.flush()


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
            row |= {"seconds": ended.seconds} if ended and ended.seconds is not None else {}
            if record is not None:
                row |= {"machine_id": record.environment.machine_id, "checkpoint": record.checkpoint_sha256 or ""}
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
