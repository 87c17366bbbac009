"""A row for every backend: its speed, its accuracy. Without Matplotlib, because the index of a run shows it, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lib.analysis.judgement import judge, judged
from lib.analysis.pace import slow_references
from lib.analysis.statistics import scenario_ratio
from lib.records.schema import BenchmarkRecord, ParityOutcome, scenario_names
from lib.report.table import Cell, Table, Tone, Value
from lib.report.verdict_cells import judgement_cell
from lib.report.words import UNKNOWN, percent, percent_interval, ratio_interval, scenario_name

TUNED = "torch-onednn-tuned"  # eager PyTorch at its best, shown beside the reference


def backends_table(records: Sequence[BenchmarkRecord]) -> Table:
    """One row per backend: speedup per scenario, accuracy and what it lost; also those that did not run."""
    scenarios = {name: (scenario_name(name), slow_references(records, name)) for name in scenario_names(records)}
    tuned = next((record for record in records if record.backend == TUNED and record.status == "ok"), None)
    split = _common_split(records)

    def row(record: BenchmarkRecord) -> dict[str, Value]:
        return {
            "backend": record.backend,
            "status": _status_cell(record, records),
            **{title: _speed_cell(record, name, slow) for name, (title, slow) in scenarios.items()},
            **{
                f"{title}, against tuned eager": _against(tuned, record, name) for name, (title, _) in scenarios.items()
            },
            f"top-1, {split}".removesuffix(", "): _top1_cell(record, split),
            "points lost": _drop_cell(record),
            "precision": record.precision,
        }

    note = "Speed against the reference measured in the same job, with 99 % intervals over rounds."
    note += _accuracy_note(records, split)
    if tuned:
        note += f" Tuned eager: {TUNED}, whose speedup over the reference of its own job divides that of the backend."
    return Table.of([row(record) for record in records], caption="Backends compared", note=note, compact=True)


def _status_cell(record: BenchmarkRecord, records: Sequence[BenchmarkRecord]) -> Cell:
    """Empty where all ran."""
    if record.status == "ok":
        return Cell("" if all(other.status == "ok" for other in records) else "ok")
    return Cell(record.status, record.error, "bad" if record.status == "failed" else "muted")


def _speed_cell(record: BenchmarkRecord, scenario: str, slow: Mapping[str, float]) -> Value:
    """Args: slow: how many times the reference was slower than in other jobs, by the backend of its job."""
    if (measured := record.scenario(scenario)) is None:
        return None
    found = judge(measured)
    detail = ratio_interval(found.ratio, found.noise_floor)
    if record.backend in slow:
        detail += f", its reference {slow[record.backend]:.1f}x slower than in other jobs"
    return judgement_cell(found, detail)


def _against(tuned: BenchmarkRecord | None, record: BenchmarkRecord, scenario: str) -> Value:
    """Speedup over eager PyTorch at its best, as a quotient of two ratios; only on one machine."""
    if tuned is None:
        return ""
    if record.environment.machine_id != tuned.environment.machine_id:
        return None
    sides = [measured for side in (record, tuned) if (measured := side.scenario(scenario)) is not None]
    speedups = [scenario_ratio(measured).value for measured in judged(sides)]
    return f"{speedups[0] / speedups[1]:.2f}x" if len(speedups) == 2 else None


def _common_split(records: Sequence[BenchmarkRecord]) -> str:
    """The split on which all read the same number of images, test if there is one: a column never mixes two sets of
    images. Empty for none."""
    read = [record.accuracy for record in records if record.accuracy]
    for split in ("test", "val"):
        if len({found[split].num_images if split in found else None for found in read}) == 1 and split in read[0]:
            return split
    return ""


def _accuracy_note(records: Sequence[BenchmarkRecord], split: str) -> str:
    """Which images the columns are about."""
    read = next((record.accuracy[split] for record in records if split in record.accuracy), None)
    note = "" if read is None else f" Top-1: of {read.num_images:,} images of {split}."
    compared = {(parity.num_images, parity.num_tracks) for record in records if (parity := record.parity) is not None}
    if read is not None and len(compared) == 1:
        num_images, num_tracks = compared.pop()
        note += (
            f" Points lost: of top-1 against the reference on the {num_images:,} validation images, with 95 % "
            f"intervals over their {num_tracks:,} tracks. Inconclusive: these images cannot decide whether the loss "
            "is allowed, and the backend is not ranked."
        )
    return note


def _top1_cell(record: BenchmarkRecord, split: str) -> Value:
    if record.random_weights:
        return Cell(UNKNOWN, "random weights", "muted")
    return percent(record.accuracy[split].top1) if split in record.accuracy else None


def _drop_cell(record: BenchmarkRecord) -> Value:
    parity = record.parity
    if parity is None or record.random_weights:
        return None
    if record.backend == record.reference:
        return Cell("0.00", "reference", "muted")
    interval = percent_interval(parity.top1_drop_interval).removesuffix(" %")
    outcome = "" if parity.outcome == "passed" else parity.outcome
    tones: dict[ParityOutcome, Tone] = {"passed": "", "inconclusive": "warn", "failed": "bad"}
    detail = f"{interval} {outcome}".strip() if parity.num_lost + parity.num_gained else outcome
    return Cell(f"{100 * parity.top1_drop:.2f}", detail, tones[parity.outcome])
