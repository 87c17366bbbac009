"""Where things lie, and writing so that nothing is ever half-written."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import importlib
import os
import pkgutil
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lib.errors import UserError

CHECKPOINT_NAME = "checkpoint.safetensors"  # in a run folder
PROJECT_ROOT = Path(__file__).resolve().parent.parent
TEMPORARY = "set TMPDIR to a folder with more of it"  # what helps where the temporary folder is full
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # also `s3:/bucket`, which pathlib makes of `s3://bucket`


def project_path(path: str | Path) -> Path:
    """An absolute path; a relative one counts from the project root, never from the working directory.

    Raises:
        UserError: an address such as `s3://bucket`, a name that is not UTF-8 and so fits into no record or page, or a
            `~` without a home folder.
    """
    if _ADDRESS.match(str(path)):
        raise UserError(f"{str(path)!r} is an address; give a folder or file on this machine")
    try:
        path = PROJECT_ROOT / Path(path).expanduser()
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(f"the path {str(path)!r} is not UTF-8; rename it, or choose another one") from None
    except RuntimeError:
        raise UserError(f"no home folder is known for {str(path)!r}; give the whole path") from None
    return path


def import_modules(package: str, folders: Iterable[str]) -> None:
    """Import every file of a package whose modules are found by being there.

    A broken one is reported and stops no other; a copy such as `mine-Copy1.py` is left alone.

    Args:
        folders: its `__path__`.

    Raises:
        UserError: two files have the same name for what they register.
    """
    for module in pkgutil.iter_modules(folders):
        if module.name.startswith("_") or not module.name.isidentifier():
            continue
        file = f"{package.replace('.', '/')}/{module.name}.py"
        try:
            importlib.import_module(f"{package}.{module.name}")
        except UserError as error:
            raise UserError(f"{file}: {error}") from None
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"{file} is left out ({reason}); repair or remove it", file=sys.stderr)


def cache_dir() -> Path:
    """Folder for what can be made again (decoded data sets); `GTSRB_CACHE` overrides it."""
    return project_path(os.environ.get("GTSRB_CACHE") or ".cache")


def search_path() -> str:
    """PYTHONPATH of the processes that are started here: this project before anything else."""
    return os.pathsep.join(part for part in (str(PROJECT_ROOT), os.environ.get("PYTHONPATH")) if part)


@contextmanager
def writing(place: object, remedy: str = "choose another folder") -> Iterator[None]:
    """Turn what the file system refuses into one line.

    Args:
        remedy: what else helps than free space.

    Raises:
        UserError: the folder is not writable or the disk is full.
    """
    try:
        yield
    except OSError as error:
        full = " requested and " in str(error)  # NumPy's words for a disk that took a part of an array
        why = "No space left on device" if full else error.strerror or error
        raise UserError(f"cannot write {place}: {why}; free space or {remedy}") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on any failure.

    Raises:
        UserError: the folder is not writable or the disk is full; `path` is then as it was before.
    """
    temporary: Path | None = None
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
            os.close(handle)
            temporary = Path(name)
            yield temporary
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)  # mkstemp makes 0600; a page is to be shared
            os.replace(temporary, path)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write the whole file or nothing (see `replacing`)."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def text_of(path: str | Path) -> str:
    """What a file of the system says; empty where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _hold(path: Path, wait: bool) -> BinaryIO:
    """The lock file, open and locked; where a file system has no locks, only open."""
    while True:
        with writing(path):
            file = path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            file.close()
            raise
        except OSError:
            return file
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # who held it has removed it meanwhile, and others lock a new one


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock file, which is removed in the end; the lock itself ends with this process, however it ends.

    A file, and not the folder that it protects: NFS locks only what is open for writing.

    Raises:
        BlockingIOError: another process holds it, and `wait` is False.
        UserError: the file cannot be made.
    """
    with _hold(path, wait):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def sha256_source(content: str) -> str:
    """What a Content-Security-Policy calls an inline style or script that it allows."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
