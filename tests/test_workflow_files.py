"""The workflow files: what the schemas and zizmor, which `make lint` runs, do not find in them.

zizmor finds actions without a commit, expressions in scripts, credentials that a checkout leaves behind, and events
that run foreign code.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lib.ci.inputs import call_inputs, dispatch_inputs
from lib.ci.settings import settings
from lib.files import PROJECT_ROOT

GITHUB = PROJECT_ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
ACTIONS = sorted((GITHUB / "actions").glob("*/action.yml"))
FILES = WORKFLOWS + ACTIONS
NOTEBOOKS = GITHUB / "workflows/notebooks.yml"
RELEASE = GITHUB / "workflows/release.yml"
RETRAIN = GITHUB / "workflows/retrain.yml"
SWEEP = GITHUB / "workflows/sweep.yml"
X86 = GITHUB / "workflows/x86-64.yml"
LONGEST_MINUTES = 180
LONG_COMMANDS = re.compile(
    r"-m lib (run|sweep) |make (test|\w+-check)|-m pytest|lib ci (data|history|tagged|publish|roll-back)"
    r"|lib ci (retrain|champion)|lib data get|gh release|pip-audit --|playwright install|model_signing|docker run"
)  # each with its own limit
Step = dict[str, Any]


def name_of(path: Path) -> str:
    return str(path.relative_to(GITHUB))


def load(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text())
    assert isinstance(content, dict)
    if True in content:  # YAML 1.1 reads `on` as a truth value
        content["on"] = content.pop(True)
    return content


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    return dict(load(path).get("jobs", {}))


def steps(path: Path) -> list[Step]:
    content = load(path)
    if "runs" in content:
        return list(content["runs"]["steps"])
    return [step for job in content["jobs"].values() for step in job.get("steps", [])]


def with_action(path: Path, action: str) -> list[Step]:
    return [step for step in steps(path) if step.get("uses", "").startswith(f"{action}@")]


each_file = pytest.mark.parametrize("path", FILES, ids=name_of)
each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=name_of)


# --- security


def test_one_action_has_one_version_everywhere_which_stands_beside_its_commit() -> None:
    text = "".join(path.read_text() for path in FILES)
    uses = re.findall(r"^\s*(?:- )?uses: (?!\$/)(.*)$", text, re.MULTILINE)
    pinned = [re.fullmatch(r"([\w.-]+/[\w.-]+)[\w./-]*@(\w{40} # v\d+\.\d+\.\d+)", action) for action in uses]
    assert uses and all(pinned), uses
    commits = {found.groups() for found in pinned if found}
    assert len(commits) == len({action for action, _ in commits}), sorted(commits)


@each_workflow
def test_no_rights_but_those_that_a_job_asks_for_with_a_reason(path: Path) -> None:
    assert load(path)["permissions"] == {}
    for name, job in jobs(path).items():
        assert isinstance(job.get("permissions"), dict), f"job {name} says nothing about its rights"
    rights = re.findall(r"^\s+[a-z-]+: (?:read|write)\b.*$", path.read_text(), re.MULTILINE)
    assert rights and all(" # " in line for line in rights), "each right has its reason beside it"


def test_only_publishing_and_scanning_may_write() -> None:
    rights = {(path.name, name): job["permissions"] for path in WORKFLOWS for name, job in jobs(path).items()}
    # the call needs what `publish` asks for, which is off there
    writing = {("notebooks.yml", "publish"), ("x86-64.yml", "series"), ("codeql.yml", "analyze"),
               ("release.yml", "sign"), ("release.yml", "image"), ("release.yml", "publish"),
               ("release.yml", "rollback"), ("retrain.yml", "report")}  # fmt: skip
    assert {job for job, granted in rights.items() if "write" in granted.values()} == writing
    contents = {job for job, granted in rights.items() if granted.get("contents") == "write"}
    makes = {("release.yml", "publish"), ("release.yml", "rollback")}
    assert contents == makes, "nothing is committed back; one job makes releases, and one makes an earlier the latest"


@each_file
def test_variables_in_scripts_are_quoted(path: Path) -> None:
    for script in (step.get("run", "") for step in steps(path)):
        assert re.findall(r'(?<!")\$\{?[A-Z_]+', script) == [], script


@each_file
def test_no_secret_is_used_and_the_token_goes_to_those_that_ask_github_alone(path: Path) -> None:
    assert not re.search(r"secrets\.|secrets: inherit", path.read_text())
    commands = r"lib ci (history|tagged|publish|roll-back|retrain|champion|retrained)\b|gh release"
    asking = re.compile(rf"{commands}|docker/login-action@|'run-id':")
    for step in steps(path):
        has_token = "github.token" in str(step) or "GITHUB_TOKEN" in str(step)
        assert has_token == bool(asking.search(str(step))), step["name"]


def test_nothing_is_published_but_by_the_job_for_it() -> None:
    for name, job in jobs(NOTEBOOKS).items():
        used = " ".join(step.get("uses", "") for step in job["steps"])
        assert ("pages" in used) == (name == "publish")
    publish = jobs(NOTEBOOKS)["publish"]
    assert publish["if"] == "${{ !cancelled() && needs.gate.outputs.publish == 'true' }}", "`lib gate` decides"
    assert not any("run" in step or "checkout" in step["uses"] for step in publish["steps"]), "no code of ours"


# --- limits


@each_workflow
def test_every_job_has_a_time_limit_and_long_steps_one_within_it(path: Path) -> None:
    for name, job in jobs(path).items():
        if "uses" in job:  # a call has those of the called jobs
            continue
        assert 0 < job["timeout-minutes"] <= LONGEST_MINUTES, name
        for step in job["steps"]:
            if LONG_COMMANDS.search(step.get("run", "")):
                assert 0 < step["timeout-minutes"] < job["timeout-minutes"], step["name"]


def test_the_launcher_stops_a_notebook_before_its_step_is_stopped() -> None:
    """Only then is there a page that says where it stopped."""
    from lib.series.launcher import CELL_LIMIT_S, OTHER_CELLS_S

    for step in steps(NOTEBOOKS):
        if match := re.search(r"-m lib run ((?:\d\d )+)", step.get("run", "")):
            notebooks = match[1].split()
            if notebooks not in (["04"], ["05"]):  # measure nothing
                given = re.search(r"--notebook-limit (\d+)", step["run"])
                longest_s = int(given[1]) if given else CELL_LIMIT_S + OTHER_CELLS_S
                others_s = 10 * 60 * (len(notebooks) - 1)  # 01 takes a minute
                assert step["timeout-minutes"] * 60 >= longest_s + others_s, step["name"]


def test_the_deployment_has_more_time_than_its_action_waits() -> None:
    """It gives up after ten minutes at most, and withdraws what it has begun only where it is not stopped before."""
    publish = jobs(NOTEBOOKS)["publish"]
    (deploy,) = with_action(NOTEBOOKS, "actions/deploy-pages")
    assert 10 < deploy["timeout-minutes"] < publish["timeout-minutes"]


@each_workflow
def test_runs_that_a_push_makes_worthless_are_cancelled_on_pull_requests_only(path: Path) -> None:
    concurrency = load(path)["concurrency"]
    if "pull_request" in load(path)["on"]:
        assert concurrency["cancel-in-progress"] == "${{ github.event_name == 'pull_request' }}"
        assert "github.event_name == 'pull_request' && github.ref || github.run_id" in concurrency["group"]


def test_a_call_does_not_wait_for_itself() -> None:
    groups = [str(load(path)["concurrency"]["group"]).split("$")[0] for path in WORKFLOWS]
    assert len(set(groups)) == len(groups), groups


@each_file
def test_no_path_filter_can_keep_the_required_check_from_reporting(path: Path) -> None:
    for trigger in (load(path).get("on") or {}).values():
        assert not {"paths", "paths-ignore"} & set(trigger if isinstance(trigger, dict) else {})


# --- artifacts


def uploads() -> list[Step]:
    """Each once: two jobs may share their steps."""
    found = [step for path in FILES for step in with_action(path, "actions/upload-artifact")]
    return list({id(step): step for step in found}.values())


def test_every_upload_states_how_long_it_is_kept_and_fails_where_nothing_is_there() -> None:
    assert uploads() and all(step["with"]["if-no-files-found"] == "error" for step in uploads())
    for step in [*uploads(), *with_action(NOTEBOOKS, "actions/upload-pages-artifact")]:
        assert 1 <= step["with"]["retention-days"] <= 90


def test_uploads_happen_after_failures_too_and_not_where_nothing_ran() -> None:
    others = {"records": "${{ !cancelled() && steps.collect.outputs.measured == 'true' }}",
              "verdict": "steps.judge.outputs.publish == 'true'",
              "release": "steps.chain.outputs.released == 'true'",
              "checked": None, "signed": None}  # fmt: skip
    for step in uploads():
        usual = "${{ !cancelled() && steps.run.outcome != 'skipped' }}"
        assert step.get("if") == others.get(step["with"]["name"].split(".")[0], usual), step["name"]


def test_a_second_measurement_and_its_comparison_are_made_as_the_first() -> None:
    graph = jobs(NOTEBOOKS)
    assert graph["conclude"]["steps"] == graph["compare"]["steps"]
    for step in graph["conclude"]["steps"]:
        if "upload-artifact@" in step.get("uses", ""):
            assert step["with"]["overwrite"] is True
    assert graph["confirm"]["steps"] == graph["benchmark"]["steps"]
    own = {"MEASURED": "confirm", "SUFFIX": ".again"}
    assert graph["confirm"]["env"] == {**graph["benchmark"]["env"], **own}
    for key in ("timeout-minutes", "runs-on", "permissions"):
        assert graph["confirm"][key] == graph["benchmark"][key]


def test_each_attempt_deploys_what_it_uploaded_itself() -> None:
    (upload,) = with_action(NOTEBOOKS, "actions/upload-pages-artifact")
    (deploy,) = with_action(NOTEBOOKS, "actions/deploy-pages")
    assert upload["with"]["name"] == deploy["with"]["artifact_name"] == "github-pages-${{ github.run_attempt }}"


def test_caches_are_named_by_what_is_in_them() -> None:
    (packages,) = with_action(ACTIONS[0], "actions/cache/restore")
    for part in ("runner.os", "runner.arch", "python-version", "hashFiles('requirements*.lock'"):
        assert part in packages["with"]["key"]
    for step in [*with_action(NOTEBOOKS, "actions/cache/restore"), *with_action(NOTEBOOKS, "actions/cache/save")]:
        assert step["with"] == {"path": "data", "key": "${{ needs.plan.outputs.data_key }}"}


# --- the graph


def test_every_job_but_the_frame_waits_for_the_plan_and_the_gate_sees_all() -> None:
    graph = jobs(NOTEBOOKS)

    def ancestors(name: str) -> set[str]:
        needs = graph[name].get("needs", [])
        direct = {needs} if isinstance(needs, str) else set(needs)
        return direct.union(*(ancestors(other) for other in direct))

    assert graph["plan"]["if"] == "needs.changes.outputs.run == 'true'"
    assert ancestors("plan") == {"changes"}, "inputs are checked before anything else"
    for name in set(graph) - {"changes", "plan"}:
        assert "plan" in ancestors(name), name
    for name in ("train", "benchmark", "compare", "publish"):
        assert "test" in ancestors(name)
    assert set(graph["gate"]["needs"]) == set(graph) - {"gate", "publish"}
    assert graph["publish"]["needs"] == "gate" and graph["gate"]["if"] == "always()"


def test_one_failed_backend_stops_no_other_and_no_comparison() -> None:
    graph = jobs(NOTEBOOKS)
    assert graph["benchmark"]["strategy"]["fail-fast"] is False
    assert graph["compare"]["if"] == "${{ !cancelled() && needs.train.outputs.checkpoint_sha256 != '' }}"


def test_tests_run_on_both_architectures() -> None:
    assert jobs(NOTEBOOKS)["test"]["strategy"]["matrix"]["include"] == "${{ fromJSON(needs.plan.outputs.tests) }}"
    tested = {entry["runner"] for entry in json.loads(settings({"ARCH": "arm64"})["tests"])}
    assert tested == {"ubuntu-24.04-arm", "ubuntu-24.04"}
    weekly = jobs(GITHUB / "workflows/weekly.yml")["suite"]["strategy"]["matrix"]["include"]
    assert {entry["runner"] for entry in weekly} == tested


def test_the_checkpoints_sha256_travels_through_the_jobs() -> None:
    graph = jobs(NOTEBOOKS)
    assert graph["train"]["outputs"]["checkpoint_sha256"] == "${{ steps.checkpoint.outputs.checkpoint_sha256 }}"
    assert graph["benchmark"]["env"]["CHECKPOINT"] == "${{ needs.train.outputs.checkpoint_sha256 }}"
    scripts = "\n".join(step.get("run", "") for step in graph["benchmark"]["steps"])
    assert re.search(r'-m lib run 03 .*ci check run .*--checkpoint "\$CHECKPOINT"', scripts, re.DOTALL)


def test_release_needs_what_is_checked_signed_and_built_and_does_nothing_for_a_tag_that_is_published() -> None:
    graph = jobs(RELEASE)
    assert {name: job.get("needs") for name, job in graph.items()} == {
        "rollback": None, "check": None, "sign": "check", "image": ["check", "sign"],
        "publish": ["check", "sign", "image"],
    }  # fmt: skip
    assert graph["sign"]["if"] == "needs.check.outputs.publish == 'true'", "the others are skipped with it"
    assert not any("if" in graph[name] for name in ("image", "publish"))


@pytest.mark.parametrize("path", [NOTEBOOKS, RELEASE, RETRAIN, SWEEP], ids=name_of)
def test_outputs_of_a_job_are_those_of_its_steps_and_of_the_commands(path: Path) -> None:
    graph, text = jobs(path), path.read_text()
    if path == NOTEBOOKS:
        assert set(graph["plan"]["outputs"]) == set(settings({"ARCH": "arm64"}))
    for job, output in re.findall(r"needs\.(\w+)\.outputs\.(\w+)", text):
        assert output in graph[job]["outputs"], f"{job} has no output {output}"
    for name, job in graph.items():
        ids = {step["id"] for step in job["steps"] if "id" in step}
        assert set(re.findall(r"steps\.(\w+)\.", yaml.dump(job))) <= ids, name
        needs = job.get("needs", [])
        read = set(re.findall(r"needs\.(\w+)\.", yaml.dump(job)))
        assert read <= ({needs} if isinstance(needs, str) else set(needs)), f"{name} reads jobs that it does not need"


def test_every_variable_that_a_script_reads_is_set() -> None:
    for path in FILES:
        top = set(load(path).get("env", {}))
        owners = jobs(path).values() or [{"steps": steps(path)}]
        for job in owners:
            for step in job.get("steps", []):
                known = top | set(job.get("env", {})) | set(step.get("env", {})) | {"GITHUB_STEP_SUMMARY"}
                assert set(re.findall(r"\$\{?([A-Z_]+)", step.get("run", ""))) <= known, step["name"]


# --- inputs


def test_inputs_of_the_workflows_are_those_of_the_parameters() -> None:
    """`python -m lib ci inputs` prints what belongs there."""
    for path in (NOTEBOOKS, X86):
        assert load(path)["on"]["workflow_dispatch"]["inputs"] == dispatch_inputs(), path.name
    called = load(NOTEBOOKS)["on"]["workflow_call"]["inputs"]
    assert {name: called[name] for name in call_inputs()} == call_inputs()
    assert set(called) - set(call_inputs()) == {"runner", "arch"}


def test_every_input_reaches_the_settings_through_the_environment() -> None:
    (step,) = [step for step in jobs(NOTEBOOKS)["plan"]["steps"] if "ci settings" in step.get("run", "")]
    for name in dispatch_inputs():
        assert step["env"][f"INPUT_{name.upper()}"] == f"${{{{ inputs.{name} }}}}"


def test_the_leg_for_contrast_runs_the_same_file_with_all_inputs_and_grants_what_its_jobs_ask_for() -> None:
    (call,) = jobs(X86).values()
    assert call["uses"] == "$/.github/workflows/notebooks.yml"
    assert set(call["with"]) == set(load(NOTEBOOKS)["on"]["workflow_call"]["inputs"])
    asked = {(right, level) for job in jobs(NOTEBOOKS).values() for right, level in job["permissions"].items()}
    assert asked == set(call["permissions"].items()), "GitHub refuses a call that grants less"


# --- the others


def test_dependabot_watches_what_is_pinned() -> None:
    updates = yaml.safe_load((GITHUB / "dependabot.yml").read_text())["updates"]
    assert {update["package-ecosystem"] for update in updates} == {"github-actions", "pip", "docker"}
    assert all(update["groups"] for update in updates)


def test_the_audit_reads_every_file_of_pinned_packages() -> None:
    text = (GITHUB / "workflows/audit.yml").read_text()
    pinned = {path.name for path in PROJECT_ROOT.glob("requirements*")} - {"requirements.txt", "requirements-dev.txt"}
    assert pinned and all(f"-r {name}" in text for name in pinned), "the lock has the two others"
