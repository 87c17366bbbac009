"""Planted loads are what they say, and a ratio that they move is found with its size."""

from __future__ import annotations

import os
import time

import pytest

from lib.bench.loads import Block, Load, loads, planted, shifts
from lib.bench.neighbours import Use
from tests.waiting import cpu_seconds, until

MOVED = Load(0.5, 1)


def cycle(ratio: float, moved: float) -> list[Block]:
    quiet = Block(Load(), ratio, 0.002, Use(0.01, 0.0, 0.0))
    return [quiet, Block(MOVED, ratio * moved, 0.003, Use(0.5, 0.0, 0.2)), quiet, quiet]


def test_a_shift_is_taken_against_the_quiet_blocks_of_its_own_cycle() -> None:
    quiet, loaded = shifts([cycle(2.0, 1.02), cycle(3.0, 1.04)])  # the machine drifted between them
    assert quiet["shift"] == pytest.approx(0.0) and quiet["planted_cores"] == 0
    assert loaded["shift"] == pytest.approx(0.03, abs=0.001)
    assert loaded["standard_error"] == pytest.approx(0.01, abs=0.001)
    assert loaded["reference_slower"] == pytest.approx(0.405, abs=0.001)  # log of 3 ms over 2 ms
    assert loaded["counted_others"] == 0.5


def test_loads_are_tried_on_all_cores_and_on_half_of_them() -> None:
    assert {load.num_cores for load in loads(4)} == {2, 4} and {load.num_cores for load in loads(1)} == {1}
    assert all(load.cores <= load.num_cores for load in loads(2))


def test_a_planted_load_takes_no_more_than_its_share_and_ends() -> None:
    with planted(Load(0.2, 1)) as (pid,):
        begun, begun_s = time.monotonic(), cpu_seconds(pid)
        until(lambda: cpu_seconds(pid) - begun_s >= 0.1, "the load ran")
        assert (cpu_seconds(pid) - begun_s) / (time.monotonic() - begun) < 0.3
    assert not os.path.exists(f"/proc/{pid}")
    with planted(Load()) as pids:
        assert pids == []
