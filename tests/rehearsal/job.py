"""One job: its steps in shells of their own, in a folder that holds nothing but what they bring."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.machine import patient
from lib.variables import KEEP_VARIABLE
from tests.rehearsal import commandfiles
from tests.rehearsal.api import token_with
from tests.rehearsal.commandfiles import Annotation, CommandFileError
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
from tests.rehearsal.hub import HubError, find_files
from tests.rehearsal.results import JobResult, StepResult
from tests.rehearsal.standins import StandInError, find_action, find_command, world
from tests.rehearsal.workflow import Workflow, WorkflowError, permissions_of, read_action

if TYPE_CHECKING:
    from tests.rehearsal.runner import Runner

SHELLS = {
    "": ["bash", "-e"],
    "bash": ["bash", "--noprofile", "--norc", "-eo", "pipefail"],
    "sh": ["sh", "-e"],
    "python": ["python"],
}
DEFAULT_TIMEOUT_MIN = 360.0


@dataclass
class _Frame:
    """The steps of a job, or of a composite action inside of it: their results, inputs and place."""

    where: str
    ids: list[str]
    inputs: Mapping[str, Any]
    action_path: str = ""
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: bool = False

    def context(self) -> Declared:
        """The `steps` context; a step that has not run reads as one without outputs."""
        empty: dict[str, Any] = {"outputs": {}, "outcome": "", "conclusion": ""}
        return Declared(f"steps of {self.where}", {name: self.results.get(name, empty) for name in self.ids})


class JobRun:
    """One job on a machine of its own: a folder that holds nothing but what its steps bring."""

    def __init__(
        self,
        runner: Runner,
        workflow: Workflow,
        identity: str,
        title: str,
        contexts: dict[str, Any],
        granted: Mapping[str, str] | None,
    ) -> None:
        self.runner, self.workflow, self.identity, self.title = runner, workflow, identity, title
        self.spec = workflow.jobs[identity]
        place = runner.out / "jobs" / title.replace("/", "_").replace(" ", "")
        self.workspace, self.temp = place / "repository" / "repository", place / "temp"
        for folder in (self.workspace, self.temp, place / "home"):
            folder.mkdir(parents=True)
        self.place = place
        self.event_file = self.temp / "event.json"
        self.event_file.write_text(json.dumps(contexts["github"]["event"]))
        self.artifacts, self.caches, self.repository = runner.walk.artifacts, runner.caches, runner.repository
        self.ref, self.sha = runner.ref, runner.sha
        self.permissions: Mapping[str, str] = permissions_of(workflow, self.spec, granted)
        self.exported: dict[str, str] = {}
        self.paths: list[str] = []
        self.at_end: list[Callable[[], None]] = []
        self.log = place / "log.txt"
        self.result = JobResult(title, identity, "success", log=self.log)
        self.cancelled = False
        self.started = time.monotonic()
        self.num_steps = 0
        self.output_bytes = 0
        self.contexts = contexts
        label = to_string(interpolate(to_string(self.spec["runs-on"]), Scope(contexts)))
        self.arch = "ARM64" if label.endswith("-arm") else "X64"
        environment = self.spec.get("environment") or ""
        name = environment["name"] if isinstance(environment, dict) else environment
        self.environment = to_string(interpolate(name, Scope(contexts)))
        self.deadline = self.started + 60 * _minutes(self.spec, Scope(contexts), DEFAULT_TIMEOUT_MIN)

    def say(self, line: str) -> None:
        """Write to the job's log."""
        with self.log.open("a") as log:
            log.write(line + "\n")

    def run(self) -> JobResult:
        """All steps, then what actions left for the end, then the outputs."""
        steps: list[dict[str, Any]] = self.spec["steps"]
        frame = _Frame(self.title, [step["id"] for step in steps if "id" in step], self.contexts["inputs"])
        base = Scope(self.contexts)
        environment = {
            **_strings(resolve(self.workflow.content.get("env") or {}, base)),
            **_strings(resolve(self.spec.get("env") or {}, base)),
        }
        for step in steps:
            self._step(step, frame, environment)
        result = "cancelled" if self.cancelled else "failure" if frame.failed else "success"
        if result == "success":
            for work in self.at_end:
                work()
        scope = self._scope(frame, environment)
        outputs = {
            key: to_string(interpolate(to_string(text), scope))
            for key, text in (self.spec.get("outputs") or {}).items()
        }
        if isinstance(self.spec.get("environment"), dict):  # GitHub links it; a misspelt output would go unseen
            interpolate(self.spec["environment"].get("url", ""), scope)
        allowed = resolve(self.spec.get("continue-on-error", False), base)
        self.result.result = "success" if result == "failure" and allowed is True else result
        self.result.outputs = outputs
        self.result.seconds = time.monotonic() - self.started
        return self.result

    def _scope(self, frame: _Frame, environment: Mapping[str, str]) -> Scope:
        status = "cancelled" if self.cancelled else "failure" if frame.failed else "success"
        contexts = {
            **self.contexts,
            "github": {
                **self.contexts["github"],
                "job": self.identity,
                "workspace": str(self.workspace),
                "action_path": frame.action_path,
                "token": token_with(self.permissions),
            },
            "env": {**environment, **self.exported},
            "steps": frame.context(),
            "inputs": frame.inputs,
            "job": {"status": status},
            "runner": {"os": "Linux", "arch": self.arch, "temp": str(self.temp), "name": "rehearsal",
                       "environment": "github-hosted", "tool_cache": str(self.temp / "tools"), "debug": ""},
            "secrets": {"GITHUB_TOKEN": token_with(self.permissions)},
        }  # fmt: skip
        functions: dict[str, Function] = {
            "success": lambda: status == "success",
            "failure": lambda: status == "failure",
            "cancelled": lambda: status == "cancelled",
            "always": lambda: True,
            "hashfiles": self._hash_files,
        }
        return Scope(contexts, functions)

    def _hash_files(self, *patterns: str) -> str:
        _, files = find_files(self.workspace, patterns, True)
        if not files:
            return ""
        return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()

    def _step(self, step: dict[str, Any], frame: _Frame, outer: Mapping[str, str]) -> None:
        """Run one step and book how it ended."""
        self.num_steps += 1
        scope = self._scope(frame, outer)
        started = time.monotonic()
        outputs: dict[str, str] = {}
        result = StepResult(
            str(step.get("name") or step.get("uses") or step["run"].strip().splitlines()[0]), "success", ""
        )
        try:
            environment = {**outer, **self.exported, **_strings(resolve(step.get("env") or {}, scope))}
            scope = self._scope(frame, environment)
            result.name = to_string(interpolate(result.name, scope))
            if not condition(step.get("if"), scope):
                result.outcome = "skipped"
            else:
                self.say(f"\n##[step] {result.name}")
                outputs = self._act(step, frame, environment, scope, result)
        except (
            StandInError,
            HubError,
            ExpressionError,
            WorkflowError,
            CommandFileError,
            subprocess.SubprocessError,
        ) as error:
            result.outcome, result.error = "failure", str(error)
            self.say(f"##[error] {error}")
        result.seconds = time.monotonic() - started
        forgiven = result.outcome == "failure" and resolve(step.get("continue-on-error", False), scope) is True
        result.conclusion = "success" if forgiven else result.outcome
        frame.failed |= result.conclusion == "failure"
        self.result.steps.append(result)
        if "id" in step:
            frame.results[step["id"]] = {"outputs": outputs, "outcome": result.outcome, "conclusion": result.conclusion}

    def _act(
        self, step: dict[str, Any], frame: _Frame, environment: dict[str, str], scope: Scope, result: StepResult
    ) -> dict[str, str]:
        place = f"{self.title.split(' / ')[-1]}/{result.name}"
        if place in self.runner.variation.broken:
            self.runner.broke.add(place)
            raise StandInError("broken on purpose")
        if "run" in step:
            return self._run(step, frame, environment, scope, result)
        given = {name: to_string(value) for name, value in resolve(step.get("with") or {}, scope).items()}
        uses = str(step["uses"])
        if uses.startswith("./"):
            return self._composite(self.workspace / uses, given, environment)
        if uses.startswith("$/"):  # this repository at the commit that runs, whatever was checked out
            return self._composite(self.repository.folder / uses.removeprefix("$/"), given, environment)
        action = find_action(uses)
        unknown = set(given) - action.inputs
        if unknown:
            raise StandInError(
                f"{action.name} has no input {', '.join(sorted(unknown))}, or its stand-in does not know it"
            )
        result.stand_in = action.name
        outcome = action.act(self, given)
        if action.name == "actions/checkout" and self.runner.variation.patch:
            self.runner.variation.patch(self.title, self.workspace)
        if outcome.at_end:
            self.at_end.insert(0, outcome.at_end)
        return outcome.outputs

    def _composite(self, folder: Path, given: dict[str, str], environment: dict[str, str]) -> dict[str, str]:
        if not (folder / "action.yml").is_file():
            raise StandInError(f"no action.yml in {folder}: was the repository checked out?")
        action = read_action(folder)
        declared = action.get("inputs") or {}
        unknown = set(given) - set(declared)
        missing = [
            name
            for name, spec in declared.items()
            if spec.get("required") and not given.get(name) and "default" not in spec
        ]
        if unknown or missing:
            raise StandInError(f"{folder.name}: unknown inputs {sorted(unknown)}, missing ones {missing}")
        inputs = {name: given.get(name, to_string(spec.get("default", ""))) for name, spec in declared.items()}
        steps = action["runs"]["steps"]
        inner = _Frame(
            folder.name, [step["id"] for step in steps if "id" in step], Declared("inputs", inputs), str(folder)
        )
        for step in steps:
            self._step(step, inner, environment)
        if inner.failed:
            raise StandInError(f"a step of the action {folder.name} failed")
        scope = self._scope(inner, environment)
        return {
            name: to_string(interpolate(output["value"], scope))
            for name, output in (action.get("outputs") or {}).items()
        }

    def _run(
        self, step: dict[str, Any], frame: _Frame, environment: dict[str, str], scope: Scope, result: StepResult
    ) -> dict[str, str]:
        script = to_string(interpolate(step["run"], scope))
        command = find_command(script)
        if command:
            result.stand_in = command.pattern
            self.say(f"instead of `{script.strip()}`: {command.does}")
            replaced = command.act(self, script)
            if replaced is None:
                return {}
            script = replaced
        defaults = {
            **((self.workflow.content.get("defaults") or {}).get("run") or {}),
            **((self.spec.get("defaults") or {}).get("run") or {}),
        }
        if frame.action_path:
            defaults = {}  # a composite action does not see them
        shell = str(step.get("shell") or defaults.get("shell") or "")
        if shell not in SHELLS:
            raise WorkflowError(f"the rehearsal does not know the shell {shell!r}; it does: {', '.join(SHELLS)}")
        folder = self.workspace / to_string(
            interpolate(str(step.get("working-directory") or defaults.get("working-directory") or "."), scope)
        )
        if not folder.is_dir():
            raise StandInError(f"working-directory {folder} does not exist")
        file = self.temp / f"step{self.num_steps}.sh"
        file.write_text(script)
        files = commandfiles.make_files(self.temp / f"files{self.num_steps}")
        overrides = {name: value for name, value in self.runner.variation.env.items() if name in environment}
        variables = {**self._machine(frame), **environment, **overrides, **files}
        variables["PATH"] = ":".join([*self.paths, environment.get("PATH", variables["PATH"])])
        end = min(self.deadline, time.monotonic() + 60 * _minutes(step, scope, DEFAULT_TIMEOUT_MIN))
        status, printed = _execute([*SHELLS[shell], str(file)], folder, variables, end - time.monotonic())
        self.say(printed + f"##[exit] {status}")
        return self._read(files, printed, status, result)

    def _read(self, files: dict[str, str], printed: str, status: int | None, result: StepResult) -> dict[str, str]:
        """Take over what the step told GitHub."""
        outputs = commandfiles.read_pairs(Path(files["GITHUB_OUTPUT"]))
        self.output_bytes += sum(len(value.encode()) for value in outputs.values())
        if self.output_bytes > commandfiles.OUTPUT_LIMIT:
            raise CommandFileError("the outputs of a job may have 1 MiB")
        self.exported.update(commandfiles.read_env(Path(files["GITHUB_ENV"])))
        self.paths = [*reversed(Path(files["GITHUB_PATH"]).read_text().splitlines()), *self.paths]
        summary = Path(files["GITHUB_STEP_SUMMARY"]).read_text()
        if len(summary.encode()) > commandfiles.SUMMARY_LIMIT:
            too_large = "GITHUB_STEP_SUMMARY: upload aborted, supports content up to a size of 1024k"
            self.result.annotations.append(Annotation("error", too_large, {}))
        else:
            self.result.summary += summary
        self.result.annotations += commandfiles.read_annotations(printed)
        if status is None:
            result.outcome, result.error = "failure", "it ran past its time limit"
            self.cancelled |= time.monotonic() >= self.deadline
        elif status:
            result.outcome, result.error = "failure", f"exit status {status}"
        return outputs

    def _machine(self, frame: _Frame) -> dict[str, str]:
        """Variables that GitHub sets for every step."""
        github = self.contexts["github"]
        names = ("event_name", "ref", "ref_name", "ref_type", "head_ref", "base_ref", "sha", "repository",
                 "repository_owner", "repository_id", "run_id", "run_number", "run_attempt", "workflow", "workflow_ref",
                 "workflow_sha", "actor", "triggering_actor", "server_url", "api_url", "graphql_url")  # fmt: skip
        return {
            **world(self.place / "home"),
            "MPLCONFIGDIR": str(self.runner.matplotlib),  # its list of fonts takes seconds to make, in every job
            "OMP_WAIT_POLICY": "passive",  # jobs share the cores of one machine: a thread that waits must sleep
            KEEP_VARIABLE: "OMP_WAIT_POLICY",
            **{f"GITHUB_{name.upper()}": str(github[name]) for name in names},
            "GITHUB_EVENT_PATH": str(self.event_file),
            "GITHUB_ACTIONS": "true",
            "GITHUB_JOB": self.identity,
            "GITHUB_WORKSPACE": str(self.workspace),
            "GITHUB_ACTION_PATH": frame.action_path,
            "RUNNER_OS": "Linux",
            "RUNNER_ARCH": self.arch,
            "RUNNER_TEMP": str(self.temp),
            "RUNNER_NAME": f"rehearsal on {platform.machine()}",
        }


def _minutes(spec: Mapping[str, Any], scope: Scope, default: float) -> float:
    given = resolve(spec.get("timeout-minutes", default), scope)
    if not isinstance(given, (int, float)) or given <= 0:
        raise WorkflowError(f"timeout-minutes must be a number above 0, got {given!r}")
    return patient(float(given))


def _strings(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: to_string(value) for name, value in values.items()}


def _execute(command: list[str], folder: Path, environment: dict[str, str], limit_s: float) -> tuple[int | None, str]:
    """Run to the end or the time limit; returns the exit status, None past the limit, and all that it printed."""
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        printed, _ = process.communicate(timeout=max(limit_s, 0.01))
        return process.returncode, printed.decode(errors="replace")
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        printed, _ = process.communicate()
        return None, printed.decode(errors="replace")
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
