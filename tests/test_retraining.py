"""Retraining: what is trained on again, the champion from GitHub, the issue with the evidence, and the way back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.ci.publishing import publish, roll_back
from lib.ci.retraining import fetch_release, plan, report
from lib.errors import RefusedError, UserError
from lib.records.schema import RELEASE, Promotion, ReleaseRecord, Rule, read_record, record_path, write_record
from lib.release import Release
from tests.made_github import HOST, MadeGithub
from tests.made_records import made_scenario
from tests.made_release import made_series_run

Environ = dict[str, str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that 05 compared with a champion; tests leave it as it is."""
    run = made_series_run(tmp_path_factory.mktemp("made") / "run")
    (run / "release/model.sig").write_text("{}")
    (run / "notes.md").write_text("notes")
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
    outputs = plan({**github.environ("v1.0.0"), "GITHUB_SHA": "5" * 40})
    assert (outputs["train"], outputs["champion"]) == ("false", "")


def test_the_same_inputs_are_decided_once_and_others_anew(github: MadeGithub, environ: Environ, run: Path) -> None:
    first = plan(environ)
    assert (first["train"], first["champion"], first["dataset"]) == ("true", "v1.0.0", "gtsrb")
    assert plan(environ) == first
    opened = report(run, {**environ, "KEY": first["key"], "PAGE_URL": "https://github.com/page", "CHAMPION": "v1.0.0"})
    assert plan(environ) == {**first, "train": "false"}
    assert report(run, {**environ, "KEY": first["key"]}) == opened and len(github.issues) == 1
    for change in ({"INPUT_EXTRA_DATA": "ab" * 32}, {"GITHUB_SHA": "6" * 40}, {"INPUT_PROFILE": "full"}):
        assert plan({**environ, **change})["train"] == "true"
    github.assets[1]["digest"] = "sha256:other"
    assert plan(environ)["train"] == "true", "another champion under the same tag"


def test_issue_has_the_verdict_the_rules_the_page_and_how_to_promote(
    github: MadeGithub, environ: Environ, run: Path
) -> None:
    report(run, {**environ, "KEY": "k", "PAGE_URL": "https://github.com/page", "CHAMPION": "v1.0.0"})
    (issue,) = github.issues
    wanted = ["Promote it over the champion the old one", "top-1", "0.60 points", "https://github.com/page",
              "actions/runs/17", "python -m lib promote --to", Release.load(run).digest]  # fmt: skip
    assert [words for words in wanted if words not in issue["body"]] == []
    assert issue["title"].endswith(": promote") and issue["labels"] == ["retraining"]


def test_run_without_a_comparison_opens_no_issue(github: MadeGithub, environ: Environ, tmp_path: Path) -> None:
    alone = made_series_run(tmp_path / "run")
    with pytest.raises(RefusedError, match="no comparison with a champion"):
        report(alone, {**environ, "KEY": "k"})
    assert github.issues == []


def test_extra_data_that_is_no_hash_is_refused(environ: Environ) -> None:
    with pytest.raises(UserError, match="extra_data is '; id'"):
        plan({**environ, "INPUT_EXTRA_DATA": "; id"})


def test_published_release_comes_back_as_it_was_and_becomes_the_latest_again(
    github: MadeGithub, environ: Environ, run: Path, tmp_path: Path
) -> None:
    assert fetch_release("v1.0.0", tmp_path, environ).digest == Release.load(run).digest
    assert "v1.0.0 is the latest release again" in roll_back(tmp_path, environ)
    assert github.releases[0]["make_latest"] == "true"


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
