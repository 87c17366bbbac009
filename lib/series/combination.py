"""One combination of a sweep: what travels to where an engine runs it, and the process that runs it there.

It has a process of its own, so that whatever kills it stops no other. What it did is in its run folder; what kept it
from starting, or killed it, is the reason that its engine reports.
"""

from __future__ import annotations

import io
import json
import os
import platform
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lib.bench import kept_models
from lib.data.cache import SENT_VARIABLE
from lib.errors import UserError
from lib.executor.orphans import end_with_parent
from lib.files import CHECKPOINT_NAME, PROJECT_ROOT, search_path, sha256_file, writing
from lib.granted import SHARE_VARIABLE
from lib.records.run import Job, RunFolder, load_run
from lib.records.schema import BENCHMARK, COMPARE, TRAIN
from lib.series.jobs import plan_jobs
from lib.series.launcher import run_jobs
from lib.series.preflight import check_inputs
from lib.series.rundir import LOCK, claimed
from lib.series.sources import code_hash

COMMAND = (sys.executable, "-P", "-m", "lib.series.combination")
LOG = "sweep.log"  # in a run folder: what the launch of its combination printed
DONE, USAGE, INTERRUPTED = 0, 2, 130


@dataclass(frozen=True)
class Combination:
    """Everything that a node needs to know; JSON can carry it."""

    folder: str  # name of its run folder
    notebooks: Sequence[str]
    given: Mapping[str, str]  # parameter -> value as typed
    backends: Sequence[str]
    code: Mapping[str, str]  # notebook -> `code_hash` where the sweep was started
    images: Mapping[str, str]  # label of a job -> manifest hash of the images, as far as it reads files
    limits: Mapping[str, int | None]  # of `run_jobs`
    again: bool = False


class Process:
    """Runs a combination on this machine."""

    def __init__(self, combination: Combination, run_dir: Path, *, num_cores: int = 0, sent: str = "") -> None:
        """Start it.

        Args:
            num_cores: its share; 0 = all that are granted.
            sent: folder with caches of images that another machine has sent.

        Raises:
            UserError: the run folder cannot be written to.
        """
        environ = {**os.environ, "PYTHONPATH": search_path(), kept_models.VARIABLE: "0"}  # those of all are too many
        environ |= {SHARE_VARIABLE: str(num_cores or ""), SENT_VARIABLE: sent}
        self._log = run_dir / LOG
        with writing(self._log), self._log.open("wb") as log:
            self._process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environ)
        assert self._process.stdin is not None
        with self._process.stdin as pipe:
            pipe.write(json.dumps({"run_dir": str(run_dir), "combination": asdict(combination)}).encode())

    def runs(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def reason(self) -> str:
        """Why it ended without doing what it was to do; empty where the list of its run folder says all."""
        status = self._process.wait()
        if status == DONE:
            return ""
        if status == USAGE:
            return last_line(self._log).removeprefix("error: ")
        cause = f"signal {-status}" if status < 0 else f"exit status {status}"
        return f"its process ended with {cause}: {last_line(self._log) or 'it printed nothing'}; run the sweep again"

    def stop(self) -> None:
        """End it, and so its notebook; what had finished is kept."""
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def last_line(log: Path) -> str:
    """What a launch printed last; empty where nothing can be read."""
    try:
        lines = log.read_bytes()[-2000:].decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""


def run_combination(combination: Combination, run_dir: Path) -> None:
    """Run what is not done yet of a combination, after any other launch in this run folder has ended.

    Raises:
        UserError: other code than where the sweep was started, or whatever a launch refuses.
    """
    for notebook, expected in combination.code.items():
        if code_hash(notebook) != expected:
            raise UserError(
                f"{platform.node()}:{PROJECT_ROOT} has another version of the code that {notebook} runs than the "
                "machine where the sweep was started; check out the same commit on all of them"
            )
    with claimed(run_dir, wait=True):
        jobs = plan_jobs(combination.notebooks, dict(combination.given), combination.backends)
        if not combination.again:
            jobs = unfinished(jobs, load_run(run_dir), combination)
        check_inputs(jobs, run_dir)
        with writing(run_dir):
            run_jobs(jobs, run_dir, **combination.limits)


def unfinished(jobs: Sequence[Job], run: RunFolder, combination: Combination) -> list[Job]:
    """Those jobs of a combination that did not end well in this folder, or ran other code, with other parameters, on
    other images or on another checkpoint.

    One that has to run again takes along all that come after it: they read what it writes.
    """
    checkpoint = run.path / CHECKPOINT_NAME
    sha256 = sha256_file(checkpoint) if checkpoint.exists() else None
    ended = {job.label: job.code for job in run.jobs if job.status in ("ok", "unavailable")}
    stale: list[Job] = []
    for job in jobs:
        same_code = ended.get(job.label) == combination.code[job.notebook]
        upstream = any(earlier.notebook < job.notebook for earlier in stale)
        if upstream or not same_code or not _fits(run, job, sha256, combination.images.get(job.label, "")):
            stale.append(job)
    return stale


def _fits(run: RunFolder, job: Job, sha256: str | None, images: str) -> bool:
    record = run.records.get(job.label)
    if record is None or any(record.params.get(name) != value for name, value in job.parameters.items()):
        return False
    if images and (record.data is None or record.data.manifest_hash != images):
        return False
    measures = job.notebook in (TRAIN, BENCHMARK, COMPARE) and not record.params.get("model")
    return not measures or record.checkpoint_sha256 is None or record.checkpoint_sha256 == sha256


def packed(folder: Path) -> bytes:
    """A folder as a tar archive."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.add(folder, ".", filter=lambda entry: None if entry.name.endswith(LOCK) else entry)
    return content.getvalue()


def unpack(content: bytes, folder: Path) -> None:
    """Make a folder hold what `packed` took; whole, or as it was before.

    Raises:
        UserError: not writable, or the disk is full.
    """
    with writing(f"{platform.node()}:{folder}"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
            with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                archive.extractall(new := Path(temporary, "new"), filter="data")
            if folder.exists():
                os.rename(folder, Path(temporary, "old"))
            os.rename(new, folder)


def main() -> int:
    """Read one JSON object from standard input and run it. Returns the exit status."""
    end_with_parent()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the running notebook is ended too
    spec = json.load(sys.stdin)
    try:
        run_combination(Combination(**spec["combination"]), Path(spec["run_dir"]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    return DONE


if __name__ == "__main__":
    sys.exit(main())
