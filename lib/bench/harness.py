"""What the harness costs: a worker's measuring beside plain loops over the same network in memory, in one process.

In one process, because two with the same code differ by some per cent from start to end, which is more than is looked
for. Several processes are started one after another all the same; their scatter is reported beside the mean.

`python -m lib.bench.harness CHECKPOINT IMAGES THREADS` measures in one process and prints seconds per call.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lib.analysis.statistics import median_latency, paired_ratio, standard_error
from lib.backends import REFERENCE, get_backend
from lib.bench.client import worker_command, worker_environ
from lib.bench.worker import Worker
from lib.bench.workers import save_images
from lib.data import Data
from lib.files import PROJECT_ROOT
from lib.model import Checkpoint

NUM_PROCESSES = 6
NUM_WARMUP = 3
NUM_CALLS = {1: 30, 256: 2}  # in a turn, by batch size
NUM_TURNS = {1: 120, 256: 20}

Turns = list[list[float]]


def harness_cost(checkpoint: Checkpoint, data: Data, folder: Path, num_threads: int) -> dict[str, Any]:
    """By batch size, the ratio of a call's time in a worker to that in a plain loop; and what a call of `null` takes.

    Both loops time all their calls together, without a clock call in between, and enter `inference_mode` once:
    `arrays` takes and gives numpy arrays, as a worker does; `network` has its tensor at hand and leaves the answer.
    """
    images = folder / "images.npy"
    save_images(images, data.val.images[:256], checkpoint.preprocessing)
    command = worker_command("lib.bench.harness", str(checkpoint.path), str(images), str(num_threads))
    found: list[dict[str, dict[str, Turns]]] = []
    for _ in range(NUM_PROCESSES):
        process = subprocess.run(
            command, stdout=subprocess.PIPE, check=True, cwd=PROJECT_ROOT, env=worker_environ(num_threads)
        )
        found.append(json.loads(process.stdout))
    return {f"batch {batch_size}": cost([process[batch_size] for process in found]) for batch_size in found[0]}


def cost(processes: list[dict[str, Turns]]) -> dict[str, Any]:
    """Ratios and seconds per call from what `measure` found for one batch size, in one or more processes."""
    times = {name: float(np.median([median_latency(process[name]) for process in processes])) for name in processes[0]}
    return {
        "worker_over_arrays": _mean_ratio(processes, "arrays"),
        "worker_over_network": _mean_ratio(processes, "network"),
        "call_s": times,
        "null_share": times["null"] / times["network"],
    }


def _mean_ratio(processes: list[dict[str, Turns]], loop: str) -> dict[str, Any]:
    ratios = [paired_ratio(process[loop], process["worker"]).value for process in processes]
    logs = np.log(ratios)
    return {"mean": float(np.exp(logs.mean())), "standard_error": standard_error(logs), "processes": ratios}


def measure(checkpoint: Path, images: Path, num_threads: int) -> dict[int, dict[str, Turns]]:
    """By batch size and side, the mean seconds of a call in every turn. The sides take turns in changing order."""
    workers = {name: Worker(get_backend(name)()) for name in (REFERENCE, "null")}
    with tempfile.TemporaryDirectory() as folder:
        for worker in workers.values():
            worker.load(str(checkpoint), folder, num_threads, str(images))
    network = workers[REFERENCE].backend.model  # type: ignore[attr-defined]  # eager PyTorch has one
    stored = np.load(images)

    def in_worker(name: str, batch_size: int, num_calls: int) -> float:
        answer = workers[name].measure(batch_size, NUM_WARMUP, 0, num_calls, num_calls, offset=0)
        return float(np.mean(answer["latencies_s"]))

    def arrays(batch_size: int, num_calls: int) -> float:
        batch = stored[:batch_size].copy()
        return _loop(lambda: network(torch.from_numpy(batch)).numpy(), num_calls)

    def tensors(batch_size: int, num_calls: int) -> float:
        batch = torch.from_numpy(stored[:batch_size].copy())
        return _loop(lambda: network(batch), num_calls)

    sides: dict[str, Callable[[int, int], float]] = {
        "worker": lambda *size: in_worker(REFERENCE, *size),
        "arrays": arrays,
        "network": tensors,
        "null": lambda *size: in_worker("null", *size),
    }
    order = np.random.default_rng(0)
    found: dict[int, dict[str, Turns]] = {}
    for batch_size, num_calls in NUM_CALLS.items():
        found[batch_size] = {name: [] for name in sides}
        for _ in range(NUM_TURNS[batch_size]):
            for name in order.permutation(list(sides)):
                found[batch_size][name].append([sides[name](batch_size, num_calls)])
    return found


def _loop(call: Callable[[], object], num_calls: int) -> float:
    with torch.inference_mode():
        for _ in range(NUM_WARMUP):
            call()
        begun = time.perf_counter()
        for _ in range(num_calls):
            call()
        return (time.perf_counter() - begun) / num_calls


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))))
