"""Where a run lies: `runs/<time>/`, and `runs/latest`, a symlink that is swapped by rename."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib.errors import UserError
from lib.files import PROJECT_ROOT, project_path

RUNS = PROJECT_ROOT / "runs"
LATEST = RUNS / "latest"


def new_run_dir() -> Path:
    """A fresh folder under `runs/`, named by the time; two runs of one second get two folders."""
    stamp = time.strftime("%Y-%m-%d_%H%M%S")
    for suffix in ("", *(f"_{number}" for number in range(2, 100))):
        path = RUNS / f"{stamp}{suffix}"
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(f"cannot write to {RUNS}: {error.strerror}; choose another folder with --out") from None
    raise UserError(f"{RUNS} has a hundred runs of this second already")


def prepare_run_dir(run_dir: str | Path) -> Path:
    """The folder that a `run_dir` parameter means, made if needed and known to be writable.

    A relative path counts from the project root. `runs/latest` is followed to the run it points to; where there is no
    run yet, one is begun.

    Raises:
        UserError: not writable, or a file of that name is in the way.
    """
    path = project_path(run_dir)
    if path == LATEST and not path.exists():
        path = new_run_dir()
        point_latest_to(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(f"cannot write to the run folder {path}: {error.strerror}; choose another folder") from None
    return path.resolve()


@contextmanager
def claimed(run_dir: Path) -> Iterator[None]:
    """Keep other launches out of a run folder; the claim ends with this process, however it ends.

    Raises:
        UserError: another launch is at work in it.
    """
    descriptor = os.open(run_dir, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another launch is at work in {run_dir}; wait until it has ended, or choose another folder with --out"
            ) from None
        yield
    finally:
        os.close(descriptor)


def point_latest_to(run_dir: Path) -> None:
    """Swap `runs/latest` in one step: a reader sees the old run or the new one, never neither."""
    if LATEST.exists() and not LATEST.is_symlink():
        raise UserError(f"{LATEST} is not a symlink; move it away: it is where the newest run is linked")
    target = os.path.relpath(run_dir.resolve(), RUNS)
    temporary = RUNS / f".latest.{os.getpid()}"
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        os.replace(temporary, LATEST)
    except OSError as error:
        raise UserError(f"cannot link {LATEST}: {error.strerror}") from None
