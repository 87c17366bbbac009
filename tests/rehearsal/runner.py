"""Walks a workflow: jobs in the order of their needs, and the legs of a matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from tests.rehearsal.api import Api
from tests.rehearsal.expressions import ExpressionError, Lenient, Scope, as_text
from tests.rehearsal.hub import Artifacts, Caches, make_repository
from tests.rehearsal.job import JobRun
from tests.rehearsal.results import Event, JobResult, Variation, Walk, WorkflowError

JOB_KEYS = {"name", "needs", "if", "runs-on", "permissions", "environment", "concurrency", "outputs", "env", "steps",
            "timeout-minutes", "strategy"}  # fmt: skip
REFS = {"pull_request": "refs/pull/1/merge", "merge_group": "refs/heads/gh-readonly-queue/main/pr-1-" + "0" * 40}
Spec = dict[str, Any]


def read_workflow(root: Path, path: str) -> Spec:
    """A workflow file. All scalars are texts, as expressions read most of them.

    Raises:
        WorkflowError: it has a key that is not rehearsed: passing over what GitHub would obey proves nothing.
    """
    content: Spec = yaml.load((root / path).read_text(), yaml.BaseLoader)
    for name, job in content["jobs"].items():
        unknown = set(job) - (JOB_KEYS if "steps" in job else {"name", "uses", "permissions", "with"})
        if unknown or job.get("strategy", {"fail-fast": "false"}).get("fail-fast") != "false":
            raise WorkflowError(f"{path}: job {name!r}: only fail-fast: false, and not {sorted(unknown)}, is rehearsed")
    return content


def needs_of(job: Spec) -> list[str]:
    """Ids under `needs`, which may be one name or a list."""
    needs = job.get("needs") or []
    return [needs] if isinstance(needs, str) else list(needs)


class Runner:
    """Walks one workflow file."""

    def __init__(
        self,
        source: Path,
        out: Path,
        event: Event,
        variation: Variation | None = None,
        say: Callable[[str], None] = lambda line: None,
        parallel: int = 1,
    ) -> None:
        """`source` is the tree to rehearse, `out` a new folder, `parallel` how many legs of a matrix run at a time."""
        self.source, self.out, self.event, self.say, self.parallel = source, out, event, say, parallel
        self.variation = variation or Variation()
        self.walk = Walk(artifacts=Artifacts(out / "artifacts", self.variation.lost, self.variation.attempt))
        self.api, self.caches = Api(self.variation.past), Caches(out / "caches")
        self.repository = make_repository(source, out / "origin", event.changed)
        self.ref = REFS.get(event.name, "refs/heads/main")
        self.sha = self.repository.merged if event.name in REFS else self.repository.head
        for artifact in self.variation.earlier.artifacts.uploaded if self.variation.earlier else ():
            if self.variation.attempt > 1 or artifact.owner in self.variation.kept:
                self.walk.artifacts.uploaded.append(artifact)

    def run(self, path: str) -> Walk:
        """Walk the workflow; one that only calls another is walked as that one, with the inputs that it hands over."""
        workflow = read_workflow(self.source, path)
        if self.event.name not in workflow["on"]:
            raise WorkflowError(f"{path} does not start on {self.event.name!r}")
        contexts = {"github": self._github(path), "vars": Lenient(self.event.variables), "inputs": self._form(workflow)}
        (job, *more) = workflow["jobs"].values()
        if "uses" in job and not more:
            given = Scope(contexts, {}).texts(job["with"])
            workflow = read_workflow(self.source, job["uses"].removeprefix("$/"))
            if unknown := set(given) ^ set(workflow["on"]["workflow_call"]["inputs"]):
                raise WorkflowError(f"{path}: inputs that only one of caller and called has: {sorted(unknown)}")
            contexts["inputs"] = given
        contexts["env"] = Scope(contexts, {}).texts(workflow.get("env"))
        with self.api.serving():
            contexts["github"]["api_url"] = self.api.address
            self._jobs(workflow, contexts)
        return self.walk

    def _form(self, workflow: Spec) -> dict[str, str]:
        """Every input, by what was typed into the form, or its default; empty where something else started it."""
        triggers = [workflow["on"].get(name) or {} for name in ("workflow_call", "workflow_dispatch")]
        inputs = {name: spec for trigger in triggers for name, spec in (trigger.get("inputs") or {}).items()}
        if unknown := set(self.event.inputs) - set(inputs):
            raise WorkflowError(f"there is no input {', '.join(sorted(unknown))}")
        if self.event.name != "workflow_dispatch":
            return dict.fromkeys(inputs, "")
        return {name: self.event.inputs.get(name, spec.get("default", "")) for name, spec in inputs.items()}

    def _github(self, path: str) -> dict[str, Any]:
        """The `github` context before a job is known."""
        base = self.repository.base
        events: dict[str, dict[str, Any]] = {
            "push": {"before": base, "after": self.repository.head},
            "merge_group": {"merge_group": {"base_sha": base, "head_sha": self.sha}},
        }
        return {
            "event_name": self.event.name,
            "event": events.get(self.event.name, {}),
            "ref": self.ref,
            "sha": self.sha,
            "repository": "owner/repository",
            "actor": "someone",
            "run_id": "1",
            "run_attempt": str(self.variation.attempt),
            "workflow_ref": f"owner/repository/{path}@{self.ref}",
            "server_url": "https://github.com",
        }

    def _jobs(self, workflow: Spec, contexts: Spec) -> None:
        done: dict[str, Spec] = {}  # what `needs` says of each: result and outputs
        above: dict[str, set[str]] = {}  # results of all jobs that one needs, however far up
        for identity, job in workflow["jobs"].items():
            needs = {need: done[need] for need in needs_of(job)}  # a file names them before
            above[identity] = {done[need]["result"] for need in needs}.union(*(above[need] for need in needs))
            try:
                legs = self._legs(identity, job, {**contexts, "needs": needs}, above[identity])
            except (ExpressionError, WorkflowError) as error:
                legs = [JobResult(identity, identity, "failure", reason=str(error))]
            self.walk.jobs += legs
            results = {leg.result for leg in legs}
            outputs = {name: value for leg in legs for name, value in leg.outputs.items() if value}
            done[identity] = {
                "result": next(one for one in ("failure", "success", "skipped") if one in results),
                "outputs": {**dict.fromkeys(job.get("outputs") or {}, ""), **outputs},
            }
            self.say(f"{done[identity]['result']:9} {identity}")

    def _legs(self, identity: str, job: Spec, contexts: Spec, above: set[str]) -> list[JobResult]:
        status = {"success": above <= {"success"}, "failure": "failure" in above, "cancelled": False, "always": True}
        functions = {name: (lambda value=value: value) for name, value in status.items()}
        scope = Scope(contexts, functions)
        if not scope.holds(job.get("if")):
            return [JobResult(identity, identity, "skipped")]
        matrices = expand_matrix(scope.fill(job.get("strategy") or {}).get("matrix"))

        def leg(matrix: Mapping[str, Any]) -> JobResult:
            inner = {**contexts, "matrix": matrix}
            name = as_text(Scope(inner, {}).fill(job["name"]))
            if self.variation.earlier and name in self.variation.kept:
                return replace(self.variation.earlier.job(name))
            return JobRun(self, identity, name, job, inner).run()

        with ThreadPoolExecutor(self.parallel) as pool:
            return list(pool.map(leg, matrices))


def expand_matrix(matrix: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The legs of a matrix that has one vector or `include` alone; one leg where there is none.

    Raises:
        WorkflowError: it is empty, which GitHub refuses, or has more.
    """
    if matrix is None:
        return [{}]
    ((name, values),) = matrix.items() if len(matrix) == 1 else [("", [])]
    if not values:
        raise WorkflowError(f"the matrix {dict(matrix)} has no values, or more than one vector")
    return list(values) if name == "include" else [{name: value} for value in values]
