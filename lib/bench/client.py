"""The parent's side of a worker: start it, ask it, notice when it dies or hangs."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lib.backends import Backend
from lib.backends.interface import registered
from lib.files import search_path
from lib.granted import CORES, CORES_VARIABLE
from lib.machine import ALLOCATOR, patient
from lib.records.schema import ColdStart
from lib.variables import passed_on

ANSWER_LIMIT_S = 300.0  # longer than any one command takes, short enough to end a hanging job
PREPARE_LIMIT_S = 900.0  # compiling ahead of time takes minutes on a slow machine
END_LIMIT_S = 5.0  # after SIGTERM, which ends a worker at once unless something in it wants to write first


def worker_command(module: str, *arguments: str) -> list[str]:
    """How every measured process is started. `-P`: a folder `lib` in the working folder is not ours."""
    return [sys.executable, "-P", "-m", module, *arguments]


def worker_environ(num_threads: int) -> dict[str, str]:
    """What every measured process gets: little of the shell, its number of threads and the cores that were granted,
    memory that is kept, and this project to import from."""
    threads = {name: str(num_threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    return {
        **passed_on(),
        **ALLOCATOR,
        **threads,
        CORES_VARIABLE: ",".join(map(str, sorted(CORES))),
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": search_path(),
    }


class BackendError(RuntimeError):
    """A backend that broke: it could not load, answered with an error, died or hung."""


class OutOfMemoryError(BackendError):
    """What the worker was asked for is too large for this machine; perhaps the kernel ended it."""


class WorkerClient:
    """A worker process with one backend loaded in it.

    Raises (all methods):
        BackendError: the worker answered with an error, died, or did not answer within `limit_s`.

    Args:
        backend: of the registry, or a class outside of it that can be imported by its module and name.
    """

    def __init__(self, backend: type[Backend], num_threads: int, limit_s: float = ANSWER_LIMIT_S) -> None:
        self.backend, self.num_threads, self.limit_s = backend, num_threads, limit_s
        known = registered().get(backend.name) is backend
        name = backend.name if known else f"{backend.__module__}:{backend.__qualname__}"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the worker
        self._buffer = b""
        self._process = subprocess.Popen(
            worker_command("lib.bench.worker", name),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**worker_environ(num_threads), **backend.environ},
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send one command and wait, asleep, for its answer."""
        self._command = command
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"command": command, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._death() from None
        answer: dict[str, Any] = json.loads(self._read_line())
        if "error" in answer:
            kind = OutOfMemoryError if answer["out_of_memory"] else BackendError
            raise kind(f"{self.backend.name} failed in {command}: {answer['error']}")
        return answer

    def load(self, checkpoint: Path, folder: Path, images: Path) -> ColdStart:
        """Load the backend; returns the parts of its cold start.

        Args:
            folder: what `prepare` of the backend wrote.
            images: file of normalized float32 images (N, 3, H, W) that all later commands read.
        """
        answer = self.ask(
            "load", checkpoint=str(checkpoint), folder=str(folder), num_threads=self.num_threads, images=str(images)
        )
        return ColdStart(**answer)

    def kill(self) -> None:
        """End the process whatever it does."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_LIMIT_S)
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # an unsent command to a process that is gone
                    pipe.close()
        self._log.close()

    def _read_line(self) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        limit_s = patient(self.limit_s)
        deadline = time.monotonic() + limit_s
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                self._process.kill()
                name = self.backend.name
                raise BackendError(f"{name} did not answer {self._command!r} within {limit_s:.0f} s and was ended")
            chunk = os.read(descriptor, 1 << 20)
            if not chunk:
                raise self._death()
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _death(self) -> BackendError:
        status = self._process.wait()
        cause = f"exit status {status}"
        if status < 0:
            cause = f"signal {signal.Signals(-status).name}"
            if -status == signal.SIGKILL:
                cause += " (out of memory?)"
        self._log.seek(0)
        last = self._log.read().decode(errors="replace").strip().splitlines()[-1:]
        kind = OutOfMemoryError if status == -signal.SIGKILL else BackendError
        return kind(f"the worker of {self.backend.name} died with {cause}" + (f": {last[0]}" if last else ""))
