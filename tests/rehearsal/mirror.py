"""A host of the images that is up, on this machine: archives of tiny images in the official layout.

The project refuses whatever is not the official archives, so the checkouts of such a walk know these instead.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from lib.data.dataset import Archive
from lib.data.sets.gtsrb import Gtsrb
from tests.gtsrb_layout import write_layout, zip_file, zip_folder

GTSRB = Gtsrb()
TRACKS_PER_CLASS, FRAMES, TEST_IMAGES = 6, 5, 86


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """The log of the walk is for the workflow."""


def serve_images(folder: Path) -> Callable[[str, Path], None]:
    """Serve until this process ends; returns what makes a checkout (job, workspace) fetch from here."""
    base = write_layout(folder / "official", TRACKS_PER_CLASS, FRAMES, test_images=TEST_IMAGES)
    contents = {
        archive: zip_file(base / archive.target) if archive.target.suffix else zip_folder(base, str(archive.target))
        for archive in GTSRB.archives
    }
    served = folder / "served"
    served.mkdir()
    for archive, content in contents.items():
        (served / archive.name).write_bytes(content)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(served)))
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def patch(_job: str, workspace: Path) -> None:
        gtsrb = workspace / "lib/data/sets/gtsrb.py"
        text = _replaced(gtsrb.read_text(), {GTSRB.base_url: f"http://127.0.0.1:{server.server_address[1]}/"})
        for archive, content in contents.items():
            text = _replaced(text, _facts(archive, content))
        gtsrb.write_text(text)

    return patch


def _facts(archive: Archive, content: bytes) -> dict[str, str]:
    return {
        f"{archive.size:_}": str(len(content)),
        archive.sha256: hashlib.sha256(content).hexdigest(),
    }


def _replaced(text: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        text, count = re.subn(rf"(?<![\w/]){re.escape(old)}(?!\w)", new, text)
        assert count == 1, f"{old!r} occurs {count} times where its stand-in was to go"
    return text
