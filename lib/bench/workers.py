"""The processes of a session: prepared, started, asked and ended together."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from lib.backends import REFERENCE, Backend, get_backend
from lib.bench.client import ANSWER_LIMIT_S, PREPARE_LIMIT_S, BackendError, WorkerClient
from lib.bench.kept_models import keep_model
from lib.bench.plan import OFFLINE_BATCH
from lib.bench.rounds import Sides
from lib.data import Split
from lib.data.preprocessing import Preprocessing
from lib.files import TEMPORARY, writing
from lib.model import Checkpoint
from lib.records.schema import ColdStart, Preparation

ROLES = ("control", "reference", "backend")  # in this order they first load; the control also warms the page cache


def save_images(path: Path, images: np.ndarray, preprocessing: Preprocessing) -> None:
    """Normalize uint8 images (N, 3, H, W) into a file that workers read.

    Raises:
        UserError: the disk is full.
    """
    with writing(path, TEMPORARY):
        np.save(path, preprocessing.normalize(images))


def prepare_backend(
    backend: type[Backend], checkpoint: Path, calibration: Path, folder: Path, num_threads: int
) -> Preparation:
    """What a build machine does once, in a process that ends afterwards.

    Args:
        calibration: file of normalized training images.
        folder: for what the backend writes; it does not exist yet.

    Raises:
        BackendError: the backend broke.
    """
    folder.mkdir()
    worker = WorkerClient(backend, num_threads, PREPARE_LIMIT_S)
    try:
        answer = worker.ask("prepare", checkpoint=str(checkpoint), calibration=str(calibration), folder=str(folder))
    finally:
        worker.kill()
    return Preparation(answer["seconds"], answer["num_bytes"], len(np.load(calibration, mmap_mode="r")))


def start_worker(
    backend: type[Backend],
    checkpoint: Path,
    folder: Path,
    images: Path,
    num_threads: int,
    limit_s: float = ANSWER_LIMIT_S,
) -> tuple[WorkerClient, ColdStart]:
    """A process in which the backend is loaded, and what that took.

    Args:
        folder: what `prepare_backend` wrote.
        images: file of normalized images that all commands read.

    Raises:
        BackendError: the backend broke.
    """
    worker = WorkerClient(backend, num_threads, limit_s)
    try:
        return worker, worker.load(checkpoint, folder, images)
    except BaseException:
        worker.kill()
        raise


class Workers:
    """Three processes that take turns: the backend, the reference, and the control, which is the reference once more.

    Whatever a step needs is prepared and started when it is asked for: a step can be the first one, and it can be run
    again after an interruption or after `close`.

    Args:
        splits: images by name: `val`, `test` where its accuracy is wanted, and `calibration`, which may be empty.
        run_dir: where what the backend prepares is kept; None: nowhere.
        load_at_once: the network in all processes, which is quicker, and makes the cold starts worthless.

    Raises (all methods but `stop` and `close`):
        BackendError: a backend broke.
    """

    def __init__(
        self,
        backend: type[Backend],
        checkpoint: Checkpoint,
        splits: Mapping[str, Split],
        num_threads: int,
        run_dir: Path | None = None,
        *,
        load_at_once: bool = False,
    ) -> None:
        self.checkpoint, self.splits, self.num_threads, self._run_dir = checkpoint, splits, num_threads, run_dir
        self.load_at_once = load_at_once
        self.backends = dict.fromkeys(ROLES, get_backend(REFERENCE)) | {"backend": backend}
        self.running: Sides = {}
        self._num_starts = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def prepare(self) -> Preparation:
        """Write the images, and let the backend export, quantize and compile ahead of time."""
        self.close()
        self._folder = tempfile.TemporaryDirectory(prefix="gtsrb-bench-")
        try:
            for name, split in self.splits.items():
                save_images(self._path(f"{name}.npy"), split.images, self.checkpoint.preprocessing)
            backend, calibration, model = self.backends["backend"], self._path("calibration.npy"), self._path("model")
            prepared = prepare_backend(backend, self.checkpoint.path, calibration, model, self.num_threads)
            if self._run_dir is not None:
                prepared.kept, prepared.files = keep_model(model, self._run_dir)
            return prepared
        except BaseException:  # half a folder is none
            self.close()
            raise

    def ready(self) -> None:
        """Prepare, where nothing is prepared."""
        if self._folder is None:
            self.prepare()

    def start(self) -> tuple[ColdStart, ColdStart]:
        """Start all processes at once, and load the network in them one after the other, unless `load_at_once`;
        running ones are ended first.

        Each set of processes loads another role first, should it matter who comes first.

        Returns:
            What backend and reference waited for.
        """
        self.stop()
        first = self._num_starts % len(ROLES)
        self._num_starts += 1
        self.ready()
        try:
            for role in ROLES[first:] + ROLES[:first]:
                self.running = {**self.running, role: WorkerClient(self.backends[role], self.num_threads)}
            for worker in self.running.values():
                worker.ask("memory")  # answered once it is there: none is still starting while another one loads
            waited = self._loaded()
        except BaseException:
            self.stop()
            raise
        return waited["backend"], waited["reference"]

    def _loaded(self) -> dict[str, ColdStart]:
        if not self.load_at_once:
            return {role: worker.load(*self._files) for role, worker in self.running.items()}
        with ThreadPoolExecutor(len(ROLES)) as pool:
            loading = {role: pool.submit(worker.load, *self._files) for role, worker in self.running.items()}
            try:
                return {role: cold_start.result() for role, cold_start in loading.items()}
            except BaseException:
                self.stop()  # or leaving the pool would wait for those that still load
                raise

    def open(self) -> Sides:
        """The running processes; started where none runs."""
        if not self.running:
            self.start()
        return self.running

    def open_pair(self, num_threads: int) -> Sides:
        """Backend and reference with this number of threads; those that run already where they have it."""
        if any(worker.num_threads != num_threads for worker in self.running.values()):
            self.stop()
        for role in ("reference", "backend"):
            if role not in self.running:
                self.ready()
                worker, _ = start_worker(self.backends[role], *self._files, num_threads)
                self.running = {**self.running, role: worker}
        return self.running

    def logits(self, split: str, role: str) -> np.ndarray:
        """Float32 logits (N, classes) of the images of a split."""
        worker = self.open()[role]
        images, out = self._path(f"{split}.npy"), self._path(f"logits-{split}-{role}.npy")
        worker.ask("predict", images=str(images), batch_size=OFFLINE_BATCH, out=str(out))
        logits: np.ndarray = np.load(out)
        shape = self.splits[split].num_images, len(self.checkpoint.metadata.classes)
        if logits.shape != shape:
            raise BackendError(f"{worker.backend.name} gave logits of shape {logits.shape}, not {shape}")
        if not np.isfinite(logits).all():
            raise BackendError(f"{worker.backend.name} gave logits that are not finite")
        return logits

    def stop(self) -> None:
        """End the processes; what was prepared stays."""
        for worker in self.running.values():
            worker.kill()
        self.running = {}

    def close(self) -> None:
        """End the processes and remove all files."""
        self.stop()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    @property
    def _files(self) -> tuple[Path, Path, Path]:
        """What a worker loads: checkpoint, what the backend prepared, images."""
        return self.checkpoint.path, self._path("model"), self._path("val.npy")

    def _path(self, name: str) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / name
