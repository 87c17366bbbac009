"""Measuring: workers, rounds, parity and the session, with backends that misbehave on purpose."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.backends import get_backend
from lib.bench.client import BackendError, WorkerClient
from lib.bench.parity import Tolerance, compare_logits
from lib.bench.plan import PLANS, scenario_plans
from lib.bench.rounds import turns
from lib.bench.session import Session
from lib.data import Data
from lib.model import Checkpoint, CheckpointMetadata, Preprocessing, build_network, load_checkpoint, save_checkpoint
from lib.records.results import PROFILES
from tests.test_training import make_split

FP32 = Tolerance(top1_drop=0.0005, sqnr_db=60.0, agreement=0.999)
LOOSE = Tolerance(top1_drop=0.0005, sqnr_db=-100.0, agreement=0.0)
PREPROCESSING = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "checkpoint.safetensors"
    metadata = CheckpointMetadata("learning_path", "learning_path", "smoke", 1, 0, "synthetic", "0" * 64, PREPROCESSING)
    save_checkpoint(path, build_network("learning_path"), metadata)
    return load_checkpoint(path)


@pytest.fixture(scope="module")
def data() -> Data:
    return Data("synthetic", "0" * 64, 32, make_split("train", 20, 0), make_split("val", 60, 1), None, [])


@pytest.fixture
def worker(checkpoint: Checkpoint, tmp_path: Path) -> Iterator[WorkerClient]:
    images = tmp_path / "images.npy"
    np.save(images, np.zeros((20, 3, 32, 32), np.float32))
    client = WorkerClient(get_backend("null"), 1, limit_s=30)
    client.load(checkpoint.path, images)
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
    assert len(many) == 50 and min(many) >= 0
    begun = time.perf_counter()
    worker.ask("measure", min_seconds=0.2, min_iterations=1, **(plan | {"max_iterations": 10**9}))
    assert time.perf_counter() - begun >= 0.2


def test_idle_worker_sleeps(checkpoint: Checkpoint, tmp_path: Path) -> None:
    images = tmp_path / "images.npy"
    np.save(images, np.zeros((64, 3, 32, 32), np.float32))
    client = WorkerClient(get_backend("torch-onednn"), 2, limit_s=60)
    try:
        client.load(checkpoint.path, images)
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
    with pytest.raises(BackendError, match=r"did not answer within [01] s and was ended"):
        worker.ask(
            "measure", batch_size=1, num_warmup=0, min_seconds=60, min_iterations=1, max_iterations=10**12, offset=0
        )


def test_peak_memory_is_the_workers_own(worker: WorkerClient) -> None:
    ballast = np.ones(100_000_000)  # 800 MB in this process, which the worker was started from
    peak = worker.stop()
    assert peak is not None and 1e7 < peak < 5e8, ballast.shape


def test_both_sides_are_first_equally_often_and_ask_once_a_round() -> None:
    order = [(number, name) for number, (name, _) in turns("b", "r", 20, seed=3)]  # type: ignore[arg-type]
    first = [order[2 * number][1] for number in range(20)]
    assert first.count("backend") == first.count("reference") == 10
    assert first != ["backend", "reference"] * 10
    assert sorted(order) == sorted((number, name) for number in range(20) for name in ("backend", "reference"))


def test_every_profile_has_both_scenarios() -> None:
    for profile in PROFILES:
        assert [(plan.name, plan.batch_size) for plan in PLANS[profile]] == [("single_stream", 1), ("offline", 256)]


def test_least_seconds_are_spread_over_the_rounds() -> None:
    for plan in scenario_plans("fast", 30.0):
        assert plan.round_seconds * plan.num_rounds == pytest.approx(30.0)


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


def test_parity_allows_the_stated_drop_and_no_more() -> None:
    labels = np.arange(4000) % 10
    reference = logits_for(labels)
    assert compare_logits(logits_for(labels, wrong=2), reference, labels, LOOSE).passed
    failed = compare_logits(logits_for(labels, wrong=3), reference, labels, LOOSE)
    assert not failed.passed and "allowed drop 0.05%" in failed.reason
    assert failed.agreement == pytest.approx(1 - 3 / 4000)


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


def run_session(backend: str, checkpoint: Checkpoint, data: Data) -> Session:
    session = Session(backend, checkpoint, data, profile="smoke", num_threads=1)
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
        assert len(scenario.latencies_s) == len(scenario.reference_latencies_s) == plan.num_rounds
    assert [table.scenario for table in session.layers] == ["single_stream", "offline"]
    conv = session.layers[1].layers[0]
    assert conv.name == "conv1" and conv.kernels != conv.reference_kernels
    assert session.cold_start is not None and (session.cold_start.peak_memory_bytes or 0) > 1e7


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
        session, "_logits", lambda split, reference: logits_for(labels) if reference else np.zeros((60, 43), np.float32)
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


def test_worker_that_dies_fails_the_session_and_nothing_else(checkpoint: Checkpoint, data: Data) -> None:
    session = Session("torch-blas", checkpoint, data, profile="smoke", num_threads=1)
    session.start()
    assert session._sides is not None
    os.kill(session._sides.backend.pid, 9)
    session.measure()
    session.measure_layers()
    session.close()
    assert session.status == "failed" and "SIGKILL" in session.error and session._sides is None


def test_steps_can_be_run_again(checkpoint: Checkpoint, data: Data) -> None:
    session = run_session("torch-onednn", checkpoint, data)
    session.measure()
    session.close()
    assert session.status == "ok" and len(session.scenarios) == 2
