"""Is the harness honest? It measures what is known: no difference, and a planted slow-down.

All outcomes are kept, one JSON line each, as they come.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.backends import REFERENCE, Backend, get_backend
from lib.bench.planted import PlantedSlow
from lib.bench.session import Session
from lib.data import Data
from lib.model import Checkpoint
from lib.records.results import Profile, RecordWarning, Scenario
from lib.records.statistics import (
    Ratio,
    control_ratio,
    noise_floor,
    scenario_ratio,
    verdict,
)

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What one run said about one scenario."""

    kind: str  # same: the reference against itself; planted: with 5 % more work
    seed: int
    scenario: str
    ratio: Ratio
    control: Ratio
    noise_floor: float
    verdict: str
    warnings: tuple[str, ...] = ()  # kinds of those with which a page would show it


def run_once(
    backend: type[Backend], seed: int, checkpoint: Checkpoint, data: Data, profile: Profile
) -> tuple[list[Scenario], list[RecordWarning]]:
    """Measure a backend's scenarios as `03_benchmark` does, after the same parity and proof; with all warnings.

    Raises:
        RuntimeError: it could not be measured.
    """
    session = Session(backend, checkpoint, data, profile=profile, seed=seed)
    session.prepare()
    session.start()
    session.check_parity()
    session.check_proof()
    session.measure()
    session.close()
    if session.status != "ok":
        raise RuntimeError(session.error)
    return session.scenarios, session.warnings


def known_differences(
    checkpoint: Checkpoint, data: Data, out: Path, seeds: Sequence[int], profile: Profile, progress: Progress
) -> list[Outcome]:
    """Per seed, one run of the reference against itself and one of the reference with 5 % more work."""
    outcomes = []
    for seed in seeds:
        for kind, backend in (("same", get_backend(REFERENCE)), ("planted", PlantedSlow)):
            load = os.getloadavg()[0]
            scenarios, warnings = run_once(backend, seed, checkpoint, data, profile)
            for scenario in scenarios:
                ratio, floor = scenario_ratio(scenario), noise_floor(scenario)
                control = control_ratio(scenario)
                told = tuple(warning.kind for warning in warnings if warning.scenario == scenario.name)
                outcome = Outcome(kind, seed, scenario.name, ratio, control, floor, verdict(ratio, floor), told)
                outcomes.append(outcome)
                samples = {
                    "latencies_s": scenario.latencies_s,
                    "reference_latencies_s": scenario.reference_latencies_s,
                    "control_latencies_s": scenario.control_latencies_s,
                }
                _append(out, {**outcome.__dict__, "load_average_before": load})
                _append(
                    out.with_name("samples.jsonl"), {"kind": kind, "seed": seed, "scenario": scenario.name, **samples}
                )
                progress(
                    f"{kind} {seed} {scenario.name}: {ratio.value:.4f} [{ratio.low:.4f}, {ratio.high:.4f}], "
                    f"noise floor {floor:.1%}: {outcome.verdict}{', with a warning' if told else ''}"
                )
    return outcomes


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """How many runs were judged right, by scenario."""
    counts: dict[str, Any] = {}
    for scenario in dict.fromkeys(outcome.scenario for outcome in outcomes):
        same = [o for o in outcomes if o.scenario == scenario and o.kind == "same"]
        planted = [o for o in outcomes if o.scenario == scenario and o.kind == "planted"]
        counts[scenario] = {
            "runs_of_the_same": len(same),
            "claimed_a_difference": sum(o.verdict != "no difference" for o in same),
            "claimed_it_without_a_warning": sum(o.verdict != "no difference" and not o.warnings for o in same),
            "runs_with_5_percent_more_work": len(planted),
            "found_it": sum(o.verdict == "slower" for o in planted),
            "missed_it_without_a_warning": sum(o.verdict != "slower" and not o.warnings for o in planted),
        }
    return counts | {"runs": _by_run(outcomes)}


def _by_run(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """A run of the same claims a difference if one of its scenarios does; a planted one is found if all find it."""
    same = {(o.kind, o.seed) for o in outcomes if o.kind == "same"}
    claimed = {(o.kind, o.seed) for o in outcomes if o.kind == "same" and o.verdict != "no difference"}
    planted = {(o.kind, o.seed) for o in outcomes if o.kind == "planted"}
    missed = {(o.kind, o.seed) for o in outcomes if o.kind == "planted" and o.verdict != "slower"}
    return {
        "of_the_same": len(same),
        "claimed_a_difference_in_some_scenario": len(claimed),
        "with_5_percent_more_work": len(planted),
        "found_it_in_all_scenarios": len(planted - missed),
    }


def _append(path: Path, content: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(content) + "\n")
