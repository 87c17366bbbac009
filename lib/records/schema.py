"""The records: one JSON file per executed notebook, written once, read often.

Records hold raw samples; every summary is computed on reading (`lib.analysis.statistics`), so that no number is
computed twice. Times are seconds, shares are 0..1, sizes are pixels. What is not known is `None`, never guessed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import pydantic

from lib.errors import UserError
from lib.files import write_atomic

SCHEMA_VERSION = 8
OLDEST_VERSION = 6  # that is read: all that came since has a default, so that an earlier release can still be verified
EXPLORE, TRAIN, BENCHMARK, COMPARE = "01_explore", "02_train", "03_benchmark", "04_compare"  # the notebooks
RELEASE = "05_release"

Profile = Literal["smoke", "fast", "full"]
Status = Literal["ok", "unavailable", "failed"]
ParityOutcome = Literal["passed", "inconclusive", "failed"]
RuleResult = Literal["holds", "broken", "undecided"]
Verdict = Literal["promote", "keep", "investigate"]
ParameterValue = bool | int | float | str
Figure = int | float | str
WarningKind = Literal[
    "too_many_threads",
    "emulated",
    "random_weights",
    "near_chance",
    "memorized",
    "inconclusive",
    "investigate",
    "disturbed",
    "layers_disturbed",
    "sweep_disturbed",
    "backends_disturbed",
    "unstable",
    "slow_reference",
    "variables",
    "not_measured",
    "missing",
    "left_out",
]


@dataclass
class Environment:
    """The machine and software that produced a record (made by `lib.machine`)."""

    machine_id: str  # hash of boot id and CPU: equal only on one machine in one boot
    cpu_model: str | None
    architecture: str  # x86_64, aarch64
    emulated: bool  # True under qemu: its times mean nothing
    isa_flags: list[str]  # those that matter for inference: avx2, avx512_bf16, sve, i8mm, ...
    num_cores: int  # cores this process may run on
    num_threads: int  # threads that the work may use
    memory_bytes: int | None
    kernel: str
    blas: str | None  # the BLAS library that torch calls: mkl, openblas, nvpl
    onednn: str | None  # oneDNN version inside torch
    acl: bool | None  # Arm Compute Library inside oneDNN
    cpu_capability: str | None  # torch.backends.cpu.get_cpu_capability()
    versions: dict[str, str]  # python and packages
    git_commit: str | None  # with a trailing '+' where the tree had changes
    load_average: float | None  # one-minute load when the record was started
    blas_library: str | None = None  # file of a BLAS that torch has loaded; None where it is part of torch itself
    variables: dict[str, str] = field(default_factory=dict)  # of the shell, that change how libraries compute


@dataclass
class DataInfo:
    """Which data were used."""

    source: str  # name of the data set
    manifest_hash: str  # SHA-256 over the data's manifest
    num_images: dict[str, int]  # by split: train, val, test
    num_tracks: dict[str, int | None]  # None where it is not known which images belong together
    classes: list[str]  # their names, by class id
    extra_hash: str = ""  # of the extra training images of the network; empty: none


@dataclass
class Accuracy:
    """Top-1 on one split."""

    top1: float
    top1_interval: tuple[float, float] | None  # 95 % bootstrap interval, resampled by track; None without tracks
    num_images: int
    num_tracks: int | None
    worst_class: int  # class with the lowest recall
    worst_class_recall: float


@dataclass
class RecordWarning:
    """What a reader of a record must know. `lib.report.caveats` has the words, one function for each kind."""

    kind: WarningKind
    scenario: str = ""  # empty where it concerns no single one
    figures: dict[str, Figure] = field(default_factory=dict)  # those that the words name


@dataclass(kw_only=True)
class Record:
    """What every record carries."""

    kind: str
    profile: Profile
    params: dict[str, ParameterValue]
    environment: Environment
    data: DataInfo | None
    checkpoint_sha256: str | None
    started: str  # ISO 8601, UTC
    duration_s: float
    warnings: list[RecordWarning] = field(default_factory=list)
    schema_version: int = SCHEMA_VERSION


@dataclass
class Shift:
    """How far the tracks of a split differ from those of training in one respect."""

    split: str
    measure: str
    statistic: float  # 0..1: Kolmogorov and Smirnov's distance; of the class mix the total variation distance
    p_value: float  # by permutation of tracks


@dataclass(kw_only=True)
class ExploreRecord(Record):
    """01_explore: what is in the data."""

    kind: str = "explore"
    images_per_class: list[int]  # training images, by class id
    tracks_per_class: list[int]
    size_px_percentiles: dict[str, float]  # p5, p50, p95 of the larger image side, pixels
    brightness_percentiles: dict[str, float]  # p5, p50, p95 of the mean pixel value, 0..255
    duplicates: list[list[str]]  # images with exactly the same pixels, each as "split: path"
    shifts: list[Shift] = field(default_factory=list)  # of the other splits against training


@dataclass
class Epoch:
    """One line of the learning curve."""

    epoch: int  # from 1
    lr: float
    train_loss: float
    train_top1: float  # on the augmented batches, while training
    val_loss: float
    val_top1: float
    seconds: float  # training alone, without the evaluation


@dataclass
class StepKernels:
    """What oneDNN ran in one training step, but for reorders."""

    found: dict[str, dict[str, int]]  # direction -> kernel -> times; directions are oneDNN's: backward_weights, ...
    investigate: str = ""  # what deserves a look


@dataclass
class TrackResult:
    """How the images of one track were read."""

    name: str  # as in the official layout: `00014/00023`; its number for drawn images
    label: int
    num_images: int
    num_right: int
    mistaken_for: int | None  # class of most of its wrong answers; None where all are right


@dataclass
class SeedsAccuracy:
    """Top-1 on one split of several networks that differ in nothing but their seed."""

    top1: dict[int, float]  # by seed, the network that the record is about first
    interval: tuple[float, float] | None  # 95 % of their mean, seeds and tracks resampled; None without tracks


@dataclass
class Confidence:
    """How far the probabilities of the evaluated split can be trusted."""

    temperature: float  # that logits are divided by, fitted on validation
    error_before: float  # expected calibration error without it, 0..1
    error: float  # with it; where validation is judged, with the one that the other half of its tracks gives
    least_confidence: float  # below which an answer is "no sign"
    answered: float  # share of the signs that are not taken for "no sign"
    rejected: float  # share of drawn backgrounds that are
    num_backgrounds: int


@dataclass
class BehaviourTest:
    """What an answer must not depend on, and how far it does."""

    name: str
    measured: float  # share of the answers that change; of blank images the highest probability
    limit: float  # that it may reach

    @property
    def passed(self) -> bool:
        return self.measured <= self.limit


@dataclass
class Examination:
    """What more is known about a network than its accuracy, on the split that accuracy is reported on."""

    confidence: Confidence
    slices: dict[str, Accuracy]  # of images of one size or light
    behaviour: list[BehaviourTest]
    corruptions: dict[str, Accuracy]  # of spoilt images; empty but in `full`
    saliency_correlation: float | None  # of maps with those of random weights; None but in `full`


@dataclass(kw_only=True)
class TrainRecord(Record):
    """02_train: the network that all later records measure."""

    kind: str = "train"
    recipe: str
    architecture: str
    num_weights: int
    num_macs: int  # multiply-accumulates of one image
    num_epochs: int
    train_s: float  # the training loop, without loading data and without evaluation
    estimated_s: float | None  # what it was thought to take after its first steps; None where it was over too soon
    precision: str  # in which it multiplied: fp32, bf16
    kernels: StepKernels
    history: list[Epoch]
    accuracy: dict[str, Accuracy]  # by split: val, and test where present
    accuracy_without_duplicates: dict[str, Accuracy]  # by split, where some of its images are in an earlier split too
    per_class_recall: dict[str, list[float | None]]  # by split; None for a class without images
    confusion: dict[str, list[list[int]]]  # by split; rows = true class, columns = predicted
    # of validation, so that the folds of a sweep can be put together
    tracks: list[TrackResult] = field(default_factory=list)
    num_drawn: int = 0  # drawn images beside the real ones, in each epoch
    drawn_hash: str = ""  # of what made them
    device: str = "CPU"  # in words, with the number of processes if there were several
    by_seed: dict[str, SeedsAccuracy] = field(default_factory=dict)  # by split; empty for a single network
    examination: Examination | None = None  # None in records of earlier versions


@dataclass
class Parity:
    """Right before fast: the backend's logits against the reference backend's, on the same images."""

    num_images: int
    num_tracks: int  # of these images
    error_max: float  # largest absolute logit difference
    error_mae: float
    sqnr_db: float | None  # None where the difference is exactly zero
    agreement: float  # share of equal argmax
    top1: float  # on the validation images
    reference_top1: float
    num_gained: int  # images that only the backend reads right
    num_lost: int  # images that only the reference reads right
    top1_drop_interval: tuple[float, float] | None  # 95 %, resampled by track; None for a single track
    top1_drop_allowed: float
    outcome: ParityOutcome
    reason: str = ""  # why it has not passed

    @property
    def top1_drop(self) -> float:
        """Loss of top-1 against the reference on the same images, as a share; negative for a gain."""
        return (self.num_lost - self.num_gained) / self.num_images


@dataclass
class Sample:
    """One image and what the measured model answered, so that a copy of the model can be checked anywhere."""

    digest: str  # hex, of `lib.data.images.pixel_digest` of the image as the network reads it
    label: int
    logits: list[float]


@dataclass
class ColdStart:
    """What a first request waits for."""

    import_s: float
    load_s: float
    compile_s: float  # making ready for single images, in this process
    first_inference_s: float
    peak_memory_bytes: int | None = None  # of the worker process after batches of 256, before any profiling


@dataclass
class Preparation:
    """One-off work of a build machine: export, quantization, compilation ahead of time. No part of any cold start."""

    seconds: float
    num_bytes: int  # of the files that it wrote
    num_calibration_images: int  # all from the training images
    kept: str = ""  # where these files are, in the run folder; empty where nothing was kept
    files: dict[str, str] = field(default_factory=dict)  # SHA-256 of each, by its path below that place


@dataclass
class Conditions:
    """Under which something was measured. Of several parts and attempts: those of the numbers that were kept, at the
    worst of the parts."""

    others_cores: float  # in use by other processes and by other guests of the same host
    stolen_cores: float  # by other guests alone
    waited_cores: float  # that threads of the measured processes were ready for and did not get
    spare_cores: int  # of the machine that the measured threads left over
    num_measured: int = 1  # attempts
    waited_s: float = 0.0  # for others to end, before any of the attempts


@dataclass
class Scenario:
    """One measured question. One inner list per round; round i of both sides ran next to each other."""

    name: str  # single_stream, offline
    batch_size: int
    latencies_s: list[list[float]]  # of the backend, per call
    reference_latencies_s: list[list[float]]  # of the reference backend, per call
    control_latencies_s: list[list[float]]  # of the reference backend in another process (A/A), per call
    num_warmup: int  # untimed calls before each round's timed ones
    compile_s: float = 0.0  # making the backend ready for this batch size, before any call
    rounds_per_start: list[int] = field(default_factory=list)  # of each set of new processes; empty: of the only one
    conditions: Conditions | None = None  # None where it was not watched, as in smoke


@dataclass
class Layer:
    """One layer of the network, or several that the backend runs as one step, under both backends.

    A time is the layer's share of one forward pass; under the reference it is the sum over the members.
    """

    name: str  # the network's own name, e.g. stage2.0.conv1; joined by + where layers are fused
    members: list[str]  # names of the network's layers in it, in the order in which they run
    kind: str  # Conv2d, Linear, BatchNorm2d, ...; joined by +
    num_macs: int  # of one image
    num_inputs: int  # elements of one image that come from outside the group
    num_weights: int
    output_shape: list[int]  # of one image
    latencies_s: list[list[float]]  # one inner list per round, one number per pass, as in `Scenario`
    reference_latencies_s: list[list[float]]
    control_latencies_s: list[list[float]]  # of the reference backend in another process (A/A)
    kernels: list[str]  # what really ran, as the runtime reports it
    reference_kernels: list[str]


@dataclass
class LayerTable:
    """Per-layer times of one scenario."""

    scenario: str
    batch_size: int
    layers: list[Layer]
    runtime_latencies_s: list[list[float]] = field(default_factory=list)  # steps that belong to no layer: reorders, ...
    runtime_kernels: list[str] = field(default_factory=list)
    conditions: Conditions | None = None  # as of a scenario


@dataclass
class Proof:
    """Which kernels really ran, and whether that is what the backend's name promises."""

    promised: str  # in words
    found: dict[str, int]  # kernel -> groups of layers that it ran in, in a pass of the offline scenario
    passed: bool
    reason: str = ""
    investigate: str = ""  # the promise is kept, and this still deserves a look
    kernels: dict[str, list[str]] = field(default_factory=dict)  # by group of layers, in that pass


@dataclass
class Peak:
    """The best that a measurement of the machine reached."""

    per_s: float  # operations (2 per multiply-accumulate) or bytes per second
    how: str  # library and size that reached it


@dataclass
class Peaks:
    """What the machine can do at most, measured in the same run with the same number of threads."""

    matmul: dict[str, Peak]  # by precision: fp32, and bf16 and int8 where the CPU has them
    copy: Peak  # bytes read and written per second


@dataclass
class SweepPoint:
    """One batch size at one number of threads, both sides interleaved. Empty latencies: it failed, see `error`."""

    batch_size: int
    num_threads: int
    latencies_s: list[list[float]]
    reference_latencies_s: list[list[float]]
    error: str = ""
    conditions: Conditions | None = None  # as of a scenario


@dataclass
class PreprocessingTime:
    """What an image costs before the network sees it; seconds per image, one number per round."""

    decode_s: list[float]  # of a file in memory, made as large as the original
    resize_s: list[float]  # to the size of the data set
    normalize_s: list[float]
    num_images: int  # in each round
    file_format: str  # PPM


@dataclass
class Needs:
    """What a backend asks of an installation."""

    packages: tuple[str, ...] = ()
    extra: str = ""  # optional requirements that bring the packages
    default: bool = True  # part of a default run


@dataclass(kw_only=True)
class BenchmarkRecord(Record):
    """03_benchmark: one backend against the reference backend, in one job on one machine."""

    kind: str = "benchmark"
    backend: str
    is_network: bool  # False for a control that computes nothing: it is not a candidate
    reference: str
    needs: Needs = field(default_factory=Needs)
    precision: str  # in which it multiplies: fp32, bf16, f16, int8
    storage: str  # in which it keeps weights and activations
    model: str  # architecture of the network
    recipe: str  # that trained it
    random_weights: bool  # True for a network that was not trained: its accuracy means nothing
    status: Status
    error: str = ""  # why unavailable or failed
    preparation: Preparation | None = None
    accuracy: dict[str, Accuracy] = field(default_factory=dict)  # by split, of this backend
    parity: Parity | None = None
    samples: list[Sample] = field(default_factory=list)  # a few of the images of `parity`
    proof: Proof | None = None
    cold_start: ColdStart | None = None
    reference_cold_start: ColdStart | None = None
    scenarios: list[Scenario] = field(default_factory=list)
    layers: list[LayerTable] = field(default_factory=list)
    peaks: Peaks | None = None
    preprocessing: PreprocessingTime | None = None
    sweep: list[SweepPoint] = field(default_factory=list)

    def scenario(self, name: str) -> Scenario | None:
        """The scenario of this name; None where it was not measured."""
        return next((scenario for scenario in self.scenarios if scenario.name == name), None)

    def layer_table(self, scenario: str) -> LayerTable | None:
        """The layers in a scenario; None where they were not measured."""
        return next((table for table in self.layers if table.scenario == scenario), None)


def scenario_names(records: Sequence[BenchmarkRecord]) -> list[str]:
    """Every scenario that any of the records has, in the order in which they ran."""
    return list(dict.fromkeys(scenario.name for record in records for scenario in record.scenarios))


@dataclass
class Recommendation:
    """Which backend to use, by the rules of `lib.analysis.recommendation`."""

    scenario: str
    precision: str  # any, or fp32 where nothing else may be used
    architecture: str  # of the machines that it holds for
    backend: str  # empty where nothing could be judged
    ratio: tuple[float, float, float] | None  # speedup, low, high; None where nothing beats the reference
    equally_good: list[str]
    conditions: list[str]
    text: str  # all of it, in plain words


@dataclass
class Speed:
    """A backend over the reference in one scenario."""

    name: str
    ratio: tuple[float, float, float] | None  # speedup, low, high; None where it was disturbed
    verdict: str  # faster, slower, no difference, disturbed
    ranked: bool = True  # False where its parity or its kernels forbid to recommend it


@dataclass(kw_only=True)
class CompareRecord(Record):
    """04_compare: what the records say together."""

    kind: str = "compare"
    headline: str  # what to use
    layers: str = ""  # what oneDNN changes against plain BLAS, layer by layer; empty where that was not measured
    backends: list[str]
    missing: list[str]
    speeds: dict[str, list[Speed]]  # by scenario, of all backends but the reference
    recommendations: list[Recommendation] = field(default_factory=list)
    history: dict[str, dict[str, str]] = field(default_factory=dict)  # backend -> scenario -> `Trend.verdict`


@dataclass
class ReleasedModel:
    """One model file of a release."""

    path: str  # in the release
    sha256: str
    num_bytes: int
    backend: str  # that it was measured with; empty where it was not measured
    made_of: str = ""  # the measured file of the release that it was made of; empty where it was measured itself
    error_max: float = 0.0  # largest difference of its logits from those of the measured file on the sample images


@dataclass
class Rule:
    """By how much a challenger may be worse than the champion in one respect, and by how much it is."""

    name: str  # top-1, worst class, calibration error, p50
    challenger: float  # share; for p50 seconds
    champion: float
    loss: float  # what the challenger is worse by, a share, negative where it is better; for p50 its ratio to the other
    interval: tuple[float, float] | None  # of the loss; None where there are too few tracks for one
    limit: float  # that the loss may reach
    result: RuleResult
    reason: str = ""  # why it is undecided, if the interval is not why


@dataclass
class Promotion:
    """Whether a release should replace an earlier one: the rules of `lib.promotion` and what they found."""

    champion: str  # name and version
    champion_digest: str  # SHA-256 of its SHA256SUMS
    num_images: int  # that judged both
    num_tracks: int
    rules: list[Rule]
    doubts: list[str]  # why nothing can be decided, whatever the rules say
    verdict: Verdict
    times: Scenario  # the challenger as backend, the champion as reference and as control


@dataclass
class ClassShare:
    """Mean probability of a class."""

    label: str
    validation: float
    window: float


@dataclass
class Drift:
    """How the answers in a server's window differ from those to the validation images, see `lib.analysis.drift`."""

    num_images: int  # in the window
    num_sequences: int
    p_value: float  # of both tests together
    p_answers: float  # of each alone: distribution of the outputs
    p_mix: float  # mean probabilities
    shares: list[ClassShare]  # of the classes that changed the most
    top1: float  # on the validation images
    estimated_top1: float  # in the window, from the confidence alone
    interval: tuple[float, float] | None  # of the estimate, 95 %; None for a single sequence


@dataclass(kw_only=True)
class ReleaseRecord(Record):
    """05_release: what was released, or why nothing was."""

    kind: str = "release"
    name: str = ""
    version: str = ""
    digest: str = ""  # SHA-256 of its SHA256SUMS; empty where nothing was released
    place: str = ""  # in the run folder
    num_bytes: int = 0  # of all its files
    models: list[ReleasedModel] = field(default_factory=list)
    links: list[str] = field(default_factory=list)  # what was recomputed from the files alone, and holds
    notes: list[str] = field(default_factory=list)  # what a reader must know
    reason: str = ""  # why there is no release
    promotion: Promotion | None = None  # None where no champion was given
    drift: Drift | None = None  # None where no window was given


class OtherSchemaError(UserError):
    """A record of another version of this project."""


AnyRecord = TypeVar("AnyRecord", bound=Record)
KINDS: dict[str, type[Record]] = {
    "explore": ExploreRecord,
    "train": TrainRecord,
    "benchmark": BenchmarkRecord,
    "compare": CompareRecord,
    "release": ReleaseRecord,
}


def record_path(run_dir: Path, notebook: str, backend: str = "") -> Path:
    """Where the record of a notebook lies: `results/NN_name[.backend].json`."""
    return run_dir / "results" / f"{notebook}{'.' + backend if backend else ''}.json"


def second_path(run_dir: Path, backend: str) -> Path:
    """Where the record of a backend lies that was measured a second time, on another machine as a rule."""
    return run_dir / "results" / "confirm" / f"{BENCHMARK}.{backend}.json"


def write_record(record: Record, path: Path) -> None:
    """Write a record atomically.

    Raises:
        UserError: the folder is not writable or the disk is full.
    """
    write_atomic(path, json.dumps(asdict(record), indent=1, allow_nan=False) + "\n")


def read_record(path: Path, kind: type[AnyRecord]) -> AnyRecord:
    """Read and validate one record.

    Raises:
        OtherSchemaError: it has another schema version.
        UserError: no such file, not JSON, another kind, or a field missing or of a wrong type.
    """
    record = read_any_record(path)
    if not isinstance(record, kind):
        expected = next(name for name, record_type in KINDS.items() if record_type is kind)
        raise UserError(f"{path} is a record of kind {record.kind!r}, expected {expected!r}")
    return record


def read_any_record(path: Path) -> Record:
    """Read a record of whatever kind.

    Raises:
        as `read_record`
    """
    try:
        content: Any = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"no record {path}; run the notebook that writes it first") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a readable record ({error}); delete it and run its notebook again") from None
    if not isinstance(content, dict) or "schema_version" not in content:
        raise UserError(f"{path} is not a record of this project: it has no schema_version")
    version = content["schema_version"]
    if version not in range(OLDEST_VERSION, SCHEMA_VERSION + 1):
        raise OtherSchemaError(
            f"{path} has record schema {version!r}, this version reads {OLDEST_VERSION} to {SCHEMA_VERSION}; "
            "run its notebook again"
        )
    kind = str(content.get("kind"))
    if kind not in KINDS:
        raise UserError(f"{path} is not a record of a known kind: {kind!r}")
    try:
        return _adapter(kind).validate_python(content, extra="forbid")
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path} is damaged at {place!r}: {first['msg']}; run its notebook again") from None


@cache
def _adapter(kind: str) -> pydantic.TypeAdapter[Record]:
    """Each takes longer to make than a record to read."""
    return pydantic.TypeAdapter(KINDS[kind])


PROFILES: tuple[Profile, ...] = get_args(Profile)
