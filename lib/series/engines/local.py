"""This machine alone."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Sequence

from lib.errors import UserError
from lib.granted import num_cores
from lib.series.combination import LOG, Process, last_line
from lib.series.engines import Engine, Event, Task

POLL_S = 0.2


class Local(Engine):
    """Combinations side by side, with as many cores each; those that measure times come last, one at a time."""

    name = "local"

    def connect(self) -> None:
        """See `Engine`."""
        if self.at:
            raise UserError("--at is for the other engines; --engine local is this machine")
        if self.jobs > num_cores():
            raise UserError(f"--jobs {self.jobs}: {num_cores()} cores are granted here; give at most as many jobs")

    def run(self, tasks: Sequence[Task]) -> Iterator[Event]:
        """See `Engine`."""
        yield from _side_by_side([task for task in tasks if not task.whole_node], self.jobs)
        yield from _side_by_side([task for task in tasks if task.whole_node], 1)


def _side_by_side(waiting: list[Task], jobs: int) -> Iterator[Event]:
    running: list[tuple[Task, Process]] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                task = waiting.pop(0)
                running.append((task, Process(task.combination, task.run_dir, num_cores=num_cores() // jobs)))
            time.sleep(POLL_S)
            for task, process in list(running):
                reason = None if process.runs() else process.reason()
                if reason is not None:
                    running.remove((task, process))
                yield Event(task, platform.node(), last_line(task.run_dir / LOG), reason)
    finally:
        for _, process in running:
            process.stop()
