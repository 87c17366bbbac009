"""What a page and the index show first: the answer, the chart that carries it, what must be known about it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from lib.analysis.judgement import judge
from lib.analysis.recommendation import candidates
from lib.analysis.statistics import Ratio
from lib.html.charts import Speed, bars_chart, curve_chart, speed_chart
from lib.html.frame import safe
from lib.html.provenance import Fact
from lib.records.schema import (
    BenchmarkRecord,
    CompareRecord,
    ExploreRecord,
    Record,
    ReleaseRecord,
    TrainRecord,
    scenario_names,
)
from lib.report.caveats import warning_lines
from lib.report.headline import STATUS_SIGNS, doubt, headline
from lib.report.release import short_links_table
from lib.report.words import capital, scenario_name

SHOWN = 3  # caveats that are not folded
SHORT = 90  # characters of each of these


@dataclass
class Top:
    """The first screen. The answer is a sentence; the charts may be none."""

    heading: Markup | str
    status: str  # ok, failed, unavailable; empty for a run of which parts failed
    answer: str
    charts: list[Markup] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)  # whole sentences, the most important first
    line: str = ""  # where it comes from
    facts: list[Fact] = field(default_factory=list)  # the same in full

    @property
    def sign(self) -> str:
        return STATUS_SIGNS.get(self.status, "")

    @property
    def short_caveats(self) -> list[str]:
        """What is shown of the first ones."""
        return [textwrap.shorten(text, SHORT, placeholder=" …") for text in self.caveats[:SHOWN]]

    @property
    def folds_caveats(self) -> bool:
        """Whether there is more to read than is shown."""
        return self.short_caveats != self.caveats


def answer_of(record: Record | None) -> tuple[str, str]:
    """Status and answer of a notebook that ran to its end."""
    if record is None:
        return "ok", "All cells ran; there is no record that this version reads."
    if isinstance(record, BenchmarkRecord) and record.status != "ok":
        return record.status, sentence(f"{record.backend} {record.status}: {record.error or 'no reason is known'}")
    text = headline(record)
    if isinstance(record, BenchmarkRecord) and record.is_network and record.backend != record.reference:
        text = f"with {record.backend} instead of {record.reference}: {text}"
    return "ok", sentence(text)


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return capital(text).rstrip(".") + "."


def caveats_of(record: Record | None) -> list[str]:
    """What a reader of a record must know, one sentence each."""
    if record is None:
        return []
    if isinstance(record, ReleaseRecord):
        return [sentence(note) for note in record.notes]
    look = doubt(record)
    return [*([sentence(f"to investigate: {look}")] if look else []), *warning_lines(record.warnings)]


def charts_of(record: Record | None) -> list[Markup]:
    """The chart that carries the answer of a record; none for a backend that failed, and for the control."""
    if isinstance(record, ExploreRecord) and record.images_per_class:
        return [bars_chart("Training images by class", record.images_per_class)]
    if isinstance(record, TrainRecord) and record.history:
        return [curve_chart("Top-1 on the validation images", [epoch.val_top1 for epoch in record.history])]
    if isinstance(record, BenchmarkRecord) and record.status == "ok" and record.is_network:
        judged = {scenario_name(scenario.name): judge(scenario) for scenario in record.scenarios}
        speeds = [Speed(name, found.ratio, found.verdict) for name, found in judged.items()]
        return [speed_chart(f"{record.backend} over {record.reference}", speeds)] if speeds else []
    if isinstance(record, CompareRecord):
        return _compared(record)
    if isinstance(record, ReleaseRecord) and record.digest:
        return [safe(short_links_table(record).to_html())]
    return []


def _compared(record: CompareRecord) -> list[Markup]:
    speeds: dict[str, list[Speed]] = {}
    for backend, verdicts in record.verdicts.items():
        for scenario, verdict in verdicts.items():
            ratio = Ratio(*record.ratios.get(backend, {}).get(scenario, (1.0, 1.0, 1.0)))
            ranked = backend in record.ranked.get(scenario, [])
            speeds.setdefault(scenario, []).append(Speed(backend, ratio, verdict, ranked))
    return _by_scenario("the reference", speeds)


def speed_charts(records: Sequence[BenchmarkRecord]) -> list[Markup]:
    """One chart for each scenario, without the reference, which is the line at 1."""
    speeds: dict[str, list[Speed]] = {}
    ranked = {name: {best.record.backend for best in candidates(records, name)} for name in scenario_names(records)}
    for record in records:
        for scenario in record.scenarios if record.backend != record.reference else ():
            found = judge(scenario)
            speed = Speed(record.backend, found.ratio, found.verdict, record.backend in ranked[scenario.name])
            speeds.setdefault(scenario.name, []).append(speed)
    return _by_scenario(records[0].reference, speeds) if records else []


def _by_scenario(reference: str, speeds: Mapping[str, Sequence[Speed]]) -> list[Markup]:
    names = {name: capital(scenario_name(name)) for name in speeds}
    return [speed_chart(f"{names[name]}, speed over {reference}", found) for name, found in speeds.items()]
