"""04_compare: which records to expect, and which earlier runs stand beside them."""

from __future__ import annotations

from pathlib import Path

from lib.analysis.comparison import Comparison, load_comparison
from lib.analysis.history import History, load_history
from lib.backends import default_names, get_backend, split_names
from lib.records.run import networks


def load_records(run_dir: Path, backends: str) -> Comparison:
    """Read the benchmark records of a run.

    Args:
        backends: names to expect, comma-separated; empty = all default ones.

    Raises:
        UserError: an unknown backend, no record that can be read, or records of different networks or data.
    """
    names = [get_backend(name).name for name in split_names(backends)]
    return load_comparison(run_dir, names or default_names())


def load_earlier(history: str, comparison: Comparison, run_dir: Path) -> History | None:
    """Earlier runs for comparison; None where no folder was given.

    Args:
        history: folder that holds run folders; a relative path counts from the project root.

    Raises:
        UserError: no such folder.
    """
    return load_history(history, networks(comparison.measured), run_dir) if history else None
