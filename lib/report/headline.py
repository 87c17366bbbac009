"""What a record says, and what all records of a run say together, in a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lib.analysis.comparison import QUESTION, Comparison, LayerChange
from lib.analysis.judgement import disturbance, judge
from lib.analysis.recommendation import Choice, choices
from lib.analysis.statistics import median_latency
from lib.records.schema import (
    BenchmarkRecord,
    CompareRecord,
    ExploreRecord,
    Parity,
    Record,
    ReleaseRecord,
    Scenario,
    TrainRecord,
)
from lib.report.drift_words import drift_words
from lib.report.promotion import verdict_words
from lib.report.words import (
    NOT_JUDGED,
    UNKNOWN,
    capital,
    duration,
    factor,
    group_name,
    judgement_words,
    percent,
    percent_interval,
    ratio_interval,
    ratio_words,
    scenario_name,
    sentence,
    size,
)

STATUS_SIGNS = {"ok": "✓", "failed": "✗", "unavailable": "○", "skipped": "–"}  # never colour alone


def headline(record: Record) -> str:
    """The one thing that a record says, for a table cell; empty where nothing was measured."""
    if isinstance(record, ExploreRecord):
        counts = record.images_per_class
        rarest = min(counts, default=0)
        spread = f", most frequent class {max(counts) / rarest:.1f}x the rarest" if rarest else ""
        return f"{sum(counts):,} training images in {sum(count > 0 for count in counts)} classes{spread}"
    if isinstance(record, TrainRecord):
        parts = [f"top-1 {percent(found.top1)} on {split}" for split, found in record.accuracy.items()]
        return ", ".join([*parts, f"{record.num_epochs} epochs in {duration(record.train_s)}"])
    if isinstance(record, CompareRecord):
        return record.headline
    if isinstance(record, BenchmarkRecord) and record.status == "ok":
        return _speeds(record)
    if isinstance(record, ReleaseRecord):
        return _released(record)
    return ""


def _released(record: ReleaseRecord) -> str:
    if not record.digest:
        return f"nothing is released: {record.reason}"
    files = f"{len(record.models)} model files, {size(record.num_bytes)} in all"
    released = (
        f"released {record.name} {record.version}: {files}; each of the {len(record.links)} links of its chain holds"
    )
    parts = [drift_words(record.drift)] if record.drift is not None else []
    parts += [verdict_words(record.promotion)] if record.promotion is not None else []
    return ". ".join(part if not number else capital(part) for number, part in enumerate([*parts, released]))


def answer(record: Record) -> str:
    """What a page says first."""
    if isinstance(record, BenchmarkRecord) and record.status != "ok":
        return sentence(f"{record.backend} {record.status}: {record.error}")
    text = headline(record)
    if isinstance(record, BenchmarkRecord) and record.is_network and record.backend != record.reference:
        text = f"with {record.backend} instead of {record.reference}: {text}"
    if isinstance(record, ExploreRecord):
        text = f"{text}; {_fairness(record)}"
    return sentence(text)


def _fairness(record: ExploreRecord) -> str:
    """01 writes no record where training and validation share a track."""
    groups = [{name.partition(":")[0] for name in names} for names in record.duplicates]
    crossing = sum(len(splits) > 1 for splits in groups)
    equal = f"images in two splits, pixel for pixel: {crossing:,}" if crossing else "no image is in two splits"
    return f"training and validation share no track; {equal}"


def _speeds(record: BenchmarkRecord) -> str:
    if record.backend == record.reference:
        return "the reference beside itself: shows the noise"
    if not record.is_network:
        calls = ", ".join(f"{scenario_name(scenario.name)} {_call_words(scenario)}" for scenario in record.scenarios)
        return f"the harness alone: {calls}"
    return ", ".join(
        f"{scenario_name(scenario.name)} {judgement_words(judge(scenario))}" for scenario in record.scenarios
    )


def _call_words(scenario: Scenario) -> str:
    if disturbance(scenario) is not None:
        return NOT_JUDGED
    return f"{1e6 * median_latency(scenario.latencies_s):.1f} µs a call"


class Best(NamedTuple):
    """What to use in one scenario, as index, summaries and pages show it."""

    scenario: str  # with the architecture where there are several
    backend: str
    words: str  # how much faster, with the interval, and what it costs in accuracy


def best_backends(records: Sequence[BenchmarkRecord]) -> list[Best]:
    """One for each scenario that was measured, and each architecture."""
    found = choices(records)
    alone = len({choice.architecture for choice in found}) == 1
    return [
        Best(
            scenario_name(choice.scenario) + ("" if alone else f", {choice.architecture}"),
            choice.backend or UNKNOWN,
            choice_words(choice),
        )
        for choice in found
    ]


def choice_words(choice: Choice) -> str:
    """`1.22x faster [1.20, 1.25] than torch-onednn, at equal top-1`, or why nothing is."""
    if not choice.is_judged:
        return NOT_JUDGED
    caveat = f"; not judged, since disturbed: {', '.join(choice.disturbed)}" if choice.disturbed else ""
    if choice.best is None:
        return f"no other backend is faster beyond the noise{caveat}"
    record, ratio = choice.best.record, choice.best.ratio
    accuracy = "" if record.random_weights or record.parity is None else f", {drop_words(record.parity)}"
    return f"{ratio_words(ratio)} {ratio_interval(ratio)} than {choice.reference}{accuracy}{caveat}"


def drop_words(parity: Parity) -> str:
    """`at equal top-1`, `for 0.20 [-0.05, 0.46] points of top-1`, `at 0.10 [-0.31, 0.52] points more top-1`."""
    points = 100 * parity.top1_drop
    if abs(points) < 0.005:
        return "at equal top-1"
    lost = points > 0
    interval = ""
    if parity.top1_drop_interval is not None:
        low, high = sorted(100 * end if lost else -100 * end for end in parity.top1_drop_interval)
        interval = f" [{low:.2f}, {high:.2f}]"
    return f"for {points:.2f}{interval} points of top-1" if lost else f"at {-points:.2f}{interval} points more top-1"


def comparison_headline(comparison: Comparison) -> str:
    """What to use in each scenario."""
    return best_sentence(comparison.measured) or "No backend of a network was measured."


def best_sentence(records: Sequence[BenchmarkRecord]) -> str:
    """What to use in each scenario; empty where nothing was measured."""
    phrases = [
        f"{capital(best.scenario)}: {best.backend + ', ' if best.backend != UNKNOWN else ''}{best.words}."
        for best in best_backends(records)
    ]
    return " ".join(phrases)


def kernel_change_words(comparison: Comparison) -> str:
    """The answer to the known question; empty where torch-blas was not measured against torch-onednn."""
    (old, new), found = QUESTION, comparison.kernel_change()
    if found is None:
        return ""
    if disturbance(found.table) is not None:
        return f"From {old} to {new} at batch {found.table.batch_size}, layer by layer: {NOT_JUDGED}."
    num_layers, num_changed = len(found.table.layers), found.num_changed
    begin = f"From {old} to {new} at batch {found.table.batch_size}, "
    if not num_changed:
        return f"{begin}every layer runs the same kernel: nothing changes."
    phrases = [_changes_words(judged, changes) for judged, changes in found.changed.items() if changes]
    others = num_layers - num_changed
    rest = f" The other {others} run{'s' if others == 1 else ''} the same kernel." if others else ""
    return f"{begin}{num_changed} of {num_layers} layers run another kernel: {'; '.join(phrases)}.{rest}"


def _changes_words(judged: str, changes: Sequence[LayerChange]) -> str:
    """`12 run faster, by 1.90x to 3.75x, most of all stage1.conv1`."""
    one = "s" if len(changes) == 1 else ""
    if judged == "no difference":
        return f"{len(changes)} show{one} no difference"
    factors = sorted(factor(change.ratio.value) for change in changes)
    span = f"{factors[0]:.2f}x" if len(factors) == 1 else f"{factors[0]:.2f}x to {factors[-1]:.2f}x"
    what = "saved" if judged == "faster" else "lost"
    most = group_name(changes[0].layer.members)
    return f"{len(changes)} run{one} {judged}, by {span}, with most time {what} in {most}"


def doubt(record: Record | None) -> str:
    """What a finished benchmark asks to look into; empty for nothing."""
    if isinstance(record, BenchmarkRecord) and record.status == "ok" and record.proof is not None:
        return record.proof.investigate
    return ""


def top1_text(train: TrainRecord) -> tuple[str, str, str]:
    """Split, top-1 and interval of the split that counts: test where present."""
    split = "test" if "test" in train.accuracy else next(iter(train.accuracy), "")
    if not split:
        return "", UNKNOWN, ""
    found = train.accuracy[split]
    return split, percent(found.top1), percent_interval(found.top1_interval)
