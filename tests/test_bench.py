"""Measuring: workers, rounds, parity and the session, with backends that misbehave on purpose."""

from __future__ import annotations

import os
import signal
import time
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
from lib.bench.client import BackendError, OutOfMemoryError, WorkerClient
from lib.bench.parity import CHANCE, Tolerance, compare_logits, exceeds, mcnemar_p
from lib.bench.plan import PLANS, scenario_plans, thread_counts
from lib.bench.planted import NUM_CALIBRATIONS, PlantedSlow
from lib.bench.rounds import _groups, _outside_inputs, turns
from lib.bench.samples import balanced_sample
from lib.bench.session import Session
from lib.data import Data
from lib.model import (
    Checkpoint,
    Preprocessing,
    build_network,
    leaf_layers,
    load_checkpoint,
)
from lib.records.environment import num_cores
from lib.records.results import PROFILES, Profile
from lib.training import evaluate, predict_logits
from tests.test_training import make_split
from tests.untrained import save_untrained

FP32 = Tolerance(top1_drop=0.0005, sqnr_db=60.0, agreement=0.999)
LOOSE = Tolerance(top1_drop=0.0005, sqnr_db=-100.0, agreement=0.0)
PREPROCESSING = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return load_checkpoint(save_untrained(tmp_path_factory.mktemp("model"), "learning_path"))


@pytest.fixture(scope="module")
def data() -> Data:
    return Data("synthetic", "0" * 64, 32, make_split("train", 20, 0), make_split("val", 60, 1), None, [])


@pytest.fixture
def worker(checkpoint: Checkpoint, tmp_path: Path) -> Iterator[WorkerClient]:
    images = tmp_path / "images.npy"
    np.save(images, np.zeros((20, 3, 32, 32), np.float32))
    client = WorkerClient(get_backend("null"), 1, limit_s=30)
    client.load(checkpoint.path, tmp_path, images)
    yield client
    client.kill()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_measuring_reaches_least_seconds_and_calls_and_stops_at_the_most(worker: WorkerClient) -> None:
    plan = {"batch_size": 4, "num_warmup": 1, "offset": 0, "max_iterations": 50}
    few = worker.ask("measure", min_seconds=0.0, min_iterations=7, **plan)["latencies_s"]
    assert len(few) == 7
    many = worker.ask("measure", min_seconds=60, min_iterations=1, **plan)["latencies_s"]
    assert len(many) == 50 and min(many) > 0
    begun = time.perf_counter()
    worker.ask("measure", min_seconds=0.2, min_iterations=1, **(plan | {"max_iterations": 10**9}))
    assert time.perf_counter() - begun >= 0.2


def test_idle_worker_sleeps(checkpoint: Checkpoint, tmp_path: Path) -> None:
    images = tmp_path / "images.npy"
    np.save(images, np.zeros((64, 3, 32, 32), np.float32))
    client = WorkerClient(get_backend("torch-onednn"), 2, limit_s=60)
    try:
        client.load(checkpoint.path, tmp_path, images)
        client.ask(
            "measure", batch_size=32, num_warmup=1, min_seconds=0.1, min_iterations=3, max_iterations=99, offset=0
        )
        time.sleep(0.3)  # its threads spin for a moment after their work
        before = cpu_seconds(client.pid)
        time.sleep(1.0)
        assert cpu_seconds(client.pid) - before <= 0.02
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
        worker.ask("stop")


def test_hanging_worker_is_ended_after_the_limit(worker: WorkerClient) -> None:
    worker.limit_s = 0.5
    with pytest.raises(BackendError, match=r"did not answer 'measure' within [01] s and was ended"):
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


def test_parity_of_equal_logits_is_exact() -> None:
    labels = np.arange(40) % 10
    parity = compare_logits(logits_for(labels), logits_for(labels), labels, FP32)
    assert parity.passed and parity.error_max == 0 and parity.sqnr_db is None and parity.agreement == 1


def test_parity_allows_the_stated_drop_and_what_chance_explains_and_no_more() -> None:
    labels = np.arange(4000) % 10
    reference = logits_for(labels)
    assert compare_logits(logits_for(labels, wrong=2), reference, labels, LOOSE).passed
    failed = compare_logits(logits_for(labels, wrong=12), reference, labels, LOOSE)
    assert not failed.passed and "allowed drop 0.05%" in failed.reason
    assert failed.agreement == pytest.approx(1 - 12 / 4000)


def test_parity_fails_for_other_predictions_also_where_accuracy_is_equal() -> None:
    labels = np.full(1000, 7)
    zeros = np.zeros((1000, 43), np.float32)
    one, other = zeros.copy(), zeros.copy()
    one[:, 1], other[:, 2] = 5, 5  # both always wrong, each in its own way
    parity = compare_logits(other, one, labels, Tolerance(top1_drop=0.0005, sqnr_db=-100.0, agreement=0.999))
    assert not parity.passed and "equal predictions" in parity.reason


def test_sqnr_is_in_decibels() -> None:
    labels = np.zeros(10, np.int64)
    reference = np.ones((10, 43), np.float32)
    parity = compare_logits(reference * 1.1, reference, labels, FP32)
    assert parity.sqnr_db == pytest.approx(20, abs=0.01)
    assert not parity.passed and "60 dB are needed" in parity.reason


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
    assert np.median(session.scenarios[0].latencies_s[0]) < 1e-4


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


def test_planted_slow_down_is_a_twentieth_of_work_found_once_and_the_same_in_every_call(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0.4, 100 * 1e-5] * NUM_CALIBRATIONS)  # a call of 0.4 s, a hundred products of 10 us
    monkeypatch.setattr("lib.bench.planted._seconds", lambda call: next(times))
    slow = PlantedSlow()
    slow.load(checkpoint.path, checkpoint.path.parent, 1)
    slow.compile((8, 3, 32, 32))
    assert slow.num_products == {8: 2000}
    worked: list[int] = []
    monkeypatch.setattr(slow, "_work", worked.append)
    fast = TorchOneDnn()
    fast.load(checkpoint.path, checkpoint.path.parent, 1)
    images = np.ones((8, 3, 32, 32), np.float32)
    for _ in range(2):
        np.testing.assert_array_equal(slow.predict(images), fast.predict(images))
    assert worked == [2000, 2000]


def test_sample_is_balanced_fixed_and_of_the_split() -> None:
    split = make_split("val", 60, 1)
    sample = balanced_sample(split, 20)
    assert np.bincount(sample.labels).max() - np.bincount(sample.labels).min() <= 1
    assert np.array_equal(sample.images, balanced_sample(split, 20).images)
    assert balanced_sample(split, 0) is split and balanced_sample(split, 999) is split


def test_mcnemar_is_exact() -> None:
    assert mcnemar_p(0, 0) == 1.0
    assert mcnemar_p(0, 5) == pytest.approx(2 / 32)
    assert mcnemar_p(3, 9) == mcnemar_p(9, 3) == pytest.approx(0.1460, abs=1e-4)
    assert 0 < mcnemar_p(0, 2000) < 1e-300 or mcnemar_p(0, 2000) == 0.0


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


def test_steps_can_be_run_again(checkpoint: Checkpoint, data: Data) -> None:
    session = run_session("null", checkpoint, data)
    session.measure()
    session.close()
    assert session.status == "ok" and len(session.scenarios) == 2


@pytest.mark.parametrize(
    ("num_gained", "num_lost", "num_images", "plain", "beyond_chance"),
    [(0, 5, 1920, True, False), (0, 40, 1920, True, True), (40, 45, 1920, True, False), (0, 1, 7000, False, False)],
)
def test_loss_beyond_the_tolerance_fails_where_chance_does_not_explain_it(
    num_gained: int, num_lost: int, num_images: int, plain: bool, beyond_chance: bool
) -> None:
    assert exceeds(num_gained, num_lost, num_images, 0.0005) is plain
    assert exceeds(num_gained, num_lost, num_images, 0.0005, CHANCE) is beyond_chance
