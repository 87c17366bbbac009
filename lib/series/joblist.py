"""The list of a run's jobs, `series.json`: launches add to it, a new training takes away what measured another network.

Times of the run are told from its jobs alone, so that they hold whoever ran which of them, and when.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lib.analysis.csv_files import LAYERS_CSV, SCENARIOS_CSV, SWEEP_CSV
from lib.files import write_atomic
from lib.html.index import write_index
from lib.html.provenance import hosted
from lib.records.run import SERIES_FILE
from lib.series.jobs import BENCHMARK, COMPARE

Entry = dict[str, Any]


def add_jobs(run_dir: Path, ended: Sequence[Entry]) -> None:
    """List jobs that ended, and make the index again. Earlier jobs of the folder stay until they run again.

    So does the note of an earlier launch, while jobs of it are listed and this one brings no note of its own.
    """
    earlier = _read(run_dir)
    mine = {_key(entry) for entry in ended}
    kept = [entry for entry in earlier["notebooks"] if _key(entry) not in mine]
    note = hosted().get("note", "") or (str(earlier.get("note") or "") if kept else "")
    _write(run_dir, [*kept, *ended], note)


def forget_network(run_dir: Path) -> None:
    """Remove whatever measured the network before: records, tables, notebooks, pages and their places in the list."""
    for folder in ("results", "notebooks", "pages"):
        for name in (BENCHMARK, COMPARE):
            for path in (run_dir / folder).glob(f"{name}.*"):
                path.unlink()
    for name in (SCENARIOS_CSV, LAYERS_CSV, SWEEP_CSV):
        (run_dir / "results" / name).unlink(missing_ok=True)
    earlier = _read(run_dir)
    kept = [entry for entry in earlier["notebooks"] if entry.get("notebook") not in (BENCHMARK, COMPARE)]
    if len(kept) < len(earlier["notebooks"]):
        _write(run_dir, kept, str(earlier.get("note") or ""))


def _key(entry: Entry) -> tuple[str, str]:
    return str(entry.get("notebook") or ""), str(entry.get("backend") or "")


def _read(run_dir: Path) -> Entry:
    """The list as it is; empty where there is none that can be read."""
    try:
        found = json.loads((run_dir / SERIES_FILE).read_bytes())
        known = {"started": str(found.get("started") or "")}  # lists of earlier versions have one time for all
        entries = [{**known, **entry} for entry in found["notebooks"] if isinstance(entry, dict)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {"notebooks": []}
    return {**found, "notebooks": entries}


def _write(run_dir: Path, entries: Sequence[Entry], note: str) -> None:
    times = [str(entry["started"]) for entry in entries if entry.get("started")]
    content: Entry = {"started": min(times, default=""), **({"note": note} if note else {})}
    content["notebooks"] = sorted(entries, key=lambda entry: str(entry.get("notebook")))
    write_atomic(run_dir / SERIES_FILE, json.dumps(content, indent=1) + "\n")
    write_index(run_dir)
