"""The benchmark records of a run, together: which may be compared, what is missing, and what they say in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lib.analysis.judgement import disturbance
from lib.analysis.recommendation import candidates, drop_words, fastest, not_judged, not_judged_words
from lib.analysis.statistics import (
    VERDICTS,
    Ratio,
    layer_noise_floor,
    layer_ratio,
    median_latency,
    verdict,
)
from lib.errors import UserError
from lib.records.schema import (
    BenchmarkRecord,
    ColdStart,
    Layer,
    LayerTable,
    Profile,
    Record,
    TrainRecord,
    read_record,
    record_path,
)

BENCHMARK, TRAIN = "03_benchmark", "02_train"
QUESTION = ("torch-blas", "torch-onednn")  # the known question: what does the second bring over the first?
SCENARIO = "offline"


@dataclass(frozen=True)
class LayerChange:
    """How the time of one layer changes from plain BLAS to oneDNN. Above 1 = faster with oneDNN."""

    layer: Layer
    ratio: Ratio

    @property
    def saved_s(self) -> float:
        """Seconds of a pass that oneDNN saves, negative where it costs."""
        return median_latency(self.layer.latencies_s) - median_latency(self.layer.reference_latencies_s)


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
    train: TrainRecord | None = None
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
    def profile(self) -> Profile:
        """The least of the profiles: one smoke record makes the comparison a smoke one."""
        order: tuple[Profile, ...] = ("smoke", "fast", "full")
        return min((record.profile for record in self.records), key=order.index, default="fast")

    @property
    def machines(self) -> set[str]:
        """Ids of the machines that measured. Milliseconds are comparable only where this is one."""
        return {record.environment.machine_id for record in self.measured}

    def layer_changes(self, scenario: str = SCENARIO) -> list[LayerChange]:
        """Layer by layer from torch-blas to torch-onednn, both timed in the job of torch-blas; empty without it.

        Only layers in which another kernel ran: the others do the same work on both sides, and their times differ only
        by what their neighbours leave in caches and allocator. The most time saved or lost comes first.
        """
        table = self._question_table(scenario)
        if table is None:
            return []
        changes = []
        for layer in table.layers:
            if layer.kernels == layer.reference_kernels:
                continue
            speedup = layer_ratio(layer)  # of BLAS over its reference oneDNN; the question asks the other way round
            changes.append(LayerChange(layer, Ratio(1 / speedup.value, 1 / speedup.high, 1 / speedup.low)))
        return sorted(changes, key=lambda change: -abs(change.saved_s))

    def headline(self, scenario: str = SCENARIO) -> str:
        """The answer to the known question, in words, with signed ratios; before an open question the fastest."""
        old, new = QUESTION
        table, changes = self._question_table(scenario), self.layer_changes(scenario)
        if table is not None and disturbance(table) is not None:
            return f"From {old} to {new} at batch {table.batch_size}, layer by layer: disturbed, not judged."
        if table is not None and not changes:
            return (
                f"From {old} to {new} at batch {table.batch_size}, every layer runs the same kernel: nothing changes."
            )
        if table is None:
            still_open = f"{old} was not measured against {new} here, so which layers gain from {new} stays open."
            found = self.fastest()
            return f"{found.removesuffix('.')}; {still_open}" if found else still_open
        floor = layer_noise_floor(table)
        by: dict[str, list[LayerChange]] = {name: [] for name in VERDICTS}
        for change in changes:
            by[verdict(change.ratio, floor)].append(change)
        return (
            f"From {old} to {new} at batch {table.batch_size}, of the {len(changes)} layers that run another kernel "
            f"{len(by['faster'])} became faster{_named(by['faster'], '+')}, {len(by['slower'])} slower"
            f"{_named(by['slower'], '-')}, and {len(by['no difference'])} show no difference; the other "
            f"{len(table.layers) - len(changes)} layers run the same kernel on both sides."
        )

    def fastest(self) -> str:
        """Which right backend is the fastest in each scenario, by how much, and what it costs in accuracy."""
        told = []
        if len({record.environment.architecture for record in self.measured}) > 1:
            return ""  # speedups of two architectures say nothing about each other: the recommendations tell both
        for scenario in dict.fromkeys(measured.name for record in self.measured for measured in record.scenarios):
            found, place = fastest(self.measured, scenario), scenario.replace("_", " ")
            disturbed = not_judged(self.measured, scenario)
            if disturbed and not candidates(self.measured, scenario):
                told.append(f"{place}: disturbed, not judged")
                continue
            if found is None:
                told.append(
                    f"{place}: no backend is faster than the reference beyond the noise{not_judged_words(disturbed)}"
                )
                continue
            accuracy = ""
            if found.record.parity is not None and not found.record.random_weights:
                accuracy = f" {drop_words(found.record.parity)}"
            told.append(f"{place}: {found.record.backend}, {found.words}{accuracy}{not_judged_words(disturbed)}")
        return f"Fastest in {'. In '.join(told)}." if told else ""

    def _question_table(self, scenario: str) -> LayerTable | None:
        old, new = QUESTION
        for record in self.measured:
            if record.backend == old and record.reference == new:
                return record.layer_table(scenario)
        return None


def _named(changes: Sequence[LayerChange], sign: str) -> str:
    """The changes that save or cost most, named: `(stage1.conv1 +5.31x, ...)`."""
    if not changes:
        return ""
    power = 1 if sign == "+" else -1
    named = [f"{change.layer.name} {sign}{change.ratio.value**power:.2f}x" for change in changes[:3]]
    return " (" + ", ".join([*named, *["..."] * (len(changes) > len(named))]) + ")"


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
    return Comparison(records, [name for name in expected if name not in found], train, left_out)


def _refuse_mixed(records: Sequence[BenchmarkRecord], train: TrainRecord | None) -> None:
    """Numbers of different networks or data must not stand side by side."""
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
            told = "; ".join(f"{value}: {', '.join(names)}" for value, names in groups.items())
            raise UserError(f"the records of this run have different {what} hashes ({told}); run the older ones again")
