"""Is the harness honest? It measures what is known: no difference, a planted slow-down, and its own cost.

All outcomes are kept, one JSON line each, as they come.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lib.backends import REFERENCE, Backend, get_backend
from lib.bench.client import WorkerClient, worker_environ
from lib.bench.planted import PlantedSlow
from lib.bench.session import Session
from lib.data import Data
from lib.files import PROJECT_ROOT
from lib.model import Checkpoint
from lib.records.results import Profile, Scenario
from lib.records.statistics import (
    Ratio,
    control_ratio,
    median_latency,
    noise_floor,
    paired_ratio,
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
    warnings: tuple[str, ...] = ()  # with which a page would show it


def run_once(
    backend: type[Backend], seed: int, checkpoint: Checkpoint, data: Data, profile: Profile
) -> tuple[list[Scenario], list[str]]:
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
                told = tuple(warning for warning in warnings if warning.startswith(f"{scenario.name}:"))
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


_BARE_LOOP = """
import json, sys, time
import numpy as np, torch
from lib.model import load_checkpoint
from pathlib import Path
torch.set_num_threads(int(sys.argv[3]))
model = load_checkpoint(Path(sys.argv[1])).model
images = np.load(sys.argv[2])
with torch.inference_mode():
    for line in sys.stdin:
        batch_size, calls = map(int, line.split())
        batch = torch.from_numpy(images[:batch_size].copy())
        for _ in range(3):
            model(batch)
        begun = time.perf_counter()
        for _ in range(calls):
            model(batch)
        print((time.perf_counter() - begun) / calls, flush=True)
"""


def harness_cost(
    checkpoint: Checkpoint, data: Data, folder: Path, num_threads: int, num_pairs: int = 6, num_rounds: int = 40
) -> dict[str, Any]:
    """The reference in a worker against a loop in a plain script, in turns; and what a call of `null` takes.

    The script times all its calls together, without a clock call or anything else in between. Two processes with the
    same code differ by a per cent or two from the start, so a single pair cannot tell what the harness costs: several
    pairs are started, and their scatter is told beside the mean.
    """
    images = folder / "images.npy"
    np.save(images, checkpoint.preprocessing.normalize(np.array(data.val.images[:256])).numpy())
    num_calls = {1: 10, 256: 1}  # in a turn, by batch size
    found: dict[int, list[dict[str, float]]] = {batch_size: [] for batch_size in num_calls}
    for _ in range(num_pairs):
        with _sides(checkpoint, folder, images, num_threads) as sides:
            for batch_size, calls in num_calls.items():
                found[batch_size].append(_take_turns(sides, batch_size, calls, num_rounds))
    return {f"batch {batch_size}": _cost(pairs) for batch_size, pairs in found.items()}


def _cost(pairs: Sequence[dict[str, float]]) -> dict[str, Any]:
    ratios = [pair["ratio"] for pair in pairs]
    mean = float(np.exp(np.mean(np.log(ratios))))
    error = float(np.std(np.log(ratios), ddof=1) / np.sqrt(len(ratios))) if len(ratios) > 1 else float("nan")
    null_s, bare_s = (float(np.median([pair[name] for pair in pairs])) for name in ("null_s", "bare_s"))
    return {
        "worker_over_bare_loop": mean,
        "standard_error": error,
        "pairs": ratios,
        "null_call_s": null_s,
        "bare_call_s": bare_s,
        "null_share": null_s / bare_s,
    }


_Side = Callable[[int, int], float]  # batch size and number of calls -> seconds of a call


@contextmanager
def _sides(checkpoint: Checkpoint, folder: Path, images: Path, num_threads: int) -> Iterator[dict[str, _Side]]:
    """A plain script and two workers, each in a new process."""
    workers = {name: WorkerClient(get_backend(name), num_threads) for name in (REFERENCE, "null")}
    script = subprocess.Popen(
        [sys.executable, "-c", _BARE_LOOP, str(checkpoint.path), str(images), str(num_threads)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT_ROOT,
        env=worker_environ(num_threads),
    )  # fmt: skip

    def bare(batch_size: int, calls: int) -> float:
        assert script.stdin is not None and script.stdout is not None
        script.stdin.write(f"{batch_size} {calls}\n")
        script.stdin.flush()
        return float(script.stdout.readline())

    def in_worker(worker: WorkerClient, batch_size: int, calls: int) -> float:
        answer = worker.ask(
            "measure", batch_size=batch_size, num_warmup=3, min_seconds=0, min_iterations=calls, max_iterations=calls,
            offset=0,
        )  # fmt: skip
        return float(np.mean(answer["latencies_s"]))

    try:
        for worker in workers.values():
            worker.load(checkpoint.path, folder, images)
        yield {"bare": bare, **{name: partial(in_worker, worker) for name, worker in workers.items()}}
    finally:
        script.kill()
        script.wait()
        for worker in workers.values():
            worker.kill()


def _take_turns(sides: dict[str, _Side], batch_size: int, calls: int, num_rounds: int) -> dict[str, float]:
    times: dict[str, list[list[float]]] = {name: [] for name in sides}
    for number in range(num_rounds):
        for name in list(sides)[:: 1 if number % 2 else -1]:
            times[name].append([sides[name](batch_size, calls)])
            time.sleep(0.02)
    ratio = paired_ratio(times["bare"], times[REFERENCE]).value
    return {"ratio": ratio, "null_s": median_latency(times["null"]), "bare_s": median_latency(times["bare"])}


def _append(path: Path, content: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(content) + "\n")
