"""Who else uses the CPU: seen where it happens, and not what is measured itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lib.bench import session as session_module
from lib.bench.neighbours import LIMIT_CORES, Neighbours, tolerated_cores
from lib.bench.plan import scenario_plans
from lib.bench.session import Session
from tests.waiting import cpu_seconds, until

NUM_TRIES = 20  # of readings one after another, between which other processes may run


@contextmanager
def busy() -> Iterator[int]:
    """A process that burns a core, by its pid."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def test_a_busy_process_counts_as_a_neighbour_and_a_measured_one_does_not() -> None:
    found: list[tuple[float, float]] = []
    with busy() as pid:
        while not found or (found[-1][0] != pytest.approx(found[-1][1], rel=0.2) and len(found) < NUM_TRIES):
            as_neighbour, as_measured = Neighbours([]), Neighbours([pid])
            begun, begun_s = time.monotonic(), cpu_seconds(pid)
            until(lambda: cpu_seconds(pid) - begun_s >= 0.5, "a busy process was given half a second")  # noqa: B023
            seen, unseen = as_neighbour.cores(), as_measured.cores()
            assert seen is not None and unseen is not None
            found.append((seen - unseen, (cpu_seconds(pid) - begun_s) / (time.monotonic() - begun)))
    difference, used = found[-1]
    assert difference == pytest.approx(used, rel=0.2), found


def test_a_process_that_is_gone_leaves_the_count_unknown() -> None:
    with busy() as pid:
        neighbours = Neighbours([pid])
    assert neighbours.cores() is None


def test_free_cores_may_be_used_by_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert tolerated_cores(4) == 30 and tolerated_cores(64) == LIMIT_CORES


@pytest.mark.parametrize(("seen", "kept", "told"), [([0.0], 0, False), ([0.9, 0.02], 1, False), ([0.9, 0.5], 1, True)])
def test_a_disturbed_scenario_is_measured_again_and_told_if_it_stays_so(
    monkeypatch: pytest.MonkeyPatch, seen: list[float], kept: int, told: bool
) -> None:
    session = Session.__new__(Session)
    session.profile, session.num_threads, session.seed = "fast", os.cpu_count() or 1, 0
    session.progress, session.warnings, session.scenarios = lambda line: None, [], []
    made: list[object] = []
    left = iter(seen)

    class Counted:
        def __init__(self, pids: object) -> None: ...
        def cores(self) -> float:
            return next(left)

    def measure(*_: object) -> object:
        made.append(object())
        return made[-1]

    monkeypatch.setattr(Session, "_open_sides", lambda self: {})
    monkeypatch.setattr(session_module, "Neighbours", Counted)
    monkeypatch.setattr(session_module, "measure_scenario", measure)
    scenario, cores = session._measure_undisturbed(scenario_plans("fast")[0])
    assert scenario is made[kept] and session._is_disturbed(cores) is told and len(made) == len(seen)
