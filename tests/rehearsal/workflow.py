"""Workflow and action files as data: strict reading, the job graph, matrices, permissions.

A key that the rehearsal does not know is an error: a walk that passes over what GitHub would obey proves nothing.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.rehearsal.expressions import equal, to_string

WORKFLOW_KEYS = {"name", "run-name", "on", "permissions", "env", "defaults", "concurrency", "jobs"}
JOB_KEYS = {"name", "needs", "if", "runs-on", "permissions", "environment", "concurrency", "outputs", "env", "defaults",
            "steps", "timeout-minutes", "strategy", "continue-on-error", "uses", "with"}  # fmt: skip
CALL_KEYS = {"name", "needs", "if", "permissions", "concurrency", "strategy", "uses", "with"}
STEP_KEYS = {"id", "if", "name", "uses", "run", "working-directory", "shell", "with", "env", "continue-on-error",
             "timeout-minutes"}  # fmt: skip
STRATEGY_KEYS = {"matrix", "fail-fast", "max-parallel"}
INPUT_TYPES = ("string", "boolean", "number", "choice", "environment")
LEVELS = {"none": 0, "read": 1, "write": 2}


class WorkflowError(ValueError):
    """A file that GitHub would refuse, or that asks for what the rehearsal cannot do."""


class _Loader(yaml.SafeLoader):
    """YAML 1.2 as GitHub reads it: `on` and `yes` are strings, and no key stands twice."""


_BOOL, _TIMESTAMP = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_BOOL, _TIMESTAMP)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise WorkflowError(f"key {key!r} stands twice {node.start_mark}")
    return {key: loader.construct_object(value, deep=True) for key, (_, value) in zip(keys, node.value, strict=True)}


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: Path) -> dict[str, Any]:
    """One YAML file as a mapping."""
    try:
        content = yaml.load(path.read_text(), _Loader)
    except (OSError, yaml.YAMLError) as error:
        raise WorkflowError(f"cannot read {path}: {error}") from None
    if not isinstance(content, dict):
        raise WorkflowError(f"{path} is no mapping")
    return content


def _known(what: str, given: Iterable[str], known: set[str]) -> None:
    unknown = sorted(set(given) - known)
    if unknown:
        raise WorkflowError(f"{what}: the rehearsal does not know {', '.join(unknown)}")


@dataclass(frozen=True)
class Workflow:
    """A workflow file that passed the checks."""

    path: str
    content: dict[str, Any]

    @property
    def jobs(self) -> dict[str, dict[str, Any]]:
        jobs: dict[str, dict[str, Any]] = self.content["jobs"]
        return jobs

    def trigger(self, event: str) -> dict[str, Any]:
        """What stands under `on:` for an event; raises when the workflow does not start on it."""
        triggers = self.content["on"]
        if isinstance(triggers, str):
            triggers = {triggers: None}
        if isinstance(triggers, list):
            triggers = dict.fromkeys(triggers)
        if event not in triggers:
            raise WorkflowError(f"{self.path} does not start on {event!r}; it does on: {', '.join(triggers)}")
        trigger = triggers[event]
        return trigger if isinstance(trigger, dict) else {}

    def no_inputs(self) -> dict[str, None]:
        """Every input that a form or a caller can give; they read as null where something else started the workflow."""
        triggers = self.content["on"]
        named = (
            [triggers.get(event) or {} for event in ("workflow_dispatch", "workflow_call")]
            if isinstance(triggers, dict)
            else []
        )
        return {name: None for trigger in named for name in trigger.get("inputs") or {}}

    def order(self) -> list[str]:
        """Job ids, every one after those that it needs, else as they stand in the file."""
        order: list[str] = []
        while len(order) < len(self.jobs):
            ready = [name for name, job in self.jobs.items() if name not in order and set(needs_of(job)) <= set(order)]
            if not ready:
                raise WorkflowError(f"{self.path}: jobs need each other: {sorted(set(self.jobs) - set(order))}")
            order.append(ready[0])
        return order

    def ancestors(self, name: str) -> list[str]:
        """Every job that this one needs, directly or not."""
        found: list[str] = []
        for need in needs_of(self.jobs[name]):
            found += [need, *self.ancestors(need)]
        return list(dict.fromkeys(found))


def needs_of(job: Mapping[str, Any]) -> list[str]:
    """Ids under `needs`, which may be one name or a list."""
    needs = job.get("needs") or []
    return [needs] if isinstance(needs, str) else list(needs)


def read_workflow(root: Path, path: str) -> Workflow:
    """Read and check `.github/workflows/NAME.yml` of a checkout."""
    content = read_yaml(root / path)
    _known(path, content, WORKFLOW_KEYS)
    if not content.get("jobs") or "on" not in content:
        raise WorkflowError(f"{path}: a workflow needs `on` and `jobs`")
    for name, job in content["jobs"].items():
        where = f"{path}: job {name!r}"
        _known(where, job, CALL_KEYS if "uses" in job else JOB_KEYS)
        _known(f"{where}, strategy", job.get("strategy") or {}, STRATEGY_KEYS)
        for need in needs_of(job):
            if need not in content["jobs"]:
                raise WorkflowError(f"{where} needs {need!r}, which is no job")
        if "uses" not in job:
            if "runs-on" not in job or not job.get("steps"):
                raise WorkflowError(f"{where} needs `runs-on` and `steps`")
            check_steps(where, job["steps"])
    workflow = Workflow(path, content)
    workflow.order()
    return workflow


def check_steps(where: str, steps: list[dict[str, Any]]) -> None:
    """Every step has exactly one of `run` and `uses`, known keys, and an id of its own."""
    ids: set[str] = set()
    for number, step in enumerate(steps, start=1):
        what = f"{where}, step {number}"
        _known(what, step, STEP_KEYS)
        if ("run" in step) == ("uses" in step):
            raise WorkflowError(f"{what}: give either `run` or `uses`")
        if "with" in step and "run" in step:
            raise WorkflowError(f"{what}: `with` belongs to `uses`")
        if step.get("id") in ids:
            raise WorkflowError(f"{what}: the id {step['id']!r} stands twice")
        ids |= {step["id"]} if "id" in step else set()


def read_action(folder: Path) -> dict[str, Any]:
    """A local composite action."""
    content = read_yaml(folder / "action.yml")
    _known(
        f"{folder.name}/action.yml", content, {"name", "description", "author", "inputs", "outputs", "runs", "branding"}
    )
    if content["runs"].get("using") != "composite":
        raise WorkflowError(f"{folder}: only composite actions can be rehearsed")
    _known(f"{folder.name}/action.yml, runs", content["runs"], {"using", "steps"})
    check_steps(str(folder), content["runs"]["steps"])
    for number, step in enumerate(content["runs"]["steps"], start=1):
        if "run" in step and "shell" not in step:
            raise WorkflowError(f"{folder.name}/action.yml, step {number}: a composite action must name the shell")
    return content


def expand_matrix(matrix: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every combination, less `exclude`, plus `include`, in GitHub's order.

    Raises:
        WorkflowError: a vector is empty, which GitHub refuses.
    """
    vectors = {name: values for name, values in matrix.items() if name not in ("include", "exclude")}
    for name, values in vectors.items():
        if not isinstance(values, list) or not values:
            raise WorkflowError(f"matrix vector {name!r} does not contain any values")
    combinations = [dict(zip(vectors, values, strict=True)) for values in itertools.product(*vectors.values())]
    if not vectors:
        combinations = []
    for excluded in matrix.get("exclude") or []:
        combinations = [one for one in combinations if not all(equal(one.get(k), v) for k, v in excluded.items())]
    originals = [dict(one) for one in combinations]
    for included in matrix.get("include") or []:
        matches = [
            one
            for one, original in zip(combinations, originals, strict=False)
            if all(equal(original[key], value) for key, value in included.items() if key in original)
        ]
        for one in matches:
            one.update(included)
        if not matches:
            combinations.append(dict(included))
    if not combinations:
        raise WorkflowError("the matrix has no combination")
    if len(combinations) > 256:
        raise WorkflowError(f"a matrix may have 256 jobs, this one has {len(combinations)}")
    return combinations


def permissions_of(workflow: Workflow, job: Mapping[str, Any], granted: Mapping[str, str] | None) -> dict[str, str]:
    """What a job's token may do. `granted` is what a caller lets a called workflow have, None at the top.

    Raises:
        WorkflowError: a called workflow asks for more than its caller grants, which GitHub refuses at the start.
    """
    wanted = job.get("permissions", workflow.content.get("permissions"))
    if wanted is None:
        return dict(granted or {"contents": "read", "packages": "read", "metadata": "read"})
    if not isinstance(wanted, dict):
        raise WorkflowError(f"{workflow.path}: permissions must be listed one by one, not {wanted!r}")
    for scope, level in wanted.items():
        if granted is not None and LEVELS[level] > LEVELS[granted.get(scope, "none")]:
            allowed = granted.get(scope, "none")
            raise WorkflowError(
                f"{workflow.path} asks for '{scope}: {level}', but its caller allows '{scope}: {allowed}'"
            )
    return {scope: level for scope, level in wanted.items() if level != "none"}


def typed_inputs(
    declared: Mapping[str, Any] | None, given: Mapping[str, Any], *, strings: bool = False
) -> dict[str, Any]:
    """Inputs of a dispatch (typed as text in a form: `strings`) or of a call, with defaults.

    Raises:
        WorkflowError: an unknown or missing input, or a value that the form would not let through.
    """
    declared = declared or {}
    _known("inputs", given, set(declared))
    values: dict[str, Any] = {}
    for name, spec in declared.items():
        kind = (spec or {}).get("type", "string")
        if kind not in INPUT_TYPES:
            raise WorkflowError(f"input {name!r}: unknown type {kind!r}")
        if name not in given:
            if spec.get("required") and "default" not in spec:
                raise WorkflowError(f"input {name!r} is required")
            values[name] = spec.get("default", {"boolean": False, "number": 0}.get(kind, ""))
            continue
        value = given[name]
        if kind == "choice" and to_string(value) not in [str(option) for option in spec["options"]]:
            raise WorkflowError(f"input {name!r}: {value!r} is none of the choices {spec['options']}")
        if kind == "boolean" and strings:
            value = value == "true"
        if kind == "number" and strings:
            value = float(value)
        if kind not in ("boolean", "number"):
            value = to_string(value)  # a caller's empty expression is an empty text, and no reason for the default
        expected = {"boolean": (bool,), "number": (int, float)}.get(kind, (str,))
        if not isinstance(value, expected):
            raise WorkflowError(f"input {name!r} must be a {kind}, got {value!r}")
        values[name] = value
    return values
