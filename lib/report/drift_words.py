"""How a server's answers differ from those to the validation images, in words and as tables."""

from __future__ import annotations

from lib.analysis.drift import ALPHA, is_drift
from lib.records.schema import Drift
from lib.report.table import Banner, Displayed, Stack, Table, Value
from lib.report.words import percent, percent_interval, points, sentence

NO_WINDOW = (
    "Nothing is compared: that takes a release of this run and a window of answers from a server of it, given with "
    "-p window FILE."
)


def shown(drift: Drift | None) -> Displayed:
    """The verdict, with the figures of both tests and the classes that changed the most."""
    if drift is None:
        return Banner(NO_WINDOW, "info")
    tests: list[list[Value]] = [
        ["answers: how sure the network is, and of what", f"{drift.p_answers:.3f}"],
        ["mix: how often it sees each class", f"{drift.p_mix:.3f}"],
        ["both together", f"{drift.p_value:.3f}"],
    ]
    return Stack(
        Banner(sentence(drift_words(drift)), "warning" if is_drift(drift) else "info"),
        Table(["test", "p"], tests, caption=f"{drift.num_images:,} answers in {drift.num_sequences:,} sequences"),
        Table(
            ["class", "validation", "window", "change"],
            [[share.label, percent(share.validation), percent(share.window), points(share.window - share.validation)]
             for share in drift.shares],
            caption="Classes whose mean probability changed the most",
        ),
    )  # fmt: skip


def drift_words(drift: Drift) -> str:
    """`drift (p 0.001): by their confidence, 91.30 % [88.02, 94.20] % of the 300 answers are right; ...`."""
    found = f"drift ({_p(drift.p_value)})" if is_drift(drift) else f"no drift seen ({_p(drift.p_value)})"
    return (
        f"{found}: by their confidence, {percent(drift.estimated_top1)} {percent_interval(drift.interval)} of the "
        f"{drift.num_images:,} answers are right; {percent(drift.top1)} were on the validation images"
    )


def drift_lines(drift: Drift) -> list[str]:
    """The same for a terminal."""
    return [
        drift_words(drift),
        f"answers: {_p(drift.p_answers)}; mix of classes: {_p(drift.p_mix)}; both together: {_p(drift.p_value)}, "
        f"drift is <= {ALPHA}; {drift.num_sequences:,} sequences were permuted with the tracks of validation",
        *(
            f"mean probability of {share.label}: validation {percent(share.validation)}, window {percent(share.window)}"
            for share in drift.shares
        ),
    ]


def _p(value: float) -> str:
    return f"p {value:.3f}"
