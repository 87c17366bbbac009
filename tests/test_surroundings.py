"""Tests see the same surroundings everywhere, and leave no trace in those of GitHub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lib.files import PROJECT_ROOT
from tests.surroundings import CLOSED, unwanted

REPORT = "import json, os, time; print(json.dumps([dict(os.environ), time.tzname]))"


def test_tests_and_their_processes_see_nothing_of_github_or_of_a_user() -> None:
    ran = subprocess.run([sys.executable, "-c", REPORT], capture_output=True, text=True, check=True)
    environ, zone = json.loads(ran.stdout)
    for seen in (environ, dict(os.environ)):
        assert set(unwanted(seen)) <= {name for name in seen if name.startswith("GIT_CONFIG_")}
        assert not list(Path(seen["HOME"]).glob(".git*")) and seen["https_proxy"] == CLOSED
    assert zone == list(time.tzname) == ["UTC", "UTC"]


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, str]:
    """As in a job of GitHub and in a hook of git, with a user whose settings break everything."""
    startup = tmp_path / "user/.ipython/profile_default/startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("raise SystemExit")
    (tmp_path / "user/.gitconfig").write_text("[init]\n\ttemplateDir = /nonexistent\n[color]\n\tui = always\n")
    github = {"GITHUB_ACTIONS": "true", "CI": "true", "RUNNER_TEMP": "/nonexistent", "GITHUB_SERVER_URL": "https://x"}
    for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT", "GITHUB_ENV"):
        (tmp_path / name).touch()
        github[name] = str(tmp_path / name)
    git = {"GIT_DIR": "/nonexistent", "GIT_INDEX_FILE": "/nonexistent", "GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}
    project = {"GTSRB_SERIES": "1", "GTSRB_CACHE": "/nonexistent", "INPUT_PROFILE": "full", "RUN_NOTE": "a note"}
    user = {"HOME": str(tmp_path / "user"), "TZ": "Pacific/Kiritimati", "LC_ALL": "C", "COLUMNS": "20"}
    network = {"http_proxy": "http://proxy.invalid", "no_proxy": ""}
    return {**os.environ, **github, **git, **project, **user, **network}


def test_tests_pass_elsewhere_and_write_nothing_there(elsewhere: dict[str, str], tmp_path: Path) -> None:
    chosen = [
        "test_surroundings.py::test_tests_and_their_processes_see_nothing_of_github_or_of_a_user",
        "test_gate.py::test_a_run_as_it_should_be_passes",
        "test_ci_settings.py::test_git_knows_what_changed_with_renamed_and_deleted_files",
        "test_report_index.py::test_index_links_to_the_hosted_run_and_carries_its_note",
    ]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'inner'}"]
    ran = subprocess.run(
        [*command, *(f"tests/{name}" for name in chosen)],
        cwd=PROJECT_ROOT, env=elsewhere, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-3000:]
    written = [tmp_path / name for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT", "GITHUB_ENV")]
    assert not any(path.read_text() for path in written)
