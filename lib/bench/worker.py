"""The process in which one backend lives: reads one JSON command a line from standard input, answers one a line.

Between commands it blocks in `readline`, so an idle worker takes no time from the one that is being measured. Whatever
libraries print goes to standard error; the answers have a descriptor of their own.

Started by `lib.bench.client` as `python -m lib.bench.worker BACKEND`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lib.backends import Backend, get_backend
from lib.backends.interface import Shape
from lib.files import TEMPORARY, writing
from lib.granted import memory_bytes

Answer = dict[str, Any]
NUM_WORKERS = 3  # of a session; each keeps what it once took
LEAST_SHARE = 4 * 2**30  # bytes; the limit counts reserved memory too, and libraries reserve much that they never use


class Worker:
    """Executes commands on one backend. Images are passed as files, once, before any clock starts."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.images = np.empty((0, 3, 32, 32), np.float32)
        self._compiled: dict[Shape, float] = {}  # seconds it took, by shape of the batch

    def prepare(self, checkpoint: str, calibration: str, folder: str) -> Answer:
        """The one-off work of a build machine."""
        images = np.load(calibration)
        started = time.perf_counter()
        self.backend.prepare(Path(checkpoint), images, Path(folder))
        seconds = time.perf_counter() - started
        num_bytes = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        return {"seconds": seconds, "num_bytes": num_bytes}

    def load(self, checkpoint: str, folder: str, num_threads: int, images: str) -> Answer:
        """Cold start in its parts, up to the first inference of one image."""
        self.images = np.load(images, mmap_mode="r")
        first = np.array(self.images[:1])
        started = time.perf_counter()
        self.backend.import_runtime()
        imported = time.perf_counter()
        self.backend.load(Path(checkpoint), Path(folder), num_threads)
        loaded = time.perf_counter()
        compile_s = self._compile(first)
        compiled = time.perf_counter()
        logits = self.backend.predict(first)
        ended = time.perf_counter()
        check_logits(logits, first)
        return {
            "import_s": imported - started,
            "load_s": loaded - imported,
            "compile_s": compile_s,
            "first_inference_s": ended - compiled,
        }

    def predict(self, images: str, batch_size: int, out: str) -> Answer:
        """Logits of a file of normalized images, written to another file. The last batch is filled up with its first
        images, because some runtimes compile for one shape."""
        stored = np.load(images, mmap_mode="r")
        batch_size = min(batch_size, len(stored))
        logits = []
        for start in range(0, len(stored), batch_size):
            chosen = np.arange(start, start + batch_size) % len(stored)
            batch = np.array(stored[chosen])
            self._compile(batch)
            found = check_logits(self.backend.predict(batch), batch)
            logits.append(np.array(found)[: len(stored) - start])
        with writing(out, TEMPORARY):
            np.save(out, np.concatenate(logits))
        return {"num_images": len(stored)}

    def measure(
        self,
        batch_size: int,
        num_warmup: int,
        min_seconds: float,
        min_iterations: int,
        max_iterations: int,
        offset: int,
    ) -> Answer:
        """Latencies of calls, until both the least seconds and the least iterations are reached, or the most."""
        batches = self._batches(batch_size, offset)
        compile_s = self._compile(batches[0])
        for index in range(num_warmup):
            self.backend.predict(batches[index % len(batches)])
        latencies: list[float] = []
        clock, predict, num_batches = time.perf_counter, self.backend.predict, len(batches)
        begun = clock()
        while len(latencies) < max_iterations and (len(latencies) < min_iterations or clock() - begun < min_seconds):
            images = batches[len(latencies) % num_batches]
            started = clock()
            predict(images)
            latencies.append(clock() - started)
        if min(latencies) <= 0:
            raise RuntimeError("the clock went backwards or stood still: no time can be trusted")
        return {"latencies_s": latencies, "compile_s": compile_s}

    def layers(self, batch_size: int, num_passes: int, offset: int) -> Answer:
        """Seconds per layer and pass; the first pass is a warm-up and left out."""
        images = self._batches(batch_size, offset)[0]
        self._compile(images)
        times = self.backend.layer_times(images, num_passes + 1)
        return {"layers": {name: passes[1:] for name, passes in times.items()}}

    def trace(self, batch_size: int) -> Answer:
        """Which kernels ran, by layer, and whether that keeps the backend's promise."""
        images = self._batches(batch_size, 0)[0]
        self._compile(images)
        kernels = self.backend.trace(images)
        return {"kernels": kernels, "proof": asdict(self.backend.prove(kernels))}

    def memory(self) -> Answer:
        """Peak memory of this process in bytes; not `ru_maxrss`, which counts the process that forked us."""
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"), re.MULTILINE)
        return {"peak_memory_bytes": int(found.group(1)) * 1024 if found else None}

    def _compile(self, batch: np.ndarray) -> float:
        """Make the backend ready for the shape of a batch, once; returns how long that took."""
        shape: Any = tuple(batch.shape)
        if shape not in self._compiled:
            started = time.perf_counter()
            self.backend.compile(shape)
            self._compiled[shape] = time.perf_counter() - started
        return self._compiled[shape]

    def _batches(self, batch_size: int, offset: int) -> list[np.ndarray]:
        """Up to 16 contiguous batches of the images, beginning at `offset`, repeated from the start at the end."""
        num_batches = max(1, min(16, len(self.images) // batch_size))
        order = np.arange(offset, offset + num_batches * batch_size) % len(self.images)
        return [np.array(self.images[chosen]) for chosen in order.reshape(num_batches, batch_size)]


def check_logits(logits: Any, images: np.ndarray) -> np.ndarray:
    """What `predict` gave, if it can be logits.

    Raises:
        TypeError: it is not one row of numbers for each image.
    """
    if isinstance(logits, np.ndarray) and logits.ndim == 2 and len(logits) == len(images):
        return logits
    found = f"shape {logits.shape}" if isinstance(logits, np.ndarray) else type(logits).__name__
    raise TypeError(f"`predict` must give a NumPy array of shape ({len(images)}, classes), and it gave {found}")


def serve(worker: Worker, commands: Any, answer: Callable[[Answer], None]) -> None:
    """Answer commands until the end of input."""
    for line in commands:
        command = json.loads(line)
        name = command.pop("command")
        try:
            answer(getattr(worker, name)(**command))
        except Exception as error:  # the parent reports it as the backend's failure, with the trace in its log
            traceback.print_exc()
            answer({"error": f"{type(error).__name__}: {error}", "out_of_memory": is_out_of_memory(error)})


def is_out_of_memory(error: Exception) -> bool:
    """True where a runtime could not get memory. Torch and others raise a general error then, so its words decide."""
    words = ("not enough memory", "can't allocate memory", "bad_alloc", "out of memory", "failed to allocate")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


def limit_memory() -> None:
    """Let an allocation beyond this worker's share of the memory fail here, where it is reported in words. Should the
    kernel have to end a process all the same, let it be this one and not the notebook."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="utf-8")
    if memory := memory_bytes():
        share = max(memory // NUM_WORKERS, LEAST_SHARE)
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (share if hard == resource.RLIM_INFINITY else min(share, hard), hard))


def find_backend(name: str) -> type[Backend]:
    """A backend of the registry, or a class outside of it as `module:Class`: for checks of the harness itself."""
    if ":" not in name:
        return get_backend(name)
    module, _, attribute = name.partition(":")
    backend: type[Backend] = getattr(importlib.import_module(module), attribute)
    return backend


def main(backend_name: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # "interrupt the kernel" reaches the whole group; the notebook decides
    limit_memory()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(content: Answer) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    serve(Worker(find_backend(backend_name)()), sys.stdin, answer)


if __name__ == "__main__":
    main(sys.argv[1])
