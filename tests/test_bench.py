"""Measuring: workers, rounds, plans, parity, samples, and the planted slow-downs."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.backends import get_backend
from lib.backends.interface import RUNTIME, Tolerance
from lib.backends.null import Null
from lib.backends.torch_onednn import TorchOneDnn
from lib.bench.client import BackendError, OutOfMemoryError, WorkerClient
from lib.bench.parity import compare_logits
from lib.bench.plan import PLANS, SessionPlan, thread_counts
from lib.bench.planted import PLANTED, Planted, Planted5
from lib.bench.rounds import measure_layers, turns
from lib.bench.samples import balanced_sample
from lib.bench.worker import Worker
from lib.model import build_network, leaf_layers
from lib.records.schema import PROFILES, LayerTable, Parity
from lib.signs import NUM_CLASSES
from tests.test_training import make_split
from tests.untrained import save_untrained
from tests.waiting import cpu_seconds

FP32 = Tolerance(top1_drop=0.0005, sqnr_db=60.0, agreement=0.999)
LOOSE = Tolerance(top1_drop=0.0005, sqnr_db=-100.0, agreement=0.0)
ONE_CALL = {"batch_size": 1, "num_warmup": 0, "min_seconds": 0, "min_iterations": 1, "max_iterations": 9, "offset": 0}

# --- workers ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_untrained(tmp_path_factory.mktemp("model"), "learning_path")


def loaded(checkpoint: Path, backend: str = "null", num_threads: int = 1) -> WorkerClient:
    images = checkpoint.with_name("images.npy")
    np.save(images, np.zeros((64, 3, 32, 32), np.float32))
    client = WorkerClient(get_backend(backend), num_threads)
    client.load(checkpoint, images.parent, images)
    return client


@pytest.fixture(scope="module")
def worker(checkpoint: Path) -> Iterator[WorkerClient]:
    """One that all tests may ask, and that lives on."""
    client = loaded(checkpoint)
    yield client
    client.kill()


@pytest.fixture
def doomed(checkpoint: Path) -> Iterator[WorkerClient]:
    client = loaded(checkpoint)
    yield client
    client.kill()


def test_measuring_reaches_least_seconds_and_calls_and_stops_at_the_most(worker: WorkerClient) -> None:
    plan = {**ONE_CALL, "batch_size": 4, "max_iterations": 50}
    few = worker.ask("measure", **{**plan, "min_iterations": 7})["latencies_s"]
    assert len(few) == 7
    many = worker.ask("measure", **{**plan, "min_seconds": 60})["latencies_s"]
    assert len(many) == 50 and min(many) > 0
    begun = time.perf_counter()
    worker.ask("measure", **{**plan, "min_seconds": 0.2, "max_iterations": 10**9})
    assert time.perf_counter() - begun >= 0.2


def cpu_in_a_second(pid: int) -> float:
    before = cpu_seconds(pid)
    time.sleep(1.0)
    return cpu_seconds(pid) - before


def test_idle_worker_sleeps(checkpoint: Path) -> None:
    client = loaded(checkpoint, "torch-onednn", 2)
    try:
        client.ask("measure", **{**ONE_CALL, "batch_size": 32, "min_iterations": 3})
        used = [cpu_in_a_second(client.pid)]
        while used[-1] > 0.02 and len(used) < 10:  # its threads spin for a moment after their work
            used.append(cpu_in_a_second(client.pid))
        assert used[-1] <= 0.02, used
    finally:
        client.kill()


def test_error_in_a_worker_names_command_and_cause(worker: WorkerClient) -> None:
    with pytest.raises(BackendError, match="null failed in predict: FileNotFoundError"):
        worker.ask("predict", images="/nowhere.npy", batch_size=1, out="/nowhere.npy")
    assert worker.ask("measure", **ONE_CALL)["latencies_s"], "it lives on"


@pytest.mark.parametrize(
    ("answer", "words"),
    [(None, "it gave NoneType"), (np.zeros(1), r"it gave shape \(1,\)"), (np.zeros((2, 43)), r"shape \(2, 43\)")],
)
def test_predict_that_gives_no_logits_is_one_clear_line(
    answer: Any, words: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = str(tmp_path / "images.npy")
    np.save(images, np.zeros((3, 3, 32, 32), np.float32))
    worker = Worker(Null())
    monkeypatch.setattr(worker.backend, "predict", lambda _: answer)
    expected = rf"`predict` must give a NumPy array of shape \({{}}, classes\), and .*{words}"
    with pytest.raises(TypeError, match=expected.format(1)):
        worker.load(str(checkpoint), "", 1, images)
    with pytest.raises(TypeError, match=expected.format(3)):
        worker.predict(images, batch_size=3, out=str(tmp_path / "logits.npy"))


def test_killed_worker_is_told_with_its_signal(doomed: WorkerClient) -> None:
    os.kill(doomed.pid, signal.SIGKILL)
    with pytest.raises(BackendError, match=r"died with signal SIGKILL \(out of memory\?\)"):
        doomed.ask("memory")


def test_worker_that_does_not_end_when_it_is_asked_to_is_killed(
    doomed: WorkerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lib.bench.client.END_LIMIT_S", 0.1)
    os.kill(doomed.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, doomed.pid, os.WSTOPPED)
    doomed.kill()
    assert not Path(f"/proc/{doomed.pid}").exists()


def test_hanging_worker_is_ended_after_the_limit(doomed: WorkerClient) -> None:
    doomed.limit_s = 0.5
    with pytest.raises(BackendError, match=r"did not answer 'measure' within \d+ s and was ended"):
        doomed.ask("measure", **{**ONE_CALL, "min_seconds": 60, "max_iterations": 10**12})


def test_peak_memory_is_the_workers_own(worker: WorkerClient) -> None:
    ballast = np.ones(100_000_000)  # 800 MB in this process, which the worker was started from
    peak = worker.ask("memory")["peak_memory_bytes"]
    assert 1e7 < peak < 5e8, ballast.shape


def test_worker_lives_on_after_the_interruption_of_another_cell_and_an_allocation_beyond_its_share(
    worker: WorkerClient,
) -> None:
    os.kill(worker.pid, signal.SIGINT)
    with pytest.raises(OutOfMemoryError, match="null failed in measure"):
        worker.ask("measure", **{**ONE_CALL, "batch_size": 10**8})
    assert worker.ask("memory")["peak_memory_bytes"] > 0


# --- rounds -----------------------------------------------------------------------------------------------------------


def test_every_round_asks_each_side_once_and_the_next_one_backwards() -> None:
    sides: Any = {"backend": 1, "reference": 2, "control": 3}
    order = [role for _, role, _ in turns(sides, 20, seed=3)]
    rounds = [order[start : start + 3] for start in range(0, 60, 3)]
    assert all(sorted(one_round) == ["backend", "control", "reference"] for one_round in rounds)
    assert all(rounds[number + 1] == rounds[number][::-1] for number in range(0, 20, 2))
    assert len({tuple(one_round) for one_round in rounds}) > 2


class Side:
    """Stands in for a worker that reports times of layers."""

    def __init__(self, times: dict[str, list[float]]) -> None:
        self._times = times

    def ask(self, command: str, **arguments: object) -> dict[str, Any]:
        return {"layers": self._times}


def layers_of(network: str, groups: list[str]) -> LayerTable:
    """What is made of a backend that reports these groups, each of a second."""
    layers = leaf_layers(build_network(network, NUM_CLASSES))
    alone = Side({layer.name: [1.0] for layer in layers})
    sides: Any = {"backend": Side({group: [1.0] for group in groups}), "reference": alone, "control": alone}
    return measure_layers(sides, PLANS["smoke"][0], layers, {}, {})


def test_fused_layers_stand_in_the_order_of_the_network_against_the_sum_of_the_references() -> None:
    table = layers_of("learning_path", ["conv2", "conv1+relu1", RUNTIME])
    assert [layer.name for layer in table.layers] == ["conv1+relu1", "conv2"]
    assert table.layers[0].kind == "Conv2d+ReLU" and table.layers[0].members == ["conv1", "relu1"]
    assert table.layers[0].reference_latencies_s[0] == [2.0] and table.runtime_latencies_s[0] == [1.0]


def test_fused_groups_count_what_comes_from_outside_once() -> None:
    block = "stage1.block1."
    (group,) = layers_of("signnet_small", ["+".join(block + part for part in ("conv2", "bn2", "add", "relu2"))]).layers
    (first,) = layers_of("signnet_small", [f"{block}conv1"]).layers
    assert group.num_inputs == 2 * first.num_inputs  # the convolution's and the shortcut


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (["conv1+conv9"], "'conv9' that the network does not have"),
        (["conv1+relu1", "conv1"], "'conv1' in two groups"),
    ],
)
def test_times_of_foreign_layers_are_refused(groups: list[str], words: str) -> None:
    with pytest.raises(BackendError, match=words):
        layers_of("learning_path", groups)


# --- plans and samples -----------------------------------------------------------------------------------------------


def test_every_profile_has_both_scenarios_which_take_a_control_no_time_that_networks_need() -> None:
    for profile in PROFILES:
        assert [(plan.name, plan.batch_size) for plan in PLANS[profile]] == [("single_stream", 1), ("offline", 256)]
        assert sum(plan.seconds for plan in SessionPlan(profile).scenarios(is_network=False)) == 0
    assert sum(plan.seconds for plan in SessionPlan("fast").scenarios()) > 0


def test_least_seconds_are_spread_over_the_rounds() -> None:
    for plan in SessionPlan(min_seconds=30.0).scenarios():
        assert plan.round_seconds * plan.num_rounds == pytest.approx(30.0)


def test_thread_counts_double_up_to_all() -> None:
    assert [thread_counts(number) for number in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]


def test_parts_of_a_plan_add_up_to_it() -> None:
    for plan in PLANS["full"]:
        assert plan.num_starts > 1
        assert plan.part.num_rounds * plan.num_starts >= plan.num_rounds
        assert plan.part.seconds * plan.num_starts == pytest.approx(plan.seconds)


def test_sample_is_balanced_fixed_and_of_the_split() -> None:
    split = make_split("val", 60, 1)
    sample = balanced_sample(split, 20)
    assert np.bincount(sample.labels).max() - np.bincount(sample.labels).min() <= 1
    assert np.array_equal(sample.images, balanced_sample(split, 20).images)
    assert balanced_sample(split, 0) is split and balanced_sample(split, 999) is split


# --- parity -----------------------------------------------------------------------------------------------------------


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
    return compared(logits, reference, labels, LOOSE._replace(top1_drop=allowed), per_track)


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
    if outcome == "inconclusive":
        figures = rf"{100 * parity.top1_drop:.2f} \[-?\d\.\d\d, \d\.\d\d\]"
        assert re.fullmatch(rf"{figures} points of top-1 lost, 0\.30 are allowed", parity.reason)
    assert (parity.num_lost, parity.num_gained, parity.num_tracks) == (len(lost), len(gained), 1920 // per_track)


def test_a_single_image_decides_nothing_and_a_single_track_cannot_show_a_loss() -> None:
    assert lost_and_gained([3], [], 0.0005, 30, 1920).outcome == "passed"
    assert lost_and_gained([3, 33], [], 0.0005, 30, 1920).outcome == "inconclusive"
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


# --- planted slow-downs -----------------------------------------------------------------------------------------------


LOOK_S = 1.5e-6


class Clock:
    """Time that passes only where a test says so: in a call, and up to every look, as for one product."""

    def __init__(self) -> None:
        self.now_s = self.call_s = 0.0
        self.looks_to_interruption = 0

    def perf_counter(self) -> float:
        self.looks_to_interruption -= 1
        self.now_s += 1.0 if self.looks_to_interruption == 0 else LOOK_S
        return self.now_s

    def seconds_of(self, backend: Planted, num_calls: int = 1) -> float:
        begun = self.now_s
        for _ in range(num_calls):
            backend.predict(np.zeros((1, 3, 32, 32), np.float32))
        return self.now_s - begun


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What planted work reads; a call of the network that it is planted in takes some time by it."""
    made = Clock()

    def predict(self: TorchOneDnn, images: np.ndarray) -> np.ndarray:
        made.now_s += made.call_s
        return images

    monkeypatch.setattr("lib.bench.planted.time", made)
    monkeypatch.setattr(TorchOneDnn, "predict", predict)
    return made


@pytest.mark.parametrize("planted", PLANTED)
@pytest.mark.parametrize("call_s", [40e-6, 1.3e-3, 8e-3])
def test_planted_work_takes_its_share_of_the_very_calls_it_is_planted_in(
    planted: type[Planted], call_s: float, clock: Clock
) -> None:
    slow = planted()
    for clock.call_s in (call_s, 2 * call_s):  # the machine is half as quick from some call on
        extra = clock.seconds_of(slow, 200) / (200 * (clock.call_s + 2 * LOOK_S)) - 1
        assert extra == pytest.approx(planted.extra_work, abs=0.002)


def test_interrupted_planted_work_changes_one_call_only(clock: Clock) -> None:
    clock.call_s = 1e-3
    slow, calls_s = Planted5(), []
    for number in range(4):
        clock.looks_to_interruption = 10 if number == 1 else 0
        calls_s.append(clock.seconds_of(slow))
    assert calls_s[1] > 1.0
    assert [calls_s[0], calls_s[3]] == pytest.approx([1.05e-3, 1.05e-3], abs=5e-6)
