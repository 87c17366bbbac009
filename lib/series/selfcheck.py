"""`python -m lib selfcheck`: does the harness find what is there, and nothing else?"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from lib.bench.harness import harness_cost
from lib.bench.selfcheck import known_differences, summary
from lib.data import load_data
from lib.errors import UserError
from lib.files import write_atomic
from lib.granted import num_cores
from lib.records.environment import collect_environment
from lib.records.results import Profile
from lib.series.sizes import num_images_for
from lib.training import ensure_checkpoint


def selfcheck(
    num_runs: int, profile: Profile, out: Path, progress: Callable[[str], None], neighbour: bool = False
) -> None:
    """Measure the reference against itself and with each planted slow-down, `num_runs` times, with seeds 0, 1, ...; and
    the harness against a bare loop. Writes all outcomes and a summary into `out`.

    Args:
        neighbour: let another process burn one core in bursts all the while. Then nothing can be measured well, and
            the question is whether the harness says so.
    """
    out.mkdir(parents=True, exist_ok=True)
    data = load_data("synthetic", num_images=num_images_for("smoke", "synthetic"))
    checkpoint, _ = ensure_checkpoint(out, data, progress=progress)
    environment = asdict(collect_environment())
    lines = out / "outcomes.jsonl"
    if lines.exists():  # trying until it passes must leave a trace
        raise UserError(f"{lines} exists and outcomes are never overwritten; give another folder with --out")
    with tempfile.TemporaryDirectory(prefix="gtsrb-selfcheck-") as folder, _neighbour(neighbour):
        if not neighbour:
            progress("harness: a call in a worker against plain loops, in six sets of processes; about 15 minutes")
        cost = None if neighbour else harness_cost(checkpoint, data, Path(folder), num_cores())
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


_BURSTS = """
import random, time
while True:
    until = time.monotonic() + random.uniform(0.05, 2.0)
    while time.monotonic() < until:
        pass
    time.sleep(random.uniform(0.05, 2.0))
"""


@contextmanager
def _neighbour(wanted: bool) -> Iterator[None]:
    """A process that burns one core in bursts, where it is wanted."""
    process = subprocess.Popen([sys.executable, "-c", _BURSTS]) if wanted else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()
