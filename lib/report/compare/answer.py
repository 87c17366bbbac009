"""The answer, what to use, and speed beside accuracy."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from lib.analysis.comparison import Comparison
from lib.analysis.csv_files import LAYERS_CSV, SCENARIOS_CSV
from lib.analysis.judgement import DISTURBED, disturbance, undecided
from lib.analysis.pace import pace_warnings
from lib.analysis.recommendation import (
    LONG_S,
    MORE_MEMORY,
    Candidate,
    Choice,
    choices,
    compile_s,
    front,
)
from lib.analysis.statistics import Ratio, scenario_ratio
from lib.analysis.sweep_points import batch_points, faster_from, judged_points
from lib.machine import flags_for
from lib.records.run import networks
from lib.records.schema import BenchmarkRecord, Recommendation
from lib.report.caveats import disturbed_backends_words, warning_words
from lib.report.figures import INK, NEUTRAL, backend_colour, describe, marker, new_axes, show, speedup_axis, styled
from lib.report.gaps import HOW_TO, Shown, with_records
from lib.report.headline import choice_words, comparison_headline, kernel_change_words
from lib.report.table import SMOKE_TEXT, Banner, Caveats, Cell, Fold, Stack, Table, Value
from lib.report.words import NOT_JUDGED, UNKNOWN, VERDICT_SIGNS, capital, scenario_name


def summary(comparison: Comparison) -> Shown:
    """What to use, what oneDNN changes, and what a reader must know about it."""
    if not comparison.records:
        return Stack(Banner(f"No benchmark records here; {HOW_TO}.", "info"), Caveats(_caveats(comparison)))
    words = f"{comparison_headline(comparison)} {kernel_change_words(comparison)}".strip()
    return Stack(Banner(words, "info"), Caveats(_caveats(comparison)))


def _caveats(comparison: Comparison) -> list[str]:
    """What went wrong, then what is missing."""
    found = [
        f"{record.backend} {'failed' if record.status == 'failed' else 'is unavailable here'}: {record.error}."
        for record in sorted(comparison.unmeasured, key=lambda record: record.status)
    ]
    found.insert(0, SMOKE_TEXT if comparison.profile == "smoke" else "")
    found.append(disturbed_backends_words(comparison.records))
    warnings = [*pace_warnings(comparison.records), *undecided(comparison.records)]
    found += [warning_words(warning) for warning in warnings]
    if names := ", ".join(comparison.missing):
        found.append(f"No record of {names}. To measure one: python -m lib run 03_benchmark -p backend NAME.")
    found += [f"Left out: {reason}." for reason in comparison.left_out]
    return [text for text in found if text]


@with_records
def recommended(comparison: Comparison) -> Shown:
    """What to use, by the rules of `lib.analysis.recommendation`."""
    found = recommendations(comparison)
    if not found and comparison.profile == "smoke":
        return Banner("Records of a smoke run give no recommendation.", "info")
    if not found:
        return Banner("There is no recommendation: no backend was compared with the reference here.", "info")
    texts = dict.fromkeys(item.text for item in found)
    full = Table(["recommendation"], [[text] for text in texts], row_head=False)
    return Stack(recommendation_table(found), Fold("On what conditions, in full", full))


def recommendations(comparison: Comparison) -> list[Recommendation]:
    """One per architecture and scenario, and one more each where only fp32 may be used; none for smoke records."""
    if comparison.profile == "smoke":
        return []
    both = zip(choices(comparison.measured), choices(comparison.measured, "fp32"), strict=True)
    return [recommendation(choice) for pair in both for choice in pair]


def recommendation(choice: Choice) -> Recommendation:
    """What to use, with its conditions, in words."""
    best, place = choice.best, capital(scenario_name(choice.scenario))
    place += " in fp32" if choice.precision == "fp32" else ""
    others, conditions = [found.record.backend for found in choice.equally_good], list[str]()
    if not choice.is_judged:
        text = f"{place}: {NOT_JUDGED} ({', '.join(choice.disturbed)}). Measure again."
    elif best is None:
        text = f"{place}: {choice_words(choice)}. Stay with {choice.reference}."
    else:
        conditions = conditions_of(choice, best)
        text = f"{place}, batch {best.scenario.batch_size}: use {choice.backend}, {choice_words(choice)}."
        text += f" Equally good: {', '.join(others)}." if others else ""
        text += f" Conditions: {'; '.join(conditions)}."
    ratio = (best.ratio.value, best.ratio.low, best.ratio.high) if best is not None else None
    return Recommendation(
        choice.scenario, choice.precision, choice.architecture, choice.backend, ratio, others, conditions, text
    )


def conditions_of(choice: Choice, candidate: Candidate) -> list[str]:
    """Under which circumstances the recommendation holds and what it costs."""
    record, conditions = candidate.record, []
    if record.precision != "fp32":
        flags = [flag for flag in flags_for(record.precision) if flag in record.environment.isa_flags]
        conditions.append(
            f"it computes in {record.precision}" + (f", on a CPU with {' or '.join(flags)}" if flags else "")
        )
    if candidate.record.needs.packages and (candidate.record.needs.extra or not candidate.record.needs.default):
        conditions.append(f"it needs the packages {', '.join(candidate.record.needs.packages)}")
    if record.preparation is not None and record.preparation.num_calibration_images:
        conditions.append(f"it is calibrated on {record.preparation.num_calibration_images:,} training images")
    if record.preparation is not None and record.preparation.seconds > LONG_S:
        conditions.append(f"it takes {record.preparation.seconds:.0f} s of preparation once")
    if compile_s(candidate) > LONG_S:
        conditions.append(f"it compiles for {compile_s(candidate):.0f} s in every process")
    conditions += _memory(record)
    if candidate.scenario.name == "offline":
        conditions.append(_batch_sizes(candidate))
    conditions.append(f"{record.environment.num_threads} threads on {record.environment.cpu_model or 'an unknown CPU'}")
    if record.random_weights:
        conditions.append("the network has random weights, so nothing is known about its accuracy")
    if record.proof is not None and record.proof.investigate:
        conditions.append(f"to be looked at: {record.proof.investigate}")
    cpus = {other.environment.cpu_model for other in choice.records}
    if len(cpus) > 1:
        conditions.append("the backends were measured on different CPUs, so their order may be another on one of them")
    return conditions


def _memory(record: BenchmarkRecord) -> list[str]:
    mine, reference = record.cold_start, record.reference_cold_start
    if mine is None or reference is None or not mine.peak_memory_bytes or not reference.peak_memory_bytes:
        return []
    if mine.peak_memory_bytes < MORE_MEMORY * reference.peak_memory_bytes:
        return []
    used, usual = (round(value / 2**20) for value in (mine.peak_memory_bytes, reference.peak_memory_bytes))
    return [f"it takes {used:,} MiB of memory, the reference {usual:,} MiB"]


def _batch_sizes(candidate: Candidate) -> str:
    size = candidate.scenario.batch_size
    points = judged_points(batch_points(candidate.record.sweep))
    if not points:
        return f"batches of {size}; other sizes were not measured"
    start = faster_from(points, candidate.noise_floor)
    if start is None or start > size:
        return f"batches of {size}; at other sizes the sweep shows no lasting gain"
    return f"batches of {start} and more (measured up to {points[-1].batch_size})"


def recommendation_table(found: Sequence[Recommendation]) -> Table:
    """What to use in which scenario, at a glance."""
    alone = len({item.architecture for item in found}) == 1
    rows: list[list[Value]] = [
        [
            scenario_name(item.scenario) + ("" if alone else f", {item.architecture}"),
            "fp32 only" if item.precision == "fp32" else "any",
            Cell(item.backend or UNKNOWN, tone="mark" if item.backend else "muted"),
            _recommended_speed(item),
            ", ".join(item.equally_good) or Cell("none", tone="muted"),
        ]
        for item in found
    ]
    columns = ["scenario", "precision", "use", "speed [99 %]", "equally good"]
    return Table(columns, rows, caption="At a glance", compact=True, align_numbers=False)


def _recommended_speed(item: Recommendation) -> Cell:
    if not item.backend:
        return Cell(f"{VERDICT_SIGNS[DISTURBED]} {NOT_JUDGED}", tone="warn")
    if item.ratio is None:
        return Cell("= nothing is faster", "beyond the noise", "muted")
    ratio = Ratio(*item.ratio)
    return Cell(f"▲ {ratio.value:.2f}x faster", f"[{ratio.low:.2f}, {ratio.high:.2f}]")


@with_records
def accuracy_speed(comparison: Comparison, scenario: str) -> Shown:
    """Top-1 against the speedup."""
    records = networks(comparison.measured)
    if all(record.random_weights for record in records):
        return Banner("The network has random weights: its accuracy means nothing, so there is no front.", "info")
    show(plot_accuracy_speed(records, scenario))
    return None


@styled
def plot_accuracy_speed(records: Sequence[BenchmarkRecord], scenario: str) -> Axes:
    """Change of top-1 against speedup, both against the reference on the same images: the upper right is best.

    Backends that no other one beats in both are ringed and joined: whichever you leave, you lose something.
    """
    ax = new_axes(4.0)
    best, places, parts = front(records, scenario), dict[str, tuple[float, float]](), []
    values: list[float] = []
    for record in records:
        found, parity = record.scenario(scenario), record.parity
        if found is None or parity is None or record.random_weights:
            continue
        if disturbance(found) is not None:
            parts.append(f"{record.backend} {NOT_JUDGED}")
            continue
        ratio = Ratio(1, 1, 1) if record.backend == record.reference else scenario_ratio(found)
        gain = 100 * (0 - parity.top1_drop)
        low, high = (100 * (0 - end) for end in reversed(parity.top1_drop_interval or (parity.top1_drop,) * 2))
        label = record.backend + (", parity inconclusive" if parity.outcome == "inconclusive" else "")
        ax.errorbar(
            ratio.value, gain,
            xerr=[[ratio.value - ratio.low], [ratio.high - ratio.value]],
            yerr=[[max(0.0, gain - low)], [max(0.0, high - gain)]],
            fmt=marker(record.backend), color=backend_colour(record.backend), markersize=6, elinewidth=1, label=label,
        )  # fmt: skip
        places[record.backend] = (ratio.value, gain)
        values += list(ratio)
        parts.append(f"{label} {gain:+.2f} points at {ratio.value:.2f}x")
    if best:
        ringed = list(zip(*(places[name] for name in best), strict=True))
        ax.plot(*ringed, "--", color=NEUTRAL, linewidth=1, zorder=1)
        ax.plot(*ringed, "o", markersize=12, markerfacecolor="none", markeredgecolor=INK)
    ax.axvline(1, color=INK, linewidth=1)
    ax.axhline(0, color=INK, linewidth=0.6)
    speedup_axis(ax, values)
    ax.margins(y=0.15)
    ax.set_xlabel(f"speedup, {scenario_name(scenario)} (log scale; right is faster)")
    ax.set_ylabel("top-1 against the reference (points)")
    ax.grid()
    if parts:
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    ax.set_title("Accuracy (95 %) and speed (99 % intervals); ringed: beaten by no other in both")
    named = f"No other backend beats {', '.join(best)} in both speed and accuracy." if best else ""
    text = f"Top-1 against speedup, {scenario_name(scenario)}: {'; '.join(parts) or 'no data'}. {named}"
    return describe(ax, text.strip(), named)


@with_records
def files(comparison: Comparison) -> Shown:
    """Links to the numbers of this page as files, seen from its place in the run folder."""
    files = {
        "04_compare.json": "verdicts, ratios, recommendations",
        SCENARIOS_CSV: "one row per backend and scenario",
        LAYERS_CSV: "one row per backend, scenario and layer",
    }
    rows: list[list[Value]] = [[Cell(name, href=f"../results/{name}"), what] for name, what in files.items()]
    return Table(["file", "what it holds"], rows, caption="The numbers of this page", compact=True)
