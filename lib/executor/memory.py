"""Peak memory of a notebook's kernel, cell by cell, as Linux counts it."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

from lib.report import PEAK_MEMORY


class PeakMemory:
    """The most memory that one process held between `begin` and `end`.

    Processes that it starts, such as the workers of a benchmark, are not in it. Where the system does not tell (no
    /proc, a process that has ended), nothing is written down.
    """

    def __init__(self, pid: int | None) -> None:
        self._folder = Path(f"/proc/{pid}") if pid else None

    def begin(self) -> None:
        """Forget the peak so far, so that the next one belongs to what runs now."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                (self._folder / "clear_refs").write_text("5", encoding="utf-8")

    def end(self, metadata: Any) -> None:
        """Write the peak since `begin`, in bytes, into the metadata of a cell."""
        if self._folder is None:
            return
        with contextlib.suppress(OSError):
            status = (self._folder / "status").read_text(encoding="utf-8", errors="replace")
            found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
            if found:
                metadata[PEAK_MEMORY] = int(found[1]) * 1024


def kernel_pid(client: Any) -> int | None:
    """Process of the kernel that an nbclient `client` drives; None where it runs elsewhere or has not started."""
    process = getattr(getattr(client.km, "provisioner", None), "process", None)
    return getattr(process, "pid", None)
