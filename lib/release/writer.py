"""From a run folder to a release. Nothing is exported here: every model file is one that 03 measured and kept."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lib.analysis.recommendation import is_right
from lib.data import Data, load_data, num_images_for
from lib.data.images import as_image, digest_images
from lib.data.sets import get_dataset
from lib.data.store import with_extra
from lib.errors import UserError
from lib.files import CHECKPOINT_NAME, sha256_file, writing
from lib.header import CheckpointMetadata, read_header
from lib.records.network_outputs import Outputs
from lib.records.schema import (
    BENCHMARK,
    TRAIN,
    BenchmarkRecord,
    Record,
    TrainRecord,
    read_record,
    record_path,
)
from lib.release.bom import bom_of
from lib.release.card import card_of
from lib.release.contents import (
    NEEDED,
    PLACES,
    RELEASED,
    Sources,
    as_json,
    json_files,
    label_of,
    manifest_of,
    models_of,
    sample_file,
)
from lib.release.demo import MAX_BYTES, demo_of
from lib.release.pixels import pixels_variant
from lib.release.predicting import Model, predict_images
from lib.release.reader import (
    BOM,
    CARD,
    DEMO,
    FOLDER,
    FP32,
    SIGNATURE,
    SUMS,
    TRAINING_IMAGES,
    UINT8,
    VALIDATION,
    WEIGHTS,
    Manifest,
    Release,
)

_AGAIN = f"run {BENCHMARK} again"


@dataclass(frozen=True)
class Plan:
    """What of a run is released."""

    run_dir: Path
    train: TrainRecord | None
    benchmarks: list[BenchmarkRecord]  # the fp32 one first; empty where nothing is released
    notes: list[str]  # what is left out, and why
    reason: str = ""  # why nothing is released

    @property
    def network(self) -> CheckpointMetadata:
        """What the checkpoint says of itself."""
        return read_header(self.run_dir / CHECKPOINT_NAME, "train it again")

    def kept(self, record: BenchmarkRecord) -> Path:
        """The file that a backend ran, in the run folder."""
        assert record.preparation is not None
        return self.run_dir / record.preparation.kept / RELEASED[record.backend]


def plan_release(run_dir: Path) -> Plan:
    """Choose what is released: nothing without a training, and a right `onnxruntime` that measured its network.

    Raises:
        UserError: a record that cannot be read, or a file of the run that is missing or not the one that its record
            names.
    """
    if not (path := record_path(run_dir, TRAIN)).exists():
        return Plan(run_dir, None, [], [], "this run has no record of a training")
    train = read_record(path, TrainRecord)
    if train.checkpoint_sha256 != sha256_file(_there(run_dir / CHECKPOINT_NAME)):
        raise UserError(f"{run_dir / CHECKPOINT_NAME} is not the checkpoint that the record of the training names")
    chosen, notes = [], []
    for backend in RELEASED:
        if not (path := record_path(run_dir, BENCHMARK, backend)).exists():
            notes.append(f"{backend} was not measured in this run")
            continue
        record = read_record(path, BenchmarkRecord)
        if why := _unfit(record, train):
            notes.append(f"{backend} cannot be released: {why}")
        else:
            chosen.append(record)
    if NEEDED not in [record.backend for record in chosen]:
        return Plan(run_dir, train, [], notes, notes[0])
    plan = Plan(run_dir, train, chosen, notes)
    for record in chosen:
        assert record.preparation is not None
        if sha256_file(_there(plan.kept(record))) != record.preparation.files.get(RELEASED[record.backend]):
            raise UserError(f"{plan.kept(record)} is not the file that {record.backend} measured; {_AGAIN}")
    return plan


def _unfit(record: BenchmarkRecord, train: TrainRecord) -> str:
    """Why what a record measured cannot be released; empty where it can."""
    if record.status != "ok":
        return f"{record.status}: {record.error}"
    if record.checkpoint_sha256 != train.checkpoint_sha256 or record.random_weights:
        return "it measured another network"
    if not is_right(record):
        return f"parity {record.parity.outcome if record.parity is not None else 'was not checked'}"
    if record.preparation is None or not record.preparation.kept or not record.samples:
        return "its model was not kept (a sweep, more than 50 MB, or an earlier version of this project)"
    return ""


def _there(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{path} is missing, and its record names it; {_AGAIN}")
    return path


def training_data(plan: Plan, data_root: str = "", network: CheckpointMetadata | None = None) -> Data | None:
    """The images that the network was trained on; None where nothing is released.

    Args:
        data_root: of real images; empty: where they were at the training.
        network: that they are shown to, at its size and cropped as it was trained; None: that of the plan.

    Raises:
        UserError: they are missing, or are not those.
    """
    train = plan.train
    if plan.reason or train is None or train.data is None:
        return None
    given, shown_to = train.params, network or plan.network
    dataset = str(given["dataset"])
    data = load_data(
        dataset,
        data_root=data_root or str(given["data_root"]),
        num_images=int(given["num_images"]) or num_images_for(train.profile, dataset),
        seed=int(given["seed"]),
        image_size=shown_to.preprocessing.image_size,
        crop=shown_to.crop,
        fold=int(given.get("fold", 0)),
    )
    if data.manifest_hash != train.data.manifest_hash:
        remedy = "give their folder as data_root" if get_dataset(dataset).reads_files else "run the series again"
        raise UserError(f"the images of {dataset} here are not those that the network was trained on; {remedy}")
    return with_extra(data, train.data.extra_hash)


class Written(NamedTuple):
    """What became of a plan."""

    release: Release | None
    notes: list[str]  # what is left out or replaced, and why


def write_release(plan: Plan, data: Data | None) -> Written:
    """Write `release/` of a run folder, all of it or nothing. An earlier one with other content is replaced.

    Args:
        data: what the network was trained on, see `training_data`.

    Raises:
        UserError: other data than the records name, or a folder that is not writable.
    """
    if plan.reason or data is None:
        return Written(None, plan.notes)
    target = plan.run_dir / FOLDER
    with writing(target), tempfile.TemporaryDirectory(prefix=".release-", dir=plan.run_dir) as folder:
        made = Path(folder, FOLDER)
        notes = [*plan.notes, *_fill(made, plan, data)]
        digest = Release.load(made).digest
        before = sha256_file(target / SUMS) if (target / SUMS).is_file() else ""
        if before == digest and (target / SIGNATURE).is_file():  # the same content: its signature still holds
            shutil.copyfile(target / SIGNATURE, made / SIGNATURE)
        if target.exists():
            target.rename(Path(folder, "earlier"))
        made.rename(target)
    replaced = [f"it replaces release {before[:12]}, which had other content"] if before not in ("", digest) else []
    return Written(Release.load(target), [*notes, *replaced])


def _fill(folder: Path, plan: Plan, data: Data) -> list[str]:
    """Write all files. Returns what is left out, in words."""
    assert plan.train is not None
    for part in ("onnx", "records", "samples"):
        (folder / part).mkdir(parents=True)
    shutil.copyfile(plan.run_dir / CHECKPOINT_NAME, folder / WEIGHTS)
    network = read_header(folder / WEIGHTS, "train it again")
    for record in plan.benchmarks:
        shutil.copyfile(plan.kept(record), folder / PLACES[record.backend])
    (folder / UINT8).write_bytes(pixels_variant(folder / FP32, network.preprocessing))
    images = sample_images(plan.benchmarks, data)
    for index, image in enumerate(images):
        as_image(image).save(folder / sample_file(index))
    (folder / TRAINING_IMAGES).write_text(training_images(data), encoding="ascii")
    answers = predict_images(folder / FP32, network.preprocessing, data.val.images)
    outputs = Outputs.of(answers, data.val.track_ids, data.val.labels)
    (folder / VALIDATION).write_bytes(outputs.to_bytes())
    models = models_of(folder, plan.benchmarks, _error_max(folder, network, images))
    sources = Sources(plan.train, plan.benchmarks, network, models, _records(folder, plan))
    for path, content in json_files(sources).items():
        (folder / path).write_text(as_json(content), encoding="utf-8")
    manifest = manifest_of(sources)
    (folder / CARD).write_text(card_of(manifest, network), encoding="utf-8")
    notes = _demo(folder, manifest, network)
    bom = bom_of(manifest, network, plan.train.environment, sums_of(folder))
    (folder / BOM).write_text(as_json(bom), encoding="utf-8")
    write_sums(folder)
    return notes


def _demo(folder: Path, manifest: Manifest, network: CheckpointMetadata) -> list[str]:
    """Write the page with the network, or say why there is none."""
    try:
        content, _ = demo_of(folder / FP32, manifest, network)
    except UserError as error:
        return [f"there is no {DEMO}: {error}"]
    if (size := len(content.encode())) > MAX_BYTES:
        big = f"it would have {size / 1e6:.1f} MB, more than {MAX_BYTES / 1e6:g}; `python -m lib demo` makes it"
        return [f"there is no {DEMO}: {big}"]
    (folder / DEMO).write_text(content, encoding="utf-8")
    return []


def _records(folder: Path, plan: Plan) -> dict[str, str]:
    hashes = {}
    records: list[Record] = [*plan.benchmarks] if plan.train is None else [plan.train, *plan.benchmarks]
    for record in records:
        backend = record.backend if isinstance(record, BenchmarkRecord) else ""
        source = record_path(plan.run_dir, label_of(record).partition(".")[0], backend)
        copy = folder / "records" / source.name
        shutil.copyfile(source, copy)
        hashes[label_of(record)] = sha256_file(copy)
    return hashes


def _error_max(folder: Path, network: CheckpointMetadata, images: np.ndarray) -> float:
    """Largest difference of logits between the model and its variant for pixels."""
    found = Model(folder / UINT8)(np.ascontiguousarray(images.transpose(0, 2, 3, 1)))
    return float(np.abs(found - Model(folder / FP32)(network.preprocessing.normalize(images))).max())


def sample_images(benchmarks: Sequence[BenchmarkRecord], data: Data) -> np.ndarray:
    """The images of the records' samples, uint8 (N, 3, H, W), found by their pixels.

    Raises:
        UserError: the data do not have them, so they are not those that were measured.
    """
    val = data.val.images
    places = {digest.tobytes().hex(): index for index, digest in enumerate(digest_images(val))}
    digests = [sample.digest for sample in benchmarks[0].samples]
    if any([sample.digest for sample in record.samples] != digests for record in benchmarks[1:]):
        raise UserError(f"the records of the backends have different samples; {_AGAIN}")
    if missing := [digest for digest in digests if digest not in places]:
        raise UserError(
            f"{len(missing)} sample images of the records are not among the validation images of these data"
        )
    return val[[places[digest] for digest in digests]]


def training_images(data: Data) -> str:
    """One line for each training image: the SHA-256 of its pixels, sorted."""
    return "".join(sorted(f"{digest.tobytes().hex()}\n" for digest in data.train.digests))


def sums_of(folder: Path) -> dict[str, str]:
    """SHA-256 of all files but SHA256SUMS and the signature, by path, in order."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in (SUMS, SIGNATURE))
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in paths}


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS, as `sha256sum -c` reads it."""
    text = "".join(f"{sha256}  {path}\n" for path, sha256 in sums_of(folder).items())
    (folder / SUMS).write_text(text, encoding="utf-8")
