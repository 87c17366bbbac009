"""What a record says, in a line."""

from __future__ import annotations

from lib.analysis.judgement import disturbance, judge
from lib.analysis.statistics import median_latency
from lib.records.schema import BenchmarkRecord, CompareRecord, ExploreRecord, Record, Scenario, TrainRecord
from lib.report.words import NOT_JUDGED, UNKNOWN, duration, judgement_words, percent, percent_interval, scenario_name

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
    return ""


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
