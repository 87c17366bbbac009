"""A release to serve, and a real server in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lib.files import PROJECT_ROOT
from tests.made_release import made_run, release_of

COMMAND = (sys.executable, "-m", "lib")


def made_release(folder: Path, seed: int = 0, least_confidence: float = 0.0) -> Path:
    """A release with random weights, below a folder."""
    return release_of(made_run(folder, ("onnxruntime",), seed, calibration=(0.5, least_confidence)))


@dataclass
class Server:
    """Running until the test ends it."""

    process: subprocess.Popen[str]
    address: str  # http://127.0.0.1:PORT

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def line(self, words: str) -> str:
        """The next line of its output with these words; waits for it."""
        found = next((line for line in _output(self.process) if words in line), None)
        assert found is not None, f"the server ended without {words!r}"
        return found


def _output(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


@contextmanager
def serving(release: Path, *options: str, command: tuple[str, ...] = COMMAND) -> Iterator[Server]:
    """`python -m lib serve RELEASE` on any free port; killed in the end, if it runs by then."""
    arguments = [*command, "serve", str(release), *(options or ("--port", "0"))]
    process = subprocess.Popen(arguments, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    server = Server(process, "")
    try:
        server.address = server.line("listening on").split()[2]
        yield server
    finally:
        process.kill()
        process.wait()
        _output(process).close()
