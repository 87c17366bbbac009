"""From a tag to a release: which run it means, what its notes say, and files that are published once."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.ci.publishing import files_of, publish, release_notes
from lib.ci.tagged import tagged
from lib.errors import RefusedError, UserError
from lib.release import Release
from lib.release.verifying import broken_link
from tests.made_github import MadeGithub
from tests.made_release import COMMIT, made_series_run

IMAGE = "ghcr.io/owner/repository:1.0.0"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run with a release; tests leave it as it is."""
    return made_series_run(tmp_path_factory.mktemp("made") / "run")


@pytest.fixture
def signed(run: Path, tmp_path: Path) -> Path:
    release = Path(shutil.copytree(run / "release", tmp_path / "release"))
    (release / "model.sig").write_text("{}")
    return release


@pytest.fixture
def github() -> Iterator[MadeGithub]:
    made = MadeGithub({7: COMMIT, 8: COMMIT, 9: "another"})
    with made.serving():
        yield made


@pytest.mark.parametrize(("asked", "run_id"), [("", "8"), ("7", "7")])
def test_tag_means_the_latest_run_of_its_commit_or_the_one_that_is_asked_for(
    github: MadeGithub, asked: str, run_id: str
) -> None:
    found = tagged({**github.environ("v1.0.0", COMMIT), "INPUT_RUN_ID": asked})
    assert found == {"run_id": run_id, "version": "1.0.0", "publish": "true", "image": IMAGE}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"INPUT_RUN_ID": "9"}, f"run '9' is not a successful run of notebooks.yml on main of commit {COMMIT}; there "),
        ({"INPUT_RUN_ID": "8; id"}, "run '8; id' is not a successful run"),
        ({"GITHUB_SHA": "0" * 40}, "of which no run of notebooks.yml on main has succeeded"),
        ({"GITHUB_REF": "refs/heads/main"}, "refs/heads/main is not a tag such as v1.2.0"),
        ({"GITHUB_REF": "refs/tags/v1/../2"}, "is not a tag such as v1.2.0"),
        ({"GITHUB_API_URL": "http://127.0.0.1:1"}, "GitHub cannot be reached"),
    ],
)
def test_tag_without_such_a_run_is_refused(github: MadeGithub, changes: dict[str, str], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        tagged({**github.environ("v1.0.0", COMMIT), **changes})


def test_notes_name_image_digest_gate_and_how_to_check_and_have_the_model_card(run: Path, github: MadeGithub) -> None:
    notes = release_notes(run, IMAGE, github.environ("v1.0.0", COMMIT))
    release = Release.load(run)
    assert IMAGE in notes and release.digest in notes and "- to be looked at: top-1 val" in notes
    assert "https://github.com/owner/repository/.github/workflows/release.yml@refs/tags/v1.0.0" in notes
    assert "## Intended use" in notes and "model-index" not in notes


def edited(run: Path, folder: Path, file: str, **changes: object) -> Path:
    copy = Path(shutil.copytree(run, folder / "run"))
    content = json.loads((copy / file).read_text())
    (copy / file).write_text(json.dumps(content | changes))
    return copy


def test_run_that_the_gate_fails_is_not_released(run: Path, tmp_path: Path, github: MadeGithub) -> None:
    copy = edited(run, tmp_path, "results/03_benchmark.onnxruntime.json", proof=None)
    with pytest.raises(RefusedError, match=r"the gate does not let this run pass .* kernels onnxruntime"):
        release_notes(copy, IMAGE, github.environ("v1.0.0", COMMIT))


def test_another_commit_a_smoke_run_and_a_run_without_release_are_refused(
    run: Path, tmp_path: Path, github: MadeGithub
) -> None:
    with pytest.raises(RefusedError, match=f"commit {COMMIT} trained, and {'0' * 40} is tagged"):
        release_notes(run, IMAGE, github.environ("v1.0.0", "0" * 40))
    smoke = made_series_run(tmp_path / "smoke", profile="smoke")
    with pytest.raises(RefusedError, match="a smoke run made this release"):
        release_notes(smoke, IMAGE, github.environ("v1.0.0", COMMIT))
    shutil.rmtree(smoke / "release")
    with pytest.raises(UserError, match="is not a release"):
        release_notes(smoke, IMAGE, github.environ("v1.0.0", COMMIT))


def published(github: MadeGithub, release: Path, **rights: str) -> list[str]:
    notes = release.parent / "notes.md"
    notes.write_text("what it is")
    return list(publish(release, notes, github.environ("v1.0.0", COMMIT, **rights)))


def test_files_go_onto_a_draft_that_is_published_once(github: MadeGithub, signed: Path) -> None:
    lines = published(github, signed)
    (release,) = github.releases
    assert lines[-1] == "v1.0.0 is published: https://github.com/owner/repository/releases/1"
    assert (release["tag_name"], release["draft"], release["body"]) == ("v1.0.0", False, "what it is")
    names = ["SHA256SUMS", "model.onnx", "model.safetensors", "model_quantized.onnx", "model_uint8.onnx"]
    assert set(names) < set(github.names()) and len(github.assets) == len(names) + 2
    assert published(github, signed) == ["v1.0.0 is published already: https://github.com/owner/repository/releases/1"]
    assert tagged(github.environ("v1.0.0", COMMIT))["publish"] == "false"


def test_attempt_that_was_cut_off_is_continued_by_the_next(github: MadeGithub, signed: Path) -> None:
    github.failing = "model_quantized.onnx"
    with pytest.raises(RefusedError, match="GitHub answered 502"):
        published(github, signed)
    assert github.releases[0]["draft"] is True
    assert tagged(github.environ("v1.0.0", COMMIT))["publish"] == "true"
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
