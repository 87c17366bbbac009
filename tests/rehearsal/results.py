"""What a walk is given and what it leaves: events and variations, results of jobs and steps, annotations."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.rehearsal.hub import Artifacts


class WorkflowError(ValueError):
    """A file or a step that GitHub would refuse, or that asks for what is not rehearsed."""


@dataclass(frozen=True)
class Event:
    """What started the workflow."""

    name: str = "workflow_dispatch"  # push, pull_request, merge_group, schedule or this
    inputs: Mapping[str, str] = field(default_factory=dict)  # what was typed into the form
    variables: Mapping[str, str] = field(default_factory=dict)  # of the repository
    changed: Sequence[str] = ("lib/__init__.py",)  # files of the commit or pull request


@dataclass(frozen=True)
class Variation:
    """What a scenario changes about a walk."""

    env: Mapping[str, str] = field(default_factory=dict)  # overrides, for steps that set the variable themselves
    lost: Sequence[str] = ()  # artifacts that never arrive
    broken: Sequence[str] = ()  # steps, as "job/step name", that end with status 1
    patch: Callable[[str, Path], None] | None = None  # called with job and workspace after each checkout
    earlier: Walk | None = None  # a walk of the same event, of which `kept` jobs are taken over instead of run again
    kept: Sequence[str] = ()  # names of jobs, or of legs
    attempt: int = 1  # above 1: the earlier walk was the attempt before, and all that it uploaded is still there
    past: Mapping[int, Mapping[str, bytes]] = field(default_factory=dict)  # artifacts (zips) of earlier runs on main
    replay: Path | None = None  # a run folder: 01, 02 and 03 are taken from it instead of being run


@dataclass(frozen=True)
class Annotation:
    """An `::error::`, `::warning::` or `::notice::`, unescaped."""

    level: str
    message: str
    properties: dict[str, str]


def read_annotations(output: str) -> list[Annotation]:
    """Annotations in what a step printed."""
    found = []
    for level, properties, message in re.findall(r"(?m)^::(error|warning|notice)(?: ([^\n]*?))?::(.*)$", output):
        pairs = (part.split("=", 1) for part in properties.split(",") if part)
        found.append(Annotation(level, _plain(message), {name: _plain(value) for name, value in pairs}))
    return found


def _plain(text: str) -> str:
    for escaped, plain in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(escaped, plain)
    return text


@dataclass
class StepResult:
    """How one step ended."""

    name: str
    outcome: str = "success"  # success, failure, skipped
    error: str = ""


@dataclass
class JobResult:
    """How one job, or one leg of a matrix, ended."""

    name: str
    id: str
    result: str  # success, failure, skipped
    reason: str = ""
    seconds: float = 0.0
    steps: list[StepResult] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    annotations: list[Annotation] = field(default_factory=list)
    summary: str = ""
    log: str = ""  # all that its steps printed

    @property
    def failed_steps(self) -> list[str]:
        return [step.name for step in self.steps if step.outcome == "failure"]


@dataclass
class Walk:
    """All jobs of one rehearsal and what they left."""

    jobs: list[JobResult] = field(default_factory=list)
    artifacts: Artifacts = field(default_factory=lambda: Artifacts(Path()))
    broke: set[str] = field(default_factory=set)  # steps that the variation let fail

    def job(self, name: str) -> JobResult:
        """The job or leg of that name."""
        return next(job for job in self.jobs if job.name == name)

    @property
    def results(self) -> dict[str, str]:
        """Result by name."""
        return {job.name: job.result for job in self.jobs}
