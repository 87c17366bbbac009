"""Peak memory of a process between two moments."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lib.executor.memory import PeakMemory
from lib.report import PEAK_MEMORY

LARGE = 200_000_000


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="no /proc here")
def test_peak_is_that_of_the_time_between_and_forgets_what_was_before() -> None:
    large, small, memory = {}, {}, PeakMemory(os.getpid())  # type: dict[str, int], dict[str, int], PeakMemory
    memory.begin()
    del bytearray(LARGE)[:]
    memory.end(large)
    memory.begin()
    memory.end(small)
    assert large[PEAK_MEMORY] > small[PEAK_MEMORY] + LARGE * 0.9


def test_nothing_is_written_down_where_nothing_is_known() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    metadata: dict[str, Any] = {}
    for pid in (None, ended.pid):
        memory = PeakMemory(pid)
        memory.begin()
        memory.end(metadata)
    assert metadata == {}
