"""The gate: what fails, what is to be looked at, what passes. Nothing here runs a notebook."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lib.ci.gate import Need, judge_benchmark, judge_run, read_needs
from lib.ci.limits import load_limits
from lib.ci.publish import keep_verdict, reason_against
from lib.ci.verdicts import Verdict, Verdicts, verdict_annotations, verdict_table
from lib.cli import main
from lib.errors import UserError
from lib.files import sha256_file
from lib.html.index import write_index
from lib.records.schema import Accuracy, BenchmarkRecord, StepKernels, write_record
from lib.training.recipes import RECIPES
from tests.made_records import (
    made_benchmark,
    made_compare,
    made_explore,
    made_failed_benchmark,
    made_parity,
    made_released,
    made_train,
    write_run_files,
)

BACKENDS = ("torch-onednn", "torch-blas", "onnxruntime-int8")
LIMITS_TEXT = """
page_bytes = { limit = 5000, watch = 4000 }

[accuracy.synthetic.fast.minute.val]
top1 = { floor = 0.95, expected = 0.98, budget = 0.01 }
worst_class = { floor = 0.5, expected = 0.9, budget = 0.1 }
"""


@pytest.fixture
def limits(tmp_path: Path) -> Path:
    path = tmp_path / "gate.toml"
    path.write_text(LIMITS_TEXT)
    return path


def accuracy(top1: float, worst: float = 0.9) -> dict[str, Accuracy]:
    return {"val": Accuracy(top1, (top1 - 0.01, top1), 800, 43, 27, worst)}


def write_run(
    folder: Path,
    top1: float = 0.98,
    worst: float = 0.9,
    benchmarks: dict[str, BenchmarkRecord] | None = None,
    statuses: dict[str, str] | None = None,
    **compare: Any,
) -> Path:
    """A whole run with pages, in which everything is as it should be but for what is given."""
    records: dict[str, Any] = {
        "01_explore": made_explore(),
        "02_train": made_train(recipe="minute", accuracy=accuracy(top1, worst)),
        **{f"03_benchmark.{name}": made_benchmark(name) for name in BACKENDS},
        **{f"03_benchmark.{name}": record for name, record in (benchmarks or {}).items()},
        "04_compare": made_compare(**compare),
        "05_release": made_released(),
    }
    return write_run_files(folder, records, statuses)


def outcome_of(run: Path, limits: Path, outcome: str) -> set[tuple[str, str]]:
    return {(verdict.check, verdict.subject) for verdict in judge_run(run, limits) if verdict.outcome == outcome}


def test_a_run_as_it_should_be_passes(tmp_path: Path, limits: Path) -> None:
    verdicts = judge_run(write_run(tmp_path / "run"), limits)
    assert verdicts.outcome == "pass", verdict_table(verdicts)
    checks = {verdict.check for verdict in verdicts}
    assert checks == {"notebook", "top-1", "recall of the worst class", "kernels", "parity", "size of the page"}
    assert main(["gate", str(tmp_path / "run"), "--limits", str(limits)]) == 0


@pytest.mark.parametrize(
    ("top1", "worst", "status", "about"),
    [
        (0.949, 0.9, 1, ("top-1", "val")),
        (0.969, 0.9, 3, ("top-1", "val")),
        (0.98, 0.49, 1, ("recall of the worst class", "val, class 27")),
        (0.98, 0.79, 3, ("recall of the worst class", "val, class 27")),
    ],
)
def test_accuracy_under_its_floor_fails_and_a_small_drop_is_investigated(
    tmp_path: Path, limits: Path, top1: float, worst: float, status: int, about: tuple[str, str]
) -> None:
    run = write_run(tmp_path / "run", top1, worst)
    assert outcome_of(run, limits, "fail" if status == 1 else "investigate") == {about}
    command = ["gate", str(run), "--limits", str(limits)]
    assert main(command) == status
    needs = '{"changes": {"result": "success", "outputs": {"run": "true"}}}'
    assert main([*command, "--needs", needs]) == (1 if status == 1 else 0), "a doubt stops no merge"


@pytest.mark.parametrize(
    ("changes", "outcome", "check"),
    [
        ({"parity": made_parity(outcome="passed")}, "pass", "parity"),
        ({"parity": made_parity(outcome="inconclusive", reason="0.47 points lost")}, "investigate", "parity"),
        ({"parity": made_parity(outcome="failed", reason="logits differ")}, "fail", "parity"),
        ({"parity": None}, "fail", "parity"),
        ({"proof": None}, "fail", "kernels"),
        ({"proof": replace(made_benchmark().proof, passed=False, reason="gemm ran")}, "fail", "kernels"),  # type: ignore[type-var]
        ({"proof": replace(made_benchmark().proof, investigate="in fp32")}, "investigate", "kernels"),  # type: ignore[type-var]
        ({"environment": replace(made_benchmark().environment, emulated=True)}, "investigate", "machine"),
    ],
)
def test_a_backend_is_judged_by_answers_kernels_and_machine(changes: dict[str, Any], outcome: str, check: str) -> None:
    verdicts = judge_benchmark(made_benchmark("torch-blas", **changes))
    assert {verdict.outcome for verdict in verdicts if verdict.check == check} == {outcome}
    assert {verdict.outcome for verdict in verdicts if verdict.check != check} <= {"pass"}


def test_the_gate_names_the_one_tolerance_that_the_record_applied() -> None:
    for profile in ("smoke", "fast"):
        record = made_benchmark("torch-blas", profile=profile, parity=made_parity(top1_drop_allowed=0.0123))
        (found,) = (verdict for verdict in judge_benchmark(record) if verdict.check == "parity")
        assert "1.23 points" in found.asked
    (found,) = (v for v in judge_benchmark(replace(record, random_weights=True)) if v.check == "parity")
    assert "points" not in found.asked, "accuracy of an untrained network means nothing"


def test_an_unavailable_backend_is_fine_and_a_failed_or_missing_one_is_not(tmp_path: Path, limits: Path) -> None:
    crashed = made_failed_benchmark("openvino", "failed", "it crashed")
    others = {"ncnn": made_failed_benchmark("ncnn"), "openvino": crashed}
    run = write_run(tmp_path / "run", benchmarks=others, missing=["torch-compile"])
    assert outcome_of(run, limits, "fail") == {("notebook", "03_benchmark.openvino"), ("backend", "torch-compile")}


def test_a_notebook_that_is_skipped_not_listed_or_left_no_record_fails(tmp_path: Path, limits: Path) -> None:
    run = write_run(tmp_path / "run", statuses={"03_benchmark.torch-blas": "skipped"})
    series = json.loads((run / "series.json").read_text())
    series["notebooks"] = [job for job in series["notebooks"] if job["notebook"] != "04_compare"]
    (run / "series.json").write_text(json.dumps(series))
    (run / "results" / "01_explore.json").write_text("{")
    labels = ("01_explore", "03_benchmark.torch-blas", "04_compare")
    assert outcome_of(run, limits, "fail") == {("notebook", label) for label in labels}


def test_pages_are_judged_by_size_and_must_be_there(tmp_path: Path, limits: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "pages" / "01_explore.html").write_text("x" * 5001)
    (run / "pages" / "02_train.html").write_text("x" * 4001)
    (run / "pages" / "04_compare.html").unlink()
    assert outcome_of(run, limits, "fail") == {("size of the page", "01_explore"), ("page", "04_compare")}
    assert outcome_of(run, limits, "investigate") == {("size of the page", "02_train")}


def test_slower_than_earlier_runs_when_measured_again_is_investigated_and_never_a_time(
    tmp_path: Path, limits: Path
) -> None:
    run = write_run(tmp_path / "run", history={"torch-blas": {"offline": "confirmed slower"},
                                               "openvino": {"offline": "slower, not confirmed"},
                                               "onnxruntime": {"offline": "suspected slower"}})  # fmt: skip
    assert outcome_of(run, limits, "investigate") == {("speedup, offline", "torch-blas")}
    slow = made_benchmark("torch-blas")
    for scenario in slow.scenarios:
        for side in (scenario.latencies_s, scenario.reference_latencies_s, scenario.control_latencies_s):
            side[:] = [[100 * call for call in calls] for calls in side]
    slower = judge_run(write_run(tmp_path / "slow", benchmarks={"torch-blas": slow}), limits)
    assert slower.outcome == "pass"


SLOW = StepKernels({"backward_data": {"onednn convolution ref:any bf16": 13}}, "13 of 13 convolutions")


@pytest.mark.parametrize(
    ("recipe", "changes", "about"),
    [
        ("minute", {"accuracy": accuracy(0.98), "kernels": SLOW}, {("kernels", "training")}),
        ("learning_path", {}, {("top-1", "val"), ("top-1", "test")}),
    ],
)
def test_a_training_on_reference_kernels_or_without_stated_limits_is_investigated(
    tmp_path: Path, limits: Path, recipe: str, changes: dict[str, Any], about: set[tuple[str, str]]
) -> None:
    run = write_run(tmp_path / "run")
    write_record(made_train(recipe=recipe, **changes), run / "results" / "02_train.json")
    assert outcome_of(run, limits, "investigate") == about


NEEDS = {"changes": Need("success", {"run": "true"}), "test": Need("success")}
IDLE = {"changes": Need("success", {"run": "false"})}
SUSPECTED = {"compare": Need("success", {"suspects": '["torch-blas"]'})}


@pytest.mark.parametrize(
    ("job", "result", "others", "outcome"),
    [
        ("compare", "success", {}, "pass"),
        ("compare", "failure", {}, "fail"),
        ("compare", "cancelled", {}, "fail"),
        ("compare", "skipped", {}, "fail"),
        ("compare", "skipped", IDLE, "pass"),
        ("compare", "failure", IDLE, "fail"),
        ("confirm", "skipped", {}, "pass"),
        ("confirm", "skipped", SUSPECTED, "fail"),
        ("conclude", "cancelled", {}, "fail"),
        ("changes", "failure", {}, "fail"),
    ],
)
def test_jobs_must_succeed_and_skipped_is_fine_only_where_nothing_was_to_do(
    tmp_path: Path, limits: Path, job: str, result: str, others: dict[str, Need], outcome: str
) -> None:
    verdicts = judge_run(write_run(tmp_path / "run"), limits, {**NEEDS, **others, job: Need(result)})
    assert verdicts.outcome == outcome
    assert {verdict.subject for verdict in verdicts.of("fail")} == ({job} if outcome == "fail" else set())


@pytest.mark.parametrize(("touched", "outcome"), [("openvino", "pass"), ("", "fail")])
def test_a_backend_that_the_change_cannot_concern_may_be_left_out(
    tmp_path: Path, limits: Path, touched: str, outcome: str
) -> None:
    needs = {"changes": Need("success", {"run": "true", "backends": touched})}
    verdicts = judge_run(write_run(tmp_path / "run"), limits, {**needs, "plan": Need("success", {"left_out": "ncnn"})})
    (verdict,) = [verdict for verdict in verdicts if verdict.check == "backend"]
    assert (verdict.subject, verdict.outcome) == ("ncnn", outcome) and "left out" in verdict.found


@pytest.mark.parametrize("fault", ["", "another file", "another record", "no file"])
def test_one_checkpoint_goes_from_the_training_job_to_what_arrived(tmp_path: Path, limits: Path, fault: str) -> None:
    run = write_run(tmp_path / "run")
    weights = run / "checkpoint.safetensors"
    weights.write_bytes(b"weights")
    trained = sha256_file(weights)
    for path in (run / "results").glob("*.json"):
        path.write_text(path.read_text().replace(str(made_train().checkpoint_sha256), trained))
    if fault == "another record":
        write_record(made_benchmark("torch-blas", checkpoint_sha256="ef" * 32),
                     run / "results" / "03_benchmark.torch-blas.json")  # fmt: skip
    elif fault:
        weights.write_bytes(b"others")
    if fault == "no file":
        weights.unlink()
    needs = {**NEEDS, "train": Need("success", {"checkpoint_sha256": trained})}
    verdicts = judge_run(run, limits, needs)
    about = {"another file": "checkpoint.safetensors", "no file": "checkpoint.safetensors",
             "another record": "03_benchmark.torch-blas"}  # fmt: skip
    failed = {(verdict.check, verdict.subject) for verdict in verdicts.of("fail")}
    assert failed == ({("checkpoint", about[fault])} if fault else set())


def test_no_run_folder_is_fine_only_where_there_was_nothing_to_run(tmp_path: Path, limits: Path) -> None:
    assert judge_run(tmp_path / "none", limits, {**IDLE, "train": Need("skipped")}).outcome == "pass"
    assert judge_run(tmp_path / "none", limits, NEEDS).outcome == "fail"
    with pytest.raises(UserError, match="no folder"):
        judge_run(tmp_path / "none", limits)


@pytest.mark.parametrize("text", ["{", "{}", '{"a": {"outputs": {}}}', '{"a": {"result": "success", "outputs": 3}}'])
def test_needs_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="toJSON"):
        read_needs(text)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("floor = 0.95", "flor = 0.95", "flor"),
        ("floor = 0.95", "floor = 95", "less than or equal to 1"),
        ("floor = 0.95", "floor = 0.975", "below the floor"),
        ("watch = 4000", "watch = 6000", "above the limit"),
        ("page_bytes", "page_byte", "page_byte: Extra inputs"),
        ("page_bytes", "[page_bytes", "not readable TOML"),
        ("page_bytes", LIMITS_TEXT, "not readable TOML"),
    ],
)
def test_limits_with_a_typing_error_are_refused(limits: Path, old: str, new: str, message: str) -> None:
    limits.write_text(LIMITS_TEXT.replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        load_limits(limits)


def test_the_projects_own_limits_are_read_and_cover_what_the_workflow_runs() -> None:
    stated = load_limits()
    recipes = {recipe for profiles in stated.accuracy.values() for entries in profiles.values() for recipe in entries}
    assert recipes <= set(RECIPES), "what is stated of a recipe that is gone holds for none"
    assert "smoke" in stated.accuracy["synthetic"] and "fast" in stated.accuracy["gtsrb"]


def test_what_passed_is_told_by_the_one_nearest_to_its_bound() -> None:
    verdicts = Verdicts(
        [
            Verdict("agreement", "a", "pass", "100 %", "99 %", 0.01),
            Verdict("agreement", "b", "pass", "99.1 %", "99 %", 0.001),
            Verdict("kernels", "c", "fail", "gemm ran", "oneDNN"),
        ]
    )
    text = str(verdict_table(verdicts))
    assert text.index("✗ fail") < text.index("✓ pass")
    assert "b and 1 more" in text and "100 %" not in text
    assert verdicts.words == "fail: 1 failed, 2 passed"
    assert Verdicts([]).outcome == "fail", "a gate that saw nothing"


def test_what_fails_is_an_error_and_a_doubt_is_a_warning() -> None:
    verdicts = [
        Verdict("kernels", "x", "investigate", "in fp32"),
        Verdict("page", "y", "fail", "there is none", "a page"),
    ]
    assert verdict_annotations(Verdicts([*verdicts, Verdict("page", "z", "pass", "")])) == [
        "::error title=Gate%2C fail%3A page%2C y::there is none; asked: a page",
        "::warning title=Gate%2C investigate%3A kernels%2C x::in fp32",
    ]


ON_MAIN = {"GITHUB_EVENT_NAME": "push", "GITHUB_REF": "refs/heads/main", "ARCH": "arm64", "PAGES_ENABLED": "true"}


@pytest.mark.parametrize(
    ("outcome", "environ", "outputs", "reason"),
    [
        ("pass", {}, {}, ""),
        ("investigate", {}, {}, ""),
        ("pass", {"GITHUB_EVENT_NAME": "schedule"}, {}, ""),
        ("fail", {}, {}, "the gate fails"),
        ("pass", {"PAGES_ENABLED": ""}, {}, "PAGES_ENABLED is not true"),
        ("pass", {"ARCH": "x64"}, {}, "it shows arm64"),
        ("pass", {"GITHUB_REF": "refs/pull/1/merge"}, {}, "refs/pull/1/merge is not the branch main"),
        ("pass", {"GITHUB_EVENT_NAME": "workflow_dispatch"}, {}, "chosen by hand"),
        ("pass", {}, {"plan": {"profile": "smoke"}}, "smoke"),
        ("pass", {}, {"plan": {}}, "nothing to run"),
        ("pass", {}, {"train": {"dataset": "synthetic"}}, "synthetic images"),
    ],
)
def test_pages_of_a_good_run_on_main_are_published_and_no_others(
    outcome: Any, environ: dict[str, str], outputs: dict[str, dict[str, str]], reason: str
) -> None:
    outputs = {"plan": {"profile": "fast"}, "train": {"dataset": "gtsrb"}, **outputs}
    needs = {name: Need("success", values) for name, values in outputs.items()}
    found = reason_against(Verdicts([Verdict("x", "y", outcome, "z")]), needs, {**ON_MAIN, **environ})
    assert reason in found and bool(reason) == bool(found)


def test_the_verdict_stands_on_the_index_that_is_published_with_what_is_to_be_looked_at(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    write_index(run)
    assert "quality gate" not in (run / "index.html").read_text()
    keep_verdict(run, Verdicts([Verdict("top-1", "val", "investigate", "96.9 %", "usual 98 %"),
                                Verdict("page", "x", "pass", "")]))  # fmt: skip
    index = (run / "index.html").read_text()
    assert "quality gate: 1 to be looked at, 1 passed" in index
    assert "<b>investigate</b>" in index and "usual 98 %" in index
    (run / "gate.json").write_text("{")
    write_index(run)
    assert "quality gate" not in (run / "index.html").read_text()


def test_the_gate_adds_its_own_verdicts_to_the_summary(
    tmp_path: Path, limits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    needs = json.dumps({"train": {"result": "failure", "outputs": {}}})
    assert main(["gate", str(tmp_path / "none"), "--limits", str(limits), "--needs", needs]) == 1
    assert summary.read_text().startswith("before\n") and "failure" in summary.read_text()
