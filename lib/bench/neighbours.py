"""Who else used the CPU while something was measured, as Linux counts it.

A neighbour on one core slows two threads that wait for each other far more than one that does not, so it moves ratios
and not only times: with another process on one of two cores a backend that was 10 times as fast as the reference
measured as 13 times, in a narrow interval. Scatter does not always show that; the kernel's own count does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]

WINDOW_S = 2.0  # long enough to count what runs for a moment now and then


@dataclass(frozen=True)
class Use:
    """Cores in use, on average over some time."""

    others: float  # by other processes, and by other guests of the same host
    stolen: float  # by other guests alone
    waited: float  # that threads of the measured processes were ready for and did not get


class Waited(NamedTuple):
    """For others to end."""

    seconds: float
    quiet: bool  # whether they did


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


def wait_for_quiet(limit_s: float, is_quiet: Callable[[Use], bool], look: Callable[[float], Use | None]) -> Waited:
    """Look again and again, for `WINDOW_S` at a time, until it is quiet or the limit would be passed.

    Args:
        look: takes seconds and returns the use over them; where it returns None, nothing can be waited for.
    """
    waited = 0.0
    while waited + WINDOW_S <= limit_s:
        use = look(WINDOW_S)
        waited += WINDOW_S
        if use is None or is_quiet(use):
            return Waited(waited, quiet=True)
    return Waited(waited, quiet=False)


def _waits(pid: int) -> dict[str, float]:
    """Seconds that each thread of a process waited for a core while it could have run (schedstat, second field)."""
    found = {}
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            found[thread.name] = int((thread / "schedstat").read_text(encoding="utf-8").split()[1]) / 1e9
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended just now
    return found
