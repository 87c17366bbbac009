"""Engines: what runs the combinations of a sweep, one file each, found by being here.

A combination goes in; its run folder, with records and the exit status of each notebook in its list, comes out. To add
an engine, add a file with a subclass of `Engine`.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lib.errors import UserError, unknown
from lib.files import import_modules
from lib.records.run import Job
from lib.records.schema import BENCHMARK
from lib.series.combination import Combination

AGAIN = ", and run the sweep again"  # at the end of why a combination did not run


@dataclass(frozen=True)
class Task:
    """A combination that is to run."""

    combination: Combination
    run_dir: Path
    jobs: Sequence[Job]  # of the combination

    @property
    def num_threads(self) -> int:
        """Threads that its parameters ask for; 0: as many as there are cores for it."""
        return max((int(job.values.get("num_threads", 0)) for job in self.jobs), default=0)

    @property
    def whole_node(self) -> bool:
        """Whether it measures times, so that nothing may run beside it."""
        return any(job.notebook == BENCHMARK for job in self.jobs)


@dataclass(frozen=True)
class Event:
    """Where a task is, or how it ended."""

    task: Task
    node: str
    line: str = ""  # what its launch printed last
    reason: str | None = None  # None while it runs; why it did not run, empty if it did


class Engine(ABC):
    """Runs tasks somewhere."""

    name: ClassVar[str]  # as in `--engine NAME`

    def __init__(self, jobs: int, at: str) -> None:
        """Remember the options.

        Args:
            jobs: combinations at a time on one node, which share its cores.
            at: where; what it means is the engine's own.
        """
        self.jobs, self.at = jobs, at

    @abstractmethod
    def connect(self) -> None:
        """Make sure that it can run something, before anything is written.

        Raises:
            UserError: not installed, not reachable, or an option that makes no sense here.
        """

    @abstractmethod
    def run(self, tasks: Sequence[Task]) -> Iterator[Event]:
        """Run all; yields events as they come, the last of each task with a reason. Ends what runs when it is closed.

        Raises:
            UserError: the engine itself is gone.
        """


def get_engine(name: str) -> type[Engine]:
    """The engine of this name.

    Raises:
        UserError: there is none.
    """
    import_modules(__name__, __path__)
    found = {engine.name: engine for engine in Engine.__subclasses__()}
    if name not in found:
        raise unknown("engine", name, sorted(found))
    return found[name]


def imported(package: str, engine: str) -> Any:
    """A package that an engine needs.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name} is not installed; `make EXTRAS={engine} .venv` installs what --engine {engine} needs, and "
            "--engine local needs nothing"
        ) from None


def first_line(error: BaseException) -> str:
    """What an error says first; its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
