"""Progress of long cells: a bar where a person watches, plain lines elsewhere."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Sequence
from typing import Any

from lib.records.schema import Epoch
from lib.report import SERIES_VARIABLE
from lib.report.table import Banner
from lib.report.words import duration
from lib.training.estimate import Estimate
from lib.training.loop import epoch_line

UPDATE_S = 0.2  # a bar is redrawn that often at most: each time costs a message to the browser
_COUNT = re.compile(r"\b(\d[\d,]*) of (\d[\d,]*)\b|\b(\d+) % of ")


class Bar:
    """One bar with the newest line beside it. The line is a label, so nothing in it is taken for HTML."""

    def __init__(self) -> None:
        import ipywidgets as widgets

        self._label = widgets.Label()
        self._bar = widgets.IntProgress(layout=widgets.Layout(width="16rem", flex="0 0 auto", display="none"))
        self.widget = widgets.HBox([self._bar, self._label])
        self._drawn = 0.0

    def line(self, text: str) -> None:
        """Show a line; one that counts (`200 of 4,000`, `30 % of 365 MB`) moves the bar too."""
        self._label.value = text
        if count := _COUNT.search(text):
            done, total = count[1] or count[3], count[2] or "100"
            self.count(int(done.replace(",", "")), int(total.replace(",", "")))

    def count(self, done: int, total: int) -> None:
        """Move the bar."""
        now = time.monotonic()
        if done < total and now - self._drawn < UPDATE_S:
            return
        self._drawn = now
        self._bar.layout.display = ""
        self._bar.max, self._bar.value = max(1, total), done

    def finish(self, failed: bool) -> None:
        """The cell has ended: full and green, or red where it stood."""
        self._bar.bar_style = "danger" if failed else "success"
        if not failed:
            self._bar.value = self._bar.max


def too_long(estimate: Estimate) -> str:
    """What a training says that will not end in time."""
    return (
        f"A time limit ends this training {duration(estimate.seconds_left)} after its start, and after its first steps "
        f"it looks like taking {duration(estimate.seconds)}. Give it more time (--cell-limit and --notebook-limit, in "
        "seconds) or train less (profile, num_epochs)."
    )


class Progress:
    """What cells pass as `progress`, `on_epoch`, `on_step` and `on_estimate`.

    In a live notebook each cell gets a bar of its own. Under papermill every line is printed, and steps within an epoch
    are not shown.
    """

    def __init__(self) -> None:
        self._cell: int | None = None  # execution count of the cell that `_bar` belongs to
        self._bar: Bar | None = None
        self._hooked: Any = None

    def __call__(self, line: str) -> None:
        """Tell a line."""
        if bar := self._bar_of_cell():
            bar.line(line)
        else:
            print(line, flush=True)

    def epoch(self, epoch: Epoch, total: int) -> None:
        """Tell the end of an epoch."""
        self(epoch_line(epoch, total))

    def step(self, done: int, total: int) -> None:
        """Tell that so many steps of a training are done."""
        if bar := self._bar_of_cell():
            bar.count(done, total)

    def estimate(self, estimate: Estimate) -> None:
        """Tell how long a training will take; on the page too where a time limit will end it."""
        self(f"training will take about {duration(estimate.seconds)}")
        if estimate.too_long:
            from IPython.display import display

            display(Banner(too_long(estimate)))  # type: ignore[no-untyped-call]

    def _bar_of_cell(self) -> Bar | None:
        from IPython import get_ipython

        shell = get_ipython()
        if shell is None:
            return None
        if self._cell != shell.execution_count:
            self._cell, self._bar = shell.execution_count, None
            if is_live():
                self._bar = self._show(shell)
        return self._bar

    def _show(self, shell: Any) -> Bar:
        from IPython.display import display

        bar = Bar()
        display(bar.widget)  # type: ignore[no-untyped-call]
        if self._hooked is not shell:
            shell.events.register("post_run_cell", self._end_of_cell)
            self._hooked = shell
        return bar

    def _end_of_cell(self, result: Any) -> None:
        if self._bar is not None:
            self._bar.finish(failed=not result.success)
        self._cell = self._bar = None


progress = Progress()


def is_live(history: Sequence[str] | None = None) -> bool:
    """True where a person can move a slider: a kernel that neither our launcher nor plain papermill drives.

    Args:
        history: sources of the cells that ran (IPython's `In`); read from the running kernel by default.
    """
    if os.environ.get(SERIES_VARIABLE):
        return False
    shell = _shell()
    if history is None:
        if shell is None or not hasattr(shell, "kernel"):
            return False  # no kernel, no front end
        history = shell.user_ns.get("In", [])
        if not getattr(shell.kernel, "_allow_stdin", True):
            return False  # nbclient, and so papermill and nbconvert, tell the kernel that it cannot ask for input
    return not any(source.startswith("# Parameters\n") for source in history)  # papermill's injected cell


def _shell() -> Any:
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None
