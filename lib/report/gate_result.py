"""The verdict of the quality gate as a run folder keeps it: the gate writes it, the index shows it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import pydantic

from lib.files import write_atomic
from lib.report.table import Table

GATE_FILE = "gate.json"


@dataclass(frozen=True)
class Judged:
    """What the gate found.

    Attributes:
        outcome: pass or investigate; a run that fails is not published.
        words: how many of what: `investigate: 2 to be looked at, 21 passed`.
        doubts: check, subject, what was found and what was asked, of everything that is to be looked at.
    """

    outcome: str
    words: str
    doubts: list[tuple[str, str, str, str]]


def write_judged(run_dir: Path, judged: Judged) -> None:
    """Raises UserError where the folder cannot be written to."""
    write_atomic(run_dir / GATE_FILE, json.dumps(asdict(judged), indent=1) + "\n")


def read_judged(run_dir: Path) -> Judged | None:
    """None where no gate has judged the run, or what it wrote cannot be read."""
    try:
        return pydantic.TypeAdapter(Judged).validate_json((run_dir / GATE_FILE).read_bytes())
    except (OSError, ValueError):
        return None


def doubts_table(judged: Judged) -> Table:
    """What is to be looked at, one by one."""
    return Table(
        ["check", "of", "found", "asked"],
        [list(doubt) for doubt in judged.doubts],
        caption="To be looked at",
        align_numbers=False,
    )
