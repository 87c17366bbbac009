"""Measuring: workers, rounds, parity and the session, with backends that misbehave on purpose."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.backends import Backend, get_backend
from lib.backends.interface import RUNTIME
from lib.backends.null import Null
from lib.backends.torch_onednn import TorchOneDnn
from lib.bench import peaks
from lib.bench.client import BackendError, OutOfMemoryError, WorkerClient
from lib.bench.parity import Tolerance, compare_logits
from lib.bench.plan import PLANS, SWEEPS, SweepPlan, scenario_plans, thread_counts
from lib.bench.planted import PLANTED, Planted, Planted5
from lib.bench.rounds import _groups, _outside_inputs, turns
from lib.bench.samples import balanced_sample
from lib.bench.session import Session
from lib.data import Data
from lib.data.preprocessing import Preprocessing
from lib.granted import num_cores
from lib.model import (
    Checkpoint,
    build_network,
    leaf_layers,
    load_checkpoint,
)
from lib.records.schema import PROFILES, Parity, Peak, Peaks, Profile
from lib.report.caveats import warning_words
from lib.training.evaluation import evaluate, predict_logits
from tests.made_data import made_data
from tests.test_training import make_split
from tests.untrained import save_untrained
from tests.waiting import cpu_seconds

FP32 = Tolerance(top1_drop=0.0005, sqnr_db=60.0, agreement=0.999)
LOOSE = Tolerance(top1_drop=0.0005, sqnr_db=-100.0, agreement=0.0)
PREPROCESSING = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return load_checkpoint(save_untrained(tmp_path_factory.mktemp("model"), "learning_path"))


@pytest.fixture(scope="module")
def data() -> Data:
    return made_data(make_split("train", 20, 0), make_split("val", 60, 1))


@pytest.fixture
def worker(checkpoint: Checkpoint, tmp_path: Path) -> Iterator[WorkerClient]:
    images = tmp_path / "images.npy"
    np.save(images, np.zeros((20, 3, 32, 32), np.float32))
    client = WorkerClient(get_backend("null"), 1)
    client.load(checkpoint.path, tmp_path, images)
    yield client
    client.kill()


def test_measuring_reaches_least_seconds_and_calls_and_stops_at_the_most(worker: WorkerClient) -> None:
    plan = {"batch_size": 4, "num_warmup": 1, "offset": 0, "max_iterations": 50}
    few = worker.ask("measure", min_seconds=0.0, min_iterations=7, **plan)["latencies_s"]
    assert len(few) == 7
    many = worker.ask("measure", min_seconds=60, min_iterations=1, **plan)["latencies_s"]
    assert len(many) == 50 and min(many) > 0
    begun = time.perf_counter()
    worker.ask("measure", min_seconds=0.2, min_iterations=1, **(plan | {"max_iterations": 10**9}))
    assert time.perf_counter() - begun >= 0.2


def cpu_in_a_second(pid: int) -> float:
    before = cpu_seconds(pid)
    time.sleep(1.0)
    return cpu_seconds(pid) - before


def test_idle_worker_sleeps(checkpoint: Checkpoint, tmp_path: Path) -> None:
    images = tmp_path / "images.npy"
    np.save(images, np.zeros((64, 3, 32, 32), np.float32))
    client = WorkerClient(get_backend("torch-onednn"), 2)
    try:
        client.load(checkpoint.path, tmp_path, images)
        client.ask(
            "measure", batch_size=32, num_warmup=1, min_seconds=0.1, min_iterations=3, max_iterations=99, offset=0
        )
        used = [cpu_in_a_second(client.pid)]
        while used[-1] > 0.02 and len(used) < 10:  # its threads spin for a moment after their work
            used.append(cpu_in_a_second(client.pid))
        assert used[-1] <= 0.02, used
    finally:
        client.kill()


def test_error_in_a_worker_names_command_and_cause(worker: WorkerClient) -> None:
    with pytest.raises(BackendError, match="null failed in predict: FileNotFoundError"):
        worker.ask("predict", images="/nowhere.npy", batch_size=1, out="/nowhere.npy")
    assert worker.ask(
        "measure", batch_size=1, num_warmup=0, min_seconds=0, min_iterations=1, max_iterations=9, offset=0
    )


def test_killed_worker_is_told_with_its_signal(worker: WorkerClient) -> None:
    os.kill(worker.pid, 9)
    with pytest.raises(BackendError, match=r"died with signal SIGKILL \(out of memory\?\)"):
        worker.ask("memory")


class Deaf(Null):
    """Does not end when it is asked to."""

    name = "deaf"

    def load(self, checkpoint: Path, folder: Path, num_threads: int) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def test_worker_that_ignores_its_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib.bench.client.END_LIMIT_S", 0.1)
    np.save(tmp_path / "images.npy", np.zeros((1, 3, 32, 32), np.float32))
    client = WorkerClient(Deaf, 1)
    client.load(tmp_path, tmp_path, tmp_path / "images.npy")
    client.kill()
    assert not Path(f"/proc/{client.pid}").exists()


def test_hanging_worker_is_ended_after_the_limit(worker: WorkerClient) -> None:
    worker.limit_s = 0.5
    with pytest.raises(BackendError, match=r"did not answer 'measure' within \d+ s and was ended"):
        worker.ask(
            "measure", batch_size=1, num_warmup=0, min_seconds=60, min_iterations=1, max_iterations=10**12, offset=0
        )


def test_peak_memory_is_the_workers_own(worker: WorkerClient) -> None:
    ballast = np.ones(100_000_000)  # 800 MB in this process, which the worker was started from
    peak = worker.ask("memory")["peak_memory_bytes"]
    assert 1e7 < peak < 5e8, ballast.shape


def test_every_round_asks_each_side_once_and_the_next_one_backwards() -> None:
    sides: Any = {"backend": 1, "reference": 2, "control": 3}
    order = [role for _, role, _ in turns(sides, 20, seed=3)]
    rounds = [order[start : start + 3] for start in range(0, 60, 3)]
    assert all(sorted(one_round) == ["backend", "control", "reference"] for one_round in rounds)
    assert all(rounds[number + 1] == rounds[number][::-1] for number in range(0, 20, 2))
    assert len({tuple(one_round) for one_round in rounds}) > 2


def test_every_profile_has_both_scenarios() -> None:
    for profile in PROFILES:
        assert [(plan.name, plan.batch_size) for plan in PLANS[profile]] == [("single_stream", 1), ("offline", 256)]


def test_least_seconds_are_spread_over_the_rounds() -> None:
    for plan in scenario_plans("fast", 30.0):
        assert plan.round_seconds * plan.num_rounds == pytest.approx(30.0)


def test_thread_counts_double_up_to_all() -> None:
    assert [thread_counts(number) for number in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]


def logits_for(labels: np.ndarray, wrong: int = 0) -> np.ndarray:
    logits = np.zeros((len(labels), 43), np.float32)
    logits[np.arange(len(labels)), labels] = 5
    logits[:wrong] = 0
    logits[:wrong, 42] = 9
    return logits


def compared(
    logits: np.ndarray, reference: np.ndarray, labels: np.ndarray, allowed: Tolerance, per_track: int = 1
) -> Parity:
    return compare_logits(logits, reference, labels, np.arange(len(labels)) // per_track, allowed)


def test_parity_of_equal_logits_is_exact() -> None:
    labels = np.arange(40) % 10
    parity = compared(logits_for(labels), logits_for(labels), labels, FP32)
    assert parity.outcome == "passed" and parity.error_max == 0 and parity.sqnr_db is None and parity.agreement == 1
    assert parity.top1_drop_interval == (0, 0) and parity.num_tracks == 40


def lost_and_gained(lost: list[int], gained: list[int], allowed: float, per_track: int, num_images: int) -> Parity:
    """Args: lost, gained: images that only the reference, and only the backend, reads right."""
    labels = np.arange(num_images) % 10
    logits, reference = logits_for(labels), logits_for(labels)
    for side, wrong in ((logits, lost), (reference, gained)):
        side[wrong], side[wrong, 42] = 0, 9
    return compared(logits, reference, labels, replace(LOOSE, top1_drop=allowed), per_track)


@pytest.mark.parametrize(
    ("lost", "gained", "per_track", "outcome"),
    [
        (range(0, 1920, 180), range(1, 1920, 960), 30, "inconclusive"),  # 11 lost and 2 gained, in tracks of their own
        (range(11), range(1890, 1892), 30, "inconclusive"),  # the same in two tracks: nothing is known of others
        (range(0, 1920, 60), range(0), 30, "failed"),  # 32 of 64 tracks lose an image
        (range(32), range(0), 30, "inconclusive"),  # 32 images of two signs
        (range(32), range(0), 1, "failed"),  # the same if each image were a witness of its own
        (range(5), range(0), 30, "passed"),  # 0.26 points
        (range(0, 1920, 16), range(1, 1920, 16), 30, "passed"),  # as many gained as lost
    ],
)
def test_a_loss_beyond_the_tolerance_fails_only_where_the_tracks_show_it(
    lost: range, gained: range, per_track: int, outcome: str
) -> None:
    parity = lost_and_gained([*lost], [*gained], 0.003, per_track, 1920)
    assert parity.outcome == outcome, parity
    low, high = parity.top1_drop_interval or (0, 0)
    assert low <= parity.top1_drop <= high
    assert (low > 0.003) == (outcome == "failed")
    assert (parity.num_lost, parity.num_gained, parity.num_tracks) == (len(lost), len(gained), 1920 // per_track)


def test_inconclusive_parity_says_loss_interval_and_what_is_allowed() -> None:
    parity = lost_and_gained([*range(0, 1920, 180)], [1, 961], 0.003, 30, 1920)
    assert re.fullmatch(r"0\.47 \[0\.\d\d, 0\.\d\d\] points of top-1 lost, 0\.30 are allowed", parity.reason)


def test_a_single_image_decides_nothing() -> None:
    assert lost_and_gained([3], [], 0.0005, 30, 1920).outcome == "passed"
    assert lost_and_gained([3, 33], [], 0.0005, 30, 1920).outcome == "inconclusive"


def test_a_single_track_cannot_show_a_loss() -> None:
    parity = lost_and_gained([*range(8)], [], 0.003, 30, 30)
    assert parity.outcome == "inconclusive" and parity.top1_drop_interval is None


def test_parity_fails_for_other_predictions_also_where_accuracy_is_equal() -> None:
    labels = np.full(1000, 7)
    zeros = np.zeros((1000, 43), np.float32)
    one, other = zeros.copy(), zeros.copy()
    one[:, 1], other[:, 2] = 5, 5  # both always wrong, each in its own way
    parity = compared(other, one, labels, Tolerance(top1_drop=0.0005, sqnr_db=-100.0, agreement=0.999))
    assert parity.outcome == "failed" and "equal predictions" in parity.reason


def test_sqnr_is_in_decibels() -> None:
    labels = np.zeros(10, np.int64)
    reference = np.ones((10, 43), np.float32)
    parity = compared(reference * 1.1, reference, labels, FP32)
    assert parity.sqnr_db == pytest.approx(20, abs=0.01)
    assert parity.outcome == "failed" and "60 dB are needed" in parity.reason


def run_session(backend: str | type[Backend], checkpoint: Checkpoint, data: Data) -> Session:
    session = Session(backend, checkpoint, data, profile="smoke", num_threads=1)
    session.prepare()
    session.start()
    session.check_parity()
    session.check_proof()
    session.measure()
    session.measure_layers()
    session.close()
    return session


def test_session_measures_backend_and_reference_in_the_same_rounds(checkpoint: Checkpoint, data: Data) -> None:
    session = run_session("torch-blas", checkpoint, data)
    assert session.status == "ok", session.error
    assert session.parity is not None and session.parity.agreement == 1.0
    assert session.proof is not None and session.proof.passed
    for scenario, plan in zip(session.scenarios, session.plans, strict=True):
        sides = (scenario.latencies_s, scenario.reference_latencies_s, scenario.control_latencies_s)
        assert [len(latencies) for latencies in sides] == [plan.num_rounds] * 3
    assert [table.scenario for table in session.layers] == ["single_stream", "offline"]
    conv = session.layers[1].layers[0]
    assert conv.name == "conv1" and conv.kernels != conv.reference_kernels
    assert conv.num_inputs == 3 * 32 * 32 and conv.num_weights == 3 * 32 * 9 + 32
    assert session.cold_start is not None and (session.cold_start.peak_memory_bytes or 0) > 1e7


def test_a_scenario_is_measured_in_several_sets_of_new_processes(
    checkpoint: Checkpoint, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session("null", checkpoint, data, profile="smoke", num_threads=1)
    session.plans = tuple(replace(plan, num_starts=3) for plan in session.plans)
    seen: list[set[int]] = []
    started: list[str] = []
    load = session._load

    def load_and_note(role: str, num_threads: int) -> Any:
        started.append(role)
        return load(role, num_threads)

    monkeypatch.setattr(session, "_load", load_and_note)
    session.prepare()
    session.start()
    first_start = session.cold_start
    session.progress = lambda line: seen.append({side.pid for side in session._sides.values()})
    session.measure()
    session.close()
    assert session.status == "ok", session.error
    for scenario, plan in zip(session.scenarios, session.plans, strict=True):
        assert scenario.rounds_per_start == [plan.part.num_rounds] * 3
        sides = (scenario.latencies_s, scenario.reference_latencies_s, scenario.control_latencies_s)
        assert {len(side) for side in sides} == {3 * plan.part.num_rounds}
    assert not seen[0] & seen[-1], "the last part ran in the processes of the first one"
    sets = [started[begin : begin + 3] for begin in range(0, 15, 3)]
    for of_scenario in (sets[:3], sets[2:]):  # the second begins in the last processes of the first
        for place in zip(*of_scenario, strict=True):
            assert sorted(place) == ["backend", "control", "reference"], "each role starts once in every place"
    assert session.cold_start is first_start, "later processes find their files in the cache"


def test_parts_of_a_plan_add_up_to_it() -> None:
    for plan in PLANS["full"]:
        assert plan.num_starts > 1
        assert plan.part.num_rounds * plan.num_starts >= plan.num_rounds
        assert plan.part.seconds * plan.num_starts == pytest.approx(plan.seconds)


@pytest.mark.parametrize(("profile", "splits"), [("full", {"val", "test"}), ("fast", {"val"})])
def test_full_gives_the_accuracy_of_a_backend_on_all_test_images(
    checkpoint: Checkpoint, data: Data, profile: Profile, splits: set[str]
) -> None:
    test = make_split("test", 90, 2)
    session = Session("torch-blas", checkpoint, replace(data, test=test), profile=profile, num_threads=1)
    session.start()
    session.check_parity()
    session.close()
    assert session.status == "ok", session.error
    assert set(session.accuracy) == splits
    if "test" in splits:
        logits = predict_logits(checkpoint.model, checkpoint.preprocessing, test.images)
        assert session.accuracy["test"] == evaluate(logits, test).accuracy


def test_null_measures_the_harness_and_has_no_accuracy(checkpoint: Checkpoint, data: Data) -> None:
    session = run_session("null", checkpoint, data)
    assert session.status == "ok" and session.parity is None and session.accuracy == {} and session.layers == []
    for scenario in session.scenarios:
        calls, reference_calls = np.concatenate(scenario.latencies_s), np.concatenate(scenario.reference_latencies_s)
        assert np.median(calls) < 0.02 * np.median(reference_calls), scenario.name


def test_unavailable_backend_is_neither_measured_nor_failed(
    checkpoint: Checkpoint, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lib.backends.interface.isa_flags", lambda: ("avx2",))
    session = run_session("torch-onednn-bf16", checkpoint, data)
    assert session.status == "unavailable" and "avx512_bf16" in session.error and session.scenarios == []


def test_backend_that_answers_differently_is_not_timed(
    checkpoint: Checkpoint, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_backend("null"), "is_network", True)
    labels = np.asarray(data.val.labels)
    right = labels == 0
    assert right.mean() == 0.5  # zeros are class 0, right for half the images; the reference must be better than that
    session = Session("null", checkpoint, data, profile="smoke", num_threads=1)
    monkeypatch.setattr(
        session,
        "_logits",
        lambda _, role: logits_for(labels) if role == "reference" else np.zeros((60, 43), np.float32),
    )
    session.start()
    session.check_parity()
    session.measure()
    session.close()
    assert session.status == "failed" and "not the same network" in session.error and session.scenarios == []


def test_every_backend_is_compared_on_all_validation_images_in_every_profile(
    checkpoint: Checkpoint, data: Data
) -> None:
    more = replace(data, val=make_split("val", 1100, 1))
    sessions = [Session("torch-blas", checkpoint, more, profile=profile, num_threads=1) for profile in PROFILES]
    assert [session.compared.num_images for session in sessions] == [1100] * len(PROFILES)
    session = sessions[0]
    session.prepare()
    session.start()
    session.check_parity()
    session.close()
    assert session.parity is not None and session.parity.num_images == session.accuracy["val"].num_images == 1100


def test_answers_of_random_weights_are_compared_on_a_sample(checkpoint: Checkpoint, data: Data) -> None:
    random = replace(checkpoint, metadata=replace(checkpoint.metadata, num_epochs=0))
    session = Session("torch-blas", random, replace(data, val=make_split("val", 1100, 1)), profile="full")
    assert session.compared.num_images == 1000


def test_undecided_backend_is_timed_and_says_that_it_is_not_ranked(
    checkpoint: Checkpoint, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_backend("null"), "is_network", True)
    monkeypatch.setattr(get_backend("null"), "sqnr_min_db", -100.0)
    labels = np.asarray(data.val.labels)
    trained = replace(checkpoint, metadata=replace(checkpoint.metadata, num_epochs=1, profile="smoke"))
    session = Session("null", trained, data, profile="smoke", num_threads=1)
    wrong = {"reference": 0, "backend": 4}  # of 60 images, all four of one track
    monkeypatch.setattr(session, "_logits", lambda _, role: logits_for(labels, wrong[role]))
    session.start()
    session.check_parity()
    session.measure()
    session.close()
    assert session.status == "ok" and session.scenarios
    assert session.parity is not None and session.parity.outcome == "inconclusive"
    (warning,) = (warning for warning in session.warnings if warning.kind == "inconclusive")
    assert warning.figures == {"null": session.parity.reason} and "not ranked" in warning_words(warning)


def test_missing_package_of_a_named_backend_is_a_failure(
    checkpoint: Checkpoint, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_backend("null"), "packages", ("no_such_runtime",))
    session = run_session("null", checkpoint, data)
    assert session.status == "failed" and "no_such_runtime" in session.error


def test_step_that_was_interrupted_runs_when_it_is_run_again(
    checkpoint: Checkpoint, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session("null", checkpoint, data, profile="smoke", num_threads=1)
    session.prepare()
    ask = WorkerClient.ask
    for step in ("load", "measure"):
        pids: set[int] = set()

        def interrupted(worker: WorkerClient, command: str, step: str = step, **arguments: object) -> dict[str, Any]:
            pids.add(worker.pid)  # noqa: B023  # called in this turn of the loop only
            if command == step and len(pids) > 1:  # noqa: B023
                worker._process.stdin.write(b'{"command": "memory"}\n')  # type: ignore[union-attr]  # never to be read
                for pid in pids:  # noqa: B023
                    os.kill(pid, signal.SIGINT)  # "interrupt the kernel" goes to the whole group
                raise KeyboardInterrupt
            return ask(worker, command, **arguments)

        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(WorkerClient, "ask", interrupted)
            session.measure()
        assert session.status == "ok" and session._sides == {}
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()], "workers were left behind"
    session.measure()
    session.close()
    assert session.status == "ok" and len(session.scenarios) == 2, session.error


def test_idle_workers_live_through_the_interruption_of_another_cell(worker: WorkerClient) -> None:
    os.kill(worker.pid, signal.SIGINT)
    assert worker.ask("memory")["peak_memory_bytes"] > 0


def test_worker_that_dies_fails_the_session_and_nothing_else(checkpoint: Checkpoint, data: Data) -> None:
    session = Session("null", checkpoint, data, profile="smoke", num_threads=1)
    session.start()
    os.kill(session._sides["backend"].pid, 9)
    session.measure()
    session.measure_layers()
    session.close()
    assert session.status == "failed" and "SIGKILL" in session.error and not session._sides


class NeverEnough(TorchOneDnn):
    """Has no memory for large batches."""

    name = "never-enough"

    def trace(self, images: np.ndarray) -> dict[str, list[str]]:
        if len(images) > 1:
            raise MemoryError("Unable to allocate 9 TiB")
        return super().trace(images)


def test_batch_beyond_the_memory_is_left_out_and_told_and_the_rest_is_measured(
    checkpoint: Checkpoint, data: Data
) -> None:
    session = Session(NeverEnough, checkpoint, data, profile="smoke", num_threads=1)
    session.check_proof()
    session.measure()
    session.measure_layers()
    assert session.status == "ok" and [scenario.name for scenario in session.scenarios] == ["single_stream"]
    session.close()
    status: str = session.status
    assert status == "failed"
    assert "offline at batch 256 does not fit into memory" in session.error and "9 TiB" in session.error


def test_worker_answers_an_allocation_beyond_its_share_and_lives_on(worker: WorkerClient) -> None:
    with pytest.raises(OutOfMemoryError, match="null failed in measure"):
        worker.ask(
            "measure", batch_size=10**8, num_warmup=0, min_seconds=0, min_iterations=1, max_iterations=9, offset=0
        )
    assert worker.ask("memory")["peak_memory_bytes"] > 0


class BrokenClock(Null):
    """Its process has a clock that runs backwards."""

    name = "broken-clock"

    def load(self, checkpoint: Path, folder: Path, num_threads: int) -> None:
        ticks = iter(range(10**6, 0, -1))
        time.perf_counter = lambda: float(next(ticks))


def test_clock_that_goes_backwards_fails_the_session(checkpoint: Checkpoint, data: Data) -> None:
    session = run_session(BrokenClock, checkpoint, data)
    assert session.status == "failed" and "clock went backwards" in session.error


def test_more_threads_than_cores_are_allowed_and_flagged(checkpoint: Checkpoint, data: Data) -> None:
    session = Session("null", checkpoint, data, profile="smoke", num_threads=num_cores() + 1)
    assert session.status == "ok" and "too_many_threads" in [warning.kind for warning in session.warnings]


class Clock:
    """Time that passes only where a test says so: a microsecond and a half up to every look, as for one product."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.looks_to_interruption = 0

    def perf_counter(self) -> float:
        self.looks_to_interruption -= 1
        self.now_s += 1.0 if self.looks_to_interruption == 0 else 1.5e-6
        return self.now_s


@pytest.mark.parametrize("planted", PLANTED)
@pytest.mark.parametrize("call_s", [40e-6, 1.3e-3, 8e-3])
def test_planted_work_takes_its_share_of_the_very_calls_it_is_planted_in(
    planted: type[Planted], call_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    calls_s: list[float] = []
    monkeypatch.setattr("lib.bench.planted.time", clock)

    def predict(self: TorchOneDnn, images: np.ndarray) -> np.ndarray:
        calls_s.append(call_s * (2 if len(calls_s) >= 200 else 1))  # the machine is half as quick from then on
        clock.now_s += calls_s[-1]
        return images

    monkeypatch.setattr(TorchOneDnn, "predict", predict)
    slow = planted()
    for num_calls in (200, 200):
        begun, before = clock.now_s, sum(calls_s)
        for _ in range(num_calls):
            slow.predict(np.zeros((1, 3, 32, 32), np.float32))
        network_s = sum(calls_s) - before + num_calls * 2 * 1.5e-6
        assert (clock.now_s - begun) / network_s - 1 == pytest.approx(planted.extra_work, abs=0.002)


def test_interrupted_planted_work_changes_one_call_only(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("lib.bench.planted.time", clock)

    def predict(self: TorchOneDnn, images: np.ndarray) -> np.ndarray:
        clock.now_s += 1e-3
        return images

    monkeypatch.setattr(TorchOneDnn, "predict", predict)
    slow, calls_s = Planted5(), []
    for number in range(4):
        begun = clock.now_s
        clock.looks_to_interruption = 10 if number == 1 else 0
        slow.predict(np.zeros((1, 3, 32, 32), np.float32))
        calls_s.append(clock.now_s - begun)
    assert calls_s[1] > 1.0
    assert [calls_s[0], calls_s[3]] == pytest.approx([1.05e-3, 1.05e-3], abs=5e-6)


def test_planted_backend_answers_as_the_reference(checkpoint: Checkpoint) -> None:
    images = np.random.default_rng(0).random((8, 3, 32, 32), dtype=np.float32)
    answers = []
    for backend in (TorchOneDnn(), Planted5()):
        backend.load(checkpoint.path, checkpoint.path.parent, 1)
        answers.append(backend.predict(images))
    np.testing.assert_array_equal(answers[0], answers[1])


def test_sample_is_balanced_fixed_and_of_the_split() -> None:
    split = make_split("val", 60, 1)
    sample = balanced_sample(split, 20)
    assert np.bincount(sample.labels).max() - np.bincount(sample.labels).min() <= 1
    assert np.array_equal(sample.images, balanced_sample(split, 20).images)
    assert balanced_sample(split, 0) is split and balanced_sample(split, 999) is split


def test_fused_groups_count_what_comes_from_outside_once() -> None:
    layers = leaf_layers(build_network("signnet_small"))
    by_name = {layer.name: layer for layer in layers}
    names = [f"stage1.block1.{part}" for part in ("conv2", "bn2", "add", "relu2")]
    inputs = _outside_inputs([by_name[name] for name in names])
    assert inputs == 2 * by_name["stage1.block1.conv1"].num_inputs  # the convolution's and the shortcut


def test_times_of_foreign_layers_are_refused() -> None:
    layers = leaf_layers(build_network("learning_path"))
    with pytest.raises(BackendError, match=r"'conv9' that the network does not have"):
        _groups([{"conv1+conv9": [1.0]}], layers)
    with pytest.raises(BackendError, match=r"'conv1' in two groups"):
        _groups([{"conv1+relu1": [1.0], "conv1": [1.0]}], layers)
    assert list(_groups([{"conv2": [1.0], "conv1+relu1": [1.0], RUNTIME: [1.0]}], layers)) == ["conv1+relu1", "conv2"]


class RefusesFour(Null):
    """Breaks with batches of four, and leaves behind which processes ran, with how many threads."""

    name = "refuses-four"

    def load(self, checkpoint: Path, folder: Path, num_threads: int) -> None:
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
    session = Session(RefusesFour, own, data, profile="smoke", num_threads=2)
    session.measure_sweep()
    session.close()
    assert session.status == "ok", session.error
    measured = {(point.num_threads, point.batch_size): point for point in session.sweep}
    assert list(measured) == [(1, 1), (1, 8), (2, 1), (2, 4), (2, 8)]
    broken = measured.pop((2, 4))
    assert "four are too many" in broken.error and broken.latencies_s == broken.reference_latencies_s == []
    for place, point in measured.items():
        assert (len(point.latencies_s), len(point.reference_latencies_s), point.error) == (2, 2, ""), place
    started = [path.name.split("-")[1:] for path in tmp_path.glob("threads-*")]
    assert Counter(threads for threads, _ in started) == {"1": 1, "2": 3}, "also to begin with, and after the break"
    assert not [pid for _, pid in started if Path(f"/proc/{pid}").exists()], "workers were left behind"


def test_profile_without_a_sweep_measures_none(checkpoint: Checkpoint, data: Data) -> None:
    session = Session("null", checkpoint, data, profile="fast", num_threads=1)
    session.measure_sweep()
    assert session.status == "ok" and session.sweep == []


def test_machine_is_measured_with_the_threads_of_the_session_unless_it_has_failed(
    checkpoint: Checkpoint, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Peaks({"fp32": Peak(1e11, "a library")}, Peak(1e10, "copy"))
    asked: list[int] = []

    def measure_peaks(num_threads: int) -> Peaks:
        asked.append(num_threads)
        return found

    monkeypatch.setattr(peaks, "measure_peaks", measure_peaks)
    session = Session("null", checkpoint, data, profile="smoke", num_threads=1)
    session.measure_machine(tmp_path)
    assert session.peaks == found and asked == [1]
    assert session.preprocessing is not None and session.preprocessing.num_images == data.val.num_images
    broken = Session("null", checkpoint, data, profile="smoke", num_threads=1)
    broken.fail("broken before")
    broken.measure_machine(tmp_path)
    assert broken.peaks is None and broken.preprocessing is None


def test_steps_can_be_run_again(checkpoint: Checkpoint, data: Data) -> None:
    session = run_session("null", checkpoint, data)
    session.measure()
    session.close()
    assert session.status == "ok" and len(session.scenarios) == 2
