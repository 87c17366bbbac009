"""Who else used the CPU while something was measured, as Linux counts it.

A neighbour on one core slows two threads that wait for each other far more than one that does not, so it moves ratios
and not only times: with another process on one of two cores a backend that was 10 times as fast as the reference
measured as 13 times, in a narrow interval. Scatter does not always show that; the kernel's own count does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import psutil  # type: ignore[import-untyped]

from lib.analysis.judgement import disturbance, is_busy
from lib.bench.plan import MAX_ATTEMPTS, PATIENCE_S
from lib.bench.rounds import Sides
from lib.bench.workers import Workers
from lib.progress import Progress
from lib.records.schema import Conditions, LayerTable, Profile, Scenario

WINDOW_S = 2.0  # long enough to count what runs for a moment now and then

Measured = TypeVar("Measured", Scenario, LayerTable)


@dataclass(frozen=True)
class Use:
    """Cores in use, on average over some time."""

    others: float  # by other processes, and by other guests of the same host
    stolen: float  # by other guests alone
    waited: float  # that threads of the measured processes were ready for and did not get


@dataclass(frozen=True)
class _Reading:
    """Seconds of CPU since the machine or process was started."""

    at: float
    busy: float
    own: float
    stolen: float
    waits: dict[str, float] = field(default_factory=dict)  # by thread


class Neighbours:
    """Counts from its making on what other processes, and other guests of the same host, use.

    Args:
        pids: processes that are measured; this one belongs to them too.
    """

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = list(pids)
        self._start = self._reading()

    def use(self) -> Use | None:
        """On average since the start; None where the system does not tell."""
        now, start = self._reading(), self._start
        if now is None or start is None:
            return None
        seconds = max(now.at - start.at, 1e-9)
        others = (now.busy - start.busy) - (now.own - start.own)
        waited = sum(wait - start.waits.get(thread, 0.0) for thread, wait in now.waits.items())
        return Use(max(0.0, others / seconds), (now.stolen - start.stolen) / seconds, waited / seconds)

    def _reading(self) -> _Reading | None:
        try:
            own = sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in [os.getpid(), *self._pids])  # user, system
            waits = {thread: wait for pid in self._pids for thread, wait in _waits(pid).items()}
        except (OSError, ValueError, psutil.Error):
            return None
        times = psutil.cpu_times()
        busy = times.user + times.nice + times.system + times.irq + times.softirq + times.steal
        return _Reading(time.monotonic(), busy, own, times.steal, waits)


def use_over(pids: Iterable[int], seconds: float) -> Use | None:
    """Who uses the CPU for some seconds from now on."""
    neighbours = Neighbours(pids)
    time.sleep(seconds)
    return neighbours.use()


def _waits(pid: int) -> dict[str, float]:
    """Seconds that each thread of a process waited for a core while it could have run (schedstat, second field)."""
    found = {}
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            found[thread.name] = int((thread / "schedstat").read_text(encoding="utf-8").split()[1]) / 1e9
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended just now
    return found


def watched(sides: Sides, measure: Callable[[], Measured]) -> Measured:
    """What was measured, with who else used the CPU meanwhile, where the system reports it."""
    neighbours = Neighbours(side.pid for side in sides.values())
    measured = measure()
    if (use := neighbours.use()) is not None:
        measured.conditions = _conditions(use, max(side.num_threads for side in sides.values()))
    return measured


class Watch:
    """Keeps what was not disturbed, as long as there is patience left; that belongs to the whole session."""

    def __init__(self, workers: Workers, profile: Profile, progress: Progress) -> None:
        self.workers, self.progress = workers, progress
        self._profile = profile
        self._patience_s = PATIENCE_S[profile]

    def over(self, sides: Sides, measure: Callable[[], Measured]) -> Measured:
        """What was measured, with who else used the CPU meanwhile. Smoke is not watched: its times mean nothing."""
        return measure() if self._profile == "smoke" else watched(sides, measure)

    def undisturbed(self, what: str, measure: Callable[[], Measured]) -> Measured:
        """Measured again after others have ended; of all attempts the least disturbed one, which says how many there
        were and how long it was waited.

        Args:
            what: is measured, in words.
        """
        attempts, waited_s = [measure()], 0.0
        while disturbance(attempts[-1]) is not None and len(attempts) < MAX_ATTEMPTS:
            seconds, quiet = self._wait_for_quiet(what)
            waited_s += seconds
            if not quiet:
                break
            self.progress(f"{what}: once more")
            attempts.append(measure())
        kept = min(attempts, key=lambda attempt: (disturbance(attempt) is not None, _others_cores(attempt)))
        if kept.conditions is not None:
            kept.conditions = replace(kept.conditions, num_measured=len(attempts), waited_s=waited_s)
        return kept

    def _wait_for_quiet(self, what: str) -> tuple[float, bool]:
        """Until others use no more than they may, with what patience is left; seconds, and whether it is quiet now."""
        self.progress(f"{what}: disturbed; waiting for quiet, at most {self._patience_s:.0f} s")
        pids = [side.pid for side in self.workers.running.values()]
        waited_s, quiet = 0.0, False
        while not quiet and waited_s + WINDOW_S <= self._patience_s:
            use = use_over(pids, WINDOW_S)
            waited_s += WINDOW_S
            quiet = use is None or not is_busy(_conditions(use, self.workers.num_threads))
        self._patience_s -= waited_s
        self.progress(f"{what}: {'quiet' if quiet else 'still not quiet'} after {waited_s:.0f} s")
        return waited_s, quiet


def _conditions(use: Use, num_threads: int) -> Conditions:
    spare_cores = max(0, (os.cpu_count() or 1) - num_threads)
    return Conditions(use.others, use.stolen, use.waited, spare_cores)


def _others_cores(measured: Scenario | LayerTable) -> float:
    return measured.conditions.others_cores if measured.conditions is not None else 0.0
