"""From images to logits: a small decode pool, a bounded queue, and one thread that owns the session and batches."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple

import numpy as np

from lib.analysis.calibration import probabilities
from lib.files import project_path
from lib.granted import num_cores
from lib.release import verify
from lib.release.predicting import Model
from lib.release.reader import Release
from lib.serving.decoding import Refused, decode
from lib.serving.metrics import Metrics

MAX_BATCH = 32  # images; more make a batch slower and an image hardly faster
MAX_WAITING = 256  # images that are taken and not yet answered
RETRY_AFTER_S = 1
MAX_DECODERS = 4
TOP = 5  # classes in an answer


Outcome = tuple[np.ndarray, np.ndarray, np.ndarray] | Exception | None  # None: nobody waits for it any more


class Served(NamedTuple):
    """A release and its network, ready to run."""

    release: Release
    model: Model

    @classmethod
    def load(cls, path: str | Path, num_threads: int = 0) -> Served:
        """Verify a release, load its network, and run it once.

        Args:
            path: of the release; a link to one is followed once, so that it may be turned meanwhile.
            num_threads: of the network; 0 = `default_threads`.

        Raises:
            UserError: the release does not verify, or ONNX Runtime cannot run its network.
        """
        release, _ = verify(project_path(path).resolve())
        model = Model(release.model(), num_threads or default_threads())
        model(np.zeros((1, *release.preprocessing.image_shape), np.float32))
        return cls(release, model)


def default_threads() -> int:
    """Of the network: all cores that were granted but one, which the requests themselves keep busy. A network on all of
    them waits for the slowest of its threads, layer by layer."""
    return max(1, num_cores() - 1)


class Upload(NamedTuple):
    """An image file as a client sent it."""

    content: bytes
    media_type: str  # empty: not said


class Answer(NamedTuple):
    """Logits of the images of one request, and who computed them."""

    logits: np.ndarray  # float32 (N, classes)
    probabilities: np.ndarray  # of the same shape
    best: np.ndarray  # int (N, TOP): classes, the most likely first
    notes: list[str]  # what was assumed about the image file
    release: Release


@dataclass(eq=False)
class _Work:
    """What one call of `Engine.infer` asks for, on its way through the threads."""

    given: Upload | np.ndarray
    served: Served
    future: asyncio.Future[Answer]
    taken: float
    images: np.ndarray = field(default_factory=lambda: np.empty(0))  # uint8 (N, 3, H, W), once it is decoded
    notes: list[str] = field(default_factory=list)

    @property
    def num_images(self) -> int:
        return 1 if isinstance(self.given, Upload) else len(self.given)


class Engine:
    """Answers images on behalf of one event loop."""

    def __init__(self, served: Served, metrics: Metrics) -> None:
        self.metrics = metrics
        self.serve(served)
        self._waiting = 0  # images; only the event loop counts
        self._to_decode: SimpleQueue[_Work | None] = SimpleQueue()
        self._ready: SimpleQueue[_Work | None] = SimpleQueue()
        self._decoders = [
            threading.Thread(target=self._decode, name=f"decode-{index}")
            for index in range(min(MAX_DECODERS, num_cores()))
        ]
        self._runner = threading.Thread(target=self._run, name="batches")

    def start(self) -> None:
        """In the event loop that will call `infer`."""
        self._loop = asyncio.get_running_loop()
        for thread in (*self._decoders, self._runner):
            thread.start()

    def serve(self, served: Served) -> None:
        """Let another release answer: what was taken before is still answered by the one before."""
        self.served = served
        self.metrics.serves(served.release)

    def stop(self) -> None:
        """Finish what was taken, and end the threads."""
        for _ in self._decoders:
            self._to_decode.put(None)
        for thread in self._decoders:
            thread.join()
        self._ready.put(None)
        self._runner.join()

    def check_room(self, num_images: int = 1) -> None:
        """See whether so many images would be taken now.

        Raises:
            Refused: 429.
        """
        if self._waiting + num_images > MAX_WAITING:
            raise Refused(429, "full", f"{self._waiting} images are waiting; try again in {RETRY_AFTER_S} s")

    async def infer(self, given: Upload | np.ndarray) -> Answer:
        """The logits of an image file, or of pixels: uint8 (N, 3, H, W) at the size of the network, N <= MAX_BATCH.

        Raises:
            Refused: no room (429), or the file cannot be used.
        """
        work = _Work(given, self.served, self._loop.create_future(), time.perf_counter())
        self.check_room(work.num_images)
        self._count(work.num_images)
        if isinstance(given, Upload):
            self._to_decode.put(work)
        else:
            work.images = given
            self._ready.put(work)
        return await work.future

    def _count(self, num_images: int) -> None:
        self._waiting += num_images
        self.metrics.waiting.set(self._waiting)

    def _decode(self) -> None:
        """Life of a thread of the pool."""
        while (work := self._to_decode.get()) is not None:
            if work.future.done():  # the client is gone, or its time was up
                self._answer([work], None)
                continue
            assert isinstance(work.given, Upload)
            begun = time.perf_counter()
            try:
                work.images, work.notes = decode(*work.given, work.served.release.preprocessing.image_size)
            except Exception as error:  # also of a kind that is our own fault: no client waits for ever
                self._answer([work], error)
            else:
                self._ready.put(work)
            self.metrics.decode.observe(time.perf_counter() - begun)

    def _run(self) -> None:
        """Life of the thread that owns the session: at once when idle; what comes meanwhile is the next batch."""
        held: _Work | None = None
        while (first := held or self._ready.get()) is not None:
            batch, held = self._gather(first)
            begun = time.perf_counter()
            try:
                images = np.concatenate([work.images for work in batch])
                release, model = first.served
                logits = model(release.preprocessing.normalize(images))
                shares = probabilities(logits, release.metadata.temperature)
                best = np.argsort(-shares, axis=1, kind="stable")[:, :TOP]
            except Exception as error:
                self._answer(batch, error)
            else:
                self._answer(batch, (logits, shares, best))
                self.metrics.compute.observe(time.perf_counter() - begun)
                self.metrics.batch.observe(len(images))
            for work in batch:
                self.metrics.queue.observe(begun - work.taken)

    def _gather(self, first: _Work) -> tuple[list[_Work], _Work | None]:
        """A batch for one release of what is there now, and the first that did not fit into it."""
        batch, num_images = [first], first.num_images
        while num_images < MAX_BATCH:
            try:
                work = self._ready.get_nowait()
            except Empty:
                break
            if work is None:
                self._ready.put(None)  # nothing comes after it
                break
            num_images += work.num_images
            if work.served is not first.served or num_images > MAX_BATCH:
                return batch, work
            batch.append(work)
        return batch, None

    def _answer(self, batch: Sequence[_Work], outcome: Outcome) -> None:
        """From a thread: arrays of all images of a batch, or why there are none. The event loop wakes up once."""
        self._loop.call_soon_threadsafe(self._resolve, batch, outcome)

    def _resolve(self, batch: Sequence[_Work], outcome: Outcome) -> None:
        row = 0
        for work in batch:
            self._count(-work.num_images)
            rows = slice(row, row + work.num_images)
            row = rows.stop
            if work.future.done():  # the client is gone, or its time was up
                continue
            if isinstance(outcome, Exception):
                work.future.set_exception(outcome)
            elif outcome is not None:
                logits, shares, best = (array[rows] for array in outcome)
                work.future.set_result(Answer(logits, shares, best, work.notes, work.served.release))
