"""The benchmark records of a run, together: which may be compared, what is missing, and what they say in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from lib.analysis.judgement import disturbed_backends, undecided
from lib.analysis.pace import pace_warnings
from lib.analysis.statistics import VERDICTS, Ratio, layer_noise_floor, layer_ratio, median_latency, verdict
from lib.errors import UserError
from lib.records.schema import (
    BENCHMARK,
    TRAIN,
    BenchmarkRecord,
    ColdStart,
    Figure,
    Layer,
    LayerTable,
    Profile,
    Record,
    RecordWarning,
    TrainRecord,
    read_record,
    record_path,
)

QUESTION = ("torch-blas", "torch-onednn")  # the known question: what does the second bring over the first?


class LayerChange(NamedTuple):
    """How the time of one layer changes from plain BLAS to oneDNN."""

    layer: Layer
    ratio: Ratio  # above 1 = faster with oneDNN
    saved_s: float  # seconds of a pass, negative where oneDNN costs


@dataclass(frozen=True)
class KernelChange:
    """What oneDNN brings over plain BLAS, layer by layer, both timed in the job of torch-blas.

    Attributes:
        changed: by verdict, the layers in which another kernel runs; the most time saved or lost first. The others do
            the same work on both sides: their times differ only by what their neighbours leave in caches and allocator.
    """

    table: LayerTable
    changed: dict[str, list[LayerChange]]

    @property
    def num_changed(self) -> int:
        return sum(len(changes) for changes in self.changed.values())


@dataclass(frozen=True)
class Comparison:
    """Benchmark records of one network on one data set.

    Attributes:
        records: all that were found, in the order asked for.
        missing: backends that were expected and have no record.
        left_out: what was found and cannot be compared, each with its reason.
    """

    records: list[BenchmarkRecord] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def measured(self) -> list[BenchmarkRecord]:
        """Those that have numbers."""
        return [record for record in self.records if record.status == "ok"]

    @property
    def unmeasured(self) -> list[BenchmarkRecord]:
        """Unavailable and failed backends."""
        return [record for record in self.records if record.status != "ok"]

    @property
    def warnings(self) -> list[RecordWarning]:
        """What a reader must know: what went wrong, what the numbers say of themselves, what is missing."""
        by_status: dict[str, list[RecordWarning]] = {"failed": [], "unavailable": []}
        for record in self.unmeasured:
            figures: dict[str, Figure] = {"backend": record.backend, "status": record.status, "reason": record.error}
            by_status[record.status].append(RecordWarning("not_measured", figures=figures))
        found = [*by_status["failed"], *run_warnings(self.records), *by_status["unavailable"]]
        if self.missing:
            found.append(RecordWarning("missing", figures={"backends": ", ".join(self.missing)}))
        return [*found, *(RecordWarning("left_out", figures={"reason": reason}) for reason in self.left_out)]

    @property
    def profile(self) -> Profile:
        """The least of the profiles: one smoke record makes the comparison a smoke one."""
        order: tuple[Profile, ...] = ("smoke", "fast", "full")
        return min((record.profile for record in self.records), key=order.index, default="fast")

    def kernel_change(self) -> KernelChange | None:
        """The answer to the known question, in offline; None where torch-blas was not measured against torch-onednn."""
        old, new = QUESTION
        record = next((found for found in self.measured if (found.backend, found.reference) == (old, new)), None)
        table = record.layer_table("offline") if record is not None else None
        if table is None:
            return None
        floor = layer_noise_floor(table)
        changed: dict[str, list[LayerChange]] = {name: [] for name in VERDICTS}
        for layer in table.layers:
            if layer.kernels == layer.reference_kernels:
                continue
            slowdown = layer_ratio(layer)  # of BLAS beside its reference oneDNN; the question is the other way round
            ratio = Ratio(1 / slowdown.value, 1 / slowdown.high, 1 / slowdown.low)
            saved_s = median_latency(layer.latencies_s) - median_latency(layer.reference_latencies_s)
            changed[verdict(ratio, floor)].append(LayerChange(layer, ratio, saved_s))
        for changes in changed.values():
            changes.sort(key=lambda change: -abs(change.saved_s))
        return KernelChange(table, changed)


def run_warnings(records: Sequence[BenchmarkRecord]) -> list[RecordWarning]:
    """What the records of a run say about each other."""
    return [*disturbed_backends(records), *pace_warnings(records), *undecided(records)]


def first_answer_s(cold: ColdStart) -> float:
    """Seconds from the first import in a running Python to the first answer."""
    return cold.import_s + cold.load_s + cold.compile_s + cold.first_inference_s


def load_comparison(run_dir: Path, expected: Sequence[str]) -> Comparison:
    """Read the benchmark records of a run. Records of other backends than the expected ones are compared too.

    A damaged record is left out, and so is a copy under another name.

    Args:
        expected: names of backends; those without a record are named as missing.

    Raises:
        UserError: no record that can be read, or records that measured different checkpoints or data.
    """
    found: dict[str, BenchmarkRecord] = {}
    left_out: list[str] = []
    for path in sorted((run_dir / "results").glob(f"{BENCHMARK}.*.json")):
        try:
            record = read_record(path, BenchmarkRecord)
            if path != record_path(run_dir, BENCHMARK, record.backend):
                raise UserError(f"{path} is a copy of the record of {record.backend}; remove it")
            found[record.backend] = record
        except UserError as error:
            left_out.append(str(error))
    if left_out and not found:
        raise UserError(left_out[0])
    order = [*expected, *(name for name in found if name not in expected)]
    records = [found[name] for name in order if name in found]
    train = None
    if (train_path := record_path(run_dir, TRAIN)).exists():
        try:
            train = read_record(train_path, TrainRecord)
        except UserError as error:
            left_out.append(str(error))
    _refuse_mixed(records, train)
    return Comparison(records, [name for name in expected if name not in found], left_out)


def _refuse_mixed(records: Sequence[BenchmarkRecord], train: TrainRecord | None) -> None:
    """Numbers of different networks or data must not be compared."""
    named: list[tuple[str, Record]] = [(f"{BENCHMARK}.{record.backend}", record) for record in records]
    if train is not None and any(not record.random_weights for record in records):
        named.append((TRAIN, train))
    for what, hashes in (
        ("checkpoint", [record.checkpoint_sha256 for _, record in named]),
        ("data", [record.data.manifest_hash if record.data else None for _, record in named]),
    ):
        groups: dict[str, list[str]] = {}
        for (name, _), value in zip(named, hashes, strict=True):
            groups.setdefault(str(value)[:12], []).append(name)
        if len(groups) > 1:
            named_by = "; ".join(f"{value}: {', '.join(names)}" for value, names in groups.items())
            raise UserError(
                f"the records of this run have different {what} hashes ({named_by}); run the older ones again"
            )
