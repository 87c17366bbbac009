"""How much of the CPU may others use before they move a ratio? Measured with planted loads.

A load is a process that is busy for a share of every period on one core. Blocks of rounds with and without loads take
turns in one go, so that drifts of the machine hit all alike.
"""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from lib.analysis.statistics import median_latency, paired_ratio, standard_error
from lib.backends import get_backend
from lib.bench.neighbours import Neighbours, Use
from lib.bench.plan import ScenarioPlan
from lib.bench.prove import random_network
from lib.bench.rounds import Sides, measure_scenario
from lib.bench.workers import Workers
from lib.data import load_data
from lib.errors import UserError
from lib.files import write_atomic
from lib.granted import num_cores
from lib.machine import collect_environment
from lib.model import load_checkpoint
from lib.progress import Progress

PERIOD_S = 0.01
SETTLE_S = 0.1  # for a load to begin
CORES = (0.05, 0.1, 0.2, 0.35, 0.5, 1.0)  # of all its processes together
NUM_IMAGES = 256  # for all batches and to calibrate on
BATCH_SIZES = {"single_stream": 1, "offline": 64}  # smaller than a benchmark's, for more rounds in a block
_BUSY = """
import os, sys, time
core, share, period = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
os.sched_setaffinity(0, [core])
while True:
    until = time.monotonic() + share * period
    while time.monotonic() < until:
        pass
    if share < 1:
        time.sleep((1 - share) * period)
"""


@dataclass(frozen=True)
class Load:
    """What is planted: cores of CPU time, spread evenly over so many cores. None of it is the quiet machine."""

    cores: float = 0.0
    num_cores: int = 0


@dataclass(frozen=True)
class Block:
    """Some rounds beside one load."""

    load: Load
    ratio: float  # time of the reference / time of the backend
    reference_s: float  # median call
    use: Use


def new_file(path: Path) -> Path:
    """The path, for outcomes: trying until a check passes must leave a trace.

    Raises:
        UserError: the file is there already.
    """
    if path.exists():
        raise UserError(f"{path} exists and outcomes are never overwritten; give another folder with --out")
    return path


def load_check(names: Sequence[str], num_threads: int, seconds: float, out: Path, progress: Progress) -> None:
    """Measure backends against the reference beside planted loads and without; nothing else may run meanwhile.

    Args:
        names: of backends.
        num_threads: of each side; 0 = all cores.
        seconds: for each backend and scenario.
        out: folder; `loads.jsonl` gets every block, `loads.json` what they say.

    Raises:
        UserError: unknown backend, or outcomes that are there already.
    """
    backends = [get_backend(name) for name in names]
    out.mkdir(parents=True, exist_ok=True)
    lines = new_file(out / "loads.jsonl")
    threads, found = num_threads or num_cores(), []
    data = load_data("synthetic", num_images=NUM_IMAGES)
    splits = dict.fromkeys(("val", "calibration"), data.train)
    with tempfile.TemporaryDirectory(prefix="gtsrb-loads-") as folder:
        checkpoint = load_checkpoint(random_network(Path(folder), data, "signnet"))
        for backend in backends:
            with closing(Workers(backend, checkpoint, splits, threads)) as workers:
                for scenario, batch_size in BATCH_SIZES.items():
                    sides = workers.open_pair(threads)
                    cycles = measure_blocks(sides, block_plan(batch_size), seconds, loads(num_cores()))
                    about = {"backend": backend.name, "scenario": scenario, "num_threads": threads}
                    with lines.open("a", encoding="utf-8") as file:
                        for number, cycle in enumerate(cycles):
                            for block in cycle:
                                file.write(json.dumps({**about, "cycle": number, **asdict(block)}) + "\n")
                    found += [{**about, "num_cycles": len(cycles), **row} for row in shifts(cycles)]
                    progress(f"{backend.name}, {scenario}: {len(cycles)} cycles")
    content = {"environment": asdict(collect_environment(num_threads)), "shifts": found}
    write_atomic(out / "loads.json", json.dumps(content, indent=1) + "\n")


def loads(num_cores: int) -> list[Load]:
    """All that are tried: each amount on all cores and on half of them."""
    return [Load(cores, count) for count in (num_cores, max(1, num_cores // 2)) for cores in CORES if cores <= count]


@contextmanager
def beside(*scripts: Sequence[str]) -> Iterator[list[int]]:
    """Python processes that run meanwhile, each a source with its arguments; their pids."""
    processes = [subprocess.Popen([sys.executable, "-S", "-c", *script]) for script in scripts]
    try:
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def planted(load: Load) -> Iterator[list[int]]:
    """Processes that keep their cores busy for their share of the time; their pids."""
    where = sorted(os.sched_getaffinity(0))[: load.num_cores]
    with beside(*((_BUSY, str(core), str(load.cores / len(where)), str(PERIOD_S)) for core in where)) as pids:
        if pids:
            time.sleep(SETTLE_S)
        yield pids


def block_plan(batch_size: int) -> ScenarioPlan:
    """One block: about a second, both sides together."""
    single = batch_size == 1
    return ScenarioPlan(
        "block", batch_size, 10 if single else 3, 400, 0.7 if single else 1.0, num_warmup=2 if single else 0,
        round_seconds=0.006 if single else 0.0, min_iterations=3 if single else 1,
    )  # fmt: skip


def measure_blocks(sides: Sides, plan: ScenarioPlan, seconds: float, planned: Sequence[Load]) -> list[list[Block]]:
    """Cycles, each with one block for every load and three without any, in an order that is drawn anew.

    Args:
        sides: backend and reference.
        plan: of one block.
        seconds: in which a new cycle may begin.
    """
    generator = random.Random(0)
    begun = time.monotonic()
    cycles: list[list[Block]] = []
    while time.monotonic() - begun < seconds:
        order = [*planned, *[Load()] * 3]
        generator.shuffle(order)
        cycles.append([_block(sides, plan, load, len(cycles)) for load in order])
    return cycles


def _block(sides: Sides, plan: ScenarioPlan, load: Load, seed: int) -> Block:
    with planted(load):
        neighbours = Neighbours(side.pid for side in sides.values())
        scenario = measure_scenario(sides, plan, seed)
        use = neighbours.use()
    if use is None:
        raise OSError("this system does not count who uses the CPU")
    ratio = paired_ratio(scenario.latencies_s, scenario.reference_latencies_s).value
    return Block(load, ratio, median_latency(scenario.reference_latencies_s), use)


def shifts(cycles: Sequence[Sequence[Block]]) -> list[dict[str, Any]]:
    """Per load, by what share it moves the ratio against the quiet blocks of the same cycle, with its standard error;
    how much slower the reference is; and what was counted."""
    found = []
    quiet = [[math.log(block.ratio) for block in cycle if not block.load.cores] for cycle in cycles]
    quiet_s = [np.mean([math.log(b.reference_s) for b in cycle if not b.load.cores]) for cycle in cycles]
    for load in dict.fromkeys(block.load for block in cycles[0]):
        blocks = [[block for block in cycle if block.load == load] for cycle in cycles]
        if load.cores:
            moved = [math.log(block.ratio) - np.mean(base) for (block,), base in zip(blocks, quiet, strict=True)]
        else:  # the first quiet block of a cycle against the others: what noise alone moves
            moved = [base[0] - np.mean(base[1:]) for base in quiet]
        slower = [
            np.mean([math.log(block.reference_s) for block in some]) - base
            for some, base in zip(blocks, quiet_s, strict=True)
        ]
        counted = np.mean([astuple(block.use) for some in blocks for block in some], axis=0)
        found.append(
            {
                "planted_cores": load.cores,
                "on_cores": load.num_cores,
                "shift": float(np.mean(moved)),
                "standard_error": standard_error(np.array(moved)),
                "reference_slower": float(np.mean(slower)),
                **{f"counted_{field.name}": float(cores) for field, cores in zip(fields(Use), counted, strict=True)},
            }
        )
    return sorted(found, key=lambda row: (row["on_cores"], row["planted_cores"]))
