"""Speedups over earlier runs. One measurement proves nothing: a change is confirmed by a second one of the same run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from lib.analysis.judgement import disturbance
from lib.analysis.statistics import Ratio, noise_floor, scenario_ratio
from lib.errors import UserError
from lib.records.run import run_folder
from lib.records.schema import BENCHMARK, BenchmarkRecord, OtherSchemaError, read_record, second_path

EARLIER_RUNS = "one that holds earlier runs, such as runs"
MIN_RUNS = 3  # earlier runs without which a range says nothing
DIRECTIONS = {1: "faster", -1: "slower"}
SUSPECTED, CONFIRMED = "suspected slower", "confirmed slower"  # the two verdicts that ask for something


@dataclass(frozen=True)
class Point:
    """The speedup of one backend in one scenario of one run."""

    run: str  # name of its folder
    started: datetime
    ratio: Ratio
    noise_floor: float


@dataclass(frozen=True)
class Trend:
    """One backend in one scenario over the runs, the oldest first, this run last.

    Attributes:
        second: the second measurement of this run, where there is one, beside the earlier runs on its own kind of CPU.
    """

    backend: str
    scenario: str
    points: list[Point]
    second: Trend | None = None

    @property
    def earlier(self) -> list[Point]:
        return self.points[:-1]

    @property
    def direction(self) -> int | None:
        """1 or -1 if this run is beyond the earlier ones, 0 if it is not, None with too few of them."""
        return _beyond(self.points[-1], self.earlier) if len(self.earlier) >= MIN_RUNS else None

    @property
    def verdict(self) -> str:
        """`no change`, `suspected faster`, `confirmed slower`, `slower, not confirmed`, `too few runs`, ...

        Suspected: the interval is beyond the range of the earlier speedups by more than the noise floor. Confirmed:
        so does that of the second measurement. Where the second cannot be judged, the suspicion remains.
        """
        if self.direction is None:
            return "too few runs"
        if not self.direction:
            return "no change"
        word, second = DIRECTIONS[self.direction], self.second.direction if self.second is not None else None
        if second is None:
            return f"suspected {word}"
        return f"confirmed {word}" if second == self.direction else f"{word}, not confirmed"


@dataclass(frozen=True)
class History:
    """Earlier runs beside this one.

    Attributes:
        trends: of all backends and scenarios of this run.
        num_runs: earlier runs with at least one record that is comparable.
        left_out: why records of earlier runs were not used -> how many.
    """

    trends: list[Trend] = field(default_factory=list)
    num_runs: int = 0
    left_out: dict[str, int] = field(default_factory=dict)

    def words(self) -> str:
        """How many runs, and what was left out."""
        words = f"{self.num_runs} earlier runs are comparable"
        if self.left_out:
            words += "; left out: " + ", ".join(f"{count} records {why}" for why, count in self.left_out.items())
        return words + "."


def load_history(folder: str | Path, measured: Sequence[BenchmarkRecord], run_dir: Path) -> History:
    """Read earlier runs below a folder; records that are damaged or not comparable are counted and left out.

    Args:
        folder: that holds run folders; a relative path counts from the project root.
        measured: records of the run that is judged, which does not count as an earlier one.
        run_dir: of that run; its second measurements are read from there.

    Raises:
        UserError: no such folder.
    """
    root = run_folder(folder, EARLIER_RUNS)
    folders = sorted({path.resolve() for path in root.iterdir() if path.is_dir()} - {run_dir.resolve()})
    current = [record for record in measured if record.status == "ok"]
    history = _compared(folders, current, run_dir)
    again = []
    for record in current:
        with suppress(UserError):  # one that is not there, or cannot be read, confirms nothing
            again.append(read_record(second_path(run_dir, record.backend), BenchmarkRecord))
    seconds = {(trend.backend, trend.scenario): trend for trend in _compared(folders, again, run_dir).trends}
    trends = [replace(trend, second=seconds.get((trend.backend, trend.scenario))) for trend in history.trends]
    return replace(history, trends=trends)


def _compared(folders: Sequence[Path], measured: Sequence[BenchmarkRecord], run_dir: Path) -> History:
    """Records of one run beside the earlier ones that may be compared with each of them."""
    current = {record.backend: record for record in measured}
    left_out: dict[str, int] = {}
    points: dict[tuple[str, str], list[Point]] = {}
    runs = set()
    for folder in folders:
        for path in sorted((folder / "results").glob(f"{BENCHMARK}.*.json")):
            record, why = _read(path, current)
            if record is None:
                left_out[why] = left_out.get(why, 0) + 1
                continue
            runs.add(folder)
            for name, point in _points(record, folder.name, current[record.backend]):
                points.setdefault((record.backend, name), []).append(point)
    trends = []
    for backend, record in current.items():
        for name, newest_point in _points(record, run_dir.resolve().name, record):
            earlier = sorted(points.get((backend, name), []), key=lambda point: point.started)
            trends.append(Trend(backend, name, [*earlier, newest_point]))
    return History(trends, len(runs), left_out)


def _read(path: Path, current: dict[str, BenchmarkRecord]) -> tuple[BenchmarkRecord | None, str]:
    """A record that may be compared with the newest one, or why not."""
    try:
        record = read_record(path, BenchmarkRecord)
    except OtherSchemaError:
        return None, "of another schema"
    except UserError:
        return None, "that are damaged"
    newest = current.get(record.backend)
    if newest is None:
        return None, "of backends that this run did not measure"
    if record.status != "ok":
        return None, "without numbers"
    for why, asked in _ALIKE.items():
        if asked(record) != asked(newest):
            return None, why
    return (None, "that are newer than this run") if _moment(record) > _moment(newest) else (record, "")


def _network(record: BenchmarkRecord) -> tuple[object, ...]:
    sizes = record.params.get("image_size"), record.params.get("batch_size")
    return record.model, record.recipe, record.random_weights, record.profile, *sizes


def _cpu(record: BenchmarkRecord) -> tuple[object, ...]:
    machine = record.environment
    return machine.architecture, machine.cpu_model, machine.num_threads, machine.emulated


# what comparable records have in common, by the words for one that differs
_ALIKE: dict[str, Callable[[BenchmarkRecord], object]] = {
    "of another recipe, network or profile": _network,
    "of other data": lambda record: record.data.manifest_hash if record.data is not None else None,
    "of another CPU or number of threads": _cpu,
}


def _moment(record: BenchmarkRecord) -> datetime:
    return datetime.fromisoformat(record.started)


def _points(record: BenchmarkRecord, run: str, newest: BenchmarkRecord) -> list[tuple[str, Point]]:
    """Scenarios of a record at the batch sizes of the newest one; disturbed ones are left out."""
    sizes = {scenario.name: scenario.batch_size for scenario in newest.scenarios}
    return [
        (scenario.name, Point(run, _moment(record), scenario_ratio(scenario), noise_floor(scenario)))
        for scenario in record.scenarios
        if sizes.get(scenario.name) == scenario.batch_size and disturbance(scenario) is None
    ]


def _beyond(point: Point, others: Sequence[Point]) -> int:
    """1 or -1 if the whole interval is above or below the range of the others by more than the noise, else 0."""
    margin = 1 + max([point.noise_floor, *(other.noise_floor for other in others)])
    if point.ratio.low > max(other.ratio.value for other in others) * margin:
        return 1
    if point.ratio.high < min(other.ratio.value for other in others) / margin:
        return -1
    return 0
