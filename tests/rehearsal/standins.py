"""The listed set of what a rehearsal does not execute: actions and commands, each with its stand-in and the reason.

Everything else runs. An action that is not listed, or an input that a listed one does not have, is an error.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.rehearsal.hub import Artifacts, Caches, HubError, Repository
from tests.surroundings import OFFLINE

FEW_TESTS = "tests/test_statistics.py"  # seconds, none skipped


class StandInError(ValueError):
    """The action would have failed, or was asked for what its stand-in cannot do."""


class Job(Protocol):
    """What a stand-in may see and change of the job that it stands in."""

    title: str
    workspace: Path
    temp: Path
    exported: dict[str, str]  # environment of the steps that follow
    paths: list[str]  # put before PATH
    permissions: Mapping[str, str]
    environment: str
    artifacts: Artifacts
    caches: Caches
    repository: Repository
    ref: str
    sha: str

    def say(self, line: str) -> None:
        """Write to the job's log."""


@dataclass
class Outcome:
    """What an action leaves: outputs, and work for the end of the job if all went well."""

    outputs: dict[str, str] = field(default_factory=dict)
    at_end: Callable[[], None] | None = None


@dataclass(frozen=True)
class Action:
    """A stand-in for an action."""

    name: str
    inputs: frozenset[str]
    does: str
    reason: str
    act: Callable[[Job, Mapping[str, str]], Outcome]


@dataclass(frozen=True)
class Command:
    """A stand-in for a `run:` step whose script is one command that matches."""

    pattern: str
    does: str
    reason: str
    act: Callable[[Job, str], str | None]  # gets the script; returns one to run in its place, or None


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _flag(given: Mapping[str, str], name: str, default: bool) -> bool:
    text = given.get(name, "").strip()
    if text not in ("", "true", "false", "True", "False", "TRUE", "FALSE"):
        raise StandInError(f"{name} must be true or false, got {text!r}")
    return default if not text else text.lower() == "true"


def _checkout(job: Job, given: Mapping[str, str]) -> Outcome:
    depth = int(given.get("fetch-depth") or "1")
    if any(job.workspace.iterdir()):
        shutil.rmtree(job.workspace)  # the action empties the folder too
        job.workspace.mkdir()

    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=job.workspace, check=True, capture_output=True)

    git("init", "--quiet", "--initial-branch=main")
    git("remote", "add", "origin", f"file://{job.repository.folder}")
    limit = [f"--depth={depth}"] if depth else []
    branches = [] if depth else ["+refs/heads/*:refs/remotes/origin/*"]
    git("fetch", "--quiet", "--no-tags", *limit, "origin", *branches, f"+{job.sha}:refs/rehearsal/head")
    git("-c", "advice.detachedHead=false", "checkout", "--quiet", "--detach", "refs/rehearsal/head")
    return Outcome({"ref": job.ref, "commit": job.sha})


def _setup_python(job: Job, given: Mapping[str, str]) -> Outcome:
    wanted = given.get("python-version", "")
    if not re.fullmatch(r"3\.\d+\.\d+", wanted):
        raise StandInError(f"the workflows ask for an exact Python, not {wanted!r}")
    own = "python{}.{}".format(*sys.version_info)
    base = Path(sys.base_prefix) / "bin" / own
    folder = job.temp / "python"
    folder.mkdir(exist_ok=True)
    for name in ("python", "python3", own):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(base)
    job.paths.insert(0, str(folder))
    return Outcome({"python-version": ".".join(map(str, sys.version_info[:3])), "python-path": str(folder / "python")})


def _restore(job: Job, given: Mapping[str, str]) -> Outcome:
    key = given["key"]
    found = job.caches.restore(job.workspace, key, _lines(given["path"]), _lines(given.get("restore-keys", "")))
    job.say(f"cache {key}: {f'found {found}' if found else 'not found'}")
    if not found and _flag(given, "fail-on-cache-miss", False):
        raise StandInError(f"no cache {key!r}, and fail-on-cache-miss is set")
    hit = str(found == key).lower() if found else ""
    return Outcome({"cache-hit": hit, "cache-primary-key": key, "cache-matched-key": found})


def _save(job: Job, given: Mapping[str, str]) -> Outcome:
    saved = job.caches.save(job.workspace, given["key"], _lines(given["path"]))
    job.say(f"cache {given['key']}: {'saved' if saved else 'not saved: the key is taken, or nothing is there'}")
    return Outcome()


def _cache(job: Job, given: Mapping[str, str]) -> Outcome:
    outcome = _restore(job, given)
    if outcome.outputs["cache-hit"] != "true":

        def save() -> None:
            _save(job, given)

        outcome.at_end = save
    return outcome


def _upload(job: Job, given: Mapping[str, str]) -> Outcome:
    artifact = job.artifacts.upload(
        job.workspace,
        _lines(given["path"]),
        name=given.get("name") or "artifact",
        archive=_flag(given, "archive", True),
        if_no_files_found=given.get("if-no-files-found") or "warn",
        retention_days=int(given.get("retention-days") or "0"),
        overwrite=_flag(given, "overwrite", False),
        include_hidden_files=_flag(given, "include-hidden-files", False),
        owner=job.title,
    )
    if artifact is None:
        job.say(f"nothing found at {given['path']}; nothing uploaded")
        return Outcome()
    job.say(f"artifact {artifact.name}: {artifact.path.stat().st_size} bytes")
    url = f"https://github.com/owner/repository/actions/runs/1/artifacts/{artifact.number}"
    return Outcome({"artifact-id": str(artifact.number), "artifact-url": url})


def _download(job: Job, given: Mapping[str, str]) -> Outcome:
    target = job.workspace / (given.get("path") or ".")
    downloaded = job.artifacts.download(
        target,
        name=given.get("name", ""),
        pattern=given.get("pattern", ""),
        merge_multiple=_flag(given, "merge-multiple", False),
    )
    job.say(f"downloaded to {given.get('path') or '.'}: {', '.join(one.name for one in downloaded) or 'nothing'}")
    return Outcome({"download-path": str(target)})


def _upload_pages(job: Job, given: Mapping[str, str]) -> Outcome:
    folder = job.workspace / (given.get("path") or "_site/")
    if not folder.is_dir():
        raise StandInError(f"there is no folder {given.get('path')!r} to publish")
    if not (folder / "index.html").is_file():
        raise StandInError("a site without an index.html opens as 'not found'")
    linked = [path for path in folder.rglob("*") if path.is_symlink()]
    if linked:
        raise StandInError(f"Pages takes no symbolic links: {linked[0].relative_to(folder)}")
    archive = job.temp / "artifact.tar"
    with tarfile.open(archive, "w") as target:
        target.add(folder, ".")
    job.artifacts.upload(
        job.workspace, [str(archive)], name=given.get("name") or "github-pages", if_no_files_found="error",
        retention_days=int(given.get("retention-days") or "1"), owner=job.title,
    )  # fmt: skip
    return Outcome({"artifact_id": "1"})


def _deploy_pages(job: Job, given: Mapping[str, str]) -> Outcome:
    missing = [scope for scope in ("pages", "id-token") if job.permissions.get(scope) != "write"]
    if missing:
        raise StandInError(f"deploying Pages needs the permissions {', '.join(f'{scope}: write' for scope in missing)}")
    if job.environment != "github-pages":
        raise StandInError(f"deploying Pages needs the environment github-pages, this job has {job.environment!r}")
    name = given.get("artifact_name") or "github-pages"
    found = len(job.artifacts.named(name))
    if found != 1:
        raise StandInError(f"Multiple artifacts named {name!r} were unexpectedly found. Artifact count is {found}"
                           if found else f"No artifacts named {name!r} were found for this workflow run")  # fmt: skip
    return Outcome({"page_url": "https://owner.github.io/repository/"})


_CACHE_INPUTS = frozenset({"path", "key", "restore-keys", "fail-on-cache-miss", "lookup-only", "enableCrossOsArchive"})

ACTIONS = {
    action.name: action
    for action in (
        Action(
            "actions/checkout",
            frozenset({"fetch-depth", "persist-credentials"}),
            "clones the working tree, as one commit on top of a base, with the depth that is asked for",
            "the commit is not on GitHub yet",
            _checkout,
        ),
        Action(
            "actions/setup-python",
            frozenset({"python-version"}),
            "puts the bare Python that runs the rehearsal first on PATH",
            "it would download a Python",
            _setup_python,
        ),
        Action(
            "actions/cache",
            _CACHE_INPUTS,
            "a folder by key, written once, saved at the end of a job that went well",
            "the service is GitHub's",
            _cache,
        ),
        Action(
            "actions/cache/restore", _CACHE_INPUTS, "the same folders, read alone", "the service is GitHub's", _restore
        ),
        Action("actions/cache/save", _CACHE_INPUTS, "the same folders, filled alone", "the service is GitHub's", _save),
        Action(
            "actions/upload-artifact",
            frozenset({"name", "path", "archive", "if-no-files-found", "retention-days", "overwrite",
                       "include-hidden-files", "compression-level"}),
            "a zip, or with archive: false one file under its own name; no name twice; hidden files stay out",
            "the service is GitHub's",
            _upload,
        ),
        Action(
            "actions/download-artifact",
            frozenset({"name", "pattern", "path", "merge-multiple"}),
            "unpacks by name or pattern; a name that is missing is an error; one match gets no folder of its own",
            "the service is GitHub's",
            _download,
        ),
        Action(
            "actions/upload-pages-artifact",
            frozenset({"path", "name", "retention-days"}),
            "packs the site; refuses links and a site without index.html",
            "the service is GitHub's",
            _upload_pages,
        ),
        Action(
            "actions/deploy-pages",
            frozenset({"artifact_name", "timeout"}),
            "checks permissions, environment and that there is one artifact of the name, and gives an address",
            "the service is GitHub's",
            _deploy_pages,
        ),
    )
}  # fmt: skip


def _install(job: Job, _script: str) -> None:
    """The environment of this machine; it finds `lib` in the job's own checkout, as an editable install would."""
    link = job.workspace / ".venv"
    if not link.is_symlink():
        link.symlink_to(Path(sys.prefix))
    job.exported["PYTHONPATH"] = str(job.workspace)


def _nothing(job: Job, _script: str) -> None:
    job.say("not run")


def _few_tests(_job: Job, script: str) -> str:
    return f"{script.strip()} {FEW_TESTS}"


COMMANDS = (
    Command(
        r"^make --touch\b.*\s\.venv$",
        "nothing, but that `lib` is found in the job's own checkout",
        "it would mark this machine's .venv as up to date, which it may not be",
        _install,
    ),
    Command(
        r"^make\b.*\s\.venv$",
        "links the .venv that runs the rehearsal",
        "it would download packages for minutes; the versions are the locked ones either way",
        _install,
    ),
    Command(
        r"^\S+python -m (coverage run -m )?pytest\b",
        f"the same on {FEW_TESTS} alone",
        "the suite takes half an hour, and would call the rehearsal",
        _few_tests,
    ),
    Command(r"^\S+python -m tests\.unexecuted\b", "nothing", f"{FEW_TESTS} alone executes little", _nothing),
    Command(r"^\S+python -m playwright install\b", "nothing", "it would download a browser", _nothing),
    Command(r"^pip(x install|-audit)\b", "nothing", "it would ask a registry, or the advisory database", _nothing),
    Command(r"^(make test\b|\.ci/run\b|\./\.ci/run\b)", "nothing", "the tests would call the rehearsal", _nothing),
)


def find_action(uses: str) -> Action:
    """The stand-in for `owner/name@commit`; raises for one that is not listed."""
    name, _, commit = uses.partition("@")
    if name not in ACTIONS:
        raise StandInError(f"no stand-in for {name!r}; there are: {', '.join(ACTIONS)}")
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise StandInError(f"{uses!r} is not pinned by a full commit")
    return ACTIONS[name]


def find_command(script: str) -> Command | None:
    """The stand-in for a script that is one listed command.

    Raises:
        StandInError: a listed command stands among others, which would not run then.
    """
    lines = [line for line in _lines(script.replace("\\\n", " ")) if not line.startswith("#")]
    for command in COMMANDS:
        if any(re.search(command.pattern, line) for line in lines):
            if len(lines) > 1:
                raise StandInError(f"a step of its own, please: {command.pattern} is replaced here, but not the rest")
            return command
    return None


def world(home: Path) -> dict[str, str]:
    """The environment of a hosted runner, and no way to the network."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(home),
        "USER": "runner",
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "CI": "true",
        **{name: os.environ[name] for name in ("LD_LIBRARY_PATH", "COVERAGE_PROCESS_CONFIG") if name in os.environ},
        **OFFLINE,
    }


def table() -> str:
    """All that is replaced, for the log."""
    rows = [(f"uses: {action.name}", action.does, action.reason) for action in ACTIONS.values()]
    rows += [(f"run: {command.pattern}", command.does, command.reason) for command in COMMANDS]
    rows += [
        (
            "the network",
            "refuses every connection at once",
            "a rehearsal gives the same twice; and it is rehearsed that a host is down",
        )
    ]
    return "\n".join(f"  {what}\n      {does}; because {reason}" for what, does, reason in rows)


__all__ = [
    "ACTIONS",
    "COMMANDS",
    "HubError",
    "Job",
    "Outcome",
    "StandInError",
    "find_action",
    "find_command",
    "table",
    "world",
]
