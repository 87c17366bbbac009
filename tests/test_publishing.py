"""From a tag to a release: which run it means, what its notes say, and files that are published once."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import pytest

from lib.ci.publishing import files_of, publish, release_notes
from lib.ci.tagged import tagged
from lib.errors import RefusedError, UserError
from lib.records.schema import Promotion, Rule
from lib.release import Release
from lib.release.verifying import broken_link
from tests.made_github import HOST, MadeGithub, made_workflow_run
from tests.made_records import made_scenario
from tests.made_release import COMMIT, made_series_run

IMAGE = "ghcr.io/owner/repository:1.0.0"
PUSHED = f"{IMAGE}@sha256:{'d' * 64}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run with a release; tests leave it as it is."""
    return made_series_run(tmp_path_factory.mktemp("made") / "run")


@pytest.fixture
def signed(run: Path, tmp_path: Path) -> Path:
    release = Path(shutil.copytree(run / "release", tmp_path / "release"))
    (release / "model.sig").write_text("{}")
    return release


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a tag whose commit changes only the changelog: HEAD~1 has the same code, HEAD~2 has other code."""
    folder = tmp_path_factory.mktemp("checkout")
    git(folder, "init", "--quiet")
    for name, text in (("code.py", "1"), ("code.py", "2"), ("CHANGELOG.md", "what changed")):
        (folder / name).write_text(text)
        git(folder, "add", "--all")
        git(folder, "-c", "user.name=t", "-c", "user.email=t@t.invalid", "commit", "--quiet", "--message", "x")
    return folder


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def github(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MadeGithub]:
    """Only runs 7, 8 and 10 released the code of the tag, and 10 has inputs of its own."""
    tagged_commit, same, other = git(checkout, "rev-list", "HEAD").splitlines()
    made = MadeGithub(
        made_workflow_run(7, same),
        made_workflow_run(8, same, event="schedule"),
        made_workflow_run(9, tagged_commit, artifact="none"),  # nothing to run for a changelog
        made_workflow_run(10, same, event="workflow_dispatch"),
        made_workflow_run(11, other),
        made_workflow_run(12, same, branch="develop"),
        made_workflow_run(13, same, status="failure"),
        made_workflow_run(14, same, head_repository={"full_name": "fork/repository"}),
        made_workflow_run(15, same, event="pull_request"),
        made_workflow_run(16, COMMIT),  # which is not in the checkout
        made_workflow_run(17, same, workflow="retrain.yml", event="schedule"),
    )
    with made.serving():
        monkeypatch.setenv("http_proxy", made.address)
        made.address = f"http://api.{HOST}"
        yield made


@pytest.mark.parametrize(("asked", "run_id"), [("", "8"), ("7", "7"), ("10", "10"), ("17", "17")])
def test_tag_means_the_latest_run_of_its_code_or_the_one_that_is_asked_for(
    github: MadeGithub, checkout: Path, asked: str, run_id: str
) -> None:
    found = tagged({**github.environ("v1.0.0"), "INPUT_RUN_ID": asked}, checkout)
    commit = git(checkout, "rev-parse", "HEAD~1")
    assert found == {"run_id": run_id, "commit": commit, "version": "1.0.0", "publish": "true", "image": IMAGE}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *[({"INPUT_RUN_ID": run}, f"run '{run}' is not a successful run of notebooks.yml or retrain.yml on main with .*"
           r"v1.0.0 \(there are: 10, 8, 7, 17\)") for run in ("9", "11", "12", "13", "14", "15", "16", "8; id")],
        ({"GITHUB_REF": "refs/heads/main"}, "refs/heads/main is not a tag such as v1.2.0"),
        ({"GITHUB_REF": "refs/tags/v1/../2"}, "is not a tag such as v1.2.0"),
        ({"GITHUB_API_URL": "http://127.0.0.1:1"}, "GitHub cannot be reached"),
    ],
)  # fmt: skip
def test_tag_without_such_a_run_is_refused(
    github: MadeGithub, checkout: Path, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(RefusedError, match=message):
        tagged({**github.environ("v1.0.0"), **changes}, checkout)


def test_code_that_only_runs_by_hand_have_is_not_released_unasked(github: MadeGithub, checkout: Path) -> None:
    github.workflow_runs = [run for run in github.workflow_runs if run["id"] not in (7, 8)]
    with pytest.raises(RefusedError, match=r"no push and no schedule .*\(there are: 10, 17\); start notebooks.yml"):
        tagged(github.environ("v1.0.0"), checkout)


def notes_of(run: Path, commit: str = COMMIT) -> str:
    made = {"NOTEBOOKS_RUN": "8", "NOTEBOOKS_COMMIT": commit, "GITHUB_API_URL": "none"}
    return release_notes(run, {**MadeGithub().environ("v1.0.0"), **made})


def test_notes_name_run_digest_gate_and_how_to_check_and_have_the_model_card(run: Path) -> None:
    notes, release = notes_of(run), Release.load(run)
    parts = [f"[run 8](https://github.com/owner/repository/actions/runs/8), which ran commit {COMMIT}"]
    parts += [release.digest, "- to be looked at: top-1 val", "## Intended use"]
    parts += ["https://github.com/owner/repository/.github/workflows/release.yml@refs/tags/v1.0.0"]
    folder = f"{release.name}-{release.version}"
    parts += [f"-m lib verify {folder}\n", f"gh attestation verify {folder}/model.safetensors --repo owner/repository"]
    assert [part for part in parts if part not in notes] == [] and "model-index" not in notes


def edited(run: Path, folder: Path, file: str, **changes: object) -> Path:
    copy = Path(shutil.copytree(run, folder / "run"))
    content = json.loads((copy / file).read_text())
    (copy / file).write_text(json.dumps(content | changes))
    return copy


def with_promotion(run: Path, folder: Path, verdict: str) -> Path:
    rule = Rule("top-1", 0.9, 0.95, 0.05, (0.04, 0.06), 0.002, "broken" if verdict == "keep" else "undecided")
    found = Promotion(
        "signs 1", "ab" * 32, 100, 50, [rule], [], cast(Any, verdict), made_scenario("single_stream", 1.0)
    )
    return edited(run, folder, "results/05_release.json", promotion=asdict(found))


def test_run_that_the_gate_fails_is_not_released(run: Path, tmp_path: Path) -> None:
    copy = edited(run, tmp_path, "results/03_benchmark.onnxruntime.json", proof=None)
    with pytest.raises(RefusedError, match=r"the gate does not let this run pass .* kernels onnxruntime"):
        notes_of(copy)


def test_worse_release_than_the_champion_is_refused_and_a_doubt_is_in_the_notes(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="05 decided to keep the champion signs 1: top-1"):
        notes_of(with_promotion(run, tmp_path / "keep", "keep"))
    notes = notes_of(with_promotion(run, tmp_path / "investigate", "investigate"))
    assert "- to be looked at: promotion: investigate before it replaces the champion signs 1" in notes
    assert "promotion" not in notes_of(with_promotion(run, tmp_path / "promote", "promote"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"profile": "smoke"}, "the profile is smoke"), ({"source": "synthetic"}, "synthetic images stand in")],
)
def test_figures_that_mean_nothing_are_not_released(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    run = made_series_run(tmp_path / "run", **changes)
    with pytest.raises(RefusedError, match=message):
        notes_of(run)
    shutil.rmtree(run / "release")
    with pytest.raises(UserError, match="is not a release"):
        notes_of(run)


def test_release_that_another_commit_trained_is_refused(run: Path) -> None:
    with pytest.raises(RefusedError, match=f"commit {COMMIT} trained, and {'0' * 40} ran"):
        notes_of(run, commit="0" * 40)


def published(github: MadeGithub, release: Path, tag: str = "v1.0.0", **rights: str) -> list[str]:
    notes = release.parent / "notes.md"
    notes.write_text("what it is")
    return list(publish(release, notes, PUSHED, github.environ(tag, **rights)))


def test_files_go_onto_a_draft_that_is_published_once(github: MadeGithub, checkout: Path, signed: Path) -> None:
    github.releases = [{"id": number, "tag_name": f"v0.{number}", "draft": False} for number in range(1, 101)]
    lines = published(github, signed)
    release = github.releases[-1]
    assert lines[-1] == "v1.0.0 is published: https://github.com/owner/repository/releases/101"
    assert (release["tag_name"], release["draft"], release["prerelease"]) == ("v1.0.0", False, False)
    assert PUSHED in release["body"] and release["body"].endswith("what it is")
    names = ["SHA256SUMS", "model.onnx", "model.safetensors", "model_quantized.onnx", "model_uint8.onnx"]
    names.append("demo.html")
    assert set(names) < set(github.names()) and len(github.assets) == len(names) + 2
    github.releases.insert(0, {**release, "draft": True})  # that someone began by hand
    assert published(github, signed) == [f"v1.0.0 is published already: {release['html_url']}"]
    assert tagged(github.environ("v1.0.0"), checkout)["publish"] == "false"


@pytest.mark.parametrize("tag", ["v1.0.0-rc.1", "v2.0.0b1"])
def test_tag_with_more_than_numbers_is_a_prerelease(github: MadeGithub, signed: Path, tag: str) -> None:
    published(github, signed, tag)
    assert github.releases[0]["prerelease"] is True


def test_attempt_that_was_cut_off_is_continued_by_the_next(github: MadeGithub, checkout: Path, signed: Path) -> None:
    github.failing = "model_quantized.onnx"
    with pytest.raises(RefusedError, match="GitHub answered 502"):
        published(github, signed)
    assert github.releases[0]["draft"] is True
    assert tagged(github.environ("v1.0.0"), checkout)["publish"] == "true"
    github.failing = ""
    number = max(github.assets) + 1
    github.assets[number] = {**github.assets[1], "id": number, "name": "of-other-content.tar"}
    lines = published(github, signed)
    assert "model.onnx is there" in lines and len(github.releases) == 1
    assert {one["state"] for one in github.assets.values()} == {"uploaded"}
    assert github.names() == sorted(files_of(Release.load(signed)))


def test_archive_is_the_same_each_time_and_a_release_that_verifies(signed: Path, tmp_path: Path) -> None:
    files = files_of(Release.load(signed))
    (name,) = (name for name in files if name.endswith(".tar"))
    copy = Path(shutil.copytree(signed, tmp_path / "later"))
    (copy / "README.md").touch()
    assert files_of(Release.load(copy)) == files
    with tarfile.open(fileobj=io.BytesIO(files[name])) as archive:
        archive.extractall(tmp_path / "got", filter="data")
    (folder,) = (tmp_path / "got").iterdir()
    assert broken_link(folder) == "" and (folder / "model.sig").exists()


def test_nothing_is_published_unsigned_or_without_the_right_to(github: MadeGithub, signed: Path) -> None:
    with pytest.raises(RefusedError, match="GitHub answered 403"):
        published(github, signed, contents="read")
    (signed / "model.sig").unlink()
    with pytest.raises(RefusedError, match="is not signed"):
        published(github, signed)
    assert github.releases == []
