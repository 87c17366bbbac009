"""04_compare: which records to expect, and which earlier runs stand beside them."""

from __future__ import annotations

from pathlib import Path

from lib.analysis.comparison import Comparison, load_comparison
from lib.analysis.history import History, load_history
from lib.backends import default_names, get_backend, split_names
from lib.errors import UserError
from lib.records.run import networks

HOW_TO = "run python -m lib run for the whole series, or python -m lib run 03_benchmark -p backend NAME for one backend"


def load_records(run_dir: Path, backends: str) -> Comparison:
    """Read the benchmark records of a run.

    Args:
        backends: names to expect, comma-separated; empty = all default ones.

    Raises:
        UserError: an unknown backend, no record that can be read, records of different networks or data, or none of a
            network that was measured.
    """
    names = [get_backend(name).name for name in split_names(backends)]
    comparison = load_comparison(run_dir, names or default_names())
    if not networks(comparison.measured):
        why = "; ".join(f"{record.backend} {record.status}: {record.error}" for record in comparison.unmeasured)
        raise UserError(f"no backend of a network was measured{f' ({why})' if why else ''}; {HOW_TO}")
    return comparison


def load_earlier(history: str, comparison: Comparison, run_dir: Path) -> History | None:
    """Earlier runs for comparison; None where no folder was given.

    Args:
        history: folder that holds run folders; a relative path counts from the project root.

    Raises:
        UserError: no such folder.
    """
    return load_history(history, networks(comparison.measured), run_dir) if history else None
