"""The release workflow walked as GitHub would run it, with a made run and without a registry, Sigstore or an engine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from lib.files import PROJECT_ROOT
from lib.release import Release
from tests.made_github import MadeGithub, made_workflow_run
from tests.made_release import made_series_run
from tests.rehearsal import standins
from tests.rehearsal.results import Event, Variation, Walk, WorkflowError
from tests.rehearsal.runner import Runner, read_workflow
from tests.rehearsal.standins import ACTIONS, COMMANDS, Action, Command, Given, Job

pytestmark = pytest.mark.slow

RELEASE = ".github/workflows/release.yml"
RUN = "8"
OIDC = ("id-token", "attestations")
SIGN = "touch shipped/release/model.sig"
DIGEST = "sha256:" + "d" * 64  # of the image


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
    """A walk that breaks off while it publishes, and *Re-run failed jobs* after that."""

    github: MadeGithub
    first: Walk
    draft: bool  # what the first left
    second: Walk
    back: Walk  # started by hand after those, to make it the latest again
    digest: str  # of the release


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walks]:
    folder, github = tmp_path_factory.mktemp("release"), MadeGithub()

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
           "docker/build-push-action": needing("packages", digest=DIGEST)}  # fmt: skip
    with pytest.MonkeyPatch.context() as patched, github.serving():
        for name, action in own.items():
            patched.setitem(ACTIONS, name, action)
        commands = [Command(r"model_signing verify sigstore\b", "nothing")]
        commands.append(Command(r"\bdocker run\b", "says it", lambda job, text: text.replace("docker", "echo docker")))
        commands.append(Command(r"model_signing sign sigstore", "signs nothing", lambda job, script: SIGN))
        patched.setattr(standins, "COMMANDS", (*COMMANDS, *commands))
        push = Event("push", changed=("CHANGELOG.md",))
        runner = Runner(PROJECT_ROOT, folder / "first", push)
        code = runner.repository.base  # HEAD changes only the changelog, and its run had nothing to do
        made_series_run(folder / "run", commit=code)
        github.workflow_runs = [made_workflow_run(int(RUN), code), made_workflow_run(9, runner.sha, artifact="none")]
        github.failing = "model_uint8.onnx"
        first, draft = walk(runner, github), github.releases[0]["draft"]
        github.failing = ""
        again = Variation(attempt=2, earlier=first, kept=("check", "sign", "image"))
        second = walk(Runner(PROJECT_ROOT, folder / "second", push, again), github)
        back = walk(Runner(PROJECT_ROOT, folder / "back", Event("workflow_dispatch", {"action": "rollback"})), github)
        yield Walks(github, first, draft, second, back, Release.load(folder / "run").digest)


def walk(runner: Runner, github: MadeGithub) -> Walk:
    runner.ref, runner.api = "refs/tags/v1.0.0", github
    return runner.run(RELEASE)


def test_attempt_that_breaks_off_leaves_a_draft_and_the_next_publishes_it_once(walked: Walks) -> None:
    good = dict.fromkeys(("check", "sign", "image", "publish"), "success")
    logs = "\n".join(job.log[-2000:] for one in (walked.first, walked.second) for job in one.jobs if job.failed_steps)
    good["rollback"] = "skipped"
    assert (walked.first.results, walked.second.results) == ({**good, "publish": "failure"}, good), logs
    assert walked.first.job("publish").failed_steps == ["Fill the draft and publish it once"]
    assert walked.draft is True and [one["draft"] for one in walked.github.releases] == [False]


def test_rollback_marks_a_published_release_as_the_latest_and_makes_no_other(walked: Walks) -> None:
    results = {"rollback": "success", **dict.fromkeys(("check", "sign", "image", "publish"), "skipped")}
    assert walked.back.results == results, walked.back.job("rollback").log[-2000:]
    assert walked.github.releases[0]["make_latest"] == "true" and len(walked.github.releases) == 1


def test_every_step_ran(walked: Walks) -> None:
    walks = walked.second, walked.back
    ran = {(job.id, step.name) for one in walks for job in one.jobs for step in job.steps if step.outcome == "success"}
    graph = read_workflow(PROJECT_ROOT, RELEASE)["jobs"]
    assert {(name, step["name"]) for name, job in graph.items() for step in job["steps"]} <= ran


def test_image_has_the_signed_release_is_verified_on_both_architectures_and_named_in_the_notes(walked: Walks) -> None:
    log = walked.first.job("image").log
    wanted = ["'tags': 'ghcr.io/owner/repository:1.0.0'", "'platforms': 'linux/arm64,linux/amd64'", "VERSION=1.0.0"]
    wanted += ["'push': 'true'", "'provenance': 'mode=max'", "'sbom': 'true'", f"MODEL_DIGEST={walked.digest}"]
    wanted += [f"docker run --pull always --platform linux/{one}" for one in ("arm64", "amd64")]
    assert [part for part in wanted if part not in log] == []
    (archive,) = (one for one in walked.github.assets.values() if one["name"].endswith(".tar"))
    notes = walked.github.releases[0]["body"]
    assert b"model.sig" in archive["content"] and walked.digest in notes
    assert notes.startswith(f"Image: `ghcr.io/owner/repository:1.0.0@{DIGEST}`, for linux/arm64 and linux/amd64.")
