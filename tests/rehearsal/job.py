"""One job: its steps in shells of their own, in a folder that holds nothing but what they bring."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lib.machine import patient
from lib.variables import KEEP_VARIABLE
from tests.rehearsal.api import token_with
from tests.rehearsal.expressions import ExpressionError, Lenient, Scope, as_text
from tests.rehearsal.hub import HubError, find_files
from tests.rehearsal.results import JobResult, StepResult, WorkflowError, read_annotations
from tests.rehearsal.standins import ACTIONS, REPLAY, find_action, find_command, replay, world

if TYPE_CHECKING:
    from tests.rehearsal.runner import Runner

BASH = ["bash", "--noprofile", "--norc", "-eo", "pipefail"]
STEP_KEYS = {"id", "if", "name", "uses", "run", "shell", "with", "env", "timeout-minutes"}
COMMAND_FILES = ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_ENV", "GITHUB_PATH")
SUMMARY_LIMIT = 1024 * 1024  # bytes of one step's summary; GitHub drops a larger one
Step = dict[str, Any]


class JobRun:
    """One job on a machine of its own."""

    def __init__(self, runner: Runner, identity: str, name: str, spec: Step, contexts: dict[str, Any]) -> None:
        self.name, self.spec, self.variation, self.repository = name, spec, runner.variation, runner.repository
        self.artifacts, self.caches, self.sha, self.broke = (
            runner.walk.artifacts, runner.caches, runner.sha, runner.walk.broke,
        )  # fmt: skip
        place = runner.out / "jobs" / name.replace(" ", "")
        self.workspace, self.temp, self.home = place / "repository" / "repository", place / "temp", place / "home"
        for folder in (self.workspace, self.temp, self.home):
            folder.mkdir(parents=True)
        self.permissions: Mapping[str, str] = spec.get("permissions") or {}
        self.environment: str = (spec.get("environment") or {}).get("name", "")
        scope = Scope(contexts, {})
        arm = as_text(scope.fill(spec["runs-on"])).endswith("-arm")
        github = {**contexts["github"], "token": token_with(self.permissions)}
        machine = {"os": "Linux", "arch": "ARM64" if arm else "X64"}
        self.contexts = {**contexts, "github": github, "runner": machine}
        self.variables = self._variables(github)
        self.result = JobResult(name, identity, "success")
        self.num_steps = 0

    def say(self, line: str) -> None:
        """Write to the job's log."""
        self.result.log += line + "\n"

    def run(self) -> JobResult:
        """All steps, then the outputs."""
        started = time.monotonic()
        environment = Scope(self.contexts, {}).texts(self.spec.get("env"))
        contexts = {**self.contexts, "env": {**self.contexts["env"], **environment}}
        steps, failed = self._steps(self.spec["steps"], contexts)
        scope = Scope({**contexts, "steps": steps}, {})
        self.result.outputs = scope.texts(self.spec.get("outputs"))
        scope.texts(self.spec.get("environment"))  # GitHub links its address; a misspelt output would go unseen
        self.result.result = "failure" if failed else "success"
        self.result.seconds = time.monotonic() - started
        return self.result

    def _steps(self, steps: list[Step], contexts: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """Run the steps of the job, or of a composite action inside of it; returns the context `steps`, and failure."""
        done: dict[str, Any] = {step["id"]: {"outputs": Lenient(), "outcome": ""} for step in steps if "id" in step}
        failed = False
        for step in steps:
            status = {"success": not failed, "failure": failed, "cancelled": False, "always": True}
            functions = {name: (lambda value=value: value) for name, value in status.items()}
            scope = Scope({**contexts, "steps": done}, {**functions, "hashFiles": self._hash_files})
            result = StepResult(step["name"])
            self.result.steps.append(result)
            outputs: dict[str, str] = {}
            try:
                if scope.holds(step.get("if")):
                    self.say(f"\n##[step] {result.name}")
                    outputs = self._act(step, scope, result)
                else:
                    result.outcome = "skipped"
            except (HubError, ExpressionError, WorkflowError, subprocess.SubprocessError) as error:
                result.outcome, result.error = "failure", str(error)
                self.say(f"##[error] {error}")
            failed |= result.outcome == "failure"
            if "id" in step:
                done[step["id"]] = {"outputs": Lenient(outputs), "outcome": result.outcome}
        return done, failed

    def _act(self, step: Step, scope: Scope, result: StepResult) -> dict[str, str]:
        if unknown := set(step) - STEP_KEYS:
            raise WorkflowError(f"the rehearsal does not know {', '.join(sorted(unknown))}")
        place = f"{self.name}/{result.name}"
        if place in self.variation.broken:
            self.broke.add(place)
            raise WorkflowError("broken on purpose")
        if "run" in step:
            return self._run(step, scope, result)
        uses, given = step["uses"], scope.texts(step.get("with"))
        if uses.startswith("$/"):  # this repository at the commit that runs, whatever was checked out
            return self._composite(self.repository.folder / uses[2:] / "action.yml", given, scope)
        action = find_action(uses, given)
        outputs = action.act(self, given)
        if action is ACTIONS["actions/checkout"] and self.variation.patch:
            self.variation.patch(self.name, self.workspace)
        return outputs

    def _composite(self, file: Path, given: dict[str, str], scope: Scope) -> dict[str, str]:
        action = yaml.load(file.read_text(), yaml.BaseLoader)
        if unknown := set(given) - set(action["inputs"]):
            raise WorkflowError(f"{file.parent.name} has no input {', '.join(sorted(unknown))}")
        inputs = {name: given.get(name, spec["default"]) for name, spec in action["inputs"].items()}
        _, failed = self._steps(action["runs"]["steps"], {**scope.contexts, "inputs": inputs})
        if failed:
            raise WorkflowError(f"a step of the action {file.parent.name} failed")
        return {}

    def _run(self, step: Step, scope: Scope, result: StepResult) -> dict[str, str]:
        script = as_text(scope.fill(step["run"]))
        environment = {**scope.contexts["env"], **scope.texts(step.get("env"))}
        environment |= {name: value for name, value in self.variation.env.items() if name in environment}
        if command := find_command(script):
            self.say(f"instead of `{script.strip()}`: {command.does}")
            script = command.act(self, script)
        elif self.variation.replay and REPLAY.match(script):
            script = "true"
            replay(self.variation.replay, self.workspace, environment)
        self.num_steps += 1
        folder = self.temp / f"step{self.num_steps}"
        folder.mkdir()
        files = {name: folder / name for name in COMMAND_FILES}
        for file in files.values():
            file.touch()
        (folder / "script.sh").write_text(script)
        limit_s = 60 * patient(float(step.get("timeout-minutes") or self.spec["timeout-minutes"]))
        variables = {**self.variables, **environment, **{name: str(file) for name, file in files.items()}}
        status, printed = _execute([*BASH, str(folder / "script.sh")], self.workspace, variables, limit_s)
        self.say(f"{printed}##[exit] {status}")
        self.result.annotations += read_annotations(printed)
        if status != 0:
            result.outcome = "failure"
            result.error = "it ran past its time limit" if status is None else f"exit status {status}"
        return self._left(files)

    def _left(self, files: Mapping[str, Path]) -> dict[str, str]:
        """What a step wrote for GitHub: its outputs, and its part of the summary."""
        if any(files[name].stat().st_size for name in ("GITHUB_ENV", "GITHUB_PATH")):
            raise WorkflowError("the rehearsal does not know GITHUB_ENV and GITHUB_PATH")
        if files["GITHUB_STEP_SUMMARY"].stat().st_size > SUMMARY_LIMIT:
            raise WorkflowError("GITHUB_STEP_SUMMARY: upload aborted, supports content up to a size of 1024k")
        self.result.summary += files["GITHUB_STEP_SUMMARY"].read_text()
        lines = files["GITHUB_OUTPUT"].read_text().splitlines()
        if bad := [line for line in lines if "=" not in line or "<<" in line.partition("=")[0]]:
            raise WorkflowError(f"GITHUB_OUTPUT: invalid format {bad[0]!r}")
        return {name: value for name, _, value in (line.partition("=") for line in lines)}

    def _hash_files(self, *patterns: str) -> str:
        _, files = find_files(self.workspace, patterns)
        return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()

    def _variables(self, github: Mapping[str, Any]) -> dict[str, str]:
        """Variables that GitHub sets for every step, and those that let many jobs share one machine."""
        event = self.temp / "event.json"
        event.write_text(json.dumps(github["event"]))
        names = ("event_name", "ref", "sha", "repository", "run_id", "run_attempt", "workflow_ref", "server_url",
                 "api_url")  # fmt: skip
        return {
            **world(self.home),
            **{f"GITHUB_{name.upper()}": github[name] for name in names},
            "GITHUB_EVENT_PATH": str(event),
            "GITHUB_ACTIONS": "true",
            "RUNNER_TEMP": str(self.temp),
            "PYTHONPATH": str(self.workspace),  # `lib` of the job's own checkout, as an editable install would find it
            "MPLCONFIGDIR": str(self.temp.parents[2] / "matplotlib"),  # its list of fonts takes seconds to make
            "OMP_WAIT_POLICY": "passive",  # jobs share the cores of one machine: a thread that waits must sleep
            KEEP_VARIABLE: "OMP_WAIT_POLICY",
        }


def _execute(command: list[str], folder: Path, environment: dict[str, str], limit_s: float) -> tuple[int | None, str]:
    """Run to the end or the time limit; returns the exit status, None past the limit, and all that it printed."""
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        printed, _ = process.communicate(timeout=limit_s)
        return process.returncode, printed.decode(errors="replace")
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        printed, _ = process.communicate()
        return None, printed.decode(errors="replace")
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
