"""Three outcomes, and how they add up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lib.ci.github import command, shown
from lib.report.table import Cell, Table, Tone, Value

Outcome = Literal["pass", "investigate", "fail"]
EXIT_STATUS: dict[Outcome, int] = {"pass": 0, "fail": 1, "investigate": 3}
_TONES: dict[Outcome, Tone] = {"pass": "good", "investigate": "warn", "fail": "bad"}
_SIGNS: dict[Outcome, str] = {"pass": "✓", "investigate": "?", "fail": "✗"}  # never colour alone


@dataclass(frozen=True)
class Verdict:
    """One thing that was looked at."""

    check: str  # what: top-1, agreement, ...
    subject: str  # of which split, backend or file
    outcome: Outcome
    found: str
    asked: str = ""
    margin: float = 0.0  # distance from the nearest bound, in the unit of the check: of equals, the least is shown


class Verdicts(tuple[Verdict, ...]):
    """All of a run."""

    def of(self, outcome: Outcome) -> list[Verdict]:
        """Those with one outcome."""
        return [verdict for verdict in self if verdict.outcome == outcome]

    @property
    def outcome(self) -> Outcome:
        """The worst. Nothing looked at is a failure: a gate that saw nothing must not be green."""
        if self.of("fail") or not self:
            return "fail"
        return "investigate" if self.of("investigate") else "pass"

    @property
    def words(self) -> str:
        """`investigate: 2 to be looked at, 21 passed`."""
        counts = {"failed": self.of("fail"), "to be looked at": self.of("investigate"), "passed": self.of("pass")}
        return f"{self.outcome}: " + (
            ", ".join(f"{len(found)} {name}" for name, found in counts.items() if found) or "nothing was looked at"
        )


def verdict_table(verdicts: Verdicts) -> Table:
    """What failed or deserves a look, one by one; what passed by check, with the one that came nearest to a bound."""
    rows = [_row(verdict, verdict.subject) for verdict in (*verdicts.of("fail"), *verdicts.of("investigate"))]
    passed: dict[str, list[Verdict]] = {}
    for verdict in verdicts.of("pass"):
        passed.setdefault(verdict.check, []).append(verdict)
    for group in passed.values():
        nearest = min(group, key=lambda verdict: verdict.margin)
        others = f" and {len(group) - 1} more" if len(group) > 1 else ""
        rows.append(_row(nearest, nearest.subject + others))
    columns = ["verdict", "check", "of", "found", "asked"]
    return Table(columns, rows, caption=f"Gate: {verdicts.words}", compact=True, align_numbers=False)


def _row(verdict: Verdict, subject: str) -> list[Value]:
    sign = Cell(f"{_SIGNS[verdict.outcome]} {verdict.outcome}", tone=_TONES[verdict.outcome])
    return [sign, verdict.check, subject, verdict.found, verdict.asked]


def verdict_annotations(verdicts: Verdicts) -> list[str]:
    """Workflow commands: an error for each failure, a warning for each that deserves a look."""
    errors = [_annotation(verdict, "error") for verdict in verdicts.of("fail")]
    warnings = [_annotation(verdict, "warning") for verdict in verdicts.of("investigate")]
    return [*shown(errors, "error"), *shown(warnings, "warning")]


def _annotation(verdict: Verdict, kind: str) -> str:
    message = f"{verdict.found}; asked: {verdict.asked}" if verdict.asked else verdict.found
    about = f"{verdict.check}, {verdict.subject}" if verdict.subject else verdict.check
    return command(kind, message, title=f"Gate, {verdict.outcome}: {about}")
