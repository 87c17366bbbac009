"""What long work reports while it runs: a line of text each time. The caller says where the lines go."""

from __future__ import annotations

import sys
from collections.abc import Callable

Progress = Callable[[str], None]


def silent(line: str) -> None:
    """For callers that show nothing."""


def to_stdout(line: str) -> None:
    """For commands that have nothing else to print."""
    print(line, flush=True)


def to_stderr(line: str) -> None:
    """For commands whose result goes to standard output."""
    print(line, file=sys.stderr, flush=True)
