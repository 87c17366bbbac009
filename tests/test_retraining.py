"""Retraining: what is trained on again, the champion from GitHub, the issue with the evidence, and the way back."""

from __future__ import annotations

import hashlib
import re
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lib.ci.publishing import archive_name, publish, roll_back
from lib.ci.retraining import plan, report
from lib.data.store import add
from lib.errors import RefusedError, UserError
from lib.files import PROJECT_ROOT
from lib.records.schema import RELEASE, Promotion, ReleaseRecord, Rule, read_record, record_path, write_record
from lib.release import Release
from lib.release.writer import plan_release, write_release
from lib.series.jobs import plan_jobs
from tests.gtsrb_layout import write_image
from tests.made_data import made_data, noise
from tests.made_github import HOST, MadeGithub
from tests.made_records import made_scenario
from tests.made_release import made_run, made_series_run, released_data
from tests.rehearsal import standins
from tests.rehearsal.results import Event
from tests.rehearsal.runner import Runner, read_workflow
from tests.rehearsal.standins import Command

WORKFLOW = ".github/workflows/retrain.yml"
Environ = dict[str, str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that 05 compared with a champion; tests leave it as it is."""
    run = made_series_run(tmp_path_factory.mktemp("made") / "run")
    (run / "release/model.sig").write_text("{}")
    (run / "notes.md").write_text("notes")
    shutil.copy(PROJECT_ROOT / "notebooks/05_release.ipynb", run / "notebooks")
    path = record_path(run, RELEASE)
    record = read_record(path, ReleaseRecord)
    rule = Rule("top-1", 0.991, 0.985, -0.006, (-0.009, -0.002), 0.002, "holds")
    times = made_scenario("single_stream", 1.0)
    record.promotion = Promotion("the old one", "ab" * 32, 900, 40, [rule], [], "promote", times)
    write_record(record, path)
    return run


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch) -> Iterator[MadeGithub]:
    made = MadeGithub()
    with made.serving():
        monkeypatch.setenv("http_proxy", made.address)
        made.address = f"http://api.{HOST}"
        yield made


@pytest.fixture
def environ(github: MadeGithub, run: Path) -> Environ:
    """Of a repository whose one release is that of the run."""
    found = github.environ("v1.0.0", contents="write", issues="write", actions="read")
    list(publish(run / "release", run / "notes.md", "image", found))
    return {**found, "GITHUB_SHA": "5" * 40, "GITHUB_RUN_ID": "17"}


def test_without_a_release_nothing_is_trained(github: MadeGithub) -> None:
    github.releases = [{"tag_name": f"extra-{'ab' * 32}", "draft": False, "prerelease": True}]
    outputs = plan({**github.environ("v1.0.0"), "GITHUB_SHA": "5" * 40})
    assert (outputs["train"], outputs["champion"]) == ("false", "")


def test_the_same_inputs_are_decided_once_and_others_anew(github: MadeGithub, environ: Environ, run: Path) -> None:
    first = plan(environ)
    assert (first["train"], first["champion"], first["dataset"]) == ("true", "v1.0.0", "gtsrb")
    assert plan(environ) == first
    opened = report(run, {**environ, "KEY": first["key"], "PAGE_URL": "https://github.com/page", "CHAMPION": "v1.0.0"})
    assert plan(environ) == {**first, "train": "false"}
    assert report(run, {**environ, "KEY": first["key"]}) == opened and len(github.issues) == 1
    assert plan({**environ, "INPUT_EXTRA_DATA": "none"}) == {**first, "train": "false"}, "the champion has none either"
    for change in ({"INPUT_EXTRA_DATA": "ab" * 32}, {"GITHUB_SHA": "6" * 40}, {"INPUT_PROFILE": "full"}):
        assert plan({**environ, **change})["train"] == "true"
    other = next(asset for asset in github.assets.values() if not asset["name"].endswith(".tar"))
    other["digest"] = "sha256:other"
    assert plan(environ)["train"] == "true", "another champion under the same tag"


def test_extra_images_of_the_champion_are_used_again_unless_others_or_none_are_asked_for(
    github: MadeGithub, tmp_path: Path
) -> None:
    extra_hash = "ef" * 32
    made = plan_release(made_run(tmp_path / "run", ("onnxruntime",), extra_hash=extra_hash))
    release = write_release(made, released_data(extra_hash=extra_hash)).release
    assert release is not None
    (release.path / "model.sig").write_text("{}")
    (tmp_path / "notes.md").write_text("notes")
    environ = {**github.environ("v1.0.0", contents="write", issues="read"), "GITHUB_SHA": "5" * 40}
    list(publish(release.path, tmp_path / "notes.md", "image", environ))
    asked = ("", "ab" * 32, "none")
    found = [plan({**environ, "INPUT_EXTRA_DATA": given})["extra_data"] for given in asked]
    assert found == [extra_hash, "ab" * 32, ""]


@pytest.mark.slow
def test_the_workflow_trains_with_the_new_images_and_opens_one_issue_with_the_evidence(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Walked as GitHub would run it; a made run stands in for the series and for real images."""
    github = MadeGithub()
    write_image(tmp_path / "new/14/IMG_1.png", 14, 1)
    monkeypatch.setenv("GTSRB_STORE", str(tmp_path / "store"))
    extra, _ = add(tmp_path / "new", made_data(noise("train", 86), noise("val", 43, seed=1), source="gtsrb"))
    with tarfile.open(tmp_path / "store.tar", "w") as archive:
        archive.add(tmp_path / "store", "store")
    download = f'test "$TAG" = extra-{extra.hash} && cp {tmp_path}/store.tar .'
    commands = [
        Command(r"-m lib data get\b", "nothing; it would download images"),
        Command(r"\bgh release download\b", "copies it",
                lambda job, text: re.sub(r"gh release .*?store\.tar", download, text)),
        Command(r"-m lib run --backends", "says it", lambda job, text: f"echo {text.strip()} && cp -r {run} run"),
    ]  # fmt: skip
    monkeypatch.setattr(standins, "COMMANDS", (*standins.COMMANDS, *commands))
    runner = Runner(PROJECT_ROOT, tmp_path / "walk", Event(inputs={"extra_data": extra.hash}))
    runner.api = github
    with github.serving():
        list(publish(run / "release", run / "notes.md", "image", github.environ("v1.0.0", contents="write")))
    walk = runner.run(WORKFLOW)
    log = "\n".join(job.log[-2000:] for job in walk.jobs)
    assert walk.results == dict.fromkeys(("plan", "train", "report"), "success"), log
    ran = {(job.id, step.name) for job in walk.jobs for step in job.steps if step.outcome == "success"}
    graph = read_workflow(PROJECT_ROOT, WORKFLOW)["jobs"]
    assert {(name, step["name"]) for name, job in graph.items() for step in job["steps"]} <= ran, "every step"
    train, (issue,) = walk.job("train").log, github.issues
    line = next(line for line in train.splitlines() if line.startswith(".venv/bin/python -m lib run --backends"))
    given = dict(re.findall(r"-p (\w+) (\S+)", line))
    assert plan_jobs([], given, []) and given["champion"].endswith(f"/{archive_name(Release.load(run))[:-4]}")
    assert len(given["extra_data"]) == 64 and f"ok  {given['extra_data'][:12]}" in train
    wanted = ["Promote it over the champion the old one", "top-1", "0.60 points", "runs/1/artifacts/",
              "gh run download 1 --name release.arm64 --dir runs/retrained-1\n",
              "python -m lib promote --to runs/retrained-1\n", Release.load(run).digest]  # fmt: skip
    assert [words for words in wanted if words not in issue["body"]] == []
    assert issue["title"].endswith(": promote") and issue["labels"] == ["retraining"]
    assert {"release.arm64", "gtsrb-notebooks.arm64", "05_release.arm64.html"} == {*walk.artifacts.stored}


def test_run_without_a_comparison_opens_no_issue_and_one_that_lost_has_no_way_to_promote_it(
    github: MadeGithub, environ: Environ, tmp_path: Path
) -> None:
    alone = made_series_run(tmp_path / "run")
    with pytest.raises(RefusedError, match="no comparison with a champion"):
        report(alone, {**environ, "KEY": "k"})
    assert github.issues == []
    path = record_path(alone, RELEASE)
    lost = Promotion("the old one", "ab" * 32, 900, 40, [], [], "keep", made_scenario("single_stream", 1.0))
    write_record(replace(read_record(path, ReleaseRecord), promotion=lost), path)
    report(alone, {**environ, "KEY": "k"})
    assert "the champion stays" in github.issues[0]["body"] and "promote --to" not in github.issues[0]["body"]


@pytest.mark.parametrize("given", ["; id", "abababababab"])
def test_extra_data_that_is_no_whole_hash_is_refused(environ: Environ, given: str) -> None:
    with pytest.raises(UserError, match=f"extra_data is '{given}'"):
        plan({**environ, "INPUT_EXTRA_DATA": given})


def test_release_that_does_not_verify_or_is_not_there_changes_nothing(
    github: MadeGithub, environ: Environ, tmp_path: Path
) -> None:
    (archive,) = (one for one in github.assets.values() if one["name"].endswith(".tar"))
    archive["content"] = archive["content"].replace(b'"model_type"', b'"model_tipe"')
    with pytest.raises(RefusedError, match="is not the file that GitHub names"):
        roll_back(tmp_path, environ)
    archive["digest"] = f"sha256:{hashlib.sha256(archive['content']).hexdigest()}"
    with pytest.raises(UserError, match=r"config.json is not the file that SHA256SUMS names"):
        roll_back(tmp_path, environ)
    assert "make_latest" not in github.releases[0]
    github.releases.clear()
    with pytest.raises(RefusedError, match=r"v1\.0\.0 is not a published release"):
        roll_back(tmp_path, environ)
