"""A cluster that Slurm manages, by submitit. All nodes see this project and the folder of the sweep at one path."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lib.errors import UserError
from lib.series.combination import LOG, Combination, Process, last_line
from lib.series.engines import AGAIN, Engine, Event, Task, first_line, imported

LOCAL = "local"  # in place of options: processes of this machine, to try it without Slurm
FOLDER = ".slurm"  # in the folder of a sweep: what submitit keeps of its jobs
USUAL = {"timeout_min": 24 * 60, "name": "sweep", "nodes": 1}
POLL_S = 1.0


class Preemptible:
    """What a job calls. A job that is preempted or out of time is queued again, and goes on with what is not done."""

    def __call__(self, combination: dict[str, Any], run_dir: str) -> str:
        """Run a combination; returns why it did not run."""
        process = Process(Combination(**combination), Path(run_dir))
        try:
            return process.reason()
        finally:
            process.stop()

    def checkpoint(self, *arguments: Any) -> Any:
        """What is queued again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)


class Slurm(Engine):
    """A job of Slurm for each combination."""

    name = "slurm"

    def connect(self) -> None:
        """See `Engine`."""
        imported("submitit", self.name)
        if self.jobs > 1:
            raise UserError("--jobs is not for --engine slurm, which shares nodes itself; give --at cpus_per_task=N")
        if self.at != LOCAL and shutil.which("sbatch") is None:
            raise UserError(
                "there is no sbatch here; start the sweep on a machine from which jobs are submitted, or try it "
                f"without Slurm by --at {LOCAL}"
            )

    def run(self, tasks: Sequence[Task]) -> Iterator[Event]:
        """See `Engine`."""
        jobs: list[tuple[Task, Any]] = []
        try:
            for task in tasks:
                jobs.append((task, self._submitted(task)))
            while jobs:
                time.sleep(POLL_S)
                for task, job in list(jobs):
                    reason = _reason(job) if job.done() else None
                    if reason is not None:
                        jobs.remove((task, job))
                    line = last_line(task.run_dir / LOG) or job.state.lower()
                    yield Event(task, f"job {job.job_id}", line, reason)
        finally:
            for _, job in jobs:
                job.cancel(check=False)

    def _submitted(self, task: Task) -> Any:
        from submitit import AutoExecutor

        options: dict[str, Any] = dict(USUAL)
        options |= {"slurm_exclusive": True} if task.whole_node else {}  # False would become a bad option of sbatch
        options |= {"cpus_per_task": task.num_threads} if task.num_threads else {}
        for name, _, text in (part.partition("=") for part in self.at.split(",") if part not in ("", LOCAL)):
            options[name.strip()] = int(text) if text.strip().isdecimal() else text.strip()
        cluster = LOCAL if self.at == LOCAL else self.name
        try:
            executor = AutoExecutor(task.run_dir.parent / FOLDER, cluster=cluster)
            executor.update_parameters(**options)
            return executor.submit(Preemptible(), vars(task.combination), str(task.run_dir))
        except (NameError, ValueError, AssertionError, RuntimeError) as error:
            raise UserError(
                f"Slurm takes no job with --at {self.at!r}: {first_line(error)}; give options of submitit, "
                "such as slurm_partition=NAME,timeout_min=600,cpus_per_task=8"
            ) from None


def _reason(job: Any) -> str:
    """Why a job did not run its combination."""
    try:
        return str(job.result())
    except Exception as error:  # whatever the job raised, or what became of it
        return f"job {job.job_id} ended as {job.state}: {first_line(error)}; see {job.paths.stderr}{AGAIN}"
