"""The session: its steps with real workers, and backends that misbehave on purpose."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lib.analysis.judgement import record_warnings
from lib.backends import Backend, get_backend
from lib.backends.null import Null
from lib.backends.torch_onednn import TorchOneDnn
from lib.bench import kept_models, peaks
from lib.bench.client import WorkerClient
from lib.bench.plan import SWEEPS, SessionPlan, SweepPlan
from lib.bench.session import Session
from lib.bench.workers import Workers
from lib.data import Data
from lib.granted import num_cores
from lib.model import Checkpoint, load_checkpoint
from lib.records.schema import PROFILES, Peak, Peaks, Profile
from lib.report.caveats import warning_words
from lib.training.evaluation import evaluate, predict_logits
from tests.made_data import made_data
from tests.test_bench import logits_for
from tests.test_training import make_split
from tests.untrained import save_untrained

SMOKE = SessionPlan("smoke", num_threads=1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return load_checkpoint(save_untrained(tmp_path_factory.mktemp("model"), "learning_path"))


@pytest.fixture(scope="module")
def data() -> Data:
    return made_data(make_split("train", 20, 0), make_split("val", 60, 1))


def measured(backend: str | type[Backend], checkpoint: Checkpoint, data: Data) -> Session:
    """A session that has run all steps of a notebook but the last two."""
    session = Session(backend, checkpoint, data, SMOKE)
    for step in (session.prepare, session.start, session.check_parity, session.check_proof, session.measure):
        step()
    session.measure_layers()
    session.close()
    return session


def alive(pids: set[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_backend_and_reference_are_measured_in_the_same_rounds(checkpoint: Checkpoint, data: Data) -> None:
    record = measured("torch-blas", checkpoint, data).record
    assert record.status == "ok", record.error
    assert record.parity is not None and record.parity.agreement == 1.0
    assert record.proof is not None and record.proof.passed
    for scenario, plan in zip(record.scenarios, SMOKE.scenarios(), strict=True):
        sides = (scenario.latencies_s, scenario.reference_latencies_s, scenario.control_latencies_s)
        assert [len(latencies) for latencies in sides] == [plan.num_rounds] * 3
    assert [table.scenario for table in record.layers] == ["single_stream", "offline"]
    conv = record.layers[1].layers[0]
    assert conv.name == "conv1" and conv.kernels != conv.reference_kernels
    assert conv.num_inputs == 3 * 32 * 32 and conv.num_weights == 3 * 32 * 9 + 32
    assert record.cold_start is not None and (record.cold_start.peak_memory_bytes or 0) > 1e7
    assert record.environment.versions["torch"] and record.checkpoint_sha256 == checkpoint.sha256
    assert (record.backend, record.reference, record.storage) == ("torch-blas", "torch-onednn", "fp32")


def test_null_measures_the_harness_and_has_no_accuracy_and_its_steps_can_be_run_again(
    checkpoint: Checkpoint, data: Data
) -> None:
    session = measured("null", checkpoint, data)
    session.measure()
    session.close()
    record = session.record
    assert record.status == "ok" and record.parity is None and record.accuracy == {} and record.layers == []
    assert [scenario.name for scenario in record.scenarios] == ["single_stream", "offline"]
    for scenario in record.scenarios:
        calls, reference_calls = np.concatenate(scenario.latencies_s), np.concatenate(scenario.reference_latencies_s)
        assert np.median(calls) < 0.02 * np.median(reference_calls), scenario.name


def test_a_scenario_is_measured_in_several_sets_of_new_processes(
    checkpoint: Checkpoint, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[bool, int]] = []  # whether it is the backend, and its pid
    load = WorkerClient.load

    def load_and_note(worker: WorkerClient, *arguments: Any) -> Any:
        started.append((worker.backend.name == "null", worker.pid))
        return load(worker, *arguments)

    monkeypatch.setattr(WorkerClient, "load", load_and_note)
    session = Session("null", checkpoint, data, SMOKE)
    session.plans.left = [replace(plan, num_starts=3) for plan in session.plans.left]
    session.start()
    first_start = session.record.cold_start
    session.measure()
    session.close()
    assert session.record.status == "ok", session.record.error
    for scenario, plan in zip(session.record.scenarios, session.plans.left, strict=True):
        assert scenario.rounds_per_start == [plan.part.num_rounds] * 3
        sides = (scenario.latencies_s, scenario.reference_latencies_s, scenario.control_latencies_s)
        assert {len(side) for side in sides} == {3 * plan.part.num_rounds}
    assert len({pid for _, pid in started}) == 15, "the second scenario begins in the last processes of the first"
    places = [[is_backend for is_backend, _ in started[begin : begin + 3]].index(True) for begin in range(0, 15, 3)]
    assert sorted(places[:3]) == sorted(places[2:]) == [0, 1, 2], "each role starts once in every place"
    assert session.record.cold_start is first_start, "later processes find their files in the cache"


def test_full_gives_the_accuracy_of_a_backend_on_all_test_images(checkpoint: Checkpoint, data: Data) -> None:
    test = make_split("test", 90, 2)
    session = Session("torch-blas", checkpoint, replace(data, test=test), replace(SMOKE, profile="full"))
    session.start()
    session.check_parity()
    session.close()
    record = session.record
    assert record.parity is not None and record.parity.num_images == 60, record.error
    assert set(record.accuracy) == {"val", "test"} and record.accuracy["val"].num_images == 60
    logits = predict_logits(checkpoint.model, checkpoint.preprocessing, test.images)
    assert record.accuracy["test"] == evaluate(logits, test).accuracy


@pytest.mark.parametrize("profile", PROFILES)
def test_answers_are_compared_on_all_validation_images_and_those_of_random_weights_on_a_sample(
    profile: Profile, checkpoint: Checkpoint, data: Data
) -> None:
    more = replace(data, val=make_split("val", 1100, 1), test=make_split("test", 90, 2))
    random = replace(checkpoint, metadata=replace(checkpoint.metadata, num_epochs=0))
    for network, num_compared, reads_test in ((checkpoint, 1100, profile == "full"), (random, 1000, False)):
        splits = Session("torch-blas", network, more, replace(SMOKE, profile=profile)).workers.splits
        assert splits["val"].num_images == num_compared and ("test" in splits) == reads_test
        assert splits["calibration"].num_images == 0, "for this backend"


@pytest.mark.parametrize(
    ("attribute", "value", "backend", "status", "words"),
    [
        ("packages", ("no_such_runtime",), "null", "failed", "packages are missing: no_such_runtime; install them"),
        ("needs_any_flag", ("no_such_flag",), "torch-blas", "unavailable", "needs a CPU with no_such_flag"),
    ],
)
def test_what_cannot_run_here_is_not_measured_and_says_why(
    attribute: str, value: Any, backend: str, status: str, words: str, checkpoint: Checkpoint, data: Data,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(get_backend(backend), attribute, value)
    record = measured(backend, checkpoint, data).record
    assert record.status == status and words in record.error and record.scenarios == []
    assert record.preparation is None


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, np.ndarray]], None]:
    """Let `null` count as a network, and let the roles give these logits."""

    def answer(logits: dict[str, np.ndarray]) -> None:
        monkeypatch.setattr(get_backend("null"), "is_network", True)
        monkeypatch.setattr(Workers, "logits", lambda self, split, role: logits[role])

    return answer


def test_backend_that_answers_differently_is_not_timed(
    checkpoint: Checkpoint, data: Data, answering: Callable[..., None]
) -> None:
    answering({"reference": logits_for(data.val.labels), "backend": np.zeros((60, 43), np.float32)})
    record = measured("null", checkpoint, data).record
    assert record.status == "failed" and "not the same network" in record.error and record.scenarios == []


def test_undecided_backend_is_timed_and_says_that_it_is_not_ranked(
    checkpoint: Checkpoint, data: Data, answering: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_backend("null"), "sqnr_min_db", -100.0)
    labels = data.val.labels
    answering({"reference": logits_for(labels), "backend": logits_for(labels, wrong=4)})  # all four of one track
    session = Session("null", checkpoint, data, SMOKE)
    session.check_parity()
    session.measure()
    session.close()
    record = session.record
    assert record.status == "ok" and record.scenarios
    assert record.parity is not None and record.parity.outcome == "inconclusive"
    (warning,) = (warning for warning in record_warnings(record) if warning.kind == "inconclusive")
    assert warning.figures == {"null": record.parity.reason} and "not ranked" in warning_words(warning)


@contextmanager
def interrupted_in(command: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[set[int]]:
    """Interrupt the kernel while a worker is asked for something, of several the second; yields the pids."""
    pids: set[int] = set()
    ask = WorkerClient.ask

    def noted(worker: WorkerClient, asked: str, **arguments: object) -> dict[str, Any]:
        pids.add(worker.pid)
        if asked == command and (command == "prepare" or len(pids) > 2):
            patched.setattr("lib.bench.client.select", SimpleNamespace(select=interrupt))
        return ask(worker, asked, **arguments)

    def interrupt(*_: object) -> None:  # while waiting for the answer
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(WorkerClient, "ask", noted)
        yield pids


@pytest.mark.parametrize("command", ["prepare", "load", "measure"])
def test_step_that_was_interrupted_runs_when_it_is_run_again(
    command: str, checkpoint: Checkpoint, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session("null", checkpoint, data, SMOKE)
    with interrupted_in(command, monkeypatch) as pids:
        session.measure()
    assert session.record.status == "ok" and not session.workers.running
    assert pids and not alive(pids), "workers were left behind"
    session.measure()
    session.close()
    assert session.record.status == "ok" and len(session.record.scenarios) == 2, session.record.error


def test_worker_that_dies_fails_the_session_and_nothing_else(checkpoint: Checkpoint, data: Data) -> None:
    session = Session("null", checkpoint, data, SMOKE)
    session.start()
    os.kill(session.workers.running["backend"].pid, 9)
    session.measure()
    session.measure_layers()
    session.close()
    assert session.record.status == "failed" and "SIGKILL" in session.record.error and not session.workers.running


class BrokenClock(Null):
    """Its process has a clock that runs backwards."""

    name = "broken-clock"

    def load(self, checkpoint: Path, folder: Path, num_threads: int) -> None:
        super().load(checkpoint, folder, num_threads)
        ticks = iter(range(10**6, 0, -1))
        time.perf_counter = lambda: float(next(ticks))


def test_clock_that_goes_backwards_fails_the_session(checkpoint: Checkpoint, data: Data) -> None:
    record = measured(BrokenClock, checkpoint, data).record
    assert record.status == "failed" and "clock went backwards" in record.error


class NeverEnough(TorchOneDnn):
    """Has no memory for large batches."""

    name = "never-enough"

    def trace(self, images: np.ndarray) -> dict[str, list[str]]:
        if len(images) > 1:
            raise MemoryError("Unable to allocate 9 TiB")
        return super().trace(images)


def test_batch_beyond_the_memory_is_left_out_and_the_rest_is_measured(checkpoint: Checkpoint, data: Data) -> None:
    session = Session(NeverEnough, checkpoint, data, SMOKE)
    session.check_proof()
    session.measure()
    session.measure_layers()
    record = session.record
    assert record.status == "ok" and [scenario.name for scenario in record.scenarios] == ["single_stream"]
    assert [table.scenario for table in record.layers] == ["single_stream"]
    session.close()
    status: str = record.status
    assert status == "failed"
    assert "offline at batch 256 does not fit into memory" in record.error and "9 TiB" in record.error


def test_more_threads_than_cores_are_allowed_and_flagged(checkpoint: Checkpoint, data: Data) -> None:
    record = Session("null", checkpoint, data, replace(SMOKE, num_threads=num_cores() + 1)).record
    assert record.status == "ok" and [warning.kind for warning in record_warnings(record)] == ["too_many_threads"]


class RefusesFour(Null):
    """Breaks with batches of four, and leaves behind which processes ran, with how many threads."""

    name = "refuses-four"

    def load(self, checkpoint: Path, folder: Path, num_threads: int) -> None:
        super().load(checkpoint, folder, num_threads)
        (checkpoint.parent / f"threads-{os.environ['OMP_NUM_THREADS']}-{os.getpid()}").touch()

    def predict(self, images: np.ndarray) -> np.ndarray:
        if len(images) == 4:
            raise RuntimeError("four are too many")
        return super().predict(images)


def test_sweep_measures_batch_sizes_and_threads_and_notes_the_point_that_breaks(
    checkpoint: Checkpoint, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SWEEPS, "smoke", SweepPlan((1, 4, 8), (1, 8), num_rounds=2, max_rounds=2, seconds=0.0))
    own = replace(checkpoint, path=Path(shutil.copy(checkpoint.path, tmp_path)))
    session = Session(RefusesFour, own, data, replace(SMOKE, num_threads=2))
    session.measure_sweep()
    assert session.record.status == "ok", session.record.error
    points = {(point.num_threads, point.batch_size): point for point in session.record.sweep}
    assert list(points) == [(1, 1), (1, 8), (2, 1), (2, 4), (2, 8)]
    broken = points.pop((2, 4))
    assert "four are too many" in broken.error and broken.latencies_s == broken.reference_latencies_s == []
    for place, point in points.items():
        assert (len(point.latencies_s), len(point.reference_latencies_s), point.error) == (2, 2, ""), place
    started = [path.name.split("-")[1:] for path in tmp_path.glob("threads-*")]
    assert Counter(threads for threads, _ in started) == {"1": 1, "2": 2}, "new ones for new threads and after a break"
    assert not alive({int(pid) for _, pid in started}), "workers were left behind"
    session.close()


def test_profile_without_a_sweep_measures_none(checkpoint: Checkpoint, data: Data) -> None:
    session = Session("null", checkpoint, data, replace(SMOKE, profile="fast"))
    session.measure_sweep()
    assert session.record.status == "ok" and session.record.sweep == []


def test_machine_is_measured_with_the_threads_of_the_session_unless_it_has_failed(
    checkpoint: Checkpoint, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Peaks({"fp32": Peak(1e11, "a library")}, Peak(1e10, "copy"))
    asked: list[int] = []

    def measure_peaks(num_threads: int) -> Peaks:
        asked.append(num_threads)
        return found

    monkeypatch.setattr(peaks, "measure_peaks", measure_peaks)
    session = Session("null", checkpoint, data, SMOKE, tmp_path)
    session.measure_machine()
    assert session.record.peaks == found and asked == [1]
    assert session.record.preprocessing is not None
    assert session.record.preprocessing.num_images == data.val.num_images
    broken = Session("null", checkpoint, data, SMOKE)
    broken.fail("broken before")
    broken.measure_machine()
    assert broken.record.peaks is None and broken.record.preprocessing is None


class Exports(Null):
    """Writes what it is told to."""

    name = "exports"

    def prepare(self, checkpoint: Path, calibration: np.ndarray, folder: Path) -> None:
        (folder / "parts").mkdir()
        (folder / "parts" / "model.bin").write_bytes(b"weights")


def kept(backend: str | type[Backend], checkpoint: Checkpoint, data: Data, run_dir: Path) -> str:
    session = Session(backend, checkpoint, data, SMOKE, run_dir)
    session.prepare()
    session.close()
    assert session.record.preparation is not None, session.record.error
    return session.record.preparation.kept


def test_what_a_backend_prepares_is_kept_once_in_the_run_and_named_in_the_record(
    checkpoint: Checkpoint, data: Data, tmp_path: Path
) -> None:
    place = kept(Exports, checkpoint, data, tmp_path)
    assert (tmp_path / place / "parts" / "model.bin").read_bytes() == b"weights"
    assert kept(Exports, checkpoint, data, tmp_path) == place, "equal content, equal place"
    assert [path.name for path in (tmp_path / "models").iterdir()] == [Path(place).name]
    assert kept("null", checkpoint, data, tmp_path) == "", "nothing was prepared"


def test_models_are_not_kept_beyond_the_limit_of_a_run_nor_in_a_sweep(
    checkpoint: Checkpoint, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setenv(kept_models.VARIABLE, "0")
        assert kept(Exports, checkpoint, data, tmp_path) == ""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "earlier").write_bytes(b"12345")
    monkeypatch.setattr(kept_models, "LIMIT_BYTES", 11)
    assert kept(Exports, checkpoint, data, tmp_path) == ""
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["earlier"]
