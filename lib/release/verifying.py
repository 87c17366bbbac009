"""The digest chain: trained = evaluated = benchmarked = exported, recomputed from the files of a release alone.

Hashes alone prove little: anyone who changes a file can write its new hash everywhere. So every file that follows from
others is made again, the weights of the checkpoint are looked for in the exported model, and the models run on the
sample images. What is consistent may still not be authentic: that takes a signature.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from PIL import Image

from lib.data.images import digest_images, read_image
from lib.errors import RefusedError, UserError
from lib.files import sha256_file
from lib.records.schema import BenchmarkRecord, TrainRecord, read_record
from lib.release.bom import bom_of
from lib.release.card import card_of
from lib.release.contents import CARD_VERSION, PLACES, RELEASED, Sources, json_files, label_of, sample_file
from lib.release.predicting import Model
from lib.release.reader import (
    BOM,
    CARD,
    CONFIG,
    FP32,
    MANIFEST,
    PREPROCESSOR,
    SAMPLES,
    SIGNATURE,
    SUMS,
    TRAINING_IMAGES,
    UINT8,
    WEIGHTS,
    Release,
)

LEAST_SQNR_DB = {FP32: 60.0, UINT8: 60.0}  # of logits against the measured ones: another CPU adds in another order
LEAST_SQNR_INT8_DB = 15.0  # as of the backend; other kernels round in other places
UNSIGNED = "consistent, not authentic: there is no signature, so anyone could have made a consistent release"


def verify(path: str | Path) -> tuple[Release, list[str]]:
    """Check a release link by link.

    Returns:
        The release, and what was found to hold, in words.

    Raises:
        UserError: it is not a whole release.
        RefusedError: the first link that does not hold.
    """
    release = Release.load(path)
    holds = [f"files: the {len(release.sums)} files are those that {SUMS} names, and there is no other"]
    holds += _chain(release)
    return release, holds


def authenticity(release: Release, key: str = "") -> str:
    """What is known about who made a consistent release, in words.

    Args:
        key: the public key that its signature was checked with; empty: the signature was not checked.
    """
    if key:
        return f"consistent, and signed by the key {key}"
    if not (release.path / SIGNATURE).is_file():
        return UNSIGNED
    return "consistent, and signed: give `verify --key FILE` the public key of its maker to check the signature"


def broken_link(path: str | Path) -> str:
    """The first link of a release that does not hold, in words; empty where all do."""
    try:
        verify(path)
    except UserError as error:
        return str(error)
    return ""


def _chain(release: Release) -> Iterator[str]:
    train, benchmarks = _records(release)
    yield _trained(release, train)
    yield _evaluated(train)
    yield _benchmarked(release, train, benchmarks)
    yield _exported(release, benchmarks)
    yield _derived(release, train, benchmarks)
    yield _training_images(release, train)
    yield _samples(release, benchmarks)


def _broken(link: str, why: str) -> RefusedError:
    return RefusedError(f"{link}: {why}. The release is not consistent; get it again from where it was made")


def _records(release: Release) -> tuple[TrainRecord, list[BenchmarkRecord]]:
    folder = release.path / "records"
    train = read_record(folder / "02_train.json", TrainRecord)
    order = [backend for backend in RELEASED if (folder / f"03_benchmark.{backend}.json").is_file()]
    benchmarks = [read_record(folder / f"03_benchmark.{backend}.json", BenchmarkRecord) for backend in order]
    if not benchmarks or benchmarks[0].backend != next(iter(RELEASED)):
        raise _broken("benchmarked", f"records/ has no measurement of {next(iter(RELEASED))}")
    found = {label_of(record): sha256_file(folder / f"{label_of(record)}.json") for record in (train, *benchmarks)}
    if found != release.manifest.records:
        raise _broken("records", "release.json names other records than records/ has")
    return train, benchmarks


def _trained(release: Release, train: TrainRecord) -> str:
    network, sha256 = release.metadata, release.sums[WEIGHTS]
    if train.checkpoint_sha256 != sha256:
        raise _broken("trained", f"{WEIGHTS} is not the checkpoint that the record of the training names")
    if train.data is None or tuple(train.data.classes) != network.classes:
        raise _broken("trained", "the checkpoint has other labels than the record of the training")
    said = (network.architecture, network.recipe, network.data_hash, network.num_epochs)
    if said != (train.architecture, train.recipe, train.data.manifest_hash, train.num_epochs):
        raise _broken(
            "trained", "the checkpoint says of another network, recipe or data than the record of the training"
        )
    return f"trained: {WEIGHTS} is the checkpoint of the training, {sha256[:12]}"


def _evaluated(train: TrainRecord) -> str:
    for split, found in train.accuracy.items():
        confusion = np.array(train.confusion[split])
        num_images = int(confusion.sum())
        if num_images != found.num_images or not math.isclose(
            np.trace(confusion) / num_images, found.top1, rel_tol=1e-9
        ):
            raise _broken("evaluated", f"top-1 on {split} is not that of the confusion matrix")
        for right, total, recall in zip(
            confusion.diagonal(), confusion.sum(axis=1), train.per_class_recall[split], strict=True
        ):
            if (recall is None) != (total == 0) or (recall is not None and not math.isclose(right / total, recall)):
                raise _broken("evaluated", f"the recall of a class on {split} is not that of the confusion matrix")
    splits = " and ".join(train.accuracy)
    return f"evaluated: top-1 on {splits} is that of the confusion matrix, of the same checkpoint"


def _benchmarked(release: Release, train: TrainRecord, benchmarks: list[BenchmarkRecord]) -> str:
    for record in benchmarks:
        parity = record.parity
        if record.checkpoint_sha256 != train.checkpoint_sha256:
            raise _broken("benchmarked", f"{record.backend} measured another checkpoint")
        if record.data is None or train.data is None or record.data.manifest_hash != train.data.manifest_hash:
            raise _broken("benchmarked", f"{record.backend} was measured on other data than the training")
        if record.status != "ok" or parity is None or parity.outcome != "passed":
            raise _broken("benchmarked", f"{record.backend} has not passed parity")
        lost = round((parity.reference_top1 - parity.top1) * parity.num_images)
        if lost != parity.num_lost - parity.num_gained:
            raise _broken("benchmarked", f"the parity figures of {record.backend} contradict each other")
    names = " and ".join(record.backend for record in benchmarks)
    return f"benchmarked: {names} measured this checkpoint on the data of the training, and passed parity"


def _exported(release: Release, benchmarks: list[BenchmarkRecord]) -> str:
    for record in benchmarks:
        place = PLACES[record.backend]
        prepared = record.preparation.files if record.preparation is not None else {}
        if release.sums.get(place) != prepared.get(RELEASED[record.backend]):
            raise _broken("exported", f"{place} is not the file that {record.backend} measured")
    exported = (release.path / FP32).read_bytes()
    with safetensors.safe_open(release.path / WEIGHTS, framework="np") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not iterable itself
    for name, values in weights.items():
        if values.dtype == np.float32 and values.tobytes() not in exported:
            raise _broken("exported", f"{FP32} does not hold the weights {name} of {WEIGHTS}")
    return f"exported: the models are those that were measured, and {FP32} holds every weight of {WEIGHTS}"


def _derived(release: Release, train: TrainRecord, benchmarks: list[BenchmarkRecord]) -> str:
    models = [replace(model, sha256=release.sums.get(model.path, "")) for model in release.manifest.models]
    measured = {PLACES[record.backend]: record.backend for record in benchmarks}
    if {model.path: model.backend for model in models} != {**measured, UINT8: ""}:
        raise _broken("exported", "release.json names other models than were measured")
    if strangers := sorted(set(release.sums) - _parts(release, benchmarks)):
        raise _broken("files", f"{strangers[0]} is not a part of any release")
    sources = Sources(train, benchmarks, release.metadata, models, release.manifest.records)
    for path, content in json_files(sources).items():
        if difference := _difference(json.loads(release.text(path)), json.loads(json.dumps(content))):
            raise _broken(path, f"{difference} does not follow from the checkpoint and the records")
    if release.manifest.card_version == CARD_VERSION and release.text(CARD) != card_of(
        release.manifest, release.metadata
    ):
        raise _broken(CARD, "the card does not say what the records say")
    others = {path: sha256 for path, sha256 in release.sums.items() if path != BOM}
    bom = bom_of(release.manifest, release.metadata, train.environment, others)
    if difference := _difference(json.loads(release.text(BOM)), bom):
        raise _broken(BOM, f"{difference} is not that of the files")
    return "derived: labels, preprocessing, figures, card and bill of materials follow from checkpoint and records"


def _parts(release: Release, benchmarks: list[BenchmarkRecord]) -> set[str]:
    """Every file that a release with these models has."""
    records = {f"records/{label}.json" for label in release.manifest.records}
    samples = {SAMPLES, *(sample_file(index) for index in range(len(benchmarks[0].samples)))}
    models = {model.path for model in release.manifest.models}
    texts = {CARD, MANIFEST, CONFIG, PREPROCESSOR, WEIGHTS, TRAINING_IMAGES, BOM}
    return texts | records | samples | models


def _difference(found: Any, expected: Any, place: str = "") -> str:
    """Where two JSON values differ; empty where they do not. Machines may round the last digits in other ways."""
    if isinstance(found, dict) and isinstance(expected, dict):
        if found.keys() != expected.keys():
            return f"{place}.{min(found.keys() ^ expected.keys())}".lstrip(".")
        parts = [(f"{place}.{key}", found[key], expected[key]) for key in found]
    elif isinstance(found, list) and isinstance(expected, list | tuple) and len(found) == len(expected):
        parts = [(f"{place}.{index}", *pair) for index, pair in enumerate(zip(found, expected, strict=True))]
    elif isinstance(found, float) and isinstance(expected, float):
        return "" if math.isclose(found, expected, rel_tol=1e-6) else place.lstrip(".")
    else:
        return "" if type(found) is type(expected) and found == expected else place.lstrip(".") or "the content"
    return next((text for part in parts if (text := _difference(part[1], part[2], part[0]))), "")


def _training_images(release: Release, train: TrainRecord) -> str:
    lines = release.text(TRAINING_IMAGES).splitlines()
    expected = train.data.num_images["train"] if train.data is not None else 0
    if len(lines) != expected or lines != sorted(lines):
        raise _broken(TRAINING_IMAGES, f"it must name the {expected:,} training images of the record, sorted")
    return f"data: the {expected:,} training images are named by their pixels"


def _samples(release: Release, benchmarks: list[BenchmarkRecord]) -> str:
    """Images, logits of the records, and what the models answer here."""
    samples = benchmarks[0].samples
    images = np.stack(
        [np.asarray(_open(release.path / sample_file(index))).transpose(2, 0, 1) for index in range(len(samples))]
    )
    for index, (digest, sample) in enumerate(zip(digest_images(images), samples, strict=True)):
        if digest.tobytes().hex() != sample.digest:
            raise _broken("samples", f"{sample_file(index)} is not the image that was measured")
    normalized = release.preprocessing.normalize(images)
    pixels = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    logits = {PLACES[record.backend]: np.array([sample.logits for sample in record.samples]) for record in benchmarks}
    worst = math.inf
    for model in release.manifest.models:
        expected = logits[model.path if model.backend else model.made_of]
        found = Model(release.path / model.path)(pixels if model.path == UINT8 else normalized)
        if found.shape != expected.shape:
            raise _broken("samples", f"{model.path} gives {found.shape[1:]} logits, not {expected.shape[1:]}")
        sqnr = _sqnr_db(found.astype(np.float64), expected)
        if not sqnr >= LEAST_SQNR_DB.get(model.path, LEAST_SQNR_INT8_DB):
            raise _broken("samples", f"{model.path} does not give the logits that were measured ({sqnr:.1f} dB)")
        worst = min(worst, sqnr)
    how = "equal to the bit" if worst == math.inf else f"signal to error at least {worst:.0f} dB"
    return f"samples: each model gives the measured logits on {len(samples)} images, {how}"


def _open(path: Path) -> Image.Image:
    return read_image(path).image


def _sqnr_db(logits: np.ndarray, expected: np.ndarray) -> float:
    """Signal to error in decibels; infinite where they are equal."""
    noise = float(((logits - expected) ** 2).sum())
    return 10 * math.log10(float((expected**2).sum()) / noise) if noise > 0 else math.inf
