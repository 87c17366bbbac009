"""Walks a workflow: jobs in the order of their needs, legs of a matrix, called workflows, and the rules for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.rehearsal.api import Api
from tests.rehearsal.expressions import (
    Declared,
    ExpressionError,
    Function,
    Scope,
    condition,
    interpolate,
    resolve,
    to_string,
)
from tests.rehearsal.hub import Artifacts, Caches, Repository, make_repository
from tests.rehearsal.job import JobRun
from tests.rehearsal.results import Event, JobResult, Variation, Walk
from tests.rehearsal.workflow import (
    Workflow,
    WorkflowError,
    expand_matrix,
    needs_of,
    permissions_of,
    read_workflow,
    typed_inputs,
)

REFS = {"pull_request": "refs/pull/1/merge", "merge_group": "refs/heads/gh-readonly-queue/main/pr-1-" + "0" * 40}


class Runner:
    """Walks one workflow file; a called workflow is walked by the same runner."""

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
        self.source, self.out, self.event, self.say = source, out, event, say
        self.variation = variation or Variation()
        artifacts = Artifacts(out / "artifacts", frozenset(self.variation.lost), self.variation.attempt)
        self.walk = Walk(out, artifacts=artifacts)
        self.api = Api(self.variation.past)
        self.caches = Caches(out / "caches")
        self.repository: Repository = make_repository(source, out / "origin", event.changed)
        self.ref = REFS.get(event.name, "refs/heads/main")
        self.sha = self.repository.merged if event.name in REFS else self.repository.head
        self.cancelled, self.parallel = False, parallel
        self.broke: set[str] = set()  # what the variation let fail
        for artifact in self.variation.earlier.artifacts.uploaded if self.variation.earlier else ():
            if self.variation.attempt > 1 or artifact.owner.split(" / ")[-1] in self.variation.kept:
                self.walk.artifacts.keep(artifact)
        self.matplotlib = out / "matplotlib"

    def run(self, path: str) -> Walk:
        """Walk the workflow; raises WorkflowError for a file that GitHub would refuse."""
        workflow = read_workflow(self.source, path)
        trigger = workflow.trigger(self.event.name)
        inputs = {**workflow.no_inputs(), **typed_inputs(trigger.get("inputs"), self.event.inputs, strings=True)}
        with self.api.serving():
            context = self.github(workflow, inputs)
            self.run_jobs(workflow, context, inputs, "", None, self.concurrency(workflow, context, inputs))
        return self.walk

    def github(self, workflow: Workflow, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The `github` context before a job is known."""
        repository = self.repository
        events: dict[str, dict[str, Any]] = {
            "push": {"before": repository.base, "after": repository.head, "forced": False, "created": False},
            "pull_request": {
                "number": 1,
                "action": "synchronize",
                "pull_request": {
                    "number": 1,
                    "base": {"sha": repository.base, "ref": "main"},
                    "head": {"sha": repository.head, "ref": "topic", "repo": {"full_name": "owner/repository"}},
                },
            },
            "merge_group": {"merge_group": {"base_sha": repository.base, "head_sha": self.sha, "base_ref": "main"}},
            "schedule": {"schedule": "0 0 * * 0"},
            "workflow_dispatch": {"inputs": dict(self.event.inputs)},
        }
        pull = self.event.name == "pull_request"
        return {
            "event_name": self.event.name,
            "event": {
                **events[self.event.name],
                "repository": {"default_branch": "main", "full_name": "owner/repository"},
            },
            "ref": self.ref,
            "ref_name": self.ref.removeprefix("refs/heads/").removeprefix("refs/pull/"),
            "ref_type": "branch",
            "head_ref": "topic" if pull else "",
            "base_ref": "main" if pull else "",
            "sha": self.sha,
            "repository": "owner/repository",
            "repository_owner": "owner",
            "repository_id": "1",
            "run_id": "1",
            "run_number": "1",
            "run_attempt": str(self.variation.attempt),
            "workflow": str(workflow.content.get("name", workflow.path)),
            "workflow_ref": f"owner/repository/{workflow.path}@{self.ref}",
            "workflow_sha": self.sha,
            "actor": "octocat",
            "triggering_actor": "octocat",
            "server_url": "https://github.com",
            "api_url": self.api.address,
            "graphql_url": "https://api.github.com/graphql",
        }

    def concurrency(self, workflow: Workflow, github: dict[str, Any], inputs: Mapping[str, Any]) -> set[str]:
        """The concurrency group of a workflow, as a set of none or one."""
        given = workflow.content.get("concurrency")
        if given is None:
            return set()
        group = given["group"] if isinstance(given, dict) else given
        scope = Scope({"github": github, "inputs": Declared("inputs", inputs), "vars": dict(self.event.variables)})
        if isinstance(given, dict):
            interpolate(to_string(given.get("cancel-in-progress", "")), scope)
        return {to_string(interpolate(group, scope))}

    def run_jobs(
        self,
        workflow: Workflow,
        github: dict[str, Any],
        inputs: Mapping[str, Any],
        prefix: str,
        granted: Mapping[str, str] | None,
        groups: set[str],
    ) -> dict[str, dict[str, Any]]:
        """Walk all jobs of a file; returns what `needs` and `jobs` say of them: result and outputs."""
        for job in workflow.jobs.values():  # GitHub checks them all before any starts
            permissions_of(workflow, job, granted)
        done: dict[str, dict[str, Any]] = {}
        variables = dict(self.event.variables)
        for identity in workflow.order():
            job = workflow.jobs[identity]
            needs = Declared(
                f"needs of {identity}",
                {need: {**done[need], "outputs": Declared(f"needs.{need}.outputs", done[need]["outputs"])}
                 for need in needs_of(job)},
            )  # fmt: skip
            contexts: dict[str, Any] = {"github": github, "needs": needs, "vars": variables,
                                        "inputs": Declared("inputs", inputs)}  # fmt: skip
            name = prefix + identity
            legs: list[JobResult] = []
            ancestors = [done[one]["result"] for one in workflow.ancestors(identity)]
            outputs: dict[str, str] = {}
            declared = self._declared_outputs(job)
            try:
                if not condition(job.get("if"), Scope(contexts, self._status(ancestors))):
                    legs = [JobResult(name, identity, "skipped")]
                else:
                    legs = self._run_legs(workflow, identity, name, contexts, granted, groups)
            except (ExpressionError, WorkflowError) as error:
                legs = [JobResult(name, identity, "failure", reason=str(error))]
                self.say(f"{name}: {error}")
            self.walk.jobs += legs
            for leg in legs:
                outputs.update({key: value for key, value in leg.outputs.items() if value or key not in outputs})
            done[identity] = {
                "result": _combined([leg.result for leg in legs]),
                "outputs": {**dict.fromkeys(declared, ""), **outputs},
            }
            self.say(f"{done[identity]['result']:9} {name}")
        return done

    def _declared_outputs(self, job: Mapping[str, Any]) -> list[str]:
        if "uses" not in job:
            return list(job.get("outputs") or {})
        called = read_workflow(self.source, _local(str(job["uses"])))
        return list(called.trigger("workflow_call").get("outputs") or {})

    def _status(self, results: Sequence[str]) -> dict[str, Function]:
        """Status functions of a job's `if`. A skipped ancestor, however far up, is no success."""
        return {
            "success": lambda: not self.cancelled and all(result == "success" for result in results),
            "failure": lambda: not self.cancelled and "failure" in results,
            "cancelled": lambda: self.cancelled,
            "always": lambda: True,
        }

    def _run_legs(
        self,
        workflow: Workflow,
        identity: str,
        name: str,
        contexts: dict[str, Any],
        granted: Mapping[str, str] | None,
        groups: set[str],
    ) -> list[JobResult]:
        job = workflow.jobs[identity]
        strategy = resolve(job.get("strategy") or {}, Scope(contexts))
        matrix = strategy.get("matrix")
        combinations: list[dict[str, Any]] = expand_matrix(matrix) if matrix else [{}]
        shared = {"fail-fast": strategy.get("fail-fast", True), "job-total": len(combinations)}

        def leg(index: int) -> JobResult:
            combination = combinations[index]
            title = self._title(job, name, combination, contexts)
            kept = self._kept(title)
            if kept:
                return kept
            inner = {**contexts, "matrix": Declared("matrix", combination), "strategy": {**shared, "job-index": index}}
            if "uses" in job:
                return self._call(workflow, identity, title, inner, granted, groups)
            return JobRun(self, workflow, identity, title, inner, granted).run()

        if shared["fail-fast"] is False:
            with ThreadPoolExecutor(min(self.parallel, int(strategy.get("max-parallel", self.parallel)))) as pool:
                return list(pool.map(leg, range(len(combinations))))
        legs: list[JobResult] = []
        for index, combination in enumerate(combinations):
            if any(one.result == "failure" for one in legs):
                title = self._title(job, name, combination, contexts)
                legs.append(JobResult(title, identity, "cancelled", reason="another leg failed, and fail-fast is on"))
            else:
                legs.append(leg(index))
        return legs

    def _kept(self, title: str) -> JobResult | None:
        """The result of an earlier walk, where the variation takes it over."""
        short = title.split(" / ")[-1]
        earlier = self.variation.earlier
        return replace(earlier.job(short), name=title) if earlier and short in self.variation.kept else None

    def _title(
        self, job: Mapping[str, Any], name: str, combination: Mapping[str, Any], contexts: Mapping[str, Any]
    ) -> str:
        """A leg's name as GitHub shows it."""
        if "name" in job:
            scope = Scope({**contexts, "matrix": Declared("matrix", combination)})
            return name.removesuffix(name.split(" / ")[-1]) + to_string(interpolate(job["name"], scope))
        return name + (f" ({', '.join(to_string(value) for value in combination.values())})" if combination else "")

    def _call(
        self,
        workflow: Workflow,
        identity: str,
        title: str,
        contexts: dict[str, Any],
        granted: Mapping[str, str] | None,
        groups: set[str],
    ) -> JobResult:
        """A job that calls another workflow."""
        job = workflow.jobs[identity]
        called = read_workflow(self.source, _local(str(job["uses"])))
        trigger = called.trigger("workflow_call")
        given = resolve(job.get("with") or {}, Scope(contexts))
        inputs = {**called.no_inputs(), **typed_inputs(trigger.get("inputs"), given)}
        group = self.concurrency(called, contexts["github"], inputs)
        if group & groups:
            raise WorkflowError(f"{title}: the called workflow has its caller's concurrency group {group}: a deadlock")
        allowed = permissions_of(workflow, job, granted)
        started = time.monotonic()
        done = self.run_jobs(called, contexts["github"], inputs, f"{title} / ", allowed, groups | group)
        scope = Scope({"github": contexts["github"], "jobs": Declared("jobs", done), "inputs": inputs,
                       "vars": contexts["vars"]})  # fmt: skip
        outputs = {name: to_string(interpolate(output["value"], scope))
                   for name, output in (trigger.get("outputs") or {}).items()}  # fmt: skip
        result = _combined([one["result"] for one in done.values()])
        return JobResult(title, identity, result, seconds=time.monotonic() - started, outputs=outputs)


def _combined(results: Sequence[str]) -> str:
    for worst in ("failure", "cancelled"):
        if worst in results:
            return worst
    return "success" if "success" in results else "skipped"


def _local(uses: str) -> str:
    """Path of a workflow of this repository: `./` and `$/` (this repository, at the commit that runs) are the same."""
    if not uses.startswith(("./", "$/")):
        raise WorkflowError(f"only workflows of this repository can be rehearsed, not {uses!r}")
    return uses[2:]
