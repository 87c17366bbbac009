"""Which backends are measured again: those whose speedup 04 suspects, and that have no second measurement yet."""

from __future__ import annotations

import json
from pathlib import Path

from lib.analysis.history import SUSPECTED
from lib.records.run import run_folder
from lib.records.schema import COMPARE, CompareRecord, read_record, record_path, second_path


def suspects(run_dir: Path) -> str:
    """A JSON list of backends for the matrix of `confirm`; empty text where there is none, as a matrix may not be.

    Raises:
        UserError: no such folder, or a record of 04 that cannot be read.
    """
    run = run_folder(run_dir)
    path = record_path(run, COMPARE)
    history = read_record(path, CompareRecord).history if path.exists() else {}  # none: nothing was measured
    found = [
        backend
        for backend, verdicts in history.items()
        if SUSPECTED in verdicts.values() and not second_path(run, backend).exists()
    ]
    return json.dumps(found) if found else ""
