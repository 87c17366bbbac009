"""The process in which one backend lives: reads one JSON command a line from standard input, answers one a line.

Between commands it blocks in `readline`, so an idle worker takes no time from the one that is being measured. Whatever
libraries print goes to standard error; the answers have a descriptor of their own.

Started by `lib.bench.client` as `python -m lib.bench.worker BACKEND`.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lib.backends import Backend, get_backend

Answer = dict[str, Any]


class Worker:
    """Executes commands on one backend. Images are passed as files, once, before any clock starts."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.images = np.empty((0, 3, 32, 32), np.float32)

    def load(self, checkpoint: str, num_threads: int, images: str) -> Answer:
        """Cold start in three parts: import, load, first inference of one image."""
        self.images = np.load(images)
        first = np.ascontiguousarray(self.images[:1])
        started = time.perf_counter()
        self.backend.import_runtime()
        imported = time.perf_counter()
        self.backend.load(Path(checkpoint), num_threads)
        loaded = time.perf_counter()
        self.backend.predict(first)
        ended = time.perf_counter()
        return {"import_s": imported - started, "load_s": loaded - imported, "first_inference_s": ended - loaded}

    def predict(self, images: str, batch_size: int, out: str) -> Answer:
        """Logits of a file of normalized images, written to another file."""
        batches = np.load(images, mmap_mode="r")
        logits = [
            self.backend.predict(np.ascontiguousarray(batches[start : start + batch_size]))
            for start in range(0, len(batches), batch_size)
        ]
        np.save(out, np.concatenate(logits))
        return {"num_images": len(batches)}

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
        return {"latencies_s": latencies}

    def layers(self, batch_size: int, num_passes: int, offset: int) -> Answer:
        """Seconds per layer and pass; the first pass is a warm-up and left out."""
        images = self._batches(batch_size, offset)[0]
        times = self.backend.layer_times(images, num_passes + 1)
        return {"layers": {name: passes[1:] for name, passes in times.items()}}

    def trace(self, batch_size: int) -> Answer:
        """Which kernels ran, by layer, and whether that keeps the backend's promise."""
        kernels = self.backend.trace(self._batches(batch_size, 0)[0])
        proof = self.backend.prove(kernels)
        return {"kernels": kernels, "promised": proof.promised, "found": proof.found, "reason": proof.reason}

    def stop(self) -> Answer:
        """Peak memory of this process in bytes; not `ru_maxrss`, which counts the process that forked us."""
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
        return {"peak_memory_bytes": int(found.group(1)) * 1024 if found else None}

    def _batches(self, batch_size: int, offset: int) -> list[np.ndarray]:
        """Up to 16 contiguous batches of the images, beginning at `offset`, repeated from the start at the end."""
        num_batches = max(1, min(16, len(self.images) // batch_size))
        order = np.arange(offset, offset + num_batches * batch_size) % len(self.images)
        return [np.ascontiguousarray(self.images[chosen]) for chosen in order.reshape(num_batches, batch_size)]


def serve(worker: Worker, commands: Any, answer: Callable[[Answer], None]) -> None:
    """Answer commands until `stop` or the end of input."""
    for line in commands:
        command = json.loads(line)
        name = command.pop("command")
        try:
            answer(getattr(worker, name)(**command))
        except Exception as error:  # the parent tells it as the backend's failure, with the trace in its log
            traceback.print_exc()
            answer({"error": f"{type(error).__name__}: {error}"})
        if name == "stop":
            return


def main(backend_name: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(content: Answer) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    serve(Worker(get_backend(backend_name)()), sys.stdin, answer)


if __name__ == "__main__":
    main(sys.argv[1])
