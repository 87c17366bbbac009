"""The release workflow walked as GitHub would run it, with a made run and without a registry, Sigstore or an engine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from lib.files import PROJECT_ROOT
from lib.release import Release
from tests.made_github import MadeGithub
from tests.made_release import made_series_run
from tests.rehearsal import standins
from tests.rehearsal.results import Event, Variation, Walk, WorkflowError
from tests.rehearsal.runner import Runner, read_workflow
from tests.rehearsal.standins import ACTIONS, COMMANDS, Action, Command, Given, Job

RELEASE = ".github/workflows/release.yml"
RUN = "8"
OIDC = ("id-token", "attestations")
SIGN = "touch shipped/release/model.sig"


def needing(*rights: str, digest: str = "") -> Action:
    """An action that takes any input, and fails without these rights to write."""

    def act(job: Job, given: Given) -> dict[str, str]:
        if missing := [right for right in rights if job.permissions.get(right) != "write"]:
            raise WorkflowError(f"it needs the right to write {', '.join(missing)}")
        job.say(f"with {dict(given)}")
        return {"digest": digest}

    return Action({"registry", "username", "password", "context", "file", "build-contexts", "build-args", "platforms",
                   "push", "tags", "provenance", "sbom", "subject-path"}, act)  # fmt: skip


class Walks(NamedTuple):
    """Three attempts for one tag: one that breaks off while it publishes, *Re-run failed jobs*, and a whole one."""

    github: MadeGithub
    walks: list[Walk]
    drafts: list[bool]  # after each, of the release
    digest: str  # of the release


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walks]:
    folder, github, walks, drafts = tmp_path_factory.mktemp("release"), MadeGithub({}), list[Walk](), list[bool]()

    def download(job: Job, given: Given) -> dict[str, str]:
        """The artifact of another run; others are of this walk."""
        if "run-id" not in given:
            return artifact.act(job, given)
        if given["run-id"] != RUN or job.permissions.get("actions") != "read":
            raise WorkflowError(f"no run {given['run-id']} for the rights {job.permissions}")
        shutil.copytree(folder / "run", job.workspace / given["path"])
        return {}

    artifact = ACTIONS["actions/download-artifact"]
    own = {"actions/download-artifact": Action(artifact.inputs | {"run-id", "github-token"}, download),
           "actions/attest-build-provenance": needing(*OIDC), "docker/login-action": needing("packages"),
           "docker/setup-qemu-action": needing(), "docker/setup-buildx-action": needing(),
           "docker/build-push-action": needing("packages", digest="sha256:" + "d" * 64)}  # fmt: skip
    with pytest.MonkeyPatch.context() as patched, github.serving():
        for name, action in own.items():
            patched.setitem(ACTIONS, name, action)
        commands = (Command(r"model_signing sign sigstore", "signs nothing", lambda job, script: SIGN),
                    Command(r"model_signing verify sigstore", "nothing"), Command(r"^docker run\b", "nothing"))  # fmt: skip
        patched.setattr(standins, "COMMANDS", (*COMMANDS, *commands))
        for number in (1, 2, 3):
            again = Variation(attempt=2, earlier=walks[0], kept=("check", "sign", "image")) if number == 2 else None
            runner = Runner(PROJECT_ROOT, folder / f"out{number}", Event("push"), again)
            runner.ref, runner.api = "refs/tags/v1.0.0", github  # type: ignore[assignment]
            if number == 1:
                first = runner
                made_series_run(folder / "run", commit=runner.sha)
            runner.repository, runner.sha = first.repository, first.sha
            github.runs = {int(RUN): runner.sha}
            github.failing = "model_uint8.onnx" if number == 1 else ""
            walks.append(runner.run(RELEASE))
            drafts.append(github.releases[0]["draft"])
        yield Walks(github, walks, drafts, Release.load(folder / "run").digest)


def test_attempt_that_breaks_off_leaves_a_draft_and_the_next_publishes_it_once(walked: Walks) -> None:
    good = dict.fromkeys(("check", "sign", "image", "publish"), "success")
    results = [walk.results for walk in walked.walks]
    logs = "\n".join(job.log[-2000:] for walk in walked.walks for job in walk.jobs if job.failed_steps)
    assert results[:2] == [{**good, "publish": "failure"}, good], logs
    assert walked.walks[0].job("publish").failed_steps == ["Fill the draft and publish it once"]
    assert results[2] == {**dict.fromkeys(good, "skipped"), "check": "success"}, "it is published already"
    assert walked.drafts == [True, False, False] and len(walked.github.releases) == 1


def test_every_step_ran(walked: Walks) -> None:
    ran = {(job.id, step.name) for walk in walked.walks for job in walk.jobs for step in job.steps
           if step.outcome == "success"}  # fmt: skip
    graph = read_workflow(PROJECT_ROOT, RELEASE)["jobs"]
    assert {(name, step["name"]) for name, job in graph.items() for step in job["steps"]} <= ran


def test_image_has_the_signed_release_its_digest_and_both_architectures(walked: Walks) -> None:
    log = walked.walks[0].job("image").log
    for part in ("'tags': 'ghcr.io/owner/repository:1.0.0'", "'platforms': 'linux/arm64,linux/amd64'", "'push': 'true'",
                 "'provenance': 'mode=max'", "'sbom': 'true'", f"MODEL_DIGEST={walked.digest}", "VERSION=1.0.0"):  # fmt: skip
        assert part in log, part
    (archive,) = (one for one in walked.github.assets.values() if one["name"].endswith(".tar"))
    assert b"model.sig" in archive["content"] and walked.digest in walked.github.releases[0]["body"]
