"""Who else uses the CPU: seen where it happens, and not what is measured itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from lib.bench.neighbours import WINDOW_S, Neighbours, Use, Watch
from lib.bench.plan import MAX_ATTEMPTS, PATIENCE_S
from lib.progress import silent
from lib.records.schema import Conditions
from tests.made_records import made_scenario
from tests.waiting import cpu_seconds, until

Cores = Sequence[float | None]  # that others use; None: it cannot be counted
NUM_TRIES = 20  # of readings one after another, between which other processes may run


@contextmanager
def busy(core: int | None = None) -> Iterator[int]:
    """A process that burns a core, by its pid."""
    pinned = "" if core is None else f"import os; os.sched_setaffinity(0, [{core}])\n"
    process = subprocess.Popen([sys.executable, "-S", "-c", f"{pinned}while True: pass"])
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
            seen, unseen = as_neighbour.use(), as_measured.use()
            assert seen is not None and unseen is not None
            found.append((seen.others - unseen.others, (cpu_seconds(pid) - begun_s) / (time.monotonic() - begun)))
    difference, used = found[-1]
    assert difference == pytest.approx(used, rel=0.2), found


def test_threads_of_a_measured_process_that_wait_for_a_core_are_counted() -> None:
    (core, *_) = sorted(os.sched_getaffinity(0))
    with busy(core) as first, busy(core) as second:
        neighbours = Neighbours([first, second])
        begun_s = cpu_seconds(first)
        until(lambda: cpu_seconds(first) - begun_s >= 0.3, "the first of two busy processes got some time")
        use = neighbours.use()
    assert use is not None and use.waited > 0.5, "two that want one core: one of them always waits"


def test_a_process_that_is_gone_leaves_the_count_unknown() -> None:
    with busy() as pid:
        neighbours = Neighbours([pid])
    assert neighbours.use() is None


class Machine:
    """Stands in for who uses the CPU: what is seen while something is measured, and while it is waited for quiet."""

    def __init__(self, measured: Cores, waiting: Cores, monkeypatch: pytest.MonkeyPatch) -> None:
        self._measured, self._waiting = iter(measured), iter(waiting)
        monkeypatch.setattr("lib.bench.neighbours.Neighbours", lambda pids: self)
        monkeypatch.setattr("lib.bench.neighbours.use_over", self._use_over)

    def use(self) -> Use | None:
        return _use(next(self._measured))

    def _use_over(self, pids: Sequence[int], seconds: float) -> Use | None:
        return _use(next(self._waiting))


def _use(cores: float | None) -> Use | None:
    return None if cores is None else Use(cores, 0.0, 0.0)


def watched(measured: Cores, waiting: Cores, monkeypatch: pytest.MonkeyPatch) -> list[Conditions]:
    """Both scenarios on such a machine, in one session."""
    Machine(measured, waiting, monkeypatch)
    workers: Any = SimpleNamespace(running={}, num_threads=os.cpu_count())
    sides: Any = {"backend": SimpleNamespace(pid=1, num_threads=99)}
    watch, found = Watch(workers, "fast", silent), []
    for name in ("single_stream", "offline"):
        kept = watch.undisturbed(name, lambda: watch.over(sides, lambda: made_scenario(name, 2.0)))  # noqa: B023
        assert kept.conditions is not None
        found.append(kept.conditions)
    return found


def test_quiet_is_measured_once_and_nothing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [(found.num_measured, found.waited_s) for found in watched([0.01, 0.02], [], monkeypatch)] == [(1, 0.0)] * 2


def test_a_disturbed_scenario_waits_for_quiet_and_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = watched([0.9, 0.01, 0.02], [0.9, 0.9, 0.01], monkeypatch)
    assert (first.num_measured, first.others_cores, first.waited_s) == (2, 0.01, 3 * WINDOW_S)
    assert second.num_measured == 1


def test_patience_ends_and_belongs_to_the_whole_session(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = watched([0.9, 0.8], [0.9] * 1000, monkeypatch)
    assert (first.num_measured, first.waited_s) == (1, PATIENCE_S["fast"])
    assert (second.num_measured, second.waited_s, second.others_cores) == (1, 0.0, 0.8)


def test_where_nothing_can_be_counted_it_is_measured_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = watched([0.9, 0.01, 0.01], [None], monkeypatch)
    assert (first.num_measured, first.waited_s) == (2, WINDOW_S)


def test_of_all_attempts_the_least_disturbed_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, _ = watched([0.9, 0.5, 0.7, 0.01], [0.01] * 9, monkeypatch)
    assert (kept.num_measured, kept.others_cores) == (MAX_ATTEMPTS, 0.5)


def test_smoke_is_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    workers: Any = SimpleNamespace(running={}, num_threads=1)
    kept = Watch(workers, "smoke", silent).over({}, lambda: made_scenario("offline", 2.0))
    assert kept.conditions is None
