"""Three outcomes, and how they add up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from lib.ci.github import command, shown
from lib.report.table import Cell, Table, Tone, Value

Outcome = Literal["pass", "investigate", "fail"]
EXIT_STATUS: dict[Outcome, int] = {"pass": 0, "fail": 1, "investigate": 3}
_WORST_FIRST: tuple[Outcome, ...] = ("fail", "investigate", "pass")
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


class Verdicts(Sequence[Verdict]):
    """All of a run, the worst first."""

    def __init__(self, verdicts: Sequence[Verdict]) -> None:
        self._all = sorted(verdicts, key=lambda verdict: _WORST_FIRST.index(verdict.outcome))

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self._all[index]

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Verdict]:
        return iter(self._all)

    def of(self, outcome: Outcome) -> list[Verdict]:
        """Those with one outcome."""
        return [verdict for verdict in self._all if verdict.outcome == outcome]

    @property
    def outcome(self) -> Outcome:
        """The worst. Nothing looked at is a failure: a gate that saw nothing must not be green."""
        return self._all[0].outcome if self._all else "fail"

    @property
    def exit_status(self) -> int:
        """0 pass, 1 fail, 3 investigate."""
        return EXIT_STATUS[self.outcome]

    @property
    def words(self) -> str:
        """`investigate: 2 to be looked at, 21 passed`."""
        counts = {"failed": self.of("fail"), "to be looked at": self.of("investigate"), "passed": self.of("pass")}
        return f"{self.outcome}: " + (
            ", ".join(f"{len(found)} {name}" for name, found in counts.items() if found) or "nothing was looked at"
        )


def verdict_table(verdicts: Verdicts) -> Table:
    """What failed or deserves a look, one by one; what passed by check, with the one that came nearest to a bound."""
    rows = [_row(verdict, verdict.subject) for outcome in ("fail", "investigate") for verdict in verdicts.of(outcome)]
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
    outcome = verdict.outcome
    return [
        Cell(f"{_SIGNS[outcome]} {outcome}", tone=_TONES[outcome]),
        verdict.check,
        subject,
        verdict.found,
        verdict.asked,
    ]


def verdict_annotations(verdicts: Verdicts) -> list[str]:
    """Workflow commands: an error for each failure, a warning for each that deserves a look."""
    kinds: tuple[tuple[Outcome, str], ...] = (("fail", "error"), ("investigate", "warning"))
    return [
        line
        for outcome, kind in kinds
        for line in shown([_annotation(verdict, kind) for verdict in verdicts.of(outcome)], kind)
    ]


def _annotation(verdict: Verdict, kind: str) -> str:
    message = f"{verdict.found}; asked: {verdict.asked}" if verdict.asked else verdict.found
    return command(kind, message, title=f"Gate, {verdict.outcome}: {_about(verdict)}")


def _about(verdict: Verdict) -> str:
    return f"{verdict.check}, {verdict.subject}" if verdict.subject else verdict.check
