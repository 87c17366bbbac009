"""One walk of the whole workflow, as GitHub would run it; 01, 02 and 03 are taken from one run of the series.

It takes a minute: `make rehearse` walks it too, and the weekly workflow runs these tests.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from lib.files import CHECKPOINT_NAME, PROJECT_ROOT
from tests.rehearsal.results import Variation, Walk
from tests.rehearsal.runner import Runner
from tests.rehearsal.scenarios import ARCH, NATIVE, dispatch, fell_back, never_run, rehearse, run_files, scenarios

TESTS = ["test (x64)"] if ARCH == "x64" else ["test (arm64)", "test (x64)"]
LEGS = ["torch-blas", "null"]
LABELS = ["01_explore", "02_train", "03_benchmark.null", "03_benchmark.torch-blas", "04_compare", "05_release"]


@pytest.fixture(scope="module")
def rehearsed(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """*Run workflow* for the real images, whose host cannot be reached."""
    event, variation = dispatch(",".join(LEGS), dataset="gtsrb"), Variation(replay=finished)
    return Runner(PROJECT_ROOT, tmp_path_factory.mktemp("rehearsal") / "out", event, variation, parallel=2).run(NATIVE)


@pytest.fixture(scope="module")
def merged(rehearsed: Walk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder that the workflow keeps."""
    run_dir = tmp_path_factory.mktemp("merged")
    for name, content in run_files(rehearsed).items():
        (run_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (run_dir / name).write_bytes(content)
    return run_dir


@pytest.mark.slow
def test_every_job_ends_as_it_should_and_without_an_error(rehearsed: Walk) -> None:
    done = ["changes", "plan", *TESTS, "train", "benchmark (torch-blas)", "benchmark (null)", "compare",
            "release", "gate"]  # fmt: skip
    expected = {**dict.fromkeys(done, "success"), **dict.fromkeys(("confirm", "conclude", "publish"), "skipped")}
    assert rehearsed.results == expected, "\n".join(job.log[-3000:] for job in rehearsed.jobs if job.failed_steps)
    assert [one for job in rehearsed.jobs for one in job.annotations if one.level == "error"] == []


@pytest.mark.parametrize("name", ["documents", "audit_not_installed", pytest.param("weekly", marks=pytest.mark.slow)])
def test_what_runs_next_to_nothing_ends_as_it_should(name: str, tmp_path: Path) -> None:
    (scenario,) = (scenario for scenario in scenarios() if scenario.name == name)
    assert rehearse(scenario, tmp_path, {}, lambda line: None, 1) == []


@pytest.mark.slow
def test_no_step_is_left_out_but_those_of_other_events_and_of_failures(rehearsed: Walk) -> None:
    walked_by_make_rehearse = {
        ("benchmark", "Fetch the images"), ("benchmark", "Restore the images"), ("train", "Save the images"),
        ("train", "Summarize what there is"), ("gate", "Upload the verdict and the index that shows it"),
        ("release", "Restore the images"), ("release", "Fetch the images"), ("release", "Upload the release"),
    }  # fmt: skip
    others = {"confirm", "conclude", "publish", "suite", "serve", "audit"}  # jobs
    assert {(job, name) for job, name in never_run([rehearsed]) if job not in others} == walked_by_make_rehearse


@pytest.mark.slow
def test_pages_are_artifacts_of_one_file_and_the_rest_is_kept_as_archives(rehearsed: Walk) -> None:
    stored = rehearsed.artifacts.stored
    parts = ["part.train", *(f"part.benchmark.{backend}" for backend in LEGS), "records", "gtsrb-notebooks"]
    assert sorted(name for name, one in stored.items() if one.archived) == sorted(f"{name}.{ARCH}" for name in parts)
    assert sorted(name for name, one in stored.items() if not one.archived) == [f"{one}.{ARCH}.html" for one in LABELS]
    for name in (f"{label}.{ARCH}.html" for label in LABELS):
        html = stored[name].path.read_text()
        assert "index.html" not in html, "there is no index beside a page that stands alone"
        assert not re.findall(r"<(?!a )[^>]*(?:src|href)=[\"']?(?:https?:)?//", html), f"{name} loads from elsewhere"


@pytest.mark.slow
def test_merged_run_names_every_notebook_once_and_one_checkpoint(rehearsed: Walk, merged: Path) -> None:
    series = json.loads((merged / "series.json").read_text())["notebooks"]
    assert sorted(job["notebook"] + (f".{job['backend']}" if job["backend"] else "") for job in series) == LABELS
    assert {job["status"] for job in series} == {"ok"}
    trained = rehearsed.job("train").outputs["checkpoint_sha256"]
    assert hashlib.sha256((merged / CHECKPOINT_NAME).read_bytes()).hexdigest() == trained
    records = [json.loads((merged / "results" / f"{label}.json").read_text()) for label in LABELS[1:]]
    assert {record["checkpoint_sha256"] for record in records} == {trained}


@pytest.mark.slow
def test_images_whose_host_cannot_be_reached_are_replaced_and_every_page_says_so(rehearsed: Walk) -> None:
    fell_back(rehearsed)
    summary = rehearsed.job("compare").summary
    assert "torch-blas" in summary and "conv" in summary and "| ---" in summary
