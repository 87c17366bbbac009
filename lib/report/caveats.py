"""The words of a record's warnings, one function for each kind: pages, index and summaries say the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lib.analysis.judgement import disturbances
from lib.records.schema import BenchmarkRecord, RecordWarning, WarningKind
from lib.report.words import NOT_JUDGED, capital, duration, milliseconds, percent, scenario_name

Figures = Mapping[str, Any]
DISTURBED_KINDS = ("disturbed", "layers_disturbed", "sweep_disturbed")
_SLOW_HAND_OVER = (
    "no other process explains it; the host may have placed this machine's cores far apart, which slows "
    "synchronization between threads"
)


def warning_words(warning: RecordWarning) -> str:
    """One warning as whole sentences."""
    words = _WORDS[warning.kind](warning.figures)
    place = f"{scenario_name(warning.scenario)}: " if warning.scenario else ""
    return f"{capital(place + words)}."


def warning_lines(warnings: Sequence[RecordWarning]) -> list[str]:
    """All of one record, what was disturbed as one of them and first."""
    disturbed = [warning for warning in warnings if warning.kind in DISTURBED_KINDS]
    others = [warning_words(warning) for warning in warnings if warning.kind not in DISTURBED_KINDS]
    return [_together(disturbed), *others] if disturbed else others


def warnings_words(warnings: Sequence[RecordWarning]) -> str:
    """The same as one text; empty for none."""
    return " ".join(warning_lines(warnings))


def disturbed_backends_words(records: Sequence[BenchmarkRecord]) -> str:
    """Which backends of a run are not judged and where, with the worst reason of all; empty for none."""
    found = {record.backend: disturbances(record) for record in records if record.status == "ok"}
    calls = {name: [each for each in some if each.kind == "disturbed"] for name, some in found.items()}
    named = [
        f"{name} ({', '.join(scenario_name(each.scenario) for each in some)})" for name, some in calls.items() if some
    ]
    layers = [name for name, some in found.items() if some and not calls[name]]
    named += [f"{name} (layers or sweep)" for name in layers]
    if not named:
        return ""
    worst = max((each for some in found.values() for each in some), key=_others_cores)
    return f"{capital(NOT_JUDGED)}: {', '.join(named)}. {capital(reason(worst.figures))}. {_advice(worst.figures)}"


def _others_cores(warning: RecordWarning) -> float:
    return float(warning.figures.get("others_cores", 0.0))


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
    return f"{NOT_JUDGED}: {reason(figures)}"


def reason(figures: Figures) -> str:
    """Why something was disturbed, and what was tried against it; `figures` of one of `DISTURBED_KINDS`."""
    tried = _tried(figures["num_measured"], figures["waited_s"])
    if "quick_s" in figures:
        quick, slow = milliseconds(figures["quick_s"]), milliseconds(figures["slow_s"])
        return f"the reference changed its pace between {quick} and {slow} ms a call{tried}; {_SLOW_HAND_OVER}"
    others, stolen = figures["others_cores"], figures["stolen_cores"]
    hosted = f" ({stolen:.2f} of them by other guests of the host)" if stolen > 0.1 * others else ""
    return f"others used {others:.2f} cores{hosted}{tried}; at most {figures['allowed_cores']:.2f} are allowed"


def _advice(figures: Figures) -> str:
    """Another process can be ended; where a host places the cores of its guest cannot be chosen."""
    return (
        "Measure again, on another machine if it stays so."
        if "quick_s" in figures
        else "Measure again on an idle machine."
    )


def _tried(num_measured: int, waited_s: float) -> str:
    """`, even after 2 attempts and waiting 31.0 s for quiet`; empty for a single attempt without waiting."""
    tried = [f"{num_measured} attempts"] if num_measured > 1 else []
    tried += [f"waiting {duration(waited_s)} for quiet"] if waited_s else []
    return f", even after {' and '.join(tried)}" if tried else ""


def _together(warnings: Sequence[RecordWarning]) -> str:
    """Disturbed parts of one record in one sentence, with the figures of the most disturbed of them."""
    named = {"disturbed": "{}", "layers_disturbed": "layers in {}", "sweep_disturbed": "points of the sweep"}
    parts = [named[warning.kind].format(scenario_name(warning.scenario)) for warning in warnings]
    worst = max(warnings, key=_others_cores)
    return f"{capital(', '.join(parts))}: {NOT_JUDGED}. {capital(reason(worst.figures))}. {_advice(worst.figures)}"


def _unstable(figures: Figures) -> str:
    """Args: figures: how uncertain the mean time is, as a share, by side."""
    named = " and ".join(f"{side} (±{percent(share, 0)})" for side, share in figures.items())
    return f"times of {named} are unstable; something else was running"


def _slow_reference(figures: Figures) -> str:
    """Args: figures: how many times slower, by backend."""
    named = ", ".join(f"{name} ({slower:.1f}x)" for name, slower in figures.items())
    return (
        f"in the jobs of {named} the reference itself was that much slower than in the quickest job on such a machine; "
        f"{_SLOW_HAND_OVER}. A slow reference flatters: they are ranked by intervals that reach down by that factor"
    )


def _variables(figures: Figures) -> str:
    """Args: figures: variables with their values: of the `notebook` alone, and of the `measured` processes too."""
    alone, too = figures.get("notebook", ""), figures.get("measured", "")
    places = [f"in this notebook, as in training, but in no measured process: {alone}"] if alone else []
    places += [f"in measured processes: {too}"] if too else []
    return f"the shell changes how fast or how exactly libraries compute, {'; '.join(places)}"


_WORDS: dict[WarningKind, Callable[[Figures], str]] = {
    "too_many_threads": _too_many_threads,
    "emulated": _emulated,
    "random_weights": _random_weights,
    "near_chance": _near_chance,
    "inconclusive": _inconclusive,
    "investigate": _investigate,
    "disturbed": _disturbed,
    "layers_disturbed": _disturbed,
    "sweep_disturbed": _disturbed,
    "unstable": _unstable,
    "slow_reference": _slow_reference,
    "variables": _variables,
}
