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

from lib.bench.neighbours import WINDOW_S, Neighbours, Use, Watch, use_over
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


def use(cores: float | None) -> Use | None:
    return None if cores is None else Use(cores, 0.0, 0.0)


def watched(measured: Cores, waiting: Cores, monkeypatch: pytest.MonkeyPatch) -> list[Conditions]:
    """Both scenarios in one session on a machine where others use so much while something is measured, and while it is
    waited for quiet."""
    seen, meanwhile = map(use, measured), map(use, waiting)
    machine = SimpleNamespace(use=lambda: next(seen))
    monkeypatch.setattr("lib.bench.neighbours.Neighbours", lambda pids: machine)
    monkeypatch.setattr("lib.bench.neighbours.use_over", lambda pids, seconds: next(meanwhile))
    workers: Any = SimpleNamespace(running={}, num_threads=os.cpu_count())
    sides: Any = {"backend": SimpleNamespace(pid=1, num_threads=99)}
    watch, found = Watch(workers, "fast", silent), []
    for name in ("single_stream", "offline"):
        kept = watch.undisturbed(name, lambda: watch.over(sides, lambda: made_scenario(name, 2.0)))  # noqa: B023
        assert kept.conditions is not None
        found.append(kept.conditions)
    return found


@pytest.mark.parametrize(
    ("measured", "waiting", "first", "second"),
    [
        ([0.01, 0.02], [], (1, 0.01, 0.0), (1, 0.02, 0.0)),
        ([0.9, 0.01, 0.02], [0.9, 0.9, 0.01], (2, 0.01, 3 * WINDOW_S), (1, 0.02, 0.0)),
        ([0.9, 0.8], [0.9] * 1000, (1, 0.9, PATIENCE_S["fast"]), (1, 0.8, 0.0)),
        ([0.9, 0.01, 0.01], [None], (2, 0.01, WINDOW_S), (1, 0.01, 0.0)),
        ([0.9, 0.5, 0.7, 0.01], [0.01] * 9, (MAX_ATTEMPTS, 0.5, 2 * WINDOW_S), (1, 0.01, 0.0)),
    ],
    ids=["quiet", "disturbed", "patience of the session ends", "nothing can be counted", "the least disturbed is kept"],
)
def test_what_others_disturb_waits_for_quiet_and_is_measured_again(
    measured: Cores, waiting: Cores, first: Any, second: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = watched(measured, waiting, monkeypatch)
    assert [(each.num_measured, each.others_cores, each.waited_s) for each in found] == [first, second]


def test_smoke_is_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    workers: Any = SimpleNamespace(running={}, num_threads=1)
    kept = Watch(workers, "smoke", silent).over({}, lambda: made_scenario("offline", 2.0))
    assert kept.conditions is None


def test_use_over_some_time_sees_who_is_busy() -> None:
    def others() -> float:
        found = use_over([], 0.1)
        return found.others if found is not None else 0.0

    with busy():
        until(lambda: others() > 0.1, "the other process is seen")
