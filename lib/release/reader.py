"""A release folder as its users read it: which files it has, and a reader that takes nothing on trust.

    README.md                   model card
    release.json                name, version, figures, and the hashes of records and models
    config.json                 labels, input size, architecture, as model hubs read them
    preprocessor_config.json    how an image becomes the input
    model.safetensors           the checkpoint that was trained
    onnx/model.onnx             measured with `onnxruntime`; free batch size
    onnx/model_quantized.onnx   measured with `onnxruntime-int8`, where the run has it
    onnx/model_uint8.onnx       made of model.onnx: takes the bytes of pixels
    records/*.json              of training and of the measurements
    samples/                    images with the logits that the measured models gave
    training-images.sha256      of the pixels of every training image
    validation.safetensors      what onnx/model.onnx answers for the validation images: drift is seen against it
    sbom.cdx.json               CycloneDX bill of materials
    demo.html                   the network in one page for a browser, where it is small enough
    SHA256SUMS                  of all these files; its own SHA-256 is the digest of the release

Imports neither torch nor a runtime.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from lib.data.preprocessing import Preprocessing
from lib.errors import UserError
from lib.files import project_path, sha256_file
from lib.header import CheckpointMetadata, read_header
from lib.records.network_outputs import Outputs
from lib.records.schema import Accuracy, ParameterValue, ReleasedModel

SCHEMA_VERSION = 2
WITHOUT_OUTPUTS = 1  # schema of releases without VALIDATION, which are read all the same
CARD, MANIFEST, CONFIG, PREPROCESSOR = "README.md", "release.json", "config.json", "preprocessor_config.json"
DEMO = "demo.html"  # made of model.onnx, with weights of 8 bits
FOLDER = "release"  # of a release in its run folder
WEIGHTS, TRAINING_IMAGES, BOM, SUMS = "model.safetensors", "training-images.sha256", "sbom.cdx.json", "SHA256SUMS"
SAMPLES = "samples/samples.json"
VALIDATION = "validation.safetensors"
SIGNATURE = "model.sig"  # of the folder; not in SHA256SUMS, which it signs too
FP32, QUANTIZED, UINT8 = "onnx/model.onnx", "onnx/model_quantized.onnx", "onnx/model_uint8.onnx"
PIXELS = "pixels"  # input of the variant for bytes: uint8 (N, H, W, 3), RGB
INPUT, OUTPUT = "images", "logits"  # of the others: float32 (N, 3, H, W), normalized
MAX_FILES = 1000
_LINE = re.compile(r"([0-9a-f]{64})  (\S(?:.*\S)?)")
_REMEDY = "get the release again"


@dataclass
class Speed:
    """How fast one released model was in one scenario, and how fast the reference of the same job was."""

    backend: str
    scenario: str
    batch_size: int
    p50_s: float  # of a call
    p99_s: float
    images_per_s: float
    speedup: tuple[float, float, float] | None  # over the reference, with its 99 % interval; None: disturbed
    reference: str
    cpu: str
    num_threads: int


@dataclass
class WeakClass:
    """A class that the network reads worse than others."""

    label: str
    recall: float


@dataclass
class Figures:
    """What a release claims; all of it is computed from its records."""

    data: str  # name of the data set
    data_hash: str
    num_images: dict[str, int]  # by split
    num_tracks: dict[str, int | None]
    accuracy: dict[str, Accuracy]  # by split, of the trained network
    measured_accuracy: dict[str, float]  # top-1 on the validation images, by released model
    weak_classes: list[WeakClass]
    speeds: list[Speed]
    extra_hash: str = ""  # of extra training images; empty: none


@dataclass
class Manifest:
    """The content of `release.json`."""

    name: str
    version: str
    card_version: int  # of the words of README.md
    checkpoint_sha256: str
    architecture: str
    recipe: str
    profile: str
    commit: str  # of the code that trained; empty: unknown
    parameters: dict[str, ParameterValue]  # of the training
    records: dict[str, str]  # SHA-256 of records/LABEL.json, by label
    models: list[ReleasedModel]
    figures: Figures
    temperature: float = 1.0  # that logits are divided by before the softmax
    least_confidence: float = 0.0  # probability below which an answer is "no sign"
    schema_version: int = SCHEMA_VERSION


_MANIFEST = pydantic.TypeAdapter(Manifest)


@dataclass(frozen=True)
class Release:
    """A release that is whole: every file is there with the hash that SHA256SUMS has, and no other file.

    Attributes:
        digest: hex SHA-256 of SHA256SUMS, which names the release and all that is in it.
        metadata: from the header of the checkpoint: labels, preprocessing, architecture.
        sums: SHA-256 by path.
    """

    path: Path
    digest: str
    manifest: Manifest
    metadata: CheckpointMetadata
    sums: dict[str, str]

    @classmethod
    def load(cls, path: str | Path) -> Release:
        """Read a release and check its hashes; `lib.release.verify` checks what they belong to.

        Args:
            path: a release folder, or a run folder with one; a relative path counts from the project root.

        Raises:
            UserError: no such folder, another schema, a file that is missing, changed, added or not readable.
        """
        folder = project_path(path)
        if not (folder / MANIFEST).exists() and (folder / FOLDER / MANIFEST).exists():
            folder = folder / FOLDER
        manifest = _read_manifest(folder)
        sums = _read_sums(folder)
        for name, expected in sums.items():
            if sha256_file(folder / name) != expected:
                raise UserError(f"{folder / name} is not the file that {SUMS} names; {_REMEDY}")
        metadata = read_header(folder / WEIGHTS, _REMEDY)
        digest = sha256_file(folder / SUMS)
        return cls(folder, digest, manifest, metadata, sums)

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, by the index of their logit."""
        return self.metadata.classes

    @property
    def preprocessing(self) -> Preprocessing:
        return self.metadata.preprocessing

    def model(self, path: str = FP32) -> Path:
        """A model file, such as `onnx/model_quantized.onnx`.

        Raises:
            UserError: this release does not have it.
        """
        if path not in [model.path for model in self.manifest.models]:
            known = ", ".join(model.path for model in self.manifest.models)
            raise UserError(f"the release {self.path} has no {path}; it has {known}")
        return self.path / path

    def validation(self) -> Outputs:
        """What `onnx/model.onnx` answered for the validation images.

        Raises:
            UserError: an earlier version of this project made the release, without them.
        """
        if self.manifest.schema_version == WITHOUT_OUTPUTS:
            raise UserError(
                f"the release {self.path} has no {VALIDATION}: an earlier version of this project made it; run 05 of "
                "its run again"
            )
        return Outputs.load(self.path / VALIDATION)

    def window(self, path: str) -> Outputs:
        """What a server of this release answered last.

        Args:
            path: a file that `GET /window` gave; a relative path counts from the project root.

        Raises:
            UserError: missing, cut off or empty; or of another release.
        """
        window = Outputs.load(project_path(path))
        if window.digest != self.digest:
            raise UserError(
                f"the window {path} is of release {window.digest[:12] or 'unknown'}, and {self.path} is "
                f"{self.digest[:12]}; give the window of a server of this release, or the release that it served"
            )
        return window

    def text(self, path: str) -> str:
        """A file of the release as text."""
        return (self.path / path).read_text(encoding="utf-8")


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not path.is_file():
        why = f"is not a release (it has no {MANIFEST})" if folder.exists() else "does not exist"
        raise UserError(f"{folder} {why}; give the folder that 05_release wrote, or that of its run")
    try:
        content: Any = json.loads(path.read_bytes())
        version = content["schema_version"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path} is not readable as a release ({error}); {_REMEDY}") from None
    if version not in (WITHOUT_OUTPUTS, SCHEMA_VERSION):
        raise UserError(
            f"{path} has release schema {version!r}, this version reads {WITHOUT_OUTPUTS} and {SCHEMA_VERSION}; "
            "use the version of this project that made the release"
        )
    try:
        return _MANIFEST.validate_python(content, extra="forbid")
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path} is damaged at {place!r}: {first['msg']}; {_REMEDY}") from None


def trained_with(extra_hash: str, folder: Path) -> list[str]:
    """The releases anywhere below a folder whose training had these extra images; what is not a release is left out."""
    found = []
    for path in sorted(folder.rglob(MANIFEST)):
        with suppress(UserError):
            manifest = _read_manifest(path.parent)
            if manifest.figures.extra_hash == extra_hash:
                found.append(f"{path.parent} ({manifest.name} {manifest.version})")
    return found


def _read_sums(folder: Path) -> dict[str, str]:
    """SHA-256 by path, of exactly the files that are there.

    Raises:
        UserError: a file that is missing or not listed, a link, or lines that are not sums of files in the folder.
    """
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / SUMS} is not readable ({error}); {_REMEDY}") from None
    matches = [_LINE.fullmatch(line) for line in lines]
    sums = {match[2]: match[1] for match in matches if match is not None}
    if len(sums) != len(lines) or len(sums) > MAX_FILES:
        raise UserError(f"{folder / SUMS} must have one line for each file, as `sha256sum` writes it; {_REMEDY}")
    found = set()
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise UserError(f"{path} is a link, and a release has files only; {_REMEDY}")
        if not path.is_dir() and name not in (SUMS, SIGNATURE):
            found.add(name)
    if missing := sorted(set(sums) - found):
        raise UserError(f"{folder / missing[0]} is missing, and {SUMS} names it; {_REMEDY}")
    if added := sorted(found - set(sums)):
        raise UserError(f"{folder / added[0]} is not part of this release: {SUMS} does not name it; {_REMEDY}")
    return sums
