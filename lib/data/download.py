"""Fetch a data set: resumable, checked before use, and nothing half-done left in place.

The server keeps one archive per part. An archive is used only when its size and SHA-256 are the known ones, from
whichever mirror it came; so what is in it can be trusted. It is unpacked into a folder beside its place, which is
renamed when it is complete.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter, Retry
from tqdm import tqdm

from lib.data.dataset import Archive
from lib.data.image_files import FileSet
from lib.data.loading import DEFAULT_ROOT
from lib.data.sets import all_datasets, get_dataset
from lib.errors import UserError, unknown
from lib.files import locked, project_path, sha256_file, writing
from lib.progress import Progress, silent

BASE_URL_VARIABLE = "GTSRB_BASE_URL"  # a mirror's address; what it serves is checked all the same
TIMEOUT_S = (10, 60)  # to connect; without a byte
MAX_ATTEMPTS = 5  # without an answer, or in a row without a new byte
WAIT_S = 1.0  # before the third attempt; doubles with each further one
MAX_WAIT_S = 30  # however long the server asks to wait
BUSY = (408, 425, 429, *range(500, 600))
_CHUNK_BYTES = 1 << 14  # of a broken-off answer, what does not fill a chunk is lost


class HostDownError(UserError):
    """The server does not answer, or not with the archive. What it did send is kept for the next attempt."""


class _BrokenOffError(Exception):
    """Another attempt may bring more."""


def fetch(name: str, data_root: str | Path, *, base_url: str = "", progress: Progress = silent) -> None:
    """Bring the official training and test images under `data_root`; what is there and complete is not fetched again.

    An archive that is already in the folder of the data set is used if it is the right one. A half-unpacked folder is
    moved aside, not deleted, and made anew.

    Args:
        name: of a data set with archives.
        data_root: Folder to unpack below, relative to the project; a level of an existing layout will do; empty for
            `data/` in the project.
        base_url: Address of a mirror; empty for `GTSRB_BASE_URL` from the environment, else the official server.
        progress: Called with a line now and then. On a terminal a bar is drawn instead.

    Raises:
        HostDownError: the server cannot be reached or has no such file.
        UserError: an unknown name, an address that serves something else, no space, or a folder that cannot be written.
    """
    dataset = get_dataset(name)
    if not isinstance(dataset, FileSet) or not dataset.archives:
        raise unknown("data set to download", name, [each.name for each in all_datasets() if each.archives])
    url = base_url or os.environ.get(BASE_URL_VARIABLE) or dataset.base_url
    if urlsplit(url).scheme not in ("https", "http") or not urlsplit(url).hostname:
        raise UserError(f"cannot download from {url!r}; give an address that begins with https://")
    root = project_path(data_root or DEFAULT_ROOT)
    found = dataset.find(root)
    base = found.base if found else (root if root.name == dataset.home else root / dataset.home)
    with _writing(base):
        base.mkdir(parents=True, exist_ok=True)
    with locked(base / ".download.lock"):  # a second download waits, and then finds everything there
        for orphan in base.glob(".unpacking-*"):  # of a process that was killed: we hold its lock
            shutil.rmtree(orphan, ignore_errors=True)
        for archive in dataset.archives:
            if dataset.has(archive, root):
                progress(f"{archive.target} is there and complete, in {root}")
            else:
                _get(archive, base, urljoin(url.rstrip("/") + "/", archive.name), progress)


def _writing(place: Path) -> AbstractContextManager[None]:
    return writing(place, "choose another data_root")


def _get(archive: Archive, base: Path, url: str, progress: Progress) -> None:
    """Fetch, check, unpack."""
    given = base / archive.name
    if given.is_file() and _difference(given, archive) is None:
        progress(f"unpacking {given}")
        _unpack(given, archive, base, progress)
        return
    part = base / f"{archive.name}.part"
    _fetch(url, archive, part, progress)
    progress(f"unpacking {archive.name}")
    _unpack(part, archive, base, progress)
    part.unlink()


def _difference(path: Path, archive: Archive) -> str | None:
    """In what a file differs from the archive it should be; None if it is the one."""
    if (size := path.stat().st_size) != archive.size:
        return f"it has {size:,} bytes instead of {archive.size:,}"
    found = sha256_file(path)
    return f"its sha256 is {found} instead of {archive.sha256}" if found != archive.sha256 else None


def _fetch(url: str, archive: Archive, part: Path, progress: Progress) -> None:
    """Bring the archive to `part`, continuing what an earlier attempt or run left there, and check it."""
    retry = Retry(MAX_ATTEMPTS - 1, status_forcelist=BUSY, raise_on_status=False, backoff_factor=WAIT_S,
                  backoff_max=MAX_WAIT_S, retry_after_max=MAX_WAIT_S)  # fmt: skip
    idle, fresh = 0, _size(part) == 0
    while True:
        before = _size(part)
        try:
            with requests.Session() as session:
                session.mount(url, HTTPAdapter(max_retries=retry))
                _continue(session, url, archive, part, progress)
        except _BrokenOffError as error:
            idle = 0 if _size(part) > before else idle + 1
            if idle >= MAX_ATTEMPTS:
                raise _host_down(url, f"{error}; try again later: what came is kept") from None
            progress(f"{archive.name}: {error}; trying again")
            time.sleep(idle * WAIT_S)
            continue
        difference = _difference(part, archive)
        if difference is None:
            return
        part.unlink()
        if fresh:
            raise UserError(f"{_shown(url)} is not the official archive: {difference}; nothing of it was used")
        # The beginning came from an earlier attempt, perhaps from another file: once more from the start.
        progress(f"{archive.name}: {difference}; starting again")
        fresh = True


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _shown(url: str) -> str:
    """The address without a user name or password in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _host_down(url: str, reason: str) -> HostDownError:
    return HostDownError(f"cannot download {_shown(url)}: {reason}; {BASE_URL_VARIABLE} sets a mirror")


def _continue(session: requests.Session, url: str, archive: Archive, part: Path, progress: Progress) -> None:
    """One request for what is missing of `part`.

    Raises:
        _BrokenOffError: worth another attempt.
    """
    have = _size(part)
    if have >= archive.size:
        return
    # Without compression in between, lengths and ranges count bytes of the archive.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
            have = _checked_start(response, url, archive, part, have)
            _save(response, archive, part, have, progress)
    except requests.exceptions.RequestException as error:
        raise _host_down(url, f"no connection ({type(error).__name__}); try again later") from None


def _checked_start(response: requests.Response, url: str, archive: Archive, part: Path, have: int) -> int:
    """At which byte the answer begins: `have` for a continued one, 0 where the server sends all of it again."""
    status = response.status_code
    if status == 200:
        length = response.headers.get("Content-Length", str(archive.size))
        if length != str(archive.size):
            raise UserError(f"{_shown(url)} is not the official archive: {length} bytes instead of {archive.size}")
        return 0
    if status == 206 and re.match(rf"bytes {have}-", response.headers.get("Content-Range", "")):
        return have
    if status in (206, 416):
        part.unlink(missing_ok=True)
        raise _BrokenOffError("the server cannot continue where it stopped; starting again")
    raise _host_down(url, f"the server answered {status}; try again later")


def _save(response: requests.Response, archive: Archive, part: Path, have: int, progress: Progress) -> None:
    """Append the answer to `part`; a bar on a terminal, a line per tenth elsewhere."""
    with _writing(part):
        file = part.open("ab" if have else "wb")
    with (
        file,
        tqdm(total=archive.size, initial=have, desc=archive.name, unit="B", unit_scale=True, disable=None) as bar,
    ):
        for chunk in _chunks(response):
            with _writing(part):
                file.write(chunk)
                file.flush()
            bar.update(len(chunk))
            tenths, have = have * 10 // archive.size, have + len(chunk)
            if have > archive.size:
                raise UserError(f"{archive.name}: the server sends more than {archive.size:,} bytes; stopped")
            if bar.disable and have * 10 // archive.size > tenths:
                progress(f"{archive.name}: {have * 10 // archive.size * 10} % of {archive.size / 1e6:.1f} MB")
    if have < archive.size:
        raise _BrokenOffError(f"broken off at {have:,} of {archive.size:,} bytes")


def _chunks(response: requests.Response) -> Iterator[bytes]:
    try:
        yield from response.iter_content(_CHUNK_BYTES)
    except requests.exceptions.RequestException as error:
        raise _BrokenOffError(f"connection lost ({type(error).__name__})") from None


def _unpack(path: Path, archive: Archive, base: Path, progress: Progress) -> None:
    """Unpack beside the target, and put in place in one step."""
    with _writing(base):
        temporary = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=base))
        try:
            with zipfile.ZipFile(path) as file:
                file.extractall(temporary, [name for name in file.namelist() if archive.members.fullmatch(name)])
            _put_in_place(temporary / archive.target, base / archive.target, progress)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _put_in_place(new: Path, target: Path, progress: Progress) -> None:
    """Rename `new` to `target`; an incomplete `target` is kept under another name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and not (target.is_file() and target.read_bytes() == new.read_bytes()):
        number = 1
        while (aside := target.with_name(f"{target.name}.incomplete-{number}")).exists():
            number += 1
        target.rename(aside)
        progress(f"{target} was incomplete; it is now {aside}, delete it when you do not need it")
    new.replace(target)
