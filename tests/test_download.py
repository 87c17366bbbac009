"""Downloading GTSRB from a local server that misbehaves in every way a server can."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import io
import os
import re
import shutil
import sys
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lib.data import download, load_data
from lib.data.download import HostDownError, fetch
from lib.data.sets import get_dataset
from lib.data.sets.gtsrb import Gtsrb
from lib.errors import UserError
from tests.gtsrb_layout import TEST_FOLDER, TORCHVISION_FOLDER, TRAIN_FOLDER, write_layout, zip_file, zip_folder

TRAIN_NAME = "GTSRB_Final_Training_Images.zip"
TEST_NAME = "GTSRB_Final_Test_Images.zip"
LABELS_NAME = "GTSRB_Final_Test_GT.zip"
TORCHVISION_NAME = "GTSRB-Training_fixed.zip"


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the official server keeps, but tiny."""
    base = write_layout(tmp_path_factory.mktemp("official"), frames=1, test_images=12)
    write_layout(base.parent, tracks_per_class=3, frames=1, folder=TORCHVISION_FOLDER)
    training = io.BytesIO(zip_folder(base, TRAIN_FOLDER))
    with zipfile.ZipFile(training, "a", zipfile.ZIP_DEFLATED) as file:
        for name in ("__MACOSX/x", "setup.py"):
            file.writestr(name, "not needed either")
    return {
        TRAIN_NAME: training.getvalue(),
        TORCHVISION_NAME: zip_folder(base, TORCHVISION_FOLDER),
        TEST_NAME: zip_folder(base, TEST_FOLDER),
        LABELS_NAME: zip_file(base / "GT-final_test.csv"),
    }


@dataclass
class Served:
    """What the server does: `script` has one misbehaviour per request to come, then it behaves."""

    files: dict[str, bytes]
    url: str = ""
    script: list[str] = field(default_factory=list)
    always: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)  # file name and Range header

    def names(self) -> list[str]:
        return [name for name, _ in self.requests]

    def training(self) -> list[str]:
        """Range headers of the requests for the training images."""
        return [wanted for name, wanted in self.requests if name == TRAIN_NAME]


class Handler(BaseHTTPRequestHandler):
    served: Served

    def log_message(self, *arguments: object) -> None:
        """Silence."""

    def answer(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        served = self.served
        name = self.path.lstrip("/")
        wanted = self.headers.get("Range", "")
        served.requests.append((name, wanted))
        how = served.script.pop(0) if served.script else served.always
        content = served.files.get(name)
        if content is None or how == "404":
            return self.answer(404, b"not here")
        if how.startswith("5") or how == "429":
            return self.answer(int(how), b"busy", Retry_After="0")
        if how == "416":
            return self.answer(416, b"")
        if how == "altered":
            content = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
        if how == "page":
            content = b"<html>please log in</html>"
        match = re.fullmatch(r"bytes=(\d+)-", wanted)
        start = int(match[1]) if match and how != "ignore range" else 0
        body, length = content[start:], len(content) - start
        if how == "endless":  # no length, and more than there should be
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content + b"x" * 1_000_000)
            return None
        if how == "break off":
            body = body[: len(body) // 2]
        if how == "break off at once":
            body = b""
        if match is None or how == "ignore range":
            return self.answer(200, body, length)
        first = start + 7 if how == "wrong place" else start
        return self.answer(206, body, length, Content_Range=f"bytes {first}-{len(content) - 1}/{len(content)}")


@pytest.fixture
def server(archives: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    served = Served(dict(archives))
    handler = type("BoundHandler", (Handler,), {"served": served})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    served.url = f"http://127.0.0.1:{httpd.server_address[1]}/"
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.delenv("GTSRB_BASE_URL", raising=False)
    monkeypatch.setattr(download, "WAIT_S", 0.0)
    for name in ("gtsrb", "gtsrb-torchvision"):  # let these be the official archives
        dataset = type(get_dataset(name))
        described = tuple(
            replace(archive, size=len(content), sha256=hashlib.sha256(content).hexdigest())
            for archive in dataset.archives
            for content in [archives[archive.name]]
        )
        monkeypatch.setattr(dataset, "archives", described)
    yield served
    httpd.shutdown()
    httpd.server_close()


def get(server: Served, root: Path) -> list[str]:
    lines: list[str] = []
    fetch("gtsrb", root, base_url=server.url, progress=lines.append)
    return lines


def assert_complete(root: Path) -> None:
    """All images, and nothing else: no other members of archives, and no leftovers."""
    found = Gtsrb().locate(root)
    assert found.test is not None
    assert (len(found.training.index()), len(found.test.index())) == (86, 12)
    others = {path.name for path in root.rglob("*") if path.is_file() and path.suffix not in (".ppm", ".csv")}
    assert {name for name in others if "incomplete" not in name} <= {".download.lock"}
    assert not list((root / "gtsrb").glob(".unpacking-*"))


def test_the_known_archives_are_those_of_torchvision() -> None:
    found = importlib.util.find_spec("torchvision")  # read, not imported: that would load torch
    assert found is not None and found.origin is not None
    source = (Path(found.origin).parent / "datasets/gtsrb.py").read_text()
    assert all(archive.name in source for archive in get_dataset("gtsrb-torchvision").archives)
    assert Gtsrb.base_url in source and Gtsrb.base_url.startswith("https://")


def test_download_brings_training_and_test_images_once(server: Served, tmp_path: Path) -> None:
    (tmp_path / "gtsrb/.unpacking-abc/GTSRB").mkdir(parents=True)  # of a run that was killed
    lines = get(server, tmp_path)
    assert server.names() == [TRAIN_NAME, LABELS_NAME, TEST_NAME]
    assert_complete(tmp_path)
    size = len(server.files[TRAIN_NAME]) / 1e6
    assert f"{TRAIN_NAME}: 100 % of {size:.1f} MB" in lines
    server.requests.clear()
    assert all("is there and complete" in line for line in get(server, tmp_path))
    get(server, tmp_path / "gtsrb/GTSRB")  # at another level of the layout
    assert server.requests == []


def test_load_data_fetches_what_is_missing(server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GTSRB_BASE_URL", server.url.rstrip("/"))
    monkeypatch.setenv("GTSRB_CACHE", str(tmp_path / "cache"))
    data = load_data("gtsrb", data_root=tmp_path / "new", download=True)
    assert data.info().num_images == {"train": 43, "val": 43, "test": 12}
    other = load_data("gtsrb-torchvision", data_root=tmp_path / "new", download=True)
    assert other.train.num_images + other.val.num_images == 129
    assert server.names() == [TRAIN_NAME, LABELS_NAME, TEST_NAME, TORCHVISION_NAME]
    load_data("gtsrb", data_root=tmp_path / "new", download=True)
    assert len(server.requests) == 4


def test_half_unpacked_set_is_moved_aside_and_made_anew(server: Served, tmp_path: Path) -> None:
    get(server, tmp_path)
    images = tmp_path / "gtsrb" / TRAIN_FOLDER
    shutil.rmtree(images / "00003")
    (tmp_path / "gtsrb" / TEST_FOLDER / "00001.ppm").unlink()
    lines = get(server, tmp_path)
    assert_complete(tmp_path)
    aside = images.with_name("Images.incomplete-1")
    assert (aside / "00042").is_dir() and any(str(aside) in line for line in lines)


def test_missing_or_damaged_test_labels_alone_are_fetched(server: Served, tmp_path: Path) -> None:
    get(server, tmp_path)
    labels = tmp_path / "gtsrb/GT-final_test.csv"
    for damage in (b"", labels.read_bytes()[:300], None):
        server.requests.clear()
        labels.unlink() if damage is None else labels.write_bytes(damage)
        get(server, tmp_path)
        assert server.names() == [LABELS_NAME]
        assert_complete(tmp_path)


def test_archive_that_is_there_is_used_and_kept(server: Served, tmp_path: Path) -> None:
    (tmp_path / "gtsrb").mkdir()
    (tmp_path / "gtsrb" / TRAIN_NAME).write_bytes(server.files[TRAIN_NAME])
    get(server, tmp_path)
    assert server.training() == [] and (tmp_path / "gtsrb" / TRAIN_NAME).is_file()
    shutil.rmtree(tmp_path / "gtsrb/GTSRB")
    (tmp_path / "gtsrb" / TRAIN_NAME).write_bytes(b"another file")
    get(server, tmp_path)
    assert server.training() == [""]


def test_broken_off_download_continues_where_it_stopped_as_long_as_bytes_come(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_ATTEMPTS", 2)
    server.script = ["break off", "break off", "break off"]
    get(server, tmp_path)
    assert_complete(tmp_path)
    starts = [int(wanted[6:-1]) if wanted else 0 for wanted in server.training()]
    size = len(server.files[TRAIN_NAME])
    assert starts[0] == 0 and starts == sorted(set(starts)) and starts[-1] > 0.7 * size


def test_next_run_continues_where_the_last_gave_up(server: Served, tmp_path: Path) -> None:
    server.script = ["break off"]
    server.always = "break off at once"
    with pytest.raises(UserError, match=rf"cannot download {server.url}{TRAIN_NAME}: .*what came is kept"):
        get(server, tmp_path)
    assert len(server.requests) <= download.MAX_ATTEMPTS + 1
    server.always = ""
    server.requests.clear()
    get(server, tmp_path)
    (wanted,) = server.training()
    assert wanted.startswith("bytes=")
    assert_complete(tmp_path)


@pytest.mark.parametrize(
    ("script", "num_requests"),
    [
        (["break off", "ignore range"], 2),
        (["break off", "wrong place"], 3),
        (["break off", "416"], 3),
        (["500", "503", "429"], 4),
    ],
)
def test_server_that_cannot_continue_or_is_busy_is_asked_again(
    server: Served, tmp_path: Path, script: list[str], num_requests: int
) -> None:
    server.script = script
    get(server, tmp_path)
    assert_complete(tmp_path)
    assert len(server.training()) == num_requests


def test_part_of_an_earlier_run_is_used_where_it_is_complete_and_of_another_file_is_one_error(
    server: Served, tmp_path: Path
) -> None:
    part = tmp_path / "gtsrb" / f"{TRAIN_NAME}.part"
    part.parent.mkdir()
    part.write_bytes(b"beginning of an older file" * 100)
    with pytest.raises(UserError, match=r"is not the official archive: .*try again"):
        get(server, tmp_path)
    assert not part.exists(), "the next run fetches it anew"
    part.write_bytes(server.files[TRAIN_NAME])  # the last run ended between fetching and unpacking
    server.requests.clear()
    get(server, tmp_path)
    assert server.training() == []
    assert_complete(tmp_path)


@pytest.mark.parametrize(
    ("how", "message", "num_requests"),
    [
        ("404", r"the server answered 404; .*GTSRB_BASE_URL sets a mirror", 1),
        ("altered", r"is not the official archive: [\d,]+ bytes with SHA-256 \w{64}; nothing of it was used", 1),
        ("page", r"is not the official archive: 26 bytes instead of \d+", 1),
        ("endless", r"is not the official archive: [\d,]+ bytes with SHA-256 \w{64}; nothing of it was used", 1),
        ("503", r"the server answered 503; try again later; GTSRB_BASE_URL sets a mirror", 5),
        ("break off at once", r"connection lost|broken off", 5),
    ],
)
def test_useless_server_is_one_clear_error(
    server: Served, tmp_path: Path, how: str, message: str, num_requests: int
) -> None:
    server.always = how
    with pytest.raises(UserError, match=message) as caught:
        fetch("gtsrb", tmp_path, base_url=server.url.replace("//", "//user:secret@"))
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)
    assert len(server.requests) == num_requests
    assert not (tmp_path / "gtsrb/GTSRB").exists()


def test_nobody_at_the_address(tmp_path: Path, server: Served) -> None:
    with pytest.raises(HostDownError, match=r"cannot download http://127\.0\.0\.1:9/\S+zip: no connection \(Connec"):
        fetch("gtsrb", tmp_path, base_url="http://127.0.0.1:9")


@pytest.mark.parametrize("url", ["ftp://example.org/", "file:///etc/", "example.org", "https://"])
def test_address_has_to_be_a_web_address(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match=r"begins with https://"):
        fetch("gtsrb", tmp_path, base_url=url)


def test_data_set_without_archives_is_refused(tmp_path: Path) -> None:
    for name in ("synthetic", "gtsrb-kaggle"):
        with pytest.raises(UserError, match=rf"unknown data set to download '{name}'.* available: gtsrb, gtsrb-torch"):
            fetch(name, tmp_path)


def test_folder_that_cannot_be_written_is_named(server: Served, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*file/gtsrb.*choose another data_root"):
        get(server, tmp_path / "file")


def test_full_disk_is_a_clear_error_and_the_next_run_goes_on(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    message = r"cannot write .*: No space left on device; free space"
    part = tmp_path / "gtsrb" / f"{TRAIN_NAME}.part"
    part.parent.mkdir()
    part.symlink_to("/dev/full")
    with pytest.raises(UserError, match=message):
        get(server, tmp_path)
    part.unlink()
    with monkeypatch.context() as context:
        context.setattr(shutil, "copyfileobj", full)
        with pytest.raises(UserError, match=message):
            get(server, tmp_path)
    assert not (tmp_path / "gtsrb/GTSRB").exists() and not list((tmp_path / "gtsrb").glob(".unpacking-*"))
    get(server, tmp_path)
    assert_complete(tmp_path)


def test_downloads_at_once_share_the_work(server: Served, tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: get(server, tmp_path), range(3)))
    assert server.names() == [TRAIN_NAME, LABELS_NAME, TEST_NAME]
    assert_complete(tmp_path)


def test_terminal_shows_a_bar(server: Served, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    lines = get(server, tmp_path)
    assert TRAIN_NAME in capsys.readouterr().err and not any("%" in line for line in lines)
