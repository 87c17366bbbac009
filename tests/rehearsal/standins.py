"""The listed set of what a rehearsal does not execute: actions and commands, each with its stand-in and the reason.

Everything else runs. An action that is not listed, or an input that a listed one does not have, is an error.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.rehearsal.hub import Artifacts, Caches, Repository
from tests.rehearsal.results import WorkflowError
from tests.surroundings import OFFLINE

FEW_TESTS = "tests/test_statistics.py"  # seconds, none skipped
REPLAY = re.compile(r"^\S+python -m lib run (01 02|03)\b")  # what a variation may take from an earlier run


class Job(Protocol):
    """What a stand-in may see and change of the job that it stands in."""

    name: str
    workspace: Path
    temp: Path
    permissions: Mapping[str, str]
    environment: str
    artifacts: Artifacts
    caches: Caches
    repository: Repository
    sha: str

    def say(self, line: str) -> None:
        """Write to the job's log."""


Given = Mapping[str, str]


@dataclass(frozen=True)
class Action:
    """A stand-in for an action; its docstring says what it does, and why."""

    inputs: set[str]
    act: Callable[[Job, Given], dict[str, str]]  # returns the outputs


ACTIONS: dict[str, Action] = {}


def _action(name: str, *inputs: str) -> Callable[[Callable[[Job, Given], dict[str, str]]], None]:
    def add(act: Callable[[Job, Given], dict[str, str]]) -> None:
        ACTIONS[name] = Action(set(inputs), act)

    return add


@_action("actions/checkout", "fetch-depth", "persist-credentials")
def _checkout(job: Job, given: Given) -> dict[str, str]:
    """clones the working tree, as one commit on top of a base; because the commit is not on GitHub yet"""
    job.repository.checkout(job.workspace, job.sha, int(given.get("fetch-depth", "1")))
    return {}


@_action("actions/setup-python", "python-version")
def _setup_python(job: Job, given: Given) -> dict[str, str]:
    """names the Python that runs the rehearsal; because it would download one"""
    return {"python-version": given["python-version"], "python-path": sys.executable}


@_action("actions/cache/restore", "path", "key")
def _restore(job: Job, given: Given) -> dict[str, str]:
    """brings back a folder by its key; because the service is GitHub's"""
    found = job.caches.restore(job.workspace, given["key"], given["path"])
    job.say(f"cache {given['key']}: {'found' if found else 'not found'}")
    return {"cache-hit": "true" if found else "", "cache-primary-key": given["key"]}


@_action("actions/cache/save", "path", "key")
def _save(job: Job, given: Given) -> dict[str, str]:
    """keeps a folder by its key, which is written once; because the service is GitHub's"""
    saved = job.caches.save(job.workspace, given["key"], given["path"])
    job.say(f"cache {given['key']}: {'saved' if saved else 'not saved: the key is taken, or nothing is there'}")
    return {}


@_action("actions/upload-artifact", "name", "path", "archive", "if-no-files-found", "retention-days", "overwrite")
def _upload(job: Job, given: Given) -> dict[str, str]:
    """a zip, or with archive: false one file under its own name; no name twice; because the service is GitHub's"""
    artifact = job.artifacts.upload(
        job.workspace, given["path"].split(), given["name"], archive=given.get("archive") != "false",
        overwrite=given.get("overwrite") == "true", owner=job.name,
    )  # fmt: skip
    job.say(f"artifact {artifact.name}: {artifact.path.stat().st_size} bytes")
    return {"artifact-url": f"https://github.com/owner/repository/actions/runs/1/artifacts/{artifact.number}"}


@_action("actions/download-artifact", "name", "pattern", "path", "merge-multiple")
def _download(job: Job, given: Given) -> dict[str, str]:
    """unpacks by name or pattern; a single match gets no folder of its own; because the service is GitHub's"""
    found = job.artifacts.download(
        job.workspace / given["path"], name=given.get("name", ""), pattern=given.get("pattern", ""),
        merge=given.get("merge-multiple") == "true",
    )  # fmt: skip
    job.say(f"downloaded to {given['path']}: {', '.join(found) or 'nothing'}")
    return {}


@_action("actions/upload-pages-artifact", "path", "name", "retention-days")
def _upload_pages(job: Job, given: Given) -> dict[str, str]:
    """packs the site, which must have an index.html; because the service is GitHub's"""
    folder = job.workspace / given["path"]
    if not (folder / "index.html").is_file():
        raise WorkflowError("a site without an index.html opens as 'not found'")
    with tarfile.open(job.temp / "artifact.tar", "w") as target:
        target.add(folder, ".")
    job.artifacts.upload(job.temp, ["artifact.tar"], given["name"], owner=job.name)
    return {}


@_action("actions/deploy-pages", "artifact_name")
def _deploy_pages(job: Job, given: Given) -> dict[str, str]:
    """checks rights, environment and that there is one artifact of the name; because the service is GitHub's"""
    missing = [f"{scope}: write" for scope in ("pages", "id-token") if job.permissions.get(scope) != "write"]
    if missing:
        raise WorkflowError(f"deploying Pages needs the permissions {', '.join(missing)}")
    if job.environment != "github-pages":
        raise WorkflowError(f"deploying Pages needs the environment github-pages, this job has {job.environment!r}")
    found = [one.name for one in job.artifacts.uploaded].count(given["artifact_name"])
    if found != 1:
        raise WorkflowError(f"artifacts of the name {given['artifact_name']!r}: expected 1. Artifact count is {found}")
    return {"page_url": "https://owner.github.io/repository/"}


@dataclass(frozen=True)
class Command:
    """A stand-in for a `run:` step whose script is one command that matches."""

    pattern: str
    does: str  # and why
    act: Callable[[Job, str], str] = field(default=lambda job, script: "true")  # the script that runs in its place


def _install(job: Job, _script: str) -> str:
    if not (job.workspace / ".venv").is_symlink():
        (job.workspace / ".venv").symlink_to(Path(sys.prefix))
    return "true"


COMMANDS = (
    Command(r"^make\b.*\s\.venv$", "links the .venv that runs the rehearsal; it would download packages", _install),
    Command(
        r"^\S+python -m (coverage run -m )?pytest\b",
        f"the same on {FEW_TESTS} alone; the suite takes long, and would call the rehearsal",
        lambda job, script: f"{script.strip()} {FEW_TESTS}",
    ),
    Command(r"^\S+python -m tests\.unexecuted\b", f"nothing; {FEW_TESTS} alone executes little"),
    Command(r"^\S+python -m playwright install\b", "nothing; it would download a browser"),
    Command(r"^pip(x install|-audit)\b", "nothing; it would ask a registry, or the advisory database"),
    Command(r"^make test\b", "nothing; the tests would call the rehearsal"),
    Command(r"^make container-check\b", "nothing; it would download packages"),
    Command(r"^make loop\b", "nothing; it trains for minutes"),
    Command(
        r"^make serve-check\b",
        "a file of figures; they take half an hour",
        lambda job, script: "mkdir -p build/serve-check && echo '{}' > build/serve-check/figures.json",
    ),
)


def find_action(uses: str, given: Given) -> Action:
    """The stand-in for `owner/name@commit`; raises for one that is not listed, or for an unknown input."""
    name, _, commit = uses.partition("@")
    if name not in ACTIONS:
        raise WorkflowError(f"no stand-in for {name!r}; there are: {', '.join(ACTIONS)}")
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise WorkflowError(f"{uses!r} is not pinned by a full commit")
    if unknown := set(given) - ACTIONS[name].inputs:
        raise WorkflowError(f"{name} has no input {', '.join(sorted(unknown))}, or its stand-in does not know it")
    return ACTIONS[name]


def find_command(script: str) -> Command | None:
    """The stand-in for a script that is one listed command; raises where others, which would not run, are beside it."""
    lines = script.replace("\\\n", " ").strip().splitlines()
    found = next((one for one in COMMANDS if any(re.search(one.pattern, line.strip()) for line in lines)), None)
    if found and len(lines) > 1:
        raise WorkflowError(f"a step of its own, please: {found.pattern} is replaced here, but not the rest")
    return found


def replay(source: Path, workspace: Path, environment: Mapping[str, str]) -> None:
    """Take 01 and 02, or 03 of $BACKEND, from a finished run instead of running them."""
    backend = environment.get("BACKEND", "")
    jobs = {f"03_benchmark.{backend}": backend} if backend else {"01_explore": "", "02_train": ""}
    run, entries = workspace / "run", []
    for label in jobs:
        entry = {"notebook": label.split(".")[0], "backend": jobs[label], "status": "ok", "seconds": 1.0}
        for kind, place in (("page", f"pages/{label}.html"), ("executed", f"notebooks/{label}.ipynb"),
                            ("record", f"results/{label}.json")):  # fmt: skip
            (run / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / place, run / place)
            entry[kind] = place
        entries.append(entry)
    if backend and (source / "models").is_dir():
        shutil.copytree(source / "models", run / "models")
    if "02_train" in jobs:
        shutil.copy2(source / "checkpoint.safetensors", run)
    series = {"notebooks": entries, "note": environment.get("RUN_NOTE", "")}
    (run / "series.json").write_text(json.dumps(series))


def world(home: Path) -> dict[str, str]:
    """The environment of a hosted runner, and no way to the network."""
    kept = ("LD_LIBRARY_PATH", "COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "CI": "true",
        **{name: os.environ[name] for name in kept if name in os.environ},
        **OFFLINE,
    }


def table() -> str:
    """All that is replaced, for the log."""
    rows = {f"uses: {name}": str(action.act.__doc__) for name, action in ACTIONS.items()}
    rows |= {f"run: {command.pattern}": command.does for command in COMMANDS}
    rows["the network"] = "refuses every connection at once; a rehearsal gives the same twice"
    return "\n".join(f"  {what}\n      {does}" for what, does in rows.items())
