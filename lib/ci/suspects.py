"""Which backends are measured again: those whose speedup 04 suspects, and that have no second measurement yet."""

from __future__ import annotations

import json
from pathlib import Path

from lib.records.history import SUSPECTED
from lib.records.results import CompareRecord, read_record, record_path, second_path
from lib.report.run import run_folder
from lib.series.jobs import COMPARE


def suspects(run_dir: Path) -> str:
    """A JSON list of backends for the matrix of `confirm`; empty text where there is none, as a matrix may not be.

    Raises:
        UserError: no such folder, or no readable record of 04.
    """
    run = run_folder(run_dir)
    history = read_record(record_path(run, COMPARE), CompareRecord).history
    found = [
        backend
        for backend, verdicts in history.items()
        if SUSPECTED in verdicts.values() and not second_path(run, backend).exists()
    ]
    return json.dumps(found) if found else ""
