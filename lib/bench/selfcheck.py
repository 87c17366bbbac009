"""Is the harness honest? It measures what is known: no difference, and planted slow-downs of known size.

All outcomes are kept, one JSON line each, as they come.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib.analysis.judgement import judge, record_warnings
from lib.analysis.statistics import Ratio, control_ratio, standard_error
from lib.backends import REFERENCE, Backend, get_backend
from lib.bench.harness import harness_cost
from lib.bench.loads import beside, new_file
from lib.bench.plan import SessionPlan
from lib.bench.planted import PLANTED
from lib.bench.session import Session
from lib.data import Data, load_data, num_images_for
from lib.files import write_atomic
from lib.granted import num_cores
from lib.machine import collect_environment
from lib.model import Checkpoint
from lib.progress import Progress
from lib.records.schema import BenchmarkRecord, Profile, Scenario
from lib.training.loop import ensure_checkpoint

_BURSTS = """
import random, time
while True:
    until = time.monotonic() + random.uniform(0.05, 2.0)
    while time.monotonic() < until:
        pass
    time.sleep(random.uniform(0.05, 2.0))
"""


@dataclass(frozen=True)
class Outcome:
    """What one run said about one scenario."""

    planted: float  # additional work as a share; 0: the reference against itself
    seed: int
    scenario: str
    ratio: Ratio
    control: Ratio
    noise_floor: float
    verdict: str
    warnings: tuple[str, ...] = ()  # kinds of those with which a page would show it

    @property
    def found(self) -> Ratio:
        """The additional work that was measured, as a share, with its 99 % interval."""
        return Ratio(1 / self.ratio.value - 1, 1 / self.ratio.high - 1, 1 / self.ratio.low - 1)

    @property
    def claims(self) -> bool:
        """Whether the page would call it a difference."""
        return self.verdict in ("faster", "slower")


def selfcheck(num_runs: int, profile: Profile, out: Path, progress: Progress, neighbour: bool = False) -> None:
    """Measure the reference against itself and with each planted slow-down, `num_runs` times, with seeds 0, 1, ...; and
    the harness against a bare loop. Writes all outcomes and a summary into `out`.

    Args:
        neighbour: let another process burn one core in bursts all the while. Then nothing can be measured well, and
            the question is whether the harness says so.

    Raises:
        UserError: outcomes that are there already.
        RuntimeError: a backend could not be measured.
    """
    out.mkdir(parents=True, exist_ok=True)
    data = load_data("synthetic", num_images=num_images_for("smoke", "synthetic"))
    checkpoint, _ = ensure_checkpoint(out, data, progress=progress)
    environment = asdict(collect_environment())
    lines = new_file(out / "outcomes.jsonl")
    cost = None
    with tempfile.TemporaryDirectory(prefix="gtsrb-selfcheck-") as folder, beside(*[[_BURSTS]] * neighbour):
        if not neighbour:
            progress("harness: a call in a worker against plain loops, in six sets of processes; about 15 minutes")
            cost = harness_cost(checkpoint, data, Path(folder), num_cores())
            progress(f"harness: {json.dumps(cost)}")
        outcomes = known_differences(checkpoint, data, lines, range(num_runs), profile, progress)
    content = {
        "summary": summary(outcomes),
        "harness": cost,
        "profile": profile,
        "neighbour": neighbour,
        "checkpoint": {"sha256": checkpoint.sha256, "architecture": checkpoint.metadata.architecture},
        "data_hash": data.manifest_hash,
        "environment": environment,
    }
    write_atomic(out / "summary.json", json.dumps(content, indent=1) + "\n")
    progress(json.dumps(content["summary"], indent=1))


def known_differences(
    checkpoint: Checkpoint, data: Data, out: Path, seeds: Sequence[int], profile: Profile, progress: Progress
) -> list[Outcome]:
    """Per seed, one run of the reference against itself and one with each planted slow-down."""
    kinds: list[tuple[float, type[Backend]]] = [(0.0, get_backend(REFERENCE))]
    kinds += [(backend.extra_work, backend) for backend in PLANTED]
    outcomes = []
    for seed in seeds:
        for planted, backend in kinds:
            load = os.getloadavg()[0]
            record = run_once(backend, checkpoint, data, SessionPlan(profile, seed=seed))
            for scenario in record.scenarios:
                outcome = _outcome(planted, seed, scenario, record)
                outcomes.append(outcome)
                _write(out, outcome, scenario, load)
                size, low, high = outcome.found
                progress(
                    f"planted {planted:.0%}, seed {seed}, {scenario.name}: found {size:.2%} [{low:.2%}, {high:.2%}], "
                    f"noise floor {outcome.noise_floor:.1%}: {outcome.verdict}"
                    f"{', with a warning' if outcome.warnings else ''}"
                )
    return outcomes


def run_once(backend: type[Backend], checkpoint: Checkpoint, data: Data, plan: SessionPlan) -> BenchmarkRecord:
    """Measure a backend's scenarios as `03_benchmark` does, after the same parity and proof.

    Raises:
        RuntimeError: it could not be measured.
    """
    session = Session(backend, checkpoint, data, plan)
    for step in (session.prepare, session.start, session.check_parity, session.check_proof, session.measure):
        step()
    session.close()
    if session.record.status != "ok":
        raise RuntimeError(session.record.error)
    return session.record


def _outcome(planted: float, seed: int, scenario: Scenario, record: BenchmarkRecord) -> Outcome:
    judgement = judge(scenario)
    kinds = tuple(warning.kind for warning in record_warnings(record) if warning.scenario == scenario.name)
    ratio, floor, control = judgement.ratio, judgement.noise_floor, control_ratio(scenario)
    return Outcome(planted, seed, scenario.name, ratio, control, floor, judgement.verdict, kinds)


def _write(out: Path, outcome: Outcome, scenario: Scenario, load: float) -> None:
    """The outcome into its file, and its samples into another beside it."""
    about = {name: getattr(outcome, name) for name in ("planted", "seed", "scenario")}
    sides = ("latencies_s", "reference_latencies_s", "control_latencies_s")
    samples = {side: getattr(scenario, side) for side in sides}
    for path, content in (
        (out, {**outcome.__dict__, "load_average_before": load}),
        (out.with_name("samples.jsonl"), {**about, **samples}),
    ):
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(content) + "\n")


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """By scenario: how many runs were judged right, and how well the planted size was found."""
    found: dict[str, Any] = {}
    for scenario, planted in sorted({(outcome.scenario, outcome.planted) for outcome in outcomes}):
        mine = [outcome for outcome in outcomes if (outcome.scenario, outcome.planted) == (scenario, planted)]
        missed = [outcome for outcome in mine if outcome.verdict != "slower"]
        counts: dict[str, Any] = {"runs": len(mine)}
        if planted:
            counts["found_it"] = len(mine) - len(missed)
            counts["missed_it_without_a_warning"] = sum(not outcome.warnings for outcome in missed)
        else:
            counts["claimed_a_difference"] = sum(outcome.claims for outcome in mine)
            counts["claimed_it_without_a_warning"] = sum(outcome.claims and not outcome.warnings for outcome in mine)
        kind = f"{planted:.0%} planted" if planted else "nothing planted"
        found.setdefault(scenario, {})[kind] = counts | _sizes(mine)
    return found


def _sizes(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """How much additional work was found, against how much there was."""
    sizes = np.array([outcome.found.value for outcome in outcomes])
    return {
        "mean_size": float(sizes.mean()),
        "standard_error": standard_error(sizes),
        "intervals_that_hold_the_size": sum(o.found.low <= o.planted <= o.found.high for o in outcomes),
    }
