"""How long and how often things are measured, by profile."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from lib.records.schema import Profile

FEW_THREADS = 4
MAX_ITERATIONS = 2000  # timed calls of one side in one round: more tell nothing new, and all are kept


@dataclass(frozen=True)
class ScenarioPlan:
    """One scenario in one profile.

    Many short turns, because the noise of a shared machine is slow: what lasts longer than a turn hits all sides alike
    and cancels in their ratio. Where this was tried, calls of 2 ms scattered by 20 %, and their medians over half a
    second still by 7 to 12 %.

    A process may be quicker than another one with the same code from its first call to its last, by 1 % mostly and by
    5 % now and then. More rounds do not help against that; new processes do.
    """

    name: str
    batch_size: int
    num_rounds: int  # at least
    max_rounds: int
    seconds: float  # all sides together; rounds go on until it is reached, or the most rounds are
    num_warmup: int  # untimed calls at the start of every turn
    round_seconds: float  # least timed seconds of one side in one round
    min_iterations: int  # least timed calls of one side in one round
    layer_rounds: int = 0  # at least
    max_layer_rounds: int = 0
    layer_seconds: float = 0.0  # all sides together; a slow network gets the least rounds, a quick one the most
    layer_passes: int = 0  # timed passes of one side in one round
    num_starts: int = 1  # of all processes, with as many parts of the rounds

    @property
    def part(self) -> ScenarioPlan:
        """What is measured after one of the starts."""
        return replace(
            self,
            num_rounds=math.ceil(self.num_rounds / self.num_starts),
            max_rounds=math.ceil(self.max_rounds / self.num_starts),
            seconds=self.seconds / self.num_starts,
            num_starts=1,
        )


@dataclass(frozen=True)
class SweepPlan:
    """Which other batch sizes and numbers of threads are measured, a few rounds each."""

    batch_sizes: tuple[int, ...]
    thread_batch_sizes: tuple[int, ...]  # at every number of threads from 1 to all
    num_rounds: int
    max_rounds: int
    seconds: float  # of a point, both sides together

    def scenario(self, batch_size: int) -> ScenarioPlan:
        """How one point is measured."""
        return ScenarioPlan(
            "sweep", batch_size, self.num_rounds, self.max_rounds, self.seconds, num_warmup=1, round_seconds=0.01,
            min_iterations=1,
        )  # fmt: skip


OFFLINE_BATCH = 256
_SINGLE = ("single_stream", 1)
_OFFLINE = ("offline", OFFLINE_BATCH)

PLANS: dict[str, tuple[ScenarioPlan, ...]] = {
    "smoke": (
        ScenarioPlan(
            *_SINGLE, num_rounds=6, max_rounds=6, seconds=0.0, num_warmup=2, round_seconds=0.0, min_iterations=3,
            layer_rounds=3, max_layer_rounds=3, layer_passes=3,
        ),
        ScenarioPlan(
            *_OFFLINE, num_rounds=4, max_rounds=4, seconds=0.0, num_warmup=0, round_seconds=0.0, min_iterations=1,
            layer_rounds=3, max_layer_rounds=3, layer_passes=1,
        ),
    ),
    "fast": (
        ScenarioPlan(
            *_SINGLE, num_rounds=40, max_rounds=400, seconds=4.0, num_warmup=2, round_seconds=0.006, min_iterations=3,
            layer_rounds=8, max_layer_rounds=8, layer_passes=5,
        ),
        ScenarioPlan(
            *_OFFLINE, num_rounds=12, max_rounds=100, seconds=6.0, num_warmup=0, round_seconds=0.04, min_iterations=1,
            layer_rounds=6, max_layer_rounds=10, layer_seconds=5.0, layer_passes=1,
        ),
    ),
    "full": (
        ScenarioPlan(
            *_SINGLE, num_rounds=80, max_rounds=800, seconds=15.0, num_warmup=2, round_seconds=0.006, min_iterations=3,
            layer_rounds=15, max_layer_rounds=15, layer_passes=20, num_starts=3,
        ),
        ScenarioPlan(
            *_OFFLINE, num_rounds=24, max_rounds=200, seconds=15.0, num_warmup=0, round_seconds=0.04, min_iterations=1,
            layer_rounds=12, max_layer_rounds=12, layer_passes=2, num_starts=3,
        ),
    ),
}  # fmt: skip
SWEEPS: dict[str, SweepPlan | None] = {
    "smoke": None,
    "fast": None,
    "full": SweepPlan((1, 8, 32, 128, 256, 512), (1, OFFLINE_BATCH), num_rounds=10, max_rounds=60, seconds=3.0),
}
# Seconds in which one backend waits for other processes to end, in all; after that, what was disturbed stays so.
PATIENCE_S = {"smoke": 0.0, "fast": 60.0, "full": 300.0}
MAX_ATTEMPTS = 3  # at measuring one thing
# Answers are compared on all validation images: 14 s for 3,990 by `signnet` in the slowest backend and the reference on
# two cores. Those of a network with random weights mean nothing, and it may be slow: so many of them are enough.
UNTRAINED_IMAGES = 1000
NUM_SAMPLES = 16  # validation images whose logits the record has in full
# Training images that int8 backends are calibrated on.
CALIBRATION_IMAGES = {"smoke": 128, "fast": 512, "full": 512}


@dataclass(frozen=True)
class SessionPlan:
    """What one session measures."""

    profile: Profile = "fast"
    num_threads: int = 0  # of each side; 0 = all cores
    min_seconds: float = 0.0  # least measuring time per scenario, all sides together; 0 = by profile
    batch_size: int = OFFLINE_BATCH  # of the offline scenario
    seed: int = 0  # draws the order of the sides

    def scenarios(self, is_network: bool = True) -> tuple[ScenarioPlan, ...]:
        """Both scenarios of the profile; a control that computes nothing needs as few rounds as in `smoke`."""
        single, offline = PLANS[self.profile if is_network else "smoke"]
        plans = (single, replace(offline, batch_size=self.batch_size))
        if not self.min_seconds:
            return plans
        return tuple(replace(plan, round_seconds=self.min_seconds / plan.num_rounds) for plan in plans)


def thread_counts(num_threads: int) -> list[int]:
    """All from 1 on where they are few; else 1, 2, 4, ... and the number itself."""
    if num_threads <= FEW_THREADS:
        return list(range(1, num_threads + 1))
    counts = {2**power for power in range(num_threads.bit_length())}
    return sorted({count for count in counts if count <= num_threads} | {num_threads})
