"""04_compare: which records to expect."""

from __future__ import annotations

from pathlib import Path

from lib.backends import default_names, get_backend
from lib.records.comparison import Comparison, load_comparison


def load_records(run_dir: Path, backends: str) -> Comparison:
    """Read the benchmark records of a run.

    Args:
        backends: names to expect, comma-separated; empty = all default ones.

    Raises:
        UserError: an unknown backend, a damaged record, or records of different networks or data.
    """
    names = [get_backend(name.strip()).name for name in backends.split(",") if name.strip()]
    return load_comparison(run_dir, names or default_names())
