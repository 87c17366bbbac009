"""Fetch GTSRB: resumable, checked before use, unpacked safely, and nothing half-done left in place.

The server keeps one archive per part. An archive is used only when its size, SHA-256 and MD5 are the known ones, from
whichever mirror it came. Only members with the names of GTSRB files are unpacked, into a folder beside their place that
is renamed when it is complete.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import urljoin, urlsplit

import requests

from lib.data import layout
from lib.data.images import MAX_SIGN_BYTES
from lib.errors import UserError, unknown
from lib.files import locked, project_path, writing

Progress = Callable[[str], None]

BASE_URL = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/"  # as in torchvision
BASE_URL_VARIABLE = "GTSRB_BASE_URL"  # a mirror's address; what it serves is checked all the same
TIMEOUT_S = (10, 60)  # to connect; without a byte
MAX_IDLE_ATTEMPTS = 5  # in a row without a new byte
MAX_ATTEMPTS = 50
WAIT_S = 1.0  # before the second attempt; doubles with each idle attempt
MAX_WAIT_S = 30.0
MAX_MEMBERS = 60_000  # the largest archive has about 39,300
MAX_UNPACKED_BYTES = 1_000_000_000  # the largest set has 370 MB
MAX_RATIO = 100  # unpacked to packed; photographs reach 2, a zip bomb 1000
SMALL_BYTES = 250_000  # a member up to this size may be packed as tightly as it likes
_CHUNK_BYTES = 1 << 14  # of a broken-off answer, what does not fill a chunk is lost
_TRY_LATER = "try again later: what came is kept"


@dataclass(frozen=True)
class Archive:
    """One file on the server."""

    name: str
    size: int  # bytes
    md5: str
    sha256: str
    target: PurePosixPath  # what it becomes, below data_root/gtsrb: a folder, or a file
    members: re.Pattern[str]  # names that are unpacked; others are left alone


_TRAIN_FILES = r"([0-9]{5})/(?:[0-9]{5}_[0-9]{5}\.ppm|GT-\1\.csv)"
TRAINING_ARCHIVES = {
    "gtsrb": Archive(
        "GTSRB_Final_Training_Images.zip",
        276_294_756,
        "f33fd80ac59bff73c82d25ab499e03a3",
        "d32ac4b5fa9a1cbd1994768413902e8193599d9434cf0a8eb9cfd00a6d3a290c",
        PurePosixPath("GTSRB/Final_Training/Images"),
        re.compile("GTSRB/Final_Training/Images/" + _TRAIN_FILES),
    ),
    "gtsrb-torchvision": Archive(
        "GTSRB-Training_fixed.zip",
        187_490_228,
        "513f3c79a4c5141765e10e952eaa2478",
        "df4144942083645bd60b594de348aa6930126c3e0e5de09e39611630abf8455a",
        PurePosixPath("GTSRB/Training"),
        re.compile("GTSRB/Training/" + _TRAIN_FILES),
    ),
}
TEST_LABELS_ARCHIVE = Archive(
    "GTSRB_Final_Test_GT.zip",
    99_620,
    "fe31e9c9270bbcd7b84b7f21a9d9d9e5",
    "f94e5a7614d75845c74c04ddb26b8796b9e483f43541dd95dd5b726504e16d6d",
    PurePosixPath(layout.TEST_LABELS),
    re.compile(re.escape(layout.TEST_LABELS)),
)
TEST_ARCHIVE = Archive(
    "GTSRB_Final_Test_Images.zip",
    88_978_620,
    "c7e4e6327067d32654124b0fe9e82185",
    "48ba6fab7e877eb64eaf8de99035b0aaecfbc279bee23e35deca4ac1d0a837fa",
    layout.TEST_FOLDER,
    re.compile(rf"{layout.TEST_FOLDER}/[0-9]{{5}}\.ppm"),
)


class HostDownError(UserError):
    """The server does not answer, or not with the archive. What it did send is kept for the next attempt."""


def _silent(line: str) -> None:
    """Progress that nobody reads."""


def download_gtsrb(
    data_root: str | Path,
    *,
    dataset: str = "gtsrb",
    base_url: str = "",
    progress: Progress = _silent,
) -> None:
    """Bring the official training and test images under `data_root`; what is there and complete is not fetched again.

    An archive that already lies in `data_root/gtsrb` is used if it is the right one. A half-unpacked folder is moved
    aside, not deleted, and made anew.

    Args:
        data_root: Folder to unpack below, relative to the project; a level of an existing layout will do; empty for
            `data/` in the project.
        dataset: gtsrb (39,209 training images) or gtsrb-torchvision (26,640).
        base_url: Address of a mirror; empty for `GTSRB_BASE_URL` from the environment, else the official server.
        progress: Called with a line now and then. On a terminal a bar is drawn instead.

    Raises:
        HostDownError: the server cannot be reached or has no such file.
        UserError: an unknown name, an address that serves something else, an archive that is not what it should be, no
            space, or a folder that cannot be written.
    """
    if dataset not in TRAINING_ARCHIVES:
        raise unknown("data set to download", dataset, TRAINING_ARCHIVES)
    url = _checked_url(base_url or os.environ.get(BASE_URL_VARIABLE) or BASE_URL)
    root = project_path(data_root or layout.DEFAULT_ROOT)
    places = layout.find(dataset, root)
    base = places.base if places else (root if root.name == "gtsrb" else root / "gtsrb")
    with _writing(base):
        base.mkdir(parents=True, exist_ok=True)
    with _only_one(base):
        archive = TRAINING_ARCHIVES[dataset]
        if _has_training(dataset, root):
            progress(f"{archive.target} is there and complete, in {root}")
        else:
            _get(archive, dataset, base, url, progress)
        if _has_test(dataset, root):
            progress(f"{TEST_ARCHIVE.target} is there and complete, in {root}")
            return
        _get(TEST_LABELS_ARCHIVE, dataset, base, url, progress)  # first: it says which images have to be there
        if not _has_test(dataset, root):
            _get(TEST_ARCHIVE, dataset, base, url, progress)
        _index_test(layout.locate(dataset, root))


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise UserError(f"cannot download from {url!r}; give an address that begins with https://")
    return url.rstrip("/") + "/"


def _writing(place: Path) -> AbstractContextManager[None]:
    return writing(place, "choose another data_root")


@contextmanager
def _only_one(base: Path) -> Iterator[None]:
    """One download per folder at a time; a second waits and then finds everything there."""
    with locked(base / ".download.lock"):
        for orphan in base.glob(".unpacking-*"):  # of a process that was killed: we hold its lock
            shutil.rmtree(orphan, ignore_errors=True)
        yield


def _index_training(dataset: str, folder: Path) -> None:
    layout.index_training(dataset, folder, layout.scan_training(dataset, folder))


def _index_test(places: layout.Places) -> None:
    layout.index_test(places, layout.scan_test(places))


def _has_training(dataset: str, root: Path) -> bool:
    """Complete by the rules of loading."""
    try:
        _index_training(dataset, layout.locate(dataset, root).training)
    except UserError:
        return False
    return True


def _has_test(dataset: str, root: Path) -> bool:
    """Complete by the rules of loading."""
    try:
        _index_test(layout.locate(dataset, root))
    except UserError:
        return False
    return True


def _get(archive: Archive, dataset: str, base: Path, base_url: str, progress: Progress) -> None:
    """Fetch, check, unpack."""
    given = base / archive.name
    if given.is_file() and _difference(given, archive) is None:
        progress(f"unpacking {given}")
        _unpack(given, archive, dataset, base, progress)
        return
    part = base / f"{archive.name}.part"
    _fetch(urljoin(base_url, archive.name), archive, part, progress)
    progress(f"unpacking {archive.name}")
    _unpack(part, archive, dataset, base, progress)
    part.unlink(missing_ok=True)


def _difference(path: Path, archive: Archive) -> str | None:
    """In what a file differs from the archive it should be; None if it is the one."""
    size = path.stat().st_size
    if size != archive.size:
        return f"it has {size:,} bytes instead of {archive.size:,}"
    for algorithm, expected in (("sha256", archive.sha256), ("md5", archive.md5)):
        with path.open("rb") as file:
            found = hashlib.file_digest(file, algorithm).hexdigest()
        if found != expected:
            return f"its {algorithm} is {found} instead of {expected}"
    return None


class _InterruptedError(Exception):
    """The server broke off or is busy; another attempt may help. `wait_s`: what it asked to wait."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class _Meter:
    """A bar on a terminal, a line per tenth elsewhere."""

    def __init__(self, name: str, total: int, done: int, progress: Progress) -> None:
        self.name, self.total, self.done, self.progress = name, total, done, progress
        self.tenth = done * 10 // total
        self.bar: Any = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=total, initial=done, desc=name, unit="B", unit_scale=True)

    def add(self, count: int) -> None:
        self.done += count
        if self.bar is not None:
            self.bar.update(count)
        elif self.done * 10 // self.total > self.tenth:
            self.tenth = self.done * 10 // self.total
            self.progress(f"{self.name}: {self.tenth * 10} % of {self.total / 1e6:.1f} MB")

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _fetch(url: str, archive: Archive, part: Path, progress: Progress) -> None:
    """Bring the archive to `part`, continuing what an earlier attempt or run left there, and check it."""
    idle, fresh = 0, not part.exists()
    for _ in range(MAX_ATTEMPTS):
        before = part.stat().st_size if part.exists() else 0
        try:
            with requests.Session() as session:
                _continue(session, url, archive, part, progress)
        except _InterruptedError as error:
            idle = 0 if part.exists() and part.stat().st_size > before else idle + 1
            if idle >= MAX_IDLE_ATTEMPTS:
                raise HostDownError(f"cannot download {_shown(url)}: {error}; {_TRY_LATER}") from None
            wait_s = min(max(WAIT_S * 2 ** (idle - 1) if idle else 0.0, error.wait_s), MAX_WAIT_S)
            progress(f"{archive.name}: {error}; next attempt in {wait_s:.0f} s")
            time.sleep(wait_s)
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
    raise HostDownError(f"cannot download {_shown(url)}: broken off {MAX_ATTEMPTS} times; {_TRY_LATER}")


def _shown(url: str) -> str:
    """The address without a user name or password in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _continue(session: requests.Session, url: str, archive: Archive, part: Path, progress: Progress) -> None:
    """One request for what is missing of `part`.

    Raises:
        _InterruptedError: worth another attempt.
    """
    have = part.stat().st_size if part.exists() else 0
    if have == archive.size:
        return
    if have > archive.size:
        part.unlink()
        have = 0
    # Without compression in between, lengths and ranges count bytes of the archive.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
            if url.startswith("https:") and not response.url.startswith("https:"):
                raise UserError(f"{_shown(url)} leads to an address without encryption: {_shown(response.url)}")
            have = _checked_start(response, url, archive, part, have)
            _save(response, archive, part, have, progress)
    except requests.exceptions.SSLError as error:
        raise HostDownError(f"no secure connection to {_shown(url)} ({error})") from None
    except (
        requests.exceptions.ConnectionError,
        requests.exceptions.Timeout,
        requests.exceptions.ChunkedEncodingError,
    ) as error:
        raise _InterruptedError(f"connection lost ({type(error).__name__})") from None
    except requests.exceptions.RequestException as error:
        raise HostDownError(f"cannot download {_shown(url)} ({error})") from None


def _checked_start(response: requests.Response, url: str, archive: Archive, part: Path, have: int) -> int:
    """At which byte the answer begins: `have` for a continued one, 0 where the server sends all of it again."""
    status = response.status_code
    if status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != have or match[2] not in ("*", str(archive.size)):
            part.unlink(missing_ok=True)
            raise _InterruptedError("the server continued at another place; starting again")
        return have
    if status == 416:
        part.unlink(missing_ok=True)
        raise _InterruptedError("the server cannot continue; starting again")
    if status == 200:
        length = response.headers.get("Content-Length", str(archive.size))
        if length != str(archive.size):
            raise UserError(f"{_shown(url)} is not the official archive: {length} bytes instead of {archive.size}")
        return 0
    if status in (408, 425, 429) or status >= 500:
        wait = response.headers.get("Retry-After", "")
        raise _InterruptedError(f"the server answered {status}", float(wait) if wait.isdigit() else 0.0)
    reason = f"the server answered {status}; {BASE_URL_VARIABLE} sets a mirror"
    raise HostDownError(f"cannot download {_shown(url)}: {reason}")


def _save(response: requests.Response, archive: Archive, part: Path, have: int, progress: Progress) -> None:
    """Append the answer to `part`, at most up to the size of the archive."""
    with _writing(part):
        file: BinaryIO = part.open("ab" if have else "wb")
    meter = _Meter(archive.name, archive.size, have, progress)
    try:
        with file:
            for chunk in response.iter_content(_CHUNK_BYTES):
                have += len(chunk)
                if have > archive.size:
                    raise UserError(f"{archive.name}: the server sends more than {archive.size:,} bytes; stopped")
                with _writing(part):
                    file.write(chunk)
                meter.add(len(chunk))
            with _writing(part):
                file.flush()
    finally:
        meter.close()
    if have < archive.size:
        raise _InterruptedError(f"broken off at {have:,} of {archive.size:,} bytes")


def _checked_members(file: zipfile.ZipFile, archive: Archive) -> list[zipfile.ZipInfo]:
    """What to unpack.

    Raises:
        UserError: a member that leaves its folder, is a link, or unpacks to too much.
    """

    def refuse(reason: str) -> UserError:
        return UserError(f"{archive.name} is not safe to unpack: {reason}; nothing of it was used")

    infos = file.infolist()
    if len(infos) > MAX_MEMBERS:
        raise refuse(f"{len(infos):,} members, at most {MAX_MEMBERS:,} are expected")
    wanted: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.orig_filename
        if "\0" in name or "\\" in name or ":" in name or name.startswith("/") or ".." in name.split("/"):
            raise refuse(f"member {name!r} leads out of its folder")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise refuse(f"member {name!r} is a link or a device")
        if archive.members.fullmatch(name) is None:
            continue
        limit = layout.MAX_CSV_BYTES if name.endswith(".csv") else MAX_SIGN_BYTES
        if info.file_size > limit:
            raise refuse(f"member {name!r} unpacks to {info.file_size:,} bytes, at most {limit:,} are allowed")
        if info.file_size > MAX_RATIO * info.compress_size + SMALL_BYTES:
            raise refuse(f"member {name!r} is packed more than {MAX_RATIO}-fold")
        if name in wanted:
            raise refuse(f"member {name!r} is there twice")
        wanted[name] = info
    total = sum(info.file_size for info in wanted.values())
    if total > MAX_UNPACKED_BYTES:
        raise refuse(f"it unpacks to {total:,} bytes, at most {MAX_UNPACKED_BYTES:,} are allowed")
    return list(wanted.values())


def _unpack(path: Path, archive: Archive, dataset: str, base: Path, progress: Progress) -> None:
    """Unpack beside the target, check, and put in place in one step."""
    with _writing(base):
        temporary = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=base))
    try:
        with _writing(base):
            _extract(path, archive, temporary)
        if not (temporary / archive.target).exists():
            raise UserError(f"{archive.name} holds no {archive.target}; nothing of it was used")
        if archive is TRAINING_ARCHIVES[dataset]:
            _index_training(dataset, temporary / archive.target)
        with _writing(base / archive.target):
            _put_in_place(temporary / archive.target, base / archive.target, progress)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _extract(path: Path, archive: Archive, folder: Path) -> None:
    try:
        with zipfile.ZipFile(path) as file:
            for info in _checked_members(file, archive):
                with file.open(info) as member:
                    content = member.read(info.file_size + 1)
                target = folder / info.orig_filename
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{archive.name} is a damaged archive ({error}); nothing of it was used") from None


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
