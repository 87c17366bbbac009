"""What a page and the index show first: the answer, the chart that carries it, what must be known about it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from lib.analysis.recommendation import speed_of
from lib.html.charts import bars_chart, curve_chart, speed_chart
from lib.html.frame import safe
from lib.html.outputs import Piece
from lib.records.schema import BenchmarkRecord, CompareRecord, ExploreRecord, Record, ReleaseRecord, Speed, TrainRecord
from lib.report.caveats import warning_lines
from lib.report.headline import STATUS_SIGNS, answer
from lib.report.promotion import short_rules_table
from lib.report.release import short_links_table
from lib.report.table import SMOKE_TEXT
from lib.report.words import capital, scenario_name, sentence

SHOWN = 3  # caveats that are not folded
SHORT = 90  # characters of each of these


@dataclass
class Top:
    """The first screen. The answer is a sentence; the charts may be none."""

    heading: Markup
    status: str  # ok, failed, unavailable; empty for a run of which parts failed
    answer: str
    charts: Sequence[Markup]
    caveats: Sequence[str]  # whole sentences, the most important first; empty ones are left out
    line: str  # where it comes from
    facts: Sequence[tuple[str, Markup]]  # the same in full
    described: Sequence[Piece] = ()  # and how a notebook described its run
    sign: str = field(init=False)
    short_caveats: list[str] = field(init=False)  # what is shown of the first ones

    def __post_init__(self) -> None:
        self.sign = STATUS_SIGNS.get(self.status, "")
        self.caveats = [text for text in self.caveats if text]
        self.short_caveats = [textwrap.shorten(text, SHORT, placeholder=" …") for text in self.caveats[:SHOWN]]


def answer_of(record: Record | None) -> tuple[str, str]:
    """Status and answer of a notebook that ran to its end."""
    if record is None or not record.kind:
        return "ok", "All cells ran; there is no record that this version reads."
    return record.status if isinstance(record, BenchmarkRecord) else "ok", answer(record)


def caveats_of(record: Record | None) -> list[str]:
    """What a reader of a record must know, one sentence each."""
    if record is None:
        return []
    notes = [sentence(note) for note in record.notes] if isinstance(record, ReleaseRecord) else []
    return [*([SMOKE_TEXT] if record.profile == "smoke" else []), *notes, *warning_lines(record.warnings)]


def charts_of(record: Record | None) -> list[Markup]:
    """The chart that carries the answer of a record; none for a backend that failed, and for the control."""
    if isinstance(record, ExploreRecord) and record.images_per_class:
        return [bars_chart("Training images by class", record.images_per_class)]
    if isinstance(record, TrainRecord) and record.history:
        return [curve_chart("Top-1 on the validation images", [epoch.val_top1 for epoch in record.history])]
    if isinstance(record, BenchmarkRecord) and record.is_network and record.scenarios:
        found = [speed_of(scenario, scenario_name(scenario.name)) for scenario in record.scenarios]
        return [speed_chart(f"{record.backend} over {record.reference}", found)]
    if isinstance(record, ReleaseRecord) and record.digest:
        tables = [short_links_table(record)]
        if record.promotion is not None:
            tables.insert(0, short_rules_table(record.promotion))
        return [safe(table.to_html()) for table in tables]
    return speed_charts(record.speeds) if isinstance(record, CompareRecord) else []


def speed_charts(speeds: Mapping[str, Sequence[Speed]]) -> list[Markup]:
    """One chart for each scenario; the reference is the line at 1."""
    names = {name: capital(scenario_name(name)) for name in speeds}
    return [speed_chart(f"{names[name]}, speed over the reference", found) for name, found in speeds.items()]
