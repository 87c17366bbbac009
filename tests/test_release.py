"""A release: written from a run, read and verified from its files alone, used without torch."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib.records.run import load_run
from lib.release import Release, verify, write_release
from lib.release.writer import plan_release
from tests.made_release import made_run, released_data


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release; tests leave it as it is."""
    run_dir = made_run(tmp_path_factory.mktemp("run"))
    return write_release(plan_release(load_run(run_dir)), released_data())[0].path


def test_release_of_a_run_holds_every_link(whole: Path) -> None:
    release, holds = verify(whole)
    assert [line.partition(":")[0] for line in holds] == [
        "files", "trained", "evaluated", "benchmarked", "exported", "derived", "data", "samples"
    ]  # fmt: skip
    assert release.labels == released_data().classes and release.preprocessing.image_size == 32


def test_run_folder_stands_for_its_release_and_equal_content_has_an_equal_digest(whole: Path) -> None:
    again, replaced = write_release(plan_release(load_run(whole.parent)), released_data())
    assert Release.load(whole.parent).digest == again.digest and replaced == ""
