"""Who else used the CPU while something was measured, as Linux counts it.

A neighbour on one core slows two threads that wait for each other far more than one that does not, so it moves ratios
and not only times: with another process on one of two cores a backend that was 10 times as fast as the reference
measured as 13 times, in a narrow interval. Scatter does not always show that; the kernel's own count does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

LIMIT_CORES = 0.1  # more is a neighbour; an idle desktop or runner uses a few hundredths


class Neighbours:
    """Counts from its making on what other processes, and other guests of the same host, use.

    Args:
        pids: processes that are measured; this one belongs to them too.
    """

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = [os.getpid(), *pids]
        self._start = self._reading()

    def cores(self) -> float | None:
        """Cores in use by others, on average since the start; None where the system does not tell."""
        now = self._reading()
        if now is None or self._start is None:
            return None
        (busy, own, at), (busy_before, own_before, since) = now, self._start
        return max(0.0, ((busy - busy_before) - (own - own_before)) / max(at - since, 1e-9))

    def _reading(self) -> tuple[float, float, float] | None:
        """Seconds of CPU that all used, that the measured processes used, and the time."""
        tick = os.sysconf("SC_CLK_TCK")
        try:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(
                int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
            )
            own = sum(_ticks(pid) for pid in self._pids)
        except (OSError, ValueError):
            return None
        return (user + nice + system + irq + softirq + steal) / tick, own / tick, time.monotonic()


def _ticks(pid: int) -> int:
    """User and system time of a process with all its threads (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def tolerated_cores(num_threads: int) -> float:
    """What others may use without being in the way: half of the cores that are left over, and a little in any case."""
    return max(LIMIT_CORES, ((os.cpu_count() or 1) - num_threads) / 2)
