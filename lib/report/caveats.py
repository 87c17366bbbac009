"""The words of a record's warnings, by kind: pages, index and summaries say the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lib.analysis.judgement import others_cores
from lib.records.schema import RecordWarning, WarningKind
from lib.report.words import NOT_JUDGED, capital, duration, milliseconds, percent, scenario_name, sentence

Figures = Mapping[str, Any]
DISTURBED_KINDS = ("disturbed", "layers_disturbed", "sweep_disturbed")
_SLOW_HAND_OVER = (
    "no other process explains it; the host may have placed this machine's cores far apart, which slows "
    "synchronization between threads"
)


def warning_words(warning: RecordWarning) -> str:
    """One warning as whole sentences."""
    words = _WORDS[warning.kind]
    place = f"{scenario_name(warning.scenario)}: " if warning.scenario else ""
    return sentence(place + (words.format(**warning.figures) if isinstance(words, str) else words(warning.figures)))


def warning_lines(warnings: Sequence[RecordWarning]) -> list[str]:
    """All of one record, what was disturbed as one of them and first."""
    disturbed = [warning for warning in warnings if warning.kind in DISTURBED_KINDS]
    others = [warning_words(warning) for warning in warnings if warning.kind not in DISTURBED_KINDS]
    return [_together(disturbed), *others] if disturbed else others


def warnings_words(warnings: Sequence[RecordWarning]) -> str:
    """The same as one text; empty for none."""
    return " ".join(warning_lines(warnings))


def reason(figures: Figures) -> str:
    """Why something was disturbed, and what was tried against it; `figures` of one of `DISTURBED_KINDS`."""
    tried = [f"{figures['num_measured']} attempts"] if figures["num_measured"] > 1 else []
    tried += [f"waiting {duration(figures['waited_s'])} for quiet"] if figures["waited_s"] else []
    after = f", even after {' and '.join(tried)}" if tried else ""
    if "quick_s" in figures:
        quick, slow = milliseconds(figures["quick_s"]), milliseconds(figures["slow_s"])
        return f"the reference changed its pace between {quick} and {slow} ms a call{after}; {_SLOW_HAND_OVER}"
    others, stolen = figures["others_cores"], figures["stolen_cores"]
    hosted = f" ({stolen:.2f} of them by other guests of the host)" if stolen > 0.1 * others else ""
    return f"others used {others:.2f} cores{hosted}{after}; at most {figures['allowed_cores']:.2f} are allowed"


def _and_advice(figures: Figures) -> str:
    """Another process can be ended; where a host places the cores of its guest cannot be chosen."""
    where = "on another machine if it stays so" if "quick_s" in figures else "on an idle machine"
    comma = "," if "quick_s" in figures else ""
    return f"{capital(reason(figures))}. Measure again{comma} {where}."


def _together(warnings: Sequence[RecordWarning]) -> str:
    """Disturbed parts of one record in one sentence, with the figures of the most disturbed of them."""
    named = {"disturbed": "{}", "layers_disturbed": "layers in {}", "sweep_disturbed": "points of the sweep"}
    parts = [named[warning.kind].format(scenario_name(warning.scenario)) for warning in warnings]
    return f"{capital(', '.join(parts))}: {NOT_JUDGED}. {_and_advice(max(warnings, key=others_cores).figures)}"


def _disturbed(figures: Figures) -> str:
    return f"{NOT_JUDGED}: {reason(figures)}"


def _backends_disturbed(figures: Figures) -> str:
    return f"{NOT_JUDGED}: {scenario_name(figures['backends'])}. {_and_advice(figures)}"


def _inconclusive(figures: Figures) -> str:
    """Args: figures: what was lost and what is allowed, by backend."""
    named = "; ".join(f"{name}: {lost}" for name, lost in figures.items())
    return f"parity is inconclusive, and not even all validation images can decide it; not ranked: {named}"


def _unstable(figures: Figures) -> str:
    """Args: figures: how uncertain the mean time is, as a share, by side."""
    named = " and ".join(f"{side} (±{percent(share, 0)})" for side, share in figures.items())
    return f"times of {named} are unstable; something else was running"


def _slow_reference(figures: Figures) -> str:
    """Args: figures: how many times slower, by backend."""
    named = ", ".join(f"{name} ({slower:.1f}x)" for name, slower in figures.items())
    those = "1 backend" if len(figures) == 1 else f"{len(figures)} backends"
    return (
        f"a slow reference flatters {those}; ranking takes that off. In the jobs of {named} the reference itself was "
        f"that much slower than in the quickest job on such a machine; {_SLOW_HAND_OVER}. Their intervals reach down "
        "by that factor"
    )


def _variables(figures: Figures) -> str:
    """Args: figures: variables with their values: of the `notebook` alone, and of the `measured` processes too."""
    alone, too = figures.get("notebook", ""), figures.get("measured", "")
    places = [f"in this notebook, as in training, but in no measured process: {alone}"] if alone else []
    places += [f"in measured processes: {too}"] if too else []
    return f"the shell changes how fast or how exactly libraries compute, {'; '.join(places)}"


_WORDS: dict[WarningKind, str | Callable[[Figures], str]] = {
    "too_many_threads": "{threads} threads on {cores} cores: threads wait for each other, and times scatter",
    "emulated": "this CPU is emulated: kernels and accuracy are as on a real one, times mean nothing",
    "random_weights": "the network has random weights: only its logits are compared, accuracy means nothing",
    "near_chance": "the network reads hardly better than chance: equal accuracy proves little here",
    "memorized": "{images} of {total} validation images are in training too, pixel for pixel: their accuracy is memory",
    "investigate": "to investigate: {reason}",
    "not_measured": "not measured: {backend} ({status}), {reason}",
    "missing": "no record of {backends}; to measure one: python -m lib run 03_benchmark -p backend NAME",
    "left_out": "left out: {reason}",
    "inconclusive": _inconclusive,
    "disturbed": _disturbed,
    "layers_disturbed": _disturbed,
    "sweep_disturbed": _disturbed,
    "backends_disturbed": _backends_disturbed,
    "unstable": _unstable,
    "slow_reference": _slow_reference,
    "variables": _variables,
}
