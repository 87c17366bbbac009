"""The process of a combination, in which all is real but the notebooks: `run_jobs` writes records as they would.

In the folder that SWEEP_NOTES names, `started` lists what ran. While `trouble` is there, two epochs break, and three
kill their process.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lib.records.run import Job
from lib.records.schema import record_path, write_record
from lib.series import combination
from lib.series.joblist import add_jobs
from lib.series.sources import code_hash
from tests.made_records import made_train

COMMAND = (sys.executable, "-m", "tests.standin_sweep")
NOTES = "SWEEP_NOTES"


def run_jobs(jobs: Sequence[Job], run_dir: Path, **_: Any) -> list[Job]:
    notes = Path(os.environ[NOTES])
    for job in jobs:
        with (notes / "started").open("a") as started:
            started.write(f"{run_dir.name}: {job.label}\n")
        num_epochs = job.parameters.get("num_epochs") if (notes / "trouble").exists() else 0
        if num_epochs == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        path = record_path(run_dir, job.notebook, job.backend)
        ended = replace(job, status="failed", reason="broke")
        if num_epochs != 2:
            write_record(made_train(params=dict(job.parameters), checkpoint_sha256=None), path)
            ended = replace(job, status="ok", record=str(path.relative_to(run_dir)), code=code_hash(job.notebook))
        add_jobs(run_dir, [ended])
    return list(jobs)


if __name__ == "__main__":
    combination.run_jobs = run_jobs
    sys.exit(combination.main())
