"""The session: its steps with real workers, and backends that misbehave on purpose."""

from __future__ import annotations

import hashlib
import os
import shutil
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
from lib.backends.interface import Tolerance
from lib.backends.null import Null
from lib.bench import kept_models, peaks
from lib.bench.client import WorkerClient
from lib.bench.plan import SWEEPS, SessionPlan, SweepPlan
from lib.bench.session import Session
from lib.bench.worker import Worker
from lib.bench.workers import Workers
from lib.data import Data
from lib.data.images import digest_images
from lib.model import Checkpoint, load_checkpoint
from lib.records.schema import PROFILES, BenchmarkRecord, Peak, Peaks, Preparation, Profile
from lib.report.caveats import warning_words
from lib.training.evaluation import evaluate, predict_logits
from tests.made_data import made_data
from tests.odd_backends import Exports, NeverEnough, RefusesFour
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


Made = Callable[..., Session]


@pytest.fixture
def session(checkpoint: Checkpoint, data: Data, monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    """Makes sessions of a backend, in smoke but for what is given, and closes them in the end. The reference is `null`
    too: torch takes seconds to import."""
    made: list[Session] = []

    def make(backend: str | type[Backend], run_dir: Path | None = None, **changes: Any) -> Session:
        monkeypatch.setattr("lib.bench.workers.REFERENCE", changes.pop("reference", "null"))
        own = {name: changes.pop(name, usual) for name, usual in (("checkpoint", checkpoint), ("data", data))}
        made.append(Session(backend, own["checkpoint"], own["data"], replace(SMOKE, **changes), run_dir))
        return made[-1]

    yield make
    for one in made:
        one.close()


def measured(session: Session) -> BenchmarkRecord:
    """The record after all steps of a notebook but the last two."""
    for step in (session.prepare, session.start, session.check_parity, session.check_proof, session.measure):
        step()
    session.measure_layers()
    session.close()
    return session.record


def alive(pids: set[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_scenario_is_measured_in_sets_of_new_processes(session: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[bool, int]] = []  # whether it is the backend, and its pid
    load = WorkerClient.load

    def load_and_note(worker: WorkerClient, *arguments: Any) -> Any:
        started.append((worker.backend is Exports, worker.pid))
        return load(worker, *arguments)

    monkeypatch.setattr(WorkerClient, "load", load_and_note)
    made = session(Exports)
    made.workers.load_at_once = False
    made.plans.left = [replace(plan, num_starts=3) for plan in made.plans.left]
    made.start()
    first_start = made.record.cold_start
    made.measure()
    assert made.record.status == "ok", made.record.error
    for scenario, plan in zip(made.record.scenarios, made.plans.left, strict=True):
        assert scenario.rounds_per_start == [plan.part.num_rounds] * 3
        sides = (scenario.latencies_s, scenario.reference_latencies_s, scenario.control_latencies_s)
        assert {len(side) for side in sides} == {3 * plan.part.num_rounds}
    assert len({pid for _, pid in started}) == 15, "the second scenario begins in the last processes of the first"
    places = [[is_backend for is_backend, _ in started[begin : begin + 3]].index(True) for begin in range(0, 15, 3)]
    assert sorted(places[:3]) == sorted(places[2:]) == [0, 1, 2], "each role starts once in every place"
    assert made.record.cold_start is first_start, "later processes find their files in the cache"


def test_full_gives_the_accuracy_on_all_test_images(session: Made, checkpoint: Checkpoint, data: Data) -> None:
    test = make_split("test", 90, 2)
    made = session("torch-blas", data=replace(data, test=test), profile="full", reference="torch-onednn")
    made.check_parity()
    record = made.record
    assert record.parity is not None and record.parity.num_images == 60, record.error
    assert set(record.accuracy) == {"val", "test"} and record.accuracy["val"].num_images == 60
    assert len({sample.digest for sample in record.samples}) == 16
    digests = [digest.tobytes().hex() for digest in digest_images(data.val.images)]
    images = data.val.images[[digests.index(sample.digest) for sample in record.samples]]
    logits = predict_logits(checkpoint.model, checkpoint.preprocessing, images)
    assert np.allclose([sample.logits for sample in record.samples], logits, atol=1e-4)
    logits = predict_logits(checkpoint.model, checkpoint.preprocessing, test.images)
    assert record.accuracy["test"] == evaluate(logits, test).accuracy


@pytest.mark.parametrize("profile", PROFILES)
def test_answers_are_compared_on_all_validation_images_and_those_of_random_weights_on_a_sample(
    profile: Profile, session: Made, checkpoint: Checkpoint, data: Data
) -> None:
    more = replace(data, val=make_split("val", 1100, 1), test=make_split("test", 90, 2))
    random = replace(checkpoint, metadata=replace(checkpoint.metadata, num_epochs=0))
    for network, num_compared, reads_test in ((checkpoint, 1100, profile == "full"), (random, 1000, False)):
        splits = session("torch-blas", checkpoint=network, data=more, profile=profile).workers.splits
        assert splits["val"].num_images == num_compared and ("test" in splits) == reads_test
        assert splits["calibration"].num_images == 0, "for this backend"


@pytest.mark.parametrize(
    ("attribute", "value", "backend", "status", "words"),
    [
        ("packages", ("no_such_runtime",), "null", "failed", "`packages` of null are missing: no_such_runtime; `make"),
        ("needs_any_flag", ("no_such_flag",), "torch-blas", "unavailable", "needs a CPU with no_such_flag"),
    ],
)
def test_what_cannot_run_here_is_not_measured_and_says_why(
    attribute: str, value: Any, backend: str, status: str, words: str, session: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_backend(backend), attribute, value)
    record = measured(session(backend))
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
    session: Made, data: Data, answering: Callable[..., None]
) -> None:
    answering({"reference": logits_for(data.val.labels), "backend": np.zeros((60, 43), np.float32)})
    record = measured(session("null"))
    assert record.status == "failed" and "not the same network" in record.error and record.scenarios == []


def test_undecided_backend_is_timed_and_says_that_it_is_not_ranked(
    session: Made, data: Data, answering: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_backend("null"), "tolerance", Tolerance(0.0005, -100.0, 0.999))
    labels = data.val.labels
    answering({"reference": logits_for(labels), "backend": logits_for(labels, wrong=4)})  # all four of one track
    made = session("null")
    made.check_parity()
    made.close()  # which ends no session: its steps can be run again
    made.measure()
    record = made.record
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
    command: str, session: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = session("null")
    with interrupted_in(command, monkeypatch) as pids:
        made.measure()
    assert made.record.status == "ok" and not made.workers.running
    assert pids and not alive(pids), "workers were left behind"
    made.measure()
    assert made.record.status == "ok" and len(made.record.scenarios) == 2, made.record.error


def test_worker_that_dies_fails_the_session_and_nothing_else(session: Made) -> None:
    made = session("null")
    made.start()
    os.kill(made.workers.running["backend"].pid, 9)
    made.measure()
    made.measure_layers()
    made.close()
    assert made.record.status == "failed" and "SIGKILL" in made.record.error and not made.workers.running


def test_clock_that_goes_backwards_is_not_trusted(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "images.npy", np.zeros((4, 3, 32, 32), np.float32))
    worker, ticks = Worker(Null()), iter(range(10**6, 0, -1))
    worker.load(str(checkpoint.path), "", 1, str(tmp_path / "images.npy"))
    monkeypatch.setattr("lib.bench.worker.time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    with pytest.raises(RuntimeError, match="clock went backwards"):
        worker.measure(1, num_warmup=0, min_seconds=0, min_iterations=1, max_iterations=9, offset=0)


def test_batch_beyond_the_memory_is_left_out_and_the_rest_is_measured(session: Made) -> None:
    made = session(NeverEnough)
    for step in (made.check_proof, made.measure, made.measure_layers, made.close):
        step()
    record = made.record
    assert [scenario.name for scenario in record.scenarios] == ["single_stream"]
    assert [plan.name for plan in made.plans.left] == ["single_stream"], "its layers alone are measured"
    assert record.status == "failed"
    assert "offline at batch 256 does not fit into memory" in record.error and "9 TiB" in record.error


def test_sweep_measures_batch_sizes_and_threads_and_notes_the_point_that_breaks(
    session: Made, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SWEEPS, "smoke", SweepPlan((1, 4, 8), (1, 8), num_rounds=2, max_rounds=2, seconds=0.0))
    own = replace(checkpoint, path=Path(shutil.copy(checkpoint.path, tmp_path)))
    made = session(RefusesFour, checkpoint=own, num_threads=2)
    made.measure_sweep()
    assert made.record.status == "ok", made.record.error
    points = {(point.num_threads, point.batch_size): point for point in made.record.sweep}
    assert list(points) == [(1, 1), (1, 8), (2, 1), (2, 4), (2, 8)]
    broken = points.pop((2, 4))
    assert "four are too many" in broken.error and broken.latencies_s == broken.reference_latencies_s == []
    for place, point in points.items():
        assert (len(point.latencies_s), len(point.reference_latencies_s), point.error) == (2, 2, ""), place
    started = [path.name.split("-")[1:] for path in tmp_path.glob("threads-*")]
    assert Counter(threads for threads, _ in started) == {"1": 1, "2": 2}, "new ones for new threads and after a break"
    assert not alive({int(pid) for _, pid in started}), "workers were left behind"


def test_profile_without_a_sweep_measures_none(session: Made) -> None:
    made = session("null", profile="fast")
    made.measure_sweep()
    assert made.record.status == "ok" and made.record.sweep == []


def test_machine_is_measured_with_the_threads_of_the_session_unless_it_has_failed(
    session: Made, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peaks, "measure_peaks", lambda num_threads, quick: Peaks({}, Peak(num_threads, str(quick))))
    made = session("null", tmp_path)
    made.workers.num_threads = 2
    made.measure_machine()
    assert made.record.peaks == Peaks({}, Peak(2, "True")), "quick in `smoke`"
    assert made.record.preprocessing is not None
    assert made.record.preprocessing.num_images == data.val.num_images
    broken = session("null")
    broken.fail("broken before")
    broken.measure_machine()
    assert broken.record.peaks is None and broken.record.preprocessing is None


def kept(made: Session) -> Preparation:
    made.prepare()
    assert made.record.preparation is not None, made.record.error
    return made.record.preparation


def test_what_a_backend_prepares_is_kept_once_in_the_run_and_named_in_the_record(session: Made, tmp_path: Path) -> None:
    prepared = kept(session(Exports, tmp_path))
    assert prepared.files == {"parts/model.bin": hashlib.sha256(b"weights").hexdigest()}
    assert (tmp_path / prepared.kept / "parts" / "model.bin").read_bytes() == b"weights"
    assert kept(session(Exports, tmp_path)).kept == prepared.kept, "equal content, equal place"
    assert [path.name for path in (tmp_path / "models").iterdir()] == [Path(prepared.kept).name]
    assert kept(session("null", tmp_path)).kept == "", "nothing was prepared"


def test_models_are_not_kept_beyond_the_limit_of_a_run_nor_in_a_sweep(
    session: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setenv(kept_models.VARIABLE, "0")
        assert kept(session(Exports, tmp_path)).kept == ""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "earlier").write_bytes(b"12345")
    monkeypatch.setattr(kept_models, "LIMIT_BYTES", 11)
    assert kept(session(Exports, tmp_path)).kept == ""
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["earlier"]
