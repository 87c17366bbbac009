"""`python -m lib selfcheck --loads`: how much may others use before a ratio moves?"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from lib.backends import REFERENCE, Backend, get_backend
from lib.bench.client import PREPARE_LIMIT_S, WorkerClient
from lib.bench.loads import block_plan, loads, measure_blocks, shifts
from lib.data import load_data
from lib.errors import UserError
from lib.files import write_atomic
from lib.granted import num_cores
from lib.records.environment import collect_environment
from lib.series.prove import random_network

NUM_IMAGES = 256  # for all batches and to calibrate on
BATCH_SIZES = {"single_stream": 1, "offline": 64}  # smaller than a benchmark's, for more rounds in a block


def load_check(
    names: Sequence[str], num_threads: int, seconds: float, out: Path, progress: Callable[[str], None]
) -> None:
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
    lines = out / "loads.jsonl"
    if lines.exists():
        raise UserError(f"{lines} exists and outcomes are never overwritten; give another folder with --out")
    threads, found = num_threads or num_cores(), []
    data = load_data("synthetic", num_images=NUM_IMAGES)
    with tempfile.TemporaryDirectory(prefix="gtsrb-loads-") as temporary:
        folder = Path(temporary)
        checkpoint = random_network(folder, data.train.images, "signnet")
        images = np.random.default_rng(0).standard_normal((NUM_IMAGES, 3, 32, 32)).astype(np.float32)
        np.save(folder / "images.npy", images)
        reference = _started(get_backend(REFERENCE), checkpoint, folder, threads)
        for backend in backends:
            sides = {"reference": reference, "backend": _started(backend, checkpoint, folder, threads)}
            for scenario, batch_size in BATCH_SIZES.items():
                cycles = measure_blocks(sides, block_plan(batch_size), seconds, loads(num_cores()))
                about = {"backend": backend.name, "scenario": scenario, "num_threads": threads}
                with lines.open("a", encoding="utf-8") as file:
                    for number, cycle in enumerate(cycles):
                        for block in cycle:
                            file.write(json.dumps({**about, "cycle": number, **asdict(block)}) + "\n")
                found += [{**about, "num_cycles": len(cycles), **row} for row in shifts(cycles)]
                progress(f"{backend.name}, {scenario}: {len(cycles)} cycles")
            sides["backend"].kill()
        reference.kill()
    content = {"environment": asdict(collect_environment(num_threads)), "shifts": found}
    write_atomic(out / "loads.json", json.dumps(content, indent=1) + "\n")


def _started(backend: type[Backend], checkpoint: Path, folder: Path, num_threads: int) -> WorkerClient:
    model, images = folder / backend.name, folder / "images.npy"
    model.mkdir()
    builder = WorkerClient(backend, num_threads, PREPARE_LIMIT_S)
    try:
        builder.ask("prepare", checkpoint=str(checkpoint), calibration=str(images), folder=str(model))
    finally:
        builder.kill()
    worker = WorkerClient(backend, num_threads)
    worker.load(checkpoint, model, images)
    return worker
