"""The benchmark records of a run, together: which may be compared, what is missing, and what they say in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lib.errors import UserError
from lib.records.results import (
    BenchmarkRecord,
    Layer,
    LayerTable,
    Profile,
    Record,
    TrainRecord,
    read_record,
    record_path,
)
from lib.records.statistics import Ratio, layer_ratio, verdict

BENCHMARK, TRAIN = "03_benchmark", "02_train"
QUESTION = ("torch-blas", "torch-onednn")  # the known question: what does the second bring over the first?
SCENARIO = "offline"


@dataclass(frozen=True)
class LayerChange:
    """How the time of one layer changes from plain BLAS to oneDNN. Above 1 = faster with oneDNN."""

    layer: Layer
    ratio: Ratio

    @property
    def verdict(self) -> str:
        return verdict(self.ratio)


@dataclass(frozen=True)
class Comparison:
    """Benchmark records of one network on one data set.

    Attributes:
        records: all that were found, in the order asked for.
        missing: backends that were expected and have no record.
    """

    records: list[BenchmarkRecord] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    train: TrainRecord | None = None

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
        """Layer by layer from torch-blas to torch-onednn, both timed in the job of torch-blas; empty without it."""
        table = self._question_table(scenario)
        if table is None:
            return []
        changes = []
        for layer in table.layers:
            speedup = layer_ratio(layer)  # of BLAS over its reference oneDNN; the question asks the other way round
            changes.append(LayerChange(layer, Ratio(1 / speedup.value, 1 / speedup.high, 1 / speedup.low)))
        return changes

    def headline(self, scenario: str = SCENARIO) -> str:
        """The answer to the known question, in words, with signed ratios."""
        old, new = QUESTION
        changes = self.layer_changes(scenario)
        if not changes:
            return f"{old} was not measured against {new} here, so which layers gain from {new} stays open."
        table = self._question_table(scenario)
        batch_size = table.batch_size if table is not None else 0
        by = {name: [c for c in changes if c.verdict == name] for name in ("faster", "slower", "no difference")}
        parts = [f"{len(by['faster'])} of {len(changes)} layers became faster{_extremes(by['faster'], 'faster')}"]
        parts.append(f"{len(by['slower'])} slower{_extremes(by['slower'], 'slower')}")
        parts.append(f"{len(by['no difference'])} show no difference")
        return f"From {old} to {new} at batch {batch_size}, {parts[0]}, {parts[1]}, and {parts[2]}."

    def _question_table(self, scenario: str) -> LayerTable | None:
        old, new = QUESTION
        for record in self.measured:
            if record.backend == old and record.reference == new:
                return next((table for table in record.layers if table.scenario == scenario), None)
        return None


def _extremes(changes: Sequence[LayerChange], direction: str) -> str:
    """The strongest changes, named: `(stem.conv 2.31x, ...)`."""
    if not changes:
        return ""
    sign, power = ("+", 1) if direction == "faster" else ("-", -1)
    factors = sorted(((change.ratio.value**power, change.layer.name) for change in changes), reverse=True)
    more = ", ..." if len(factors) > 3 else ""
    return " (" + ", ".join(f"{name} {sign}{factor:.2f}x" for factor, name in factors[:3]) + more + ")"


def load_comparison(run_dir: Path, expected: Sequence[str]) -> Comparison:
    """Read the benchmark records of a run. Records of other backends than the expected ones are compared too.

    Args:
        expected: names of backends; those without a record are named as missing.

    Raises:
        UserError: a damaged record, or records that measured different checkpoints or data.
    """
    paths = sorted((run_dir / "results").glob(f"{BENCHMARK}.*.json"))
    found = {record.backend: record for record in (read_record(path, BenchmarkRecord) for path in paths)}
    order = [*expected, *(name for name in found if name not in expected)]
    records = [found[name] for name in order if name in found]
    train_path = record_path(run_dir, TRAIN)
    train = read_record(train_path, TrainRecord) if train_path.exists() else None
    _refuse_mixed(records, train)
    return Comparison(records, [name for name in expected if name not in found], train)


def _refuse_mixed(records: Sequence[BenchmarkRecord], train: TrainRecord | None) -> None:
    """Numbers of different networks or data must not stand side by side."""
    named: list[tuple[str, Record]] = [(f"{BENCHMARK}.{record.backend}", record) for record in records]
    if train is not None and records:
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
