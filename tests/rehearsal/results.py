"""What a walk is given, and what it tells: events and variations, results of jobs and steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.rehearsal.commandfiles import Annotation
from tests.rehearsal.hub import Artifacts

EVENTS = ("push", "pull_request", "merge_group", "schedule", "workflow_dispatch")


@dataclass(frozen=True)
class Event:
    """What started the workflow."""

    name: str = "workflow_dispatch"  # one of `EVENTS`
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


@dataclass
class StepResult:
    """How one step ended. `outcome` is before continue-on-error, `conclusion` after."""

    name: str
    outcome: str
    conclusion: str
    seconds: float = 0.0
    stand_in: str = ""
    error: str = ""


@dataclass
class JobResult:
    """How one job, or one leg of a matrix, ended."""

    name: str
    id: str
    result: str  # success, failure, cancelled, skipped
    reason: str = ""
    seconds: float = 0.0
    steps: list[StepResult] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    annotations: list[Annotation] = field(default_factory=list)
    summary: str = ""
    log: Path | None = None


@dataclass
class Walk:
    """All jobs of one rehearsal and what they left."""

    out: Path
    jobs: list[JobResult] = field(default_factory=list)
    artifacts: Artifacts = field(default_factory=lambda: Artifacts(Path()))

    def job(self, name: str) -> JobResult:
        """The job or leg with that name; of one in a called workflow, the last part is enough."""
        return next(job for job in self.jobs if job.name.split(" / ")[-1] == name)

    def legs(self, identity: str) -> list[JobResult]:
        """All legs of a job."""
        return [job for job in self.jobs if job.id == identity]

    @property
    def results(self) -> dict[str, str]:
        """Result by name, without the name of a calling job before it."""
        return {job.name.split(" / ")[-1]: job.result for job in self.jobs}

    @property
    def failed(self) -> bool:
        return any(job.result in ("failure", "cancelled") for job in self.jobs)
