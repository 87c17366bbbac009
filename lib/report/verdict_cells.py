"""Cells that say a verdict in a sign, in words and in colour: never in colour alone."""

from __future__ import annotations

from lib.analysis.judgement import DISTURBED, Judgement
from lib.analysis.statistics import SMALLEST_EFFECT, Ratio, verdict
from lib.records.schema import Parity, ParityOutcome, Proof
from lib.report.table import Cell, Tone
from lib.report.words import NOT_JUDGED, VERDICT_SIGNS, factor, ratio_words


def ratio_tone(ratio: Ratio, noise_floor: float = SMALLEST_EFFECT) -> Tone:
    """How strongly a cell is coloured: beyond the noise, from 1.25x and from 2x."""
    judged = verdict(ratio, noise_floor)
    if judged == "no difference":
        return ""
    strength = max(ratio.value, 1 / ratio.value)
    level = 3 if strength >= 2 else 2 if strength >= 1.25 else 1
    tones: dict[str, tuple[Tone, Tone, Tone]] = {"faster": ("f1", "f2", "f3"), "slower": ("s1", "s2", "s3")}
    return tones[judged][level - 1]


def ratio_cell(ratio: Ratio, detail: str = "", noise_floor: float = SMALLEST_EFFECT) -> Cell:
    """A speedup as sign and words, coloured."""
    judged = verdict(ratio, noise_floor)
    return Cell(f"{VERDICT_SIGNS[judged]} {ratio_words(ratio, noise_floor)}", detail, ratio_tone(ratio, noise_floor))


def judgement_cell(found: Judgement, detail: str = "") -> Cell:
    """As `ratio_cell`; what was disturbed says so instead."""
    if found.disturbance is not None:
        return Cell(f"{VERDICT_SIGNS[DISTURBED]} {NOT_JUDGED}", tone="warn")
    return ratio_cell(found.ratio, detail, found.noise_floor)


def proof_cell(proof: Proof) -> Cell:
    """Whether the promise of a backend holds, and what of it needs a look."""
    if not proof.passed:
        return Cell("FAILED", proof.reason, "bad")
    return Cell("investigate", proof.investigate, "warn") if proof.investigate else Cell("passed", tone="good")


def parity_cell(parity: Parity, detail: str = "") -> Cell:
    """The outcome; without a detail, why it has not passed."""
    tones: dict[ParityOutcome, Tone] = {"passed": "good", "inconclusive": "warn", "failed": "bad"}
    text = "FAILED" if parity.outcome == "failed" else parity.outcome
    return Cell(text, detail or parity.reason, tones[parity.outcome])


def point_cell(ratio: Ratio, text: str = "{:.2f}x", tone: Tone = "") -> Cell:
    """A quotient with its interval and without a word of what it means, unless `text` has it."""
    return Cell(text.format(ratio.value), f"[{ratio.low:.2f}, {ratio.high:.2f}]", tone)


def raw_cell(ratio: Ratio) -> Cell:
    """Of what is not judged."""
    return point_cell(ratio, "{:.2f}", "muted")


def ratio_text(ratio: Ratio, floor: float) -> str:
    """Sign and factor."""
    judged = verdict(ratio, floor)
    return "=" if judged == "no difference" else f"{VERDICT_SIGNS[judged]} {factor(ratio.value):.2f}x"
