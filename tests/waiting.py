"""Waiting for what will happen, however long a busy or emulated machine takes for it."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil  # type: ignore[import-untyped]

from lib.machine import patient

HANG_S = patient(900)  # ends a test that would wait for ever; says nothing about how quick anything is


def until(condition: Callable[[], bool], what: str, pause: Callable[[], object] = lambda: time.sleep(0.05)) -> None:
    """Wait until a condition holds.

    Args:
        what: the condition in words, for the failure of a test that would wait for ever.
        pause: between two looks.
    """
    ends = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < ends, f"waited {HANG_S:.0f} s until {what}"
        pause()


def cpu_seconds(pid: int) -> float:
    """What a process with all its threads has used of the CPU since its start, in steps of 0.01 s."""
    used = psutil.Process(pid).cpu_times()
    return float(used.user + used.system)
