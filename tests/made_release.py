"""A run folder that can be released, made without notebooks and workers: a small network, really exported."""

from __future__ import annotations

import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lib.backends import get_backend
from lib.backends.interface import Tolerance
from lib.bench.kept_models import keep_model
from lib.bench.parity import compare_logits
from lib.bench.steps import sample_answers
from lib.data import Data
from lib.data.preprocessing import fit_preprocessing
from lib.files import CHECKPOINT_NAME
from lib.header import CheckpointMetadata
from lib.model import build_network, load_checkpoint, save_checkpoint
from lib.records.schema import BenchmarkRecord, Preparation, Record, TrainRecord, read_record, record_path, write_record
from lib.release import Release, write_release
from lib.release.writer import plan_release
from lib.signs import NUM_CLASSES
from lib.training.evaluation import evaluate, predict_logits
from tests.made_data import made_data, noise
from tests.made_records import (
    made_benchmark,
    made_compare,
    made_environment,
    made_explore,
    made_released,
    made_train,
    write_run_files,
)

ANY = Tolerance(top1_drop=1.0, sqnr_db=-math.inf, agreement=0.0)
COMMIT = "5" * 40
BACKENDS = ("onnxruntime", "onnxruntime-int8")


def released_data(source: str = "synthetic", extra_hash: str = "") -> Data:
    """What the network of `made_run` was trained on."""
    return replace(made_data(noise("train", 86), noise("val", 129, seed=1), source=source), extra_hash=extra_hash)


def made_run(
    run_dir: Path,
    backends: tuple[str, ...] = BACKENDS,
    seed: int = 0,
    source: str = "synthetic",
    extra_hash: str = "",
    calibration: tuple[float, float] = (0.5, 0.0),
    **changes: Any,
) -> Path:
    """Records, checkpoint and kept models of a run.

    Args:
        seed: of the weights.
        calibration: temperature, and least confidence of a sign.
        changes: of the training's record.
    """
    data = released_data(source, extra_hash)
    checkpoint = load_checkpoint(_checkpoint(run_dir, data, seed, calibration))
    network = checkpoint.metadata
    trained = evaluate(predict_logits(checkpoint.model, checkpoint.preprocessing, data.val.images), data.val)
    train = made_train(
        checkpoint_sha256=checkpoint.sha256,
        data=data.info(),
        recipe=network.recipe,
        architecture=network.architecture,
        num_epochs=network.num_epochs,
        accuracy={"val": trained.accuracy},
        per_class_recall={"val": trained.per_class_recall},
        confusion={"val": trained.confusion},
        **changes,
    )
    write_record(train, record_path(run_dir, "02_train"))
    for name in backends:
        add_measured(run_dir, name, data)
    return run_dir


def release_of(run_dir: Path, source: str = "synthetic") -> Path:
    """The folder of the release of such a run."""
    release = write_release(plan_release(run_dir), released_data(source)).release
    assert release is not None
    return release.path


def made_series_run(run_dir: Path, profile: str = "fast", commit: str = COMMIT, source: str = "gtsrb") -> Path:
    """A run of the whole series, as the workflow keeps it; no limits are stated for its accuracy."""
    made_run(run_dir, source=source, profile=profile, environment=made_environment(git_commit=commit))
    digest = Release.load(release_of(run_dir, source)).digest
    records: dict[str, Record] = {
        "01_explore": made_explore(),
        "02_train": read_record(record_path(run_dir, "02_train"), TrainRecord),
        **{
            f"03_benchmark.{name}": read_record(record_path(run_dir, "03_benchmark", name), BenchmarkRecord)
            for name in BACKENDS
        },
        "04_compare": made_compare(),
        "05_release": made_released(digest=digest),
    }
    return write_run_files(run_dir, records)


def add_measured(run_dir: Path, name: str, data: Data, **changes: Any) -> None:
    """Export the checkpoint of a run for a backend, keep the model, and write a record as if it had been measured."""
    checkpoint, backend = load_checkpoint(run_dir / CHECKPOINT_NAME), get_backend(name)()
    used = checkpoint.preprocessing
    reference = predict_logits(checkpoint.model, used, data.val.images)
    with tempfile.TemporaryDirectory() as folder:
        images = used.normalize(data.train.images) if backend.needs_calibration else np.empty(0, np.float32)
        backend.prepare(checkpoint.path, images, Path(folder))
        place, files = keep_model(Path(folder), run_dir)
        backend.load(checkpoint.path, Path(folder), 1)
        batch = used.normalize(data.val.images)
        backend.compile(batch.shape)
        logits = backend.predict(batch)
    record = made_benchmark(
        name,
        checkpoint_sha256=checkpoint.sha256,
        data=data.info(),
        recipe=checkpoint.metadata.recipe,
        parity=compare_logits(logits, reference, data.val.labels, data.val.track_ids, ANY),
        samples=sample_answers(data.val, logits),
        preparation=Preparation(1.0, 1, len(images), place, files),
        **changes,
    )
    write_record(record, record_path(run_dir, "03_benchmark", name))


def _checkpoint(run_dir: Path, data: Data, seed: int, calibration: tuple[float, float]) -> Path:
    torch.manual_seed(seed)
    metadata = CheckpointMetadata(
        "learning_path", "learning_path", "fast", 1, seed, data.source, data.manifest_hash, data.classes,
        fit_preprocessing(data.train.images), extra_hash=data.extra_hash,
        temperature=calibration[0], least_confidence=calibration[1],
    )  # fmt: skip
    path = run_dir / CHECKPOINT_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, build_network("learning_path", NUM_CLASSES), metadata)
    return path
