"""This machine alone."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Sequence

from lib.errors import UserError
from lib.granted import CORES, num_cores
from lib.series.combination import LOG, Process, last_line
from lib.series.engines import Engine, Event, Task

POLL_S = 0.2


class Local(Engine):
    """Combinations side by side, each on cores of its own; those that measure times come last, one at a time."""

    name = "local"

    def connect(self) -> None:
        """See `Engine`."""
        if self.at:
            raise UserError("--at is for the other engines; --engine local is this machine")
        if self.jobs > num_cores():
            raise UserError(f"--jobs {self.jobs}: {num_cores()} cores are granted here; give at most as many jobs")

    def run(self, tasks: Sequence[Task]) -> Iterator[Event]:
        """See `Engine`."""
        yield from self._side_by_side([task for task in tasks if not task.whole_node], self.jobs)
        yield from self._side_by_side([task for task in tasks if task.whole_node], 1)

    def _side_by_side(self, tasks: Sequence[Task], jobs: int) -> Iterator[Event]:
        size, node = num_cores() // jobs, platform.node()
        cores = (
            [",".join(map(str, sorted(CORES)[start * size :][:size])) for start in range(jobs)] if jobs > 1 else [""]
        )
        waiting = list(tasks)
        running: dict[str, tuple[Task, Process]] = {}  # by the cores that they have
        try:
            while waiting or running:
                for free in [group for group in cores if group not in running][: len(waiting)]:
                    task = waiting.pop(0)
                    running[free] = task, Process(task.combination, task.run_dir, cores=free)
                time.sleep(POLL_S)
                for used, (task, process) in list(running.items()):
                    if process.runs():
                        yield Event(task, node, last_line(task.run_dir / LOG))
                    else:
                        del running[used]
                        yield Event(task, node, reason=process.reason())
        finally:
            for _, process in running.values():
                process.stop()
