"""A run folder as launches change it: jobs are added to its list, and a new training removes what measured another
network. The index is made again each time.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from lib.analysis.csv_files import LAYERS_CSV, SCENARIOS_CSV, SWEEP_CSV
from lib.html.index import write_index
from lib.html.provenance import hosted
from lib.records.run import Job, JobList, read_jobs, write_jobs
from lib.records.schema import BENCHMARK, COMPARE, RELEASE
from lib.release.reader import FOLDER

MEASURED = (BENCHMARK, COMPARE, RELEASE)  # notebooks whose results belong to one network


def add_jobs(run_dir: Path, ended: Sequence[Job]) -> None:
    """List jobs that ended, and make the index again. Earlier jobs of the folder stay until they run again.

    So does the note of an earlier launch, while jobs of it are listed and this one brings no note of its own.
    """
    earlier = read_jobs(run_dir) or JobList([])
    mine = {job.label for job in ended}
    kept = [job for job in earlier.notebooks if job.label not in mine]
    write_jobs(run_dir, [*kept, *ended], hosted().get("note", "") or (earlier.note if kept else ""))
    write_index(run_dir)


def forget_network(run_dir: Path) -> None:
    """Remove whatever measured or released the network before: records, tables, notebooks, pages, the release, and
    their places in the list."""
    shutil.rmtree(run_dir / FOLDER, ignore_errors=True)
    for folder in ("results", "notebooks", "pages"):
        for name in MEASURED:
            for path in (run_dir / folder).glob(f"{name}.*"):
                path.unlink()
    for name in (SCENARIOS_CSV, LAYERS_CSV, SWEEP_CSV):
        (run_dir / "results" / name).unlink(missing_ok=True)
    if earlier := read_jobs(run_dir):
        kept = [job for job in earlier.notebooks if job.notebook not in MEASURED]
        write_jobs(run_dir, kept, earlier.note)
        write_index(run_dir)
