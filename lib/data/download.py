"""Fetch a data set: resumable, checked before use, and nothing half-done left in place.

The server keeps one archive per part. An archive is used only when its size and SHA-256 are the known ones, from
whichever mirror it came; so what is in it can be trusted. It is unpacked into a folder beside its place, which is
renamed when it is complete.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import zipfile
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
    path, part = base / archive.name, base / f"{archive.name}.part"
    if not _is(path, archive):
        path = part
        _fetch(url, archive, part, progress)
    progress(f"unpacking {path}")
    _unpack(path, archive, base, progress)
    part.unlink(missing_ok=True)


def _is(path: Path, archive: Archive) -> bool:
    return _size(path) == archive.size and sha256_file(path) == archive.sha256


def _fetch(url: str, archive: Archive, part: Path, progress: Progress) -> None:
    """Bring the archive to `part`, continuing what an earlier attempt or run left there, and check it."""
    retry = Retry(MAX_ATTEMPTS - 1, status_forcelist=BUSY, raise_on_status=False, backoff_factor=WAIT_S,
                  backoff_max=MAX_WAIT_S, retry_after_max=MAX_WAIT_S)  # fmt: skip
    idle = 0
    with requests.Session() as session:
        session.mount(url, HTTPAdapter(max_retries=retry))
        while (before := _size(part)) < archive.size:
            try:
                _continue(session, url, archive, part, progress)
                reason = "broken off"
            except requests.exceptions.RequestException as error:
                reason = f"connection lost ({type(error).__name__})"
            idle = 0 if _size(part) > before else idle + 1
            if idle == MAX_ATTEMPTS:
                raise _host_down(
                    url, f"{reason} at {before:,} of {archive.size:,} bytes; try again later: what came is kept"
                )
            time.sleep(idle * WAIT_S)
    if not _is(part, archive):
        found = f"{_size(part):,} bytes with SHA-256 {sha256_file(part)}"
        part.unlink()
        raise UserError(f"{_shown(url)} is not the official archive: {found}; nothing of it was used, try again")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _shown(url: str) -> str:
    """The address without a user name or password in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _host_down(url: str, reason: str) -> HostDownError:
    return HostDownError(f"cannot download {_shown(url)}: {reason}; {BASE_URL_VARIABLE} sets a mirror")


def _continue(session: requests.Session, url: str, archive: Archive, part: Path, progress: Progress) -> None:
    """One request for what is missing of `part`; a bar on a terminal, a line per tenth elsewhere."""
    have = _size(part)
    # Without compression in between, lengths and ranges count bytes of the archive.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S)
    except requests.exceptions.RequestException as error:
        raise _host_down(url, f"no connection ({type(error).__name__}); try again later") from None
    with response:
        status, length = response.status_code, response.headers.get("Content-Length", str(archive.size))
        if status not in (200, 206, 416):
            raise _host_down(url, f"the server answered {status}; try again later")
        if status == 200 and length != str(archive.size):
            raise UserError(f"{_shown(url)} is not the official archive: {length} bytes instead of {archive.size}")
        if have and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()  # the server cannot continue where it stopped
            have = 0
            if status != 200:
                return
        with tqdm(total=archive.size, initial=have, desc=archive.name, unit="B", unit_scale=True, disable=None) as bar:
            for chunk in response.iter_content(_CHUNK_BYTES):
                with _writing(part), part.open("ab") as file:
                    file.write(chunk)
                bar.update(len(chunk))
                tenths, have = have * 10 // archive.size, have + len(chunk)
                if have > archive.size:
                    return
                if bar.disable and have * 10 // archive.size > tenths:
                    progress(f"{archive.name}: {have * 10 // archive.size * 10} % of {archive.size / 1e6:.1f} MB")


def _unpack(path: Path, archive: Archive, base: Path, progress: Progress) -> None:
    """Unpack beside the target, and put in place in one step."""
    with _writing(base):
        temporary = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=base))
        try:
            with zipfile.ZipFile(path) as file:
                file.extractall(temporary)  # its SHA-256 is known, and so is what is in it
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
