"""What follows from the records and the checkpoint: every text file of a release, made by one function each.

The writer writes them, and `verify` makes them again and compares.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from lib.analysis.judgement import disturbance
from lib.analysis.statistics import percentiles, samples_per_s, scenario_ratio
from lib.files import sha256_file
from lib.header import CheckpointMetadata
from lib.records.schema import BENCHMARK, TRAIN, BenchmarkRecord, Record, ReleasedModel, TrainRecord
from lib.release.reader import (
    CONFIG,
    FP32,
    MANIFEST,
    PREPROCESSOR,
    QUANTIZED,
    SAMPLES,
    SCHEMA_VERSION,
    UINT8,
    Figures,
    Manifest,
    Speed,
    WeakClass,
)

NEEDED = "onnxruntime"  # there is no release without this backend
RELEASED = {NEEDED: "exported.onnx", "onnxruntime-int8": "quantized.onnx"}  # backend -> file that it runs
PLACES = {NEEDED: FP32, "onnxruntime-int8": QUANTIZED}  # where that file is in a release
_PLACES_ON_A_MACHINE = ("run_dir", "data_root")
NUM_WEAK = 5
SHORT = 8  # characters of a hash in a version
CARD_VERSION = 3  # raise it when the words of the card change: `verify` then does not compare the words of older ones


@dataclass(frozen=True)
class Sources:
    """What a release is made of."""

    train: TrainRecord
    benchmarks: list[BenchmarkRecord]  # of the released models, the fp32 one first
    metadata: CheckpointMetadata
    models: list[ReleasedModel]
    record_hashes: dict[str, str]  # by label
    card_version: int = CARD_VERSION
    schema_version: int = SCHEMA_VERSION


def label_of(record: Record) -> str:
    """Name of a record's file, without its suffix: of the training or of a measurement."""
    return f"{BENCHMARK}.{record.backend}" if isinstance(record, BenchmarkRecord) else TRAIN


def models_of(folder: Path, benchmarks: Sequence[BenchmarkRecord], error_max: float) -> list[ReleasedModel]:
    """The files of the measured models, and the variant of the fp32 one for pixels.

    Args:
        error_max: largest difference of the variant's logits on the sample images.
    """
    measured = [(PLACES[record.backend], record.backend, "", 0.0) for record in benchmarks]
    return [
        ReleasedModel(path, sha256_file(folder / path), (folder / path).stat().st_size, backend, made_of, error)
        for path, backend, made_of, error in [*measured, (UINT8, "", FP32, error_max)]
    ]


def manifest_of(sources: Sources) -> Manifest:
    """What `release.json` says."""
    train, network = sources.train, sources.metadata
    checkpoint = train.checkpoint_sha256 or ""
    return Manifest(
        name=f"{network.data_source}-{network.recipe}",
        version=f"{train.started[:10]}.{checkpoint[:SHORT]}",
        card_version=sources.card_version,
        checkpoint_sha256=checkpoint,
        architecture=network.architecture,
        recipe=network.recipe,
        profile=train.profile,
        commit=train.environment.git_commit or "",
        parameters={name: value for name, value in train.params.items() if name not in _PLACES_ON_A_MACHINE},
        records=sources.record_hashes,
        models=sources.models,
        figures=figures_of(sources),
        temperature=network.temperature,
        least_confidence=network.least_confidence,
        schema_version=sources.schema_version,
    )


def figures_of(sources: Sources) -> Figures:
    """All that the release claims in numbers."""
    train, data = sources.train, sources.train.data
    assert data is not None
    recall = train.per_class_recall[evaluation_split(train)]
    known = sorted((value, index) for index, value in enumerate(recall) if value is not None)
    return Figures(
        data=data.source,
        data_hash=data.manifest_hash,
        extra_hash=data.extra_hash,
        num_images=data.num_images,
        num_tracks=data.num_tracks,
        accuracy=train.accuracy,
        measured_accuracy={
            model.path: record.parity.top1
            for record in sources.benchmarks
            for model in sources.models
            if model.backend == record.backend and record.parity is not None
        },
        weak_classes=[WeakClass(data.classes[index], value) for value, index in known[:NUM_WEAK]],
        speeds=[speed for record in sources.benchmarks for speed in _speeds(record)],
    )


def evaluation_split(train: TrainRecord) -> str:
    """The split that accuracy is reported on: test if present."""
    return "test" if "test" in train.accuracy else "val"


def _speeds(record: BenchmarkRecord) -> list[Speed]:
    found = []
    for scenario in record.scenarios:
        times = percentiles(scenario.latencies_s)
        found.append(
            Speed(
                backend=record.backend,
                scenario=scenario.name,
                batch_size=scenario.batch_size,
                p50_s=times.p50,
                p99_s=times.p99,
                images_per_s=samples_per_s(scenario.latencies_s, scenario.batch_size),
                speedup=None if disturbance(scenario) is not None else scenario_ratio(scenario),
                reference=record.reference,
                cpu=record.environment.cpu_model or "unknown CPU",
                num_threads=record.environment.num_threads,
            )
        )
    return found


def config_of(network: CheckpointMetadata) -> dict[str, Any]:
    """`config.json`, with the keys that model hubs read."""
    return {
        "architectures": [network.architecture],
        "model_type": "image-classification",
        "image_size": network.preprocessing.image_size,
        "num_channels": 3,
        "num_labels": len(network.classes),
        "id2label": {str(index): name for index, name in enumerate(network.classes)},
        "label2id": {name: index for index, name in enumerate(network.classes)},
    }


def preprocessor_of(network: CheckpointMetadata) -> dict[str, Any]:
    """`preprocessor_config.json`, with the keys that model hubs read."""
    used = network.preprocessing
    return {
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": used.image_size, "width": used.image_size},
        "resample": int(Image.Resampling.BILINEAR),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(used.mean),
        "image_std": list(used.std),
    }


def sample_file(index: int) -> str:
    """Path of a sample image."""
    return f"samples/{index:02d}.png"


def samples_of(sources: Sources) -> list[dict[str, Any]]:
    """`samples/samples.json`: each image, what it shows, and the logits of each measured model."""
    entries: list[dict[str, Any]] = []
    for index, sample in enumerate(sources.benchmarks[0].samples):
        logits = {
            model.path: record.samples[index].logits
            for record in sources.benchmarks
            for model in sources.models
            if model.backend == record.backend
        }
        entries.append(
            {
                "file": sample_file(index).removeprefix("samples/"),
                "pixels_sha256": sample.digest,
                "label": sample.label,
                "class": sources.metadata.classes[sample.label],
                "logits": logits,
            }
        )
    return entries


def as_json(content: Any) -> str:
    """As all JSON files of a release are written."""
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def json_files(sources: Sources) -> dict[str, Any]:
    """Content of the JSON files by path, but for the bill of materials, which has the hashes of all others."""
    return {
        MANIFEST: asdict(manifest_of(sources)),
        CONFIG: config_of(sources.metadata),
        PREPROCESSOR: preprocessor_of(sources.metadata),
        SAMPLES: samples_of(sources),
    }
