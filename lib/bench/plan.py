"""How long and how often things are measured, by profile."""

from __future__ import annotations

from dataclasses import dataclass, replace

MAX_ITERATIONS = 2000  # timed calls of one side in one round: more tell nothing new, and all are kept


@dataclass(frozen=True)
class ScenarioPlan:
    """One scenario in one profile. Warm-up is a fixed number of untimed calls at the start of every turn."""

    name: str
    batch_size: int
    num_rounds: int
    num_warmup: int
    round_seconds: float  # least timed seconds of one side in one round
    min_iterations: int  # least timed calls of one side in one round
    layer_rounds: int
    layer_passes: int  # timed passes of one side in one round


_SINGLE, _OFFLINE = ("single_stream", 1), ("offline", 256)

PLANS: dict[str, tuple[ScenarioPlan, ...]] = {
    "smoke": (
        ScenarioPlan(*_SINGLE, 4, 3, 0.05, 5, layer_rounds=3, layer_passes=5),
        ScenarioPlan(*_OFFLINE, 4, 1, 0.0, 1, layer_rounds=3, layer_passes=1),
    ),
    "fast": (
        ScenarioPlan(*_SINGLE, 12, 5, 0.25, 20, layer_rounds=8, layer_passes=20),
        ScenarioPlan(*_OFFLINE, 12, 1, 0.3, 2, layer_rounds=8, layer_passes=2),
    ),
    "full": (
        ScenarioPlan(*_SINGLE, 25, 10, 1.0, 50, layer_rounds=20, layer_passes=50),
        ScenarioPlan(*_OFFLINE, 25, 2, 2.0, 4, layer_rounds=20, layer_passes=4),
    ),
}


def scenario_plans(profile: str, min_seconds: float = 0.0) -> tuple[ScenarioPlan, ...]:
    """The scenarios of a profile.

    Args:
        min_seconds: least measuring time per scenario and backend; 0 = by profile.
    """
    return tuple(
        replace(plan, round_seconds=min_seconds / plan.num_rounds) if min_seconds else plan for plan in PLANS[profile]
    )
