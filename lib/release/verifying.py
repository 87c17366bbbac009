"""The digest chain: trained = evaluated = benchmarked = exported, recomputed from the files of a release alone.

Hashes alone prove little: anyone who changes a file can write its new hash everywhere. So every file that follows from
others is made again, the weights of the checkpoint are looked for in the exported model, and the models run on the
sample images. What is consistent may still not be authentic: that takes a signature.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors

from lib.analysis.statistics import signal_to_error_db
from lib.data.images import pixel_digest, read_image
from lib.errors import RefusedError, UserError
from lib.files import sha256_file
from lib.records.network_outputs import log_softmax
from lib.records.schema import BenchmarkRecord, TrainRecord, read_record
from lib.release.bom import bom_of
from lib.release.card import card_of
from lib.release.contents import (
    CARD_VERSION,
    NEEDED,
    PLACES,
    RELEASED,
    Sources,
    json_files,
    label_of,
    models_of,
    sample_file,
)
from lib.release.demo import demo_of
from lib.release.pixels import pixels_variant
from lib.release.predicting import Model, runtime
from lib.release.reader import (
    BOM,
    CARD,
    CONFIG,
    DEMO,
    FP32,
    MANIFEST,
    PREPROCESSOR,
    QUANTIZED,
    SAMPLES,
    SIGNATURE,
    SUMS,
    TRAINING_IMAGES,
    UINT8,
    VALIDATION,
    WEIGHTS,
    WITHOUT_OUTPUTS,
    Release,
)

LEAST_SQNR_DB = 60.0  # of logits against the measured ones: another CPU adds in another order
LEAST_SQNR_INT8_DB = 15.0  # as of the backend; other kernels round in other places
MOST_OTHER_ANSWERS = 0.01  # share of images, or of a probability: halves, and another CPU, round in other places
_SHA256 = re.compile("[0-9a-f]{64}")


class _Evidence(NamedTuple):
    """What the links are checked on."""

    release: Release
    train: TrainRecord
    benchmarks: list[BenchmarkRecord]  # the fp32 one first


def verify(path: str | Path) -> tuple[Release, list[str]]:
    """Check a release link by link.

    Returns:
        The release, and what was found to hold, in words.

    Raises:
        UserError: it is not a whole release, or ONNX Runtime is missing.
        RefusedError: the first link that does not hold.
    """
    release = Release.load(path)
    runtime()  # whatever goes wrong from here on, the files are at fault
    link, holds = "records", []
    try:
        evidence = _evidence(release)
        for link, check in _LINKS.items():
            holds.append(f"{link}: {check(evidence)}")
    except Exception as error:  # files of any content make readers raise errors of any class
        why = " ".join((str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}").split())
        raise RefusedError(
            f"{link}: {why}. The release is not consistent; get it again from where it was made"
        ) from None
    return release, holds


def authenticity(release: Release, key: str = "") -> str:
    """What is known about who made a consistent release, in words.

    Args:
        key: the public key that its signature was checked with; empty: the signature was not checked.
    """
    if key:
        return f"consistent, and signed by the key {key}"
    if not (release.path / SIGNATURE).is_file():
        return "consistent, not authentic: there is no signature, so anyone could have made a consistent release"
    return (
        "consistent; its signature was not checked: `verify --key FILE` checks one that was made with a key, and "
        "`model_signing verify sigstore` one that a workflow made"
    )


def broken_link(path: str | Path) -> str:
    """The first link of a release that does not hold, in words; empty where all do."""
    try:
        verify(path)
    except UserError as error:
        return str(error)
    return ""


def _evidence(release: Release) -> _Evidence:
    folder = release.path / "records"
    train = read_record(folder / "02_train.json", TrainRecord)
    order = [backend for backend in RELEASED if (folder / f"03_benchmark.{backend}.json").is_file()]
    if NEEDED not in order:
        raise RefusedError(f"records/ has no measurement of {NEEDED}")
    benchmarks = [read_record(folder / f"03_benchmark.{backend}.json", BenchmarkRecord) for backend in order]
    found = {label_of(record): sha256_file(folder / f"{label_of(record)}.json") for record in (train, *benchmarks)}
    if found != release.manifest.records:
        raise RefusedError("release.json names other records than records/ has")
    return _Evidence(release, train, benchmarks)


def _files(evidence: _Evidence) -> str:
    release, _, benchmarks = evidence
    texts = {CARD, MANIFEST, CONFIG, PREPROCESSOR, WEIGHTS, TRAINING_IMAGES, BOM, SAMPLES}
    models = {UINT8, *(PLACES[record.backend] for record in benchmarks)}
    records = {f"records/{label}.json" for label in release.manifest.records}
    samples = {sample_file(index) for index in range(len(benchmarks[0].samples))}
    if release.manifest.schema_version != WITHOUT_OUTPUTS:
        texts.add(VALIDATION)
    parts = texts | models | records | samples | ({DEMO} & release.sums.keys())
    if missing := sorted(parts - release.sums.keys()):
        raise RefusedError(f"{missing[0]} is missing, and {SUMS} does not name it")
    if strangers := sorted(release.sums.keys() - parts):
        raise RefusedError(f"{strangers[0]} is not a part of any release")
    return f"the {len(parts)} files are those of a release, each with the hash that {SUMS} has, and there is no other"


def _trained(evidence: _Evidence) -> str:
    release, train, _ = evidence
    network, sha256 = release.metadata, release.sums[WEIGHTS]
    if train.checkpoint_sha256 != sha256:
        raise RefusedError(f"{WEIGHTS} is not the checkpoint that the record of the training names")
    if train.data is None or tuple(train.data.classes) != network.classes:
        raise RefusedError("the checkpoint has other labels than the record of the training")
    said = (network.architecture, network.recipe, network.data_hash, network.extra_hash, network.num_epochs)
    data = train.data
    if said != (train.architecture, train.recipe, data.manifest_hash, data.extra_hash, train.num_epochs):
        raise RefusedError("the checkpoint names another network, recipe or data than the record of the training")
    return f"{WEIGHTS} is the checkpoint of the training, {sha256[:12]}"


def _evaluated(evidence: _Evidence) -> str:
    train = evidence.train
    if "val" not in train.accuracy:
        raise RefusedError("the record of the training has no accuracy on val")
    for split, found in train.accuracy.items():
        confusion, recalls = np.array(train.confusion[split]), train.per_class_recall[split]
        top1 = int(np.trace(confusion)) / int(confusion.sum())
        if confusion.sum() != found.num_images or not math.isclose(top1, found.top1, rel_tol=1e-9):
            raise RefusedError(f"top-1 on {split} is not that of the confusion matrix")
        for right, total, recall in zip(confusion.diagonal(), confusion.sum(axis=1), recalls, strict=True):
            if (recall is None) != (total == 0) or (recall is not None and not math.isclose(right / total, recall)):
                raise RefusedError(f"the recall of a class on {split} is not that of the confusion matrix")
        worst = min((recall, index) for index, recall in enumerate(recalls) if recall is not None)
        if worst != (found.worst_class_recall, found.worst_class):
            raise RefusedError(f"the worst class on {split} is not that of the confusion matrix")
    splits = " and ".join(train.accuracy)
    return f"top-1 on {splits} is that of the confusion matrix, of the same checkpoint"


def _benchmarked(evidence: _Evidence) -> str:
    _, train, benchmarks = evidence
    digests = [sample.digest for sample in benchmarks[0].samples]
    for record in benchmarks:
        parity = record.parity
        if record.checkpoint_sha256 != train.checkpoint_sha256:
            raise RefusedError(f"{record.backend} measured another checkpoint")
        if record.data is None or train.data is None or record.data.manifest_hash != train.data.manifest_hash:
            raise RefusedError(f"{record.backend} was measured on other data than the training")
        if [sample.digest for sample in record.samples] != digests:
            raise RefusedError(f"{record.backend} has other samples than {NEEDED}")
        if record.status != "ok" or parity is None or parity.outcome != "passed":
            raise RefusedError(f"{record.backend} has not passed parity")
        lost = round((parity.reference_top1 - parity.top1) * parity.num_images)
        if lost != parity.num_lost - parity.num_gained:
            raise RefusedError(f"the parity figures of {record.backend} contradict each other")
    names = " and ".join(record.backend for record in benchmarks)
    return f"{names} measured this checkpoint on the data of the training, and passed parity"


def _exported(evidence: _Evidence) -> str:
    release, _, benchmarks = evidence
    for record in benchmarks:
        place = PLACES[record.backend]
        prepared = record.preparation.files if record.preparation is not None else {}
        if release.sums[place] != prepared.get(RELEASED[record.backend]):
            raise RefusedError(f"{place} is not the file that {record.backend} measured")
    exported = (release.path / FP32).read_bytes()
    with safetensors.safe_open(release.path / WEIGHTS, framework="np") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not iterable itself
    for name, values in weights.items():
        if values.dtype == np.float32 and values.tobytes() not in exported:
            raise RefusedError(f"{FP32} does not hold the weights {name} of {WEIGHTS}")
    how = _pixels_variant(release)
    return f"the models are those that were measured, {FP32} holds every weight of {WEIGHTS}, and {UINT8} {how}"


def _pixels_variant(release: Release) -> str:
    """How the variant for pixels was checked. Both sides are written by the same version of onnx."""
    try:
        import onnx
    except ImportError:
        return "was compared on the samples only, as onnx is not installed"
    found = onnx.load(release.path / UINT8).SerializeToString(deterministic=True)
    if found != pixels_variant(release.path / FP32, release.preprocessing):
        raise RefusedError(f"{UINT8} is not what follows from {FP32}")
    return f"follows from {FP32}"


def _derived(evidence: _Evidence) -> str:
    release, train, benchmarks = evidence
    manifest = release.manifest
    claimed = next((model.error_max for model in manifest.models if model.path == UINT8), 0.0)  # `_samples` checks it
    models = models_of(release.path, benchmarks, claimed)
    versions = manifest.card_version, manifest.schema_version
    sources = Sources(train, benchmarks, release.metadata, models, manifest.records, *versions)
    for path, content in json_files(sources).items():
        # a field of the manifest that came after this release has its default
        found = json.dumps(asdict(manifest)) if path == MANIFEST else release.text(path)
        if difference := _difference(json.loads(found), json.loads(json.dumps(content))):
            raise RefusedError(f"{path}: {difference} does not follow from the checkpoint and the records")
    if not 1 <= manifest.card_version <= CARD_VERSION:
        raise RefusedError(f"{CARD} has version {manifest.card_version}, this project knows 1 to {CARD_VERSION}")
    earlier = manifest.card_version < CARD_VERSION
    if not earlier and release.text(CARD) != card_of(manifest, release.metadata):
        raise RefusedError(f"{CARD}: the card does not say what the records say")
    others = {path: sha256 for path, sha256 in release.sums.items() if path != BOM}
    if difference := _difference(
        json.loads(release.text(BOM)), bom_of(manifest, release.metadata, train.environment, others)
    ):
        raise RefusedError(f"{BOM}: {difference} is not that of the files")
    if earlier:
        return (
            "labels, preprocessing, figures and bill of materials follow from checkpoint and records; the words of "
            f"{CARD} are of version {manifest.card_version} and were not compared"
        )
    return "labels, preprocessing, figures, card and bill of materials follow from checkpoint and records"


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


def _training_images(evidence: _Evidence) -> str:
    lines = evidence.release.text(TRAINING_IMAGES).splitlines()
    expected = evidence.train.data.num_images["train"] if evidence.train.data is not None else 0
    if len(lines) != expected or lines != sorted(lines) or not all(map(_SHA256.fullmatch, lines)):
        raise RefusedError(f"{TRAINING_IMAGES} must have the SHA-256 of {expected:,} training images, sorted")
    return f"{TRAINING_IMAGES} has {expected:,} hashes, as many as there were training images"


def _validation(evidence: _Evidence) -> str:
    """Outputs for the validation images, which are not here: against the records, as far as these go."""
    release, train, benchmarks = evidence
    if release.manifest.schema_version == WITHOUT_OUTPUTS:
        return "an earlier version of this project made the release, without outputs for the validation images"
    outputs, data, parity = release.validation(), train.data, benchmarks[0].parity
    assert data is not None and parity is not None
    labels = np.bincount(np.maximum(outputs.labels, 0), minlength=len(data.classes))
    found = len(outputs.labels), len(np.unique(outputs.sequences)), labels.tolist()
    named = data.num_images["val"], data.num_tracks["val"], np.sum(train.confusion["val"], axis=1).tolist()
    if found != named:
        raise RefusedError(f"{VALIDATION} has other images, tracks or labels than the record of the training")
    if abs(outputs.right.mean() - parity.top1) > MOST_OTHER_ANSWERS:
        raise RefusedError(
            f"{VALIDATION} has top-1 {outputs.right.mean():.2%}, and {NEEDED} measured {parity.top1:.2%}"
        )
    shares = np.exp(outputs.log_probabilities.astype(np.float32))
    for index, sample in enumerate(benchmarks[0].samples):
        answer = np.exp(log_softmax(np.array(sample.logits)).astype(np.float32))
        if np.abs(shares - answer).max(axis=1).min() > MOST_OTHER_ANSWERS:
            raise RefusedError(f"{VALIDATION} does not have the measured answer for {sample_file(index)}")
    return f"{VALIDATION} has {named[0]:,} outputs, with the measured top-1 and the answers for the samples"


def _samples(evidence: _Evidence) -> str:
    """Images, logits of the records, and what the models answer here."""
    release, _, benchmarks = evidence
    samples = benchmarks[0].samples
    opened = [read_image(release.path / sample_file(index)).image for index in range(len(samples))]
    for index, (image, sample) in enumerate(zip(opened, samples, strict=True)):
        if pixel_digest(image).hex() != sample.digest:
            raise RefusedError(f"{sample_file(index)} is not the image that was measured")
    pixels = np.stack([np.asarray(image) for image in opened])
    normalized = release.preprocessing.normalize(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    measured = {PLACES[record.backend]: np.array([sample.logits for sample in record.samples]) for record in benchmarks}
    worst, answers = math.inf, {}
    for model in release.manifest.models:
        expected = measured[model.made_of or model.path]
        found = Model(release.path / model.path)(pixels if model.path == UINT8 else normalized)
        if found.shape != expected.shape:
            raise RefusedError(f"{model.path} gives {found.shape[1:]} logits, not {expected.shape[1:]}")
        if not (np.isfinite(found).all() and np.isfinite(expected).all()):
            raise RefusedError(f"the logits of {model.path} are not finite")
        if not np.array_equal(found, expected):
            sqnr = signal_to_error_db(found.astype(np.float64), expected) or -math.inf
            if sqnr < (LEAST_SQNR_INT8_DB if model.path == QUANTIZED else LEAST_SQNR_DB):
                raise RefusedError(f"{model.path} does not give the logits that were measured ({sqnr:.1f} dB)")
            worst = min(worst, sqnr)
        answers[model.path] = found
    error, claimed = float(np.abs(answers[UINT8] - answers[FP32]).max()), release.manifest.models[-1].error_max
    if not abs(error - claimed) <= 10 ** (-LEAST_SQNR_DB / 20) * float(np.abs(answers[FP32]).max()):
        raise RefusedError(
            f"the logits of {UINT8} differ by {error:.2g} at most here, and {MANIFEST} has {claimed:.2g}"
        )
    how = "equal to the bit" if worst == math.inf else f"signal to error at least {worst:.0f} dB"
    return f"each model gives the measured logits on {len(samples)} images, {how}"


def _demo(evidence: _Evidence) -> str:
    """The page, made again where onnx is there."""
    release = evidence.release
    if DEMO not in release.sums:
        return f"there is no {DEMO}"
    if importlib.util.find_spec("onnx") is None:
        return f"{DEMO} was not compared, as onnx is not installed"
    found = release.text(DEMO)
    page, network = demo_of(release.path / FP32, release.manifest, release.metadata)
    if network not in found:
        raise RefusedError(f"{DEMO} does not have the network of {FP32}")
    how = "follows from it" if page == found else "is of another version otherwise, and was not compared"
    return f"{DEMO} has the network of {FP32}, and {how}"


_LINKS: dict[str, Callable[[_Evidence], str]] = {
    "files": _files,
    "trained": _trained,
    "evaluated": _evaluated,
    "benchmarked": _benchmarked,
    "exported": _exported,
    "derived": _derived,
    "data": _training_images,
    "validation": _validation,
    "samples": _samples,
    "demo": _demo,
}
