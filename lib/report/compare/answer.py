"""The answer, what to use, and speed beside accuracy."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from lib.analysis.comparison import Comparison
from lib.analysis.csv_files import LAYERS_CSV, SCENARIOS_CSV
from lib.analysis.judgement import DISTURBED, disturbance, judged
from lib.analysis.recommendation import LONG_S, MORE_MEMORY, Candidate, Choice, choices, compile_s, front
from lib.analysis.statistics import Ratio, scenario_ratio
from lib.analysis.sweep_points import batch_points, faster_from
from lib.machine import flags_for
from lib.records.run import networks
from lib.records.schema import BenchmarkRecord, Recommendation
from lib.report import figures
from lib.report.caveats import warning_lines
from lib.report.headline import choice_words
from lib.report.table import Banner, Cell, Displayed, Fold, Stack, Table, profile_banner
from lib.report.verdict_cells import point_cell
from lib.report.words import NOT_JUDGED, UNKNOWN, VERDICT_SIGNS, capital, scenario_name

HOW_TO = "run python -m lib run for the whole series, or python -m lib run 03_benchmark -p backend NAME for one backend"


def caveats(comparison: Comparison) -> Stack:
    """What went wrong, then what is missing; the page has it on top."""
    return Stack(profile_banner(comparison.profile), *(Banner(line) for line in warning_lines(comparison.warnings)))


def recommended(comparison: Comparison) -> Displayed:
    """What to use, by the rules of `lib.analysis.recommendation`."""
    if not networks(comparison.measured):
        return Banner(f"No network was measured here; {HOW_TO}.", "info")
    found = recommendations(comparison)
    if not found:
        why = "no backend was compared with the reference here"
        return Banner(f"No recommendation: {'this was a smoke run' if comparison.profile == 'smoke' else why}.", "info")
    full = Table.of([{"recommendation": text} for text in dict.fromkeys(item.text for item in found)], row_head=False)
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
    record, made, needs, conditions = candidate.record, candidate.record.preparation, candidate.record.needs, []
    if record.precision != "fp32":
        flags = [flag for flag in flags_for(record.precision) if flag in record.environment.isa_flags]
        on = f", on a CPU with {' or '.join(flags)}" if flags else ""
        conditions.append(f"it computes in {record.precision}{on}")
    if needs.packages and (needs.extra or not needs.default):
        conditions.append(f"it needs the packages {', '.join(needs.packages)}")
    if made is not None and made.num_calibration_images:
        conditions.append(f"it is calibrated on {made.num_calibration_images:,} training images")
    if made is not None and made.seconds > LONG_S:
        conditions.append(f"it takes {made.seconds:.0f} s of preparation once")
    if compile_s(candidate) > LONG_S:
        conditions.append(f"it compiles for {compile_s(candidate):.0f} s in every process")
    used, usual = (
        ((cold and cold.peak_memory_bytes) or 0) / 2**20 for cold in (record.cold_start, record.reference_cold_start)
    )
    if usual and used >= MORE_MEMORY * usual:
        conditions.append(f"it takes {used:,.0f} MiB of memory, the reference {usual:,.0f} MiB")
    if candidate.scenario.name == "offline":
        conditions.append(_batch_sizes(candidate))
    conditions.append(f"{record.environment.num_threads} threads on {record.environment.cpu_model or 'an unknown CPU'}")
    if record.random_weights:
        conditions.append("the network has random weights, so nothing is known about its accuracy")
    if record.proof is not None and record.proof.investigate:
        conditions.append(f"to be looked at: {record.proof.investigate}")
    if len({other.environment.cpu_model for other in choice.records}) > 1:
        conditions.append("the backends were measured on different CPUs, so their order may be another on one of them")
    return conditions


def _batch_sizes(candidate: Candidate) -> str:
    size = candidate.scenario.batch_size
    points = judged(batch_points(candidate.record.sweep))
    if not points:
        return f"batches of {size}; other sizes were not measured"
    start = faster_from(points, candidate.noise_floor)
    if start is None or start > size:
        return f"batches of {size}; at other sizes the sweep shows no lasting gain"
    return f"batches of {start} and more (measured up to {points[-1].batch_size})"


def recommendation_table(found: Sequence[Recommendation]) -> Table:
    """What to use in which scenario, at a glance."""
    alone = len({item.architecture for item in found}) == 1
    rows = [
        {
            "scenario": scenario_name(item.scenario) + ("" if alone else f", {item.architecture}"),
            "precision": "fp32 only" if item.precision == "fp32" else "any",
            "use": Cell(item.backend or UNKNOWN, tone="mark" if item.backend else "muted"),
            "speed [99 %]": _recommended_speed(item),
            "equally good": ", ".join(item.equally_good) or Cell("none", tone="muted"),
        }
        for item in found
    ]
    return Table.of(rows, caption="At a glance", compact=True, align_numbers=False)


def _recommended_speed(item: Recommendation) -> Cell:
    if not item.backend:
        return Cell(f"{VERDICT_SIGNS[DISTURBED]} {NOT_JUDGED}", tone="warn")
    if item.ratio is None:
        return Cell("= nothing is faster", "beyond the noise", "muted")
    return point_cell(Ratio(*item.ratio), "▲ {:.2f}x faster")


def accuracy_speed(records: Sequence[BenchmarkRecord], scenario: str) -> None:
    """Top-1 against the speedup; nothing for random weights, whose accuracy means nothing."""
    if not all(record.random_weights for record in records):
        figures.show(plot_accuracy_speed(records, scenario))


@figures.styled
def plot_accuracy_speed(records: Sequence[BenchmarkRecord], scenario: str) -> Axes:
    """Change of top-1 against speedup, both against the reference on the same images: the upper right is best.

    Backends that no other one beats in both are ringed and joined: whichever you leave, you lose something.
    """
    ax = figures.new_axes(4.0)
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
            ratio.value, gain, xerr=figures.reach([ratio]), yerr=[[max(0.0, gain - low)], [max(0.0, high - gain)]],
            fmt=figures.marker(record.backend), color=figures.backend_colour(record.backend), markersize=6,
            elinewidth=1, label=label,
        )  # fmt: skip
        places[record.backend] = (ratio.value, gain)
        values += list(ratio)
        parts.append(f"{label} {gain:+.2f} points at {ratio.value:.2f}x")
    if best:
        ringed = list(zip(*(places[name] for name in best), strict=True))
        ax.plot(*ringed, "--", color=figures.NEUTRAL, linewidth=1, zorder=1)
        ax.plot(*ringed, "o", markersize=12, markerfacecolor="none", markeredgecolor=figures.INK)
    ax.axvline(1, color=figures.INK, linewidth=1)
    ax.axhline(0, color=figures.INK, linewidth=0.6)
    figures.speedup_axis(ax, values)
    ax.margins(y=0.15)
    ax.set_xlabel(f"speedup, {scenario_name(scenario)} (log scale; right is faster)")
    ax.set_ylabel("top-1 against the reference (points)")
    ax.grid()
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    ax.set_title("Accuracy (95 %) and speed (99 % intervals); ringed: beaten by no other in both")
    named = f"No other backend beats {', '.join(best)} in both speed and accuracy." if best else ""
    text = f"Top-1 against speedup, {scenario_name(scenario)}: {'; '.join(parts)}. {named}"
    return figures.describe(ax, text.strip(), named)


def files() -> Table:
    """Links to the numbers of this page as files, seen from its place in the run folder."""
    files = {
        "04_compare.json": "verdicts, ratios, recommendations",
        SCENARIOS_CSV: "one row per backend and scenario",
        LAYERS_CSV: "one row per backend, scenario and layer",
    }
    rows = [{"file": Cell(name, href=f"../results/{name}"), "what it holds": what} for name, what in files.items()]
    return Table.of(rows, caption="The numbers of this page", compact=True)
