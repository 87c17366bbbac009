"""One walk of the whole workflow: all jobs, in `smoke`, with two backends, as GitHub would run them here."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from lib.files import CHECKPOINT_NAME
from lib.html.frame import PAGE_LIMIT
from lib.records.schema import BenchmarkRecord, CompareRecord, TrainRecord, read_record
from tests.rehearsal.results import Walk
from tests.rehearsal.scenarios import ARCH, never_run
from tests.rehearsal.standins import ACTIONS, COMMANDS

CALLER = "x86-64"  # the job that calls the workflow, on that architecture
TESTS = ["test (x64)"] if ARCH == "x64" else ["test (arm64)", "test (x64)"]
LEGS = ["torch-blas", "null"]
LABELS = ["01_explore", "02_train", "03_benchmark.null", "03_benchmark.torch-blas", "04_compare"]


def test_every_job_ends_as_it_should(rehearsed: Walk) -> None:
    done = dict.fromkeys(
        ["changes", "plan", *TESTS, "train", "benchmark (torch-blas)", "benchmark (null)", "compare", "gate"],
        "success",
    )
    results = {name: result for name, result in rehearsed.results.items() if name != CALLER}
    assert results == {**done, **dict.fromkeys(("confirm", "conclude", "publish"), "skipped")}, log(rehearsed)


def log(walk: Walk) -> str:
    """The log of what failed, to read in a report of this test."""
    failed = [job for job in walk.jobs if job.result == "failure" and job.log]
    return "\n".join(f"--- {job.name}\n{job.log.read_text()[-3000:]}" for job in failed if job.log)


def test_only_what_is_listed_was_replaced(rehearsed: Walk) -> None:
    listed = {*ACTIONS, *(command.pattern for command in COMMANDS)}
    replaced = {step.stand_in for job in rehearsed.jobs for step in job.steps if step.stand_in}
    executed = [step for job in rehearsed.jobs for step in job.steps if not step.stand_in and step.outcome != "skipped"]
    assert replaced <= listed
    assert len(executed) > 30, "most of the workflow ran for real"


def test_no_step_is_left_out_but_those_of_other_events_and_of_failures(rehearsed: Walk) -> None:
    walked_by_make_rehearse = {
        ("benchmark", "Fetch the images"), ("benchmark", "Restore the images"), ("train", "Save the images"),
        ("train", "Summarize what there is"), ("gate", "Upload the verdict and the index that shows it"),
    }  # fmt: skip
    others = {"confirm", "conclude", "publish", "suite", "audit"}  # jobs
    assert {(job, name) for job, name in never_run([rehearsed]) if job not in others} == walked_by_make_rehearse


def test_each_page_is_one_artifact_with_the_name_of_its_file(rehearsed: Walk) -> None:
    pages = {name: one for name, one in rehearsed.artifacts.stored.items() if not one.archived}
    assert sorted(pages) == [f"{label}.{ARCH}.html" for label in LABELS]
    for name, page in pages.items():
        html = page.path.read_text()
        assert len(html.encode()) <= PAGE_LIMIT, name
        assert "index.html" not in html, "there is no index beside a page that stands alone"
        assert not re.findall(r"<(?!a )[^>]*(?:src|href)=[\"']?(?:https?:)?//", html), f"{name} loads from elsewhere"


def test_parts_and_the_whole_run_are_kept_as_archives(rehearsed: Walk) -> None:
    archives = [name for name, one in rehearsed.artifacts.stored.items() if one.archived]
    parts = ["part.train", *(f"part.benchmark.{backend}" for backend in LEGS)]
    assert sorted(archives) == sorted(f"{name}.{ARCH}" for name in [*parts, "records", "gtsrb-notebooks"])


def test_one_checkpoint_goes_through_all_jobs(rehearsed: Walk, finished: Path) -> None:
    trained = rehearsed.job("train").outputs["checkpoint_sha256"]
    assert hashlib.sha256((finished / CHECKPOINT_NAME).read_bytes()).hexdigest() == trained
    results = finished / "results"
    assert read_record(results / "02_train.json", TrainRecord).checkpoint_sha256 == trained
    assert read_record(results / "04_compare.json", CompareRecord).checkpoint_sha256 == trained
    for backend in LEGS:
        measured = read_record(results / f"03_benchmark.{backend}.json", BenchmarkRecord)
        assert measured.checkpoint_sha256 == trained


def test_merged_run_names_every_notebook_once(finished: Path) -> None:
    series = json.loads((finished / "series.json").read_text())["notebooks"]
    labels = [job["notebook"] + (f".{job['backend']}" if job["backend"] else "") for job in series]
    assert sorted(labels) == LABELS
    assert {job["status"] for job in series} == {"ok"}


def test_summary_shows_backends_and_layers_and_stays_below_the_limit(rehearsed: Walk) -> None:
    summary = rehearsed.job("compare").summary
    assert "torch-blas" in summary and "conv" in summary and "| ---" in summary.replace("|---", "| ---")
    assert len(summary.encode()) < 1024 * 1024


def test_steps_and_gate_raise_no_error(rehearsed: Walk) -> None:
    errors = [(job.name, one.message) for job in rehearsed.jobs for one in job.annotations if one.level == "error"]
    assert errors == []


def test_images_whose_host_cannot_be_reached_are_replaced_and_every_page_says_so(rehearsed: Walk) -> None:
    train = rehearsed.job("train")
    assert train.outputs["dataset"] == "synthetic"
    assert [one.level for one in train.annotations] == ["warning"]
    for name, one in rehearsed.artifacts.stored.items():
        if not one.archived:
            assert train.outputs["note"] in one.path.read_text(), name
    told = train.outputs["note"].split(" Reason: ")[
        0
    ]  # the rest has an address, which Markdown must not turn into a link
    assert told in rehearsed.job("compare").summary
