"""Folders of runs: `runs/<time>/`, and `runs/latest`, a symlink that is swapped by rename."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from lib.errors import UserError
from lib.files import PROJECT_ROOT, locked, project_path, writing

RUNS = PROJECT_ROOT / "runs"
LATEST = RUNS / "latest"
LOCK = ".lock"  # in a run folder
_STAMPED = re.compile(r"\d{4}-\d\d-\d\d_\d{6}(_\d+)?")  # as `new_run_dir` names them
_ELSEWHERE = "choose another folder with --out (in a notebook: run_dir)"


def new_run_dir() -> Path:
    """A fresh folder under `runs/`, named by the time; two runs of one second get two folders.

    Raises:
        UserError: not writable, or `runs/latest` cannot be made to point to it: found out before anything runs.
    """
    if LATEST.exists() and not LATEST.is_symlink():
        raise UserError(
            f"{LATEST} is a folder, and a new run is linked there; rename it, for instance to {RUNS / 'earlier'}, or "
            + _ELSEWHERE
        )
    with writing(RUNS, _ELSEWHERE):
        RUNS.mkdir(parents=True, exist_ok=True)
        _link(RUNS).unlink()
        stamp = time.strftime("%Y-%m-%d_%H%M%S")
        for suffix in ("", *(f"_{number}" for number in range(2, 100))):
            path = RUNS / f"{stamp}{suffix}"
            with suppress(FileExistsError):
                path.mkdir()
                return path
    raise UserError(f"{RUNS} has a hundred runs of this second already")


def prepare_run_dir(run_dir: str | Path) -> Path:
    """The folder that a `run_dir` parameter means, made if needed and known to be writable.

    A relative path counts from the project root. `runs/latest` is followed to the run it points to; where there is no
    run yet, one is begun.

    Raises:
        UserError: not writable, a file of that name is in the way, or no path that `project_path` takes.
    """
    path = project_path(run_dir)
    if path == LATEST and not path.exists():
        path = new_run_dir()
        point_latest_to(path)
    with writing(f"the run folder {path}"):
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    return path.resolve()


@contextmanager
def claimed(run_dir: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep other launches out of a run folder; the claim ends with this process, however it ends.

    Args:
        wait: for another launch to end.

    Raises:
        UserError: another launch is at work in it, and `wait` is False.
    """
    with ExitStack() as held:
        try:
            held.enter_context(locked(run_dir / LOCK, wait=wait))
        except BlockingIOError:
            raise UserError(
                f"another launch is at work in {run_dir}; wait until it has ended, or choose another folder with --out"
            ) from None
        yield


def point_latest_to(run_dir: Path) -> None:
    """Swap `runs/latest` in one step: a reader sees the old run or the new one, never neither.

    Nothing is done for a run that is there itself, as an unpacked artifact is.

    Raises:
        UserError: no link can be made.
    """
    if not LATEST.exists() or not LATEST.samefile(run_dir):
        with writing(LATEST, _ELSEWHERE):
            os.replace(_link(run_dir), LATEST)


def _link(run_dir: Path) -> Path:
    """A link to a run beside `runs/latest`.

    Raises:
        UserError: the file system has no links, as exFAT and many network shares.
    """
    temporary = RUNS / f".latest.{os.getpid()}"
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(os.path.relpath(run_dir.resolve(), RUNS))
    except OSError as error:
        raise UserError(f"cannot make the link {LATEST}: {error.strerror}; {_ELSEWHERE}") from None
    return temporary


def prune(keep: int) -> Iterator[str]:
    """Remove old runs, and yield a line for each with the space that it took.

    The newest `keep`, those that a link in `runs/` leads to (`latest`, `current`), those in which a launch is at work,
    and folders that were named by hand stay.
    """
    runs = [path for path in RUNS.glob("*_*") if _STAMPED.fullmatch(path.name)]
    runs.sort(key=lambda path: [int(number) for number in re.findall(r"\d+", path.name)], reverse=True)
    linked = [path.resolve() for path in RUNS.glob("*") if path.is_symlink()]
    total = 0
    for run in runs[keep:]:
        if any(place.is_relative_to(run) for place in linked):
            continue
        try:
            with claimed(run), writing(run, "remove it by hand"):
                size = sum(file.lstat().st_size for file in run.rglob("*"))
                shutil.rmtree(run)
        except UserError as error:
            yield f"kept {run.name}: {error}"
            continue
        total += size
        yield f"removed {run.name}: {size / 1e6:,.1f} MB"
    yield f"{total / 1e6:,.1f} MB freed in {RUNS}"
