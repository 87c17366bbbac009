"""Speedups over earlier runs. A single run alarms nobody: a change is confirmed only when two runs show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from lib.errors import UserError
from lib.files import project_path
from lib.records.comparison import BENCHMARK
from lib.records.judgement import disturbance
from lib.records.results import BenchmarkRecord, Environment, read_record
from lib.records.statistics import Ratio, noise_floor, scenario_ratio

MIN_RUNS = 3  # earlier runs without which a range says nothing
DIRECTIONS = {1: "faster", -1: "slower"}


@dataclass(frozen=True)
class Point:
    """The speedup of one backend in one scenario of one run."""

    run: str  # name of its folder
    started: datetime
    ratio: Ratio
    noise_floor: float


@dataclass(frozen=True)
class Trend:
    """One backend in one scenario over the runs, the oldest first, the newest last."""

    backend: str
    scenario: str
    points: list[Point]

    @property
    def earlier(self) -> list[Point]:
        return self.points[:-1]

    @property
    def verdict(self) -> str:
        """`no change`, `suspected faster`, `confirmed slower`, `too few runs`, ...

        Suspected: the newest interval lies beyond the range of the earlier speedups by more than the noise floor.
        Confirmed: it lies beyond the range of those before the last two runs, and so does that of the run before.
        """
        if len(self.earlier) < MIN_RUNS:
            return "too few runs"
        newest, before = self.points[-1], self.points[-2]
        if len(self.points) - 2 >= MIN_RUNS:
            direction = _beyond(newest, self.points[:-2])
            if direction and direction == _beyond(before, self.points[:-2]):
                return f"confirmed {DIRECTIONS[direction]}"
        direction = _beyond(newest, self.earlier)
        return f"suspected {DIRECTIONS[direction]}" if direction else "no change"


@dataclass(frozen=True)
class History:
    """Earlier runs beside the newest.

    Attributes:
        trends: of all backends and scenarios of the newest run.
        num_runs: earlier runs with at least one record that is comparable.
        left_out: why records of earlier runs were not used -> how many.
    """

    trends: list[Trend] = field(default_factory=list)
    num_runs: int = 0
    left_out: dict[str, int] = field(default_factory=dict)

    def words(self) -> str:
        """How many runs, and what was left out."""
        told = f"{self.num_runs} earlier runs are comparable"
        if self.left_out:
            told += "; left out: " + ", ".join(f"{count} records {why}" for why, count in self.left_out.items())
        return told + "."


def load_history(folder: str | Path, newest: Sequence[BenchmarkRecord], run_dir: Path) -> History:
    """Read earlier runs below a folder; damaged records, and those of another kind of run, are counted and left out.

    Args:
        folder: holds run folders; a relative path counts from the project root.
        newest: records of the run that is judged, which does not count as an earlier one.

    Raises:
        UserError: no such folder.
    """
    root = project_path(folder)
    if not root.is_dir():
        raise UserError(f"history {str(folder)!r} is no folder; give one that holds earlier runs, such as runs")
    current = {record.backend: record for record in newest if record.status == "ok"}
    left_out: dict[str, int] = {}
    points: dict[tuple[str, str], list[Point]] = {}
    runs = set()
    folders = sorted({path.resolve() for path in root.iterdir() if path.is_dir()} - {run_dir.resolve()})
    for folder_of_run in folders:
        for path in sorted((folder_of_run / "results").glob(f"{BENCHMARK}.*.json")):
            record, why = _read(path, current)
            if record is None:
                left_out[why] = left_out.get(why, 0) + 1
                continue
            runs.add(folder_of_run)
            for name, point in _points(record, folder_of_run.name, current[record.backend]):
                points.setdefault((record.backend, name), []).append(point)
    trends = []
    for backend, record in current.items():
        for name, newest_point in _points(record, run_dir.resolve().name, record):
            earlier = sorted(points.get((backend, name), []), key=lambda point: point.started)
            trends.append(Trend(backend, name, [*earlier, newest_point]))
    return History(trends, len(runs), left_out)


def _read(path: Path, current: dict[str, BenchmarkRecord]) -> tuple[BenchmarkRecord | None, str]:
    """A record that may stand beside the newest one, or why not."""
    try:
        record = read_record(path, BenchmarkRecord)
    except UserError as error:
        return None, "of another version" if "record schema" in str(error) else "that are damaged"
    newest = current.get(record.backend)
    if newest is None:
        return None, "of backends that this run did not measure"
    if record.status != "ok":
        return None, "without numbers"
    if _moment(record) is None:
        return None, "without a time"
    if _network(record) != _network(newest):
        return None, "of another network or profile"
    if _cpu(record.environment) != _cpu(newest.environment):
        return None, "of another CPU or number of threads"
    newest_moment = _moment(newest)
    if newest_moment is not None and (_moment(record) or newest_moment) > newest_moment:
        return None, "that are newer than this run"
    return record, ""


def _network(record: BenchmarkRecord) -> tuple[object, ...]:
    return record.model, record.profile, record.params.get("image_size"), record.params.get("batch_size")


def _cpu(environment: Environment) -> tuple[object, ...]:
    return environment.architecture, environment.cpu_model, environment.num_threads, environment.emulated


def _moment(record: BenchmarkRecord) -> datetime | None:
    try:
        moment = datetime.fromisoformat(record.started)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _points(record: BenchmarkRecord, run: str, newest: BenchmarkRecord) -> list[tuple[str, Point]]:
    """Scenarios of a record at the batch sizes of the newest one; what was disturbed is no point."""
    sizes = {scenario.name: scenario.batch_size for scenario in newest.scenarios}
    moment = _moment(record) or datetime.now(UTC)
    return [
        (scenario.name, Point(run, moment, scenario_ratio(scenario), noise_floor(scenario)))
        for scenario in record.scenarios
        if sizes.get(scenario.name) == scenario.batch_size and disturbance(scenario) is None
    ]


def _beyond(point: Point, others: Sequence[Point]) -> int:
    """1 or -1 where the whole interval lies above or below the range of the others by more than the noise, else 0."""
    margin = 1 + max([point.noise_floor, *(other.noise_floor for other in others)])
    if point.ratio.low > max(other.ratio.value for other in others) * margin:
        return 1
    if point.ratio.high < min(other.ratio.value for other in others) / margin:
        return -1
    return 0
