"""The words of a record's warnings, one function for each kind: pages, index and summaries say the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lib.records.results import RecordWarning, WarningKind
from lib.report.words import milliseconds, percent, scenario_name

Figures = Mapping[str, Any]
_SLOW_HAND_OVER = (
    "no other process explains it; threads may hand over work more slowly while a host keeps its guest's cores apart, "
    "which hits small layers on several threads"
)


def warning_words(warning: RecordWarning) -> str:
    """One warning as whole sentences."""
    words = _WORDS[warning.kind](warning.figures)
    place = f"{scenario_name(warning.scenario)}: " if warning.scenario else ""
    text = f"{place}{words}"
    return f"{text[:1].upper()}{text[1:]}."


def warnings_words(warnings: Sequence[RecordWarning]) -> str:
    """All of them; empty for none."""
    return " ".join(warning_words(warning) for warning in warnings)


def _too_many_threads(figures: Figures) -> str:
    return f"{figures['threads']} threads on {figures['cores']} cores: threads wait for each other, and times scatter"


def _emulated(_: Figures) -> str:
    return "this CPU is emulated: kernels and accuracy are as on a real one, times mean nothing"


def _random_weights(_: Figures) -> str:
    return "the network has random weights: only its logits are compared, accuracy means nothing"


def _near_chance(_: Figures) -> str:
    return "the network reads hardly better than chance: equal accuracy proves little here"


def _inconclusive(figures: Figures) -> str:
    """Args: figures: what was lost and what is allowed, by backend."""
    named = "; ".join(f"{name}: {reason}" for name, reason in figures.items())
    return f"parity is inconclusive, and not even all validation images can decide it; not ranked: {named}"


def _investigate(figures: Figures) -> str:
    return f"to investigate: {figures['reason']}"


def _disturbed(figures: Figures) -> str:
    return (
        f"other processes used {figures['cores']:.2f} cores while this was measured; that distorts ratios too, beyond "
        "their intervals: measure again on an idle machine"
    )


def _two_paces(figures: Figures) -> str:
    quick, slow = milliseconds(figures["quick_s"]), milliseconds(figures["slow_s"])
    return (
        f"the reference ran at two paces, {quick} and {slow} ms a call; {_SLOW_HAND_OVER}. The speedup mixes both: "
        "measure again"
    )


def _unstable(figures: Figures) -> str:
    """Args: figures: how uncertain the mean time is, as a share, by side."""
    named = " and ".join(f"{side} (±{percent(share, 0)})" for side, share in figures.items())
    return f"times of {named} are unstable; something else was running"


def _slow_reference(figures: Figures) -> str:
    """Args: figures: how many times slower, by backend."""
    named = ", ".join(f"{name} ({slower:.1f}x)" for name, slower in figures.items())
    return (
        f"in the jobs of {named} the reference itself was that much slower than in the quickest job on such a machine; "
        f"{_SLOW_HAND_OVER}. A slow reference flatters: these backends are not ranked here. Measure them again"
    )


_WORDS: dict[WarningKind, Callable[[Figures], str]] = {
    "too_many_threads": _too_many_threads,
    "emulated": _emulated,
    "random_weights": _random_weights,
    "near_chance": _near_chance,
    "inconclusive": _inconclusive,
    "investigate": _investigate,
    "disturbed": _disturbed,
    "two_paces": _two_paces,
    "unstable": _unstable,
    "slow_reference": _slow_reference,
}
