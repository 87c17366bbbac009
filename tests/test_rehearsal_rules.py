"""The rehearsal keeps GitHub's rules, as far as it imitates them, and refuses the rest."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.rehearsal.expressions import ExpressionError, Lenient, Scope
from tests.rehearsal.hub import Artifacts, HubError
from tests.rehearsal.results import Event, JobResult, Variation, Walk, WorkflowError
from tests.rehearsal.runner import Runner, expand_matrix
from tests.rehearsal.standins import find_command

PIN = "0" * 40
CHECKOUT, UPLOAD, DEPLOY = (f"actions/{name}@{PIN}" for name in ("checkout", "upload-artifact", "deploy-pages"))
DOWNLOAD = f"actions/download-artifact@{PIN}"


def walk(tmp_path: Path, jobs: str, event: Event | None = None, variation: Variation | None = None) -> Walk:
    """Walk a made-up workflow whose jobs are given as YAML, indented by two; each gets what all of them need."""
    source = tmp_path / "source"
    head = "on: {workflow_dispatch: , pull_request: , merge_group: }\njobs:\n"
    for name, text in {".github/workflows/main.yml": head + jobs, "changed.txt": "x"}.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    subprocess.run(["git", "init", "--quiet"], cwd=source, check=True)
    event = event or Event(changed=("changed.txt",))
    return Runner(source, tmp_path / "out", event, variation, parallel=2).run(".github/workflows/main.yml")


def job(name: str, *steps: str, more: str = "", title: str = "") -> str:
    """A job whose steps are scripts, or mappings in YAML's short form."""
    listed = [step if step.startswith("{") else script(step) for step in steps]
    lines = "".join(f"      - {step}\n" for step in listed)
    return f"  {name}:\n    name: {title or name}\n    runs-on: x\n    timeout-minutes: 1\n{more}    steps:\n{lines}"


def script(text: str, **keys: Any) -> str:
    """A step that runs a script; JSON is YAML."""
    return json.dumps({"name": "n", "run": text, **keys})


def action(uses: str, given: Mapping[str, str] | None = None, name: str = "n") -> str:
    """A step that uses an action."""
    return json.dumps({"name": name, "uses": uses, "with": given or {}})


def outcomes(found: JobResult) -> list[str]:
    return [step.outcome for step in found.steps]


def test_failure_skips_what_needs_it_however_far_and_status_functions_bring_it_back(tmp_path: Path) -> None:
    found = walk(
        tmp_path,
        job("a", "exit 3")
        + job("b", "true", more="    needs: a\n")
        + job("c", "true", more="    needs: b\n    if: always()\n")
        + job("d", "true", more="    needs: c\n")
        + job("e", "true", more="    needs: c\n    if: ${{ !cancelled() && needs.c.result == 'success' }}\n")
        + job("f", "true", more="    needs: [a, b]\n    if: failure()\n"),
    )
    results = ["failure", "skipped", "success", "skipped", "success", "success"]
    assert list(found.results.values()) == results


def test_steps_follow_failure_conditions_and_time_limits(tmp_path: Path) -> None:
    late = script("sleep 9", **{"if": "${{ !cancelled() }}", "timeout-minutes": "0.005"})
    last = script("true", **{"if": "failure()"})
    found = walk(tmp_path, job("a", "true", "false | true", "true", late, last)).job("a")
    assert outcomes(found) == ["success", "failure", "skipped", "failure", "success"], "a pipe fails in shell bash"
    assert found.result == "failure" and "time limit" in found.steps[3].error


def test_outputs_environment_annotations_and_summary_reach_where_they_should(tmp_path: Path) -> None:
    say = r"""
        echo 'list=["x", "y"]' >> "$GITHUB_OUTPUT"
        echo "# first" >> "$GITHUB_STEP_SUMMARY"
        echo "::error file=a.py,line=3,title=x%2Cy::two%0Alines"
        test "$LEVEL/$KEPT" = step/job
    """
    outputs = "    env: {LEVEL: job, KEPT: job}\n    outputs: {list: '${{ steps.one.outputs.list }}'}\n"
    matrix = "    strategy: {fail-fast: false, matrix: {item: '${{ fromJSON(needs.a.outputs.list) }}'}}\n"
    leg = script('test "$ITEM" != z', env={"ITEM": "${{ matrix.item }}"})
    found = walk(
        tmp_path,
        job("a", script(say, id="one", env={"LEVEL": "step"}), more=outputs)
        + job("b", leg, title="b (${{ matrix.item }})", more=f"    needs: a\n{matrix}"),
    )
    assert found.results == {"a": "success", "b (x)": "success", "b (y)": "success"}
    (error,) = found.job("a").annotations
    assert (error.message, error.properties) == ("two\nlines", {"file": "a.py", "line": "3", "title": "x,y"})
    assert found.job("a").summary == "# first\n"


def test_nothing_but_artifacts_and_outputs_travels_between_jobs(tmp_path: Path) -> None:
    upload = action(UPLOAD, {"name": "part", "path": "out", "if-no-files-found": "error"})
    here = 'test -e changed.txt && ! test -e left && ! test -e "$HOME/left"'
    found = walk(
        tmp_path,
        job("a", action(CHECKOUT), 'touch "$HOME/left" left; mkdir out; echo 1 > out/file', upload)
        + job("b", 'test -z "$(ls -A)"', action(CHECKOUT), here, action(DOWNLOAD, {"name": "part", "path": "in"}),
              'test "$(cat in/file)" = 1', more="    needs: a\n"),
    )  # fmt: skip
    assert found.results == {"a": "success", "b": "success"}


def test_a_token_may_do_what_its_job_was_granted_and_deploying_needs_rights_and_environment(tmp_path: Path) -> None:
    address = '"$GITHUB_API_URL/repos/owner/repository/actions/workflows/x.yml/runs"'
    ask = script(f'curl -fsS -H "Authorization: Bearer $TOKEN" {address}', env={"TOKEN": "${{ github.token }}"})
    deploy, rights = action(DEPLOY, {"artifact_name": "x"}), "    permissions: {pages: write, id-token: write}\n"
    found = walk(
        tmp_path,
        job("a", ask, more="    permissions: {actions: read}\n")
        + job("b", ask, more="    permissions: {contents: read}\n")
        + job("c", deploy)
        + job("d", deploy, more=rights)
        + job("e", deploy, more=f"{rights}    environment: {{name: github-pages}}\n"),
        variation=Variation(past={7: {}}),
    )
    assert (found.job("a").result, found.job("b").result) == ("success", "failure")
    errors = ["pages: write, id-token: write", "environment github-pages", "Artifact count is 0"]
    assert all(part in found.job(name).steps[0].error for name, part in zip("cde", errors, strict=True))


@pytest.mark.parametrize(
    ("step", "complaint"),
    [
        (action(f"someone/action@{PIN}"), "no stand-in for 'someone/action'"),
        (action("actions/checkout@v7"), "not pinned"),
        (action(CHECKOUT, {"fetch-deph": "0"}), "no input fetch-deph"),
        (script("true", **{"continue-on-error": "true"}), "does not know continue-on-error"),
        ("echo '${{ steps.nothing.outputs.x }}'", "nothing declares 'nothing'"),
        ('echo nothing >> "$GITHUB_OUTPUT"', "invalid format"),
        ('echo "x<<END" >> "$GITHUB_OUTPUT"', "invalid format"),
        ('echo X=y >> "$GITHUB_ENV"', "does not know GITHUB_ENV"),
        ('head -c 1048577 /dev/zero > "$GITHUB_STEP_SUMMARY"', "upload aborted"),
    ],
)
def test_step_that_would_go_wrong_at_github_or_is_not_imitated_fails(tmp_path: Path, step: str, complaint: str) -> None:
    found = walk(tmp_path, job("a", step)).job("a")
    assert found.result == "failure" and complaint in found.steps[0].error


def test_job_that_is_not_imitated_is_refused(tmp_path: Path) -> None:
    for more in ("    container: x\n", "    strategy: {matrix: {n: [1]}}\n"):
        with pytest.raises(WorkflowError, match="is rehearsed"):
            walk(tmp_path, job("a", "true", more=more))
    empty: dict[str, Any] = {"n": []}
    for vectors in (empty, {"n": ["1"], "m": ["2"]}):
        with pytest.raises(WorkflowError, match="no values"):
            expand_matrix(vectors)
    assert expand_matrix({"include": [{"os": "a", "n": "1"}]}) == [{"os": "a", "n": "1"}]


# --- expressions


def scope(success: bool = True, **contexts: Any) -> Scope:
    status = {"success": success, "failure": not success, "always": True, "cancelled": False}
    return Scope(contexts, {name: (lambda value=value: value) for name, value in status.items()})


@pytest.mark.parametrize(
    ("text", "after_success", "after_failure"),
    [
        (None, True, False),
        ("'a' == 'a'", True, False),
        ("${{ 'a' != 'a' }}", False, False),
        ("${{ always() && 'a' == 'b' }}", False, False),
        ("failure()", False, True),
        ("!cancelled() && 'it''s' != ''", True, True),
        ("'always()' != ''", True, False),
    ],
)
def test_condition_requires_success_unless_it_asks_for_a_status(
    text: str | None, after_success: bool, after_failure: bool
) -> None:
    assert scope(success=True).holds(text) is after_success
    assert scope(success=False).holds(text) is after_failure


def test_a_whole_expression_keeps_its_type_and_a_part_becomes_text() -> None:
    here = scope(inputs={"arch": "", "on": True}, steps={"a": {"outputs": Lenient({"cache-hit": "true"})}})
    assert here.fill("${{ fromJSON('[1]') }}") == [1] and here.fill("n=${{ inputs.on }}") == "n=true"
    assert here.fill({"a": ["${{ inputs.arch || 'arm64' }}.${{ steps.a.outputs.cache-hit }}"]}) == {"a": ["arm64.true"]}
    assert here.fill("${{ steps.a.outputs.note }}${{ format('{0}', inputs.arch) }}") == "", "not set is empty"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("env.HOME", "nothing declares 'env'; there are: needs"),
        ("needs.plan.outputs.backend", "nothing declares 'backend'; there are: backends"),
        ("needs.plan.outputs.backends > 3", "not rehearsed: '> 3'"),
        ("contains(needs.plan, 'x')", "contains"),
        ("${{ 'a' == 'b' }} && true", "always true"),
        ("'a' ==", "'a' =="),
    ],
)
def test_expression_that_reads_what_nothing_declares_or_is_not_imitated_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ExpressionError, match=complaint):
        scope(needs={"plan": {"outputs": {"backends": "[]"}}}).holds(text)


# --- artifacts and caches


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    for name in ("out/a.html", "out/deep/b.html", "out/.hidden/c.html", "other/d.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return Artifacts(tmp_path / "store")


def unpacked(artifacts: Artifacts, target: Path, **what: Any) -> list[str]:
    artifacts.download(target, **what)
    return sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())


def test_upload_keeps_the_paths_and_names_that_github_would(artifacts: Artifacts, tmp_path: Path) -> None:
    for patterns, files in (
        (["out/"], ["a.html", "deep/b.html"]),
        (["out/deep/*.html"], ["b.html"]),
        (["out", "other/d.json"], ["other/d.json", "out/a.html", "out/deep/b.html"]),
        (["out/", "!out/a.html"], ["deep/b.html"]),
    ):
        name = patterns[-1].replace("/", ".")
        artifacts.upload(tmp_path, patterns, name)
        assert unpacked(artifacts, tmp_path / name, name=name) == files
    artifacts.upload(tmp_path, ["out/a.html"], "ignored", archive=False)
    assert unpacked(artifacts, tmp_path / "alone", name="a.html") == ["a.html"]
    with pytest.raises(HubError, match="single file can be uploaded; found 2"):
        artifacts.upload(tmp_path, ["out"], "x", archive=False)
    for nothing in ("gone", "out/.hidden"):  # hidden files do not count
        with pytest.raises(HubError, match="No files were found"):
            artifacts.upload(tmp_path, [nothing], "part")


def test_a_name_is_taken_once_in_an_attempt_and_the_newest_comes(artifacts: Artifacts, tmp_path: Path) -> None:
    artifacts.upload(tmp_path, ["out"], "part.b")
    with pytest.raises(HubError, match="Conflict"):
        artifacts.upload(tmp_path, ["other"], "part.b")
    artifacts.upload(tmp_path, ["other"], "part.b", overwrite=True)
    assert unpacked(artifacts, tmp_path / "one", pattern="part.*") == ["d.json"], "a single match gets no folder"
    artifacts.upload(tmp_path, ["out/a.html"], "part.a")
    assert unpacked(artifacts, tmp_path / "two", pattern="part.*") == ["part.a/a.html", "part.b/d.json"]
    assert unpacked(artifacts, tmp_path / "three", pattern="part.*", merge=True) == ["a.html", "d.json"]
    artifacts.attempt, artifacts.lost = 2, ["part.a"]
    artifacts.upload(tmp_path, ["out/a.html"], "part.b")
    assert len(artifacts.uploaded) == 3, "what the attempt before uploaded is still there"
    assert unpacked(artifacts, tmp_path / "again", pattern="part.*") == ["a.html"]
    with pytest.raises(HubError, match=r"Artifact not found for name: part\.a"):
        artifacts.download(tmp_path / "in", name="part.a")
    assert unpacked(artifacts, tmp_path / "in", pattern="none*") == [], "a pattern without a match is fine"


def test_replaced_command_must_stand_alone() -> None:
    assert find_command("make TORCH_INDEX=https://x \\\n  .venv\n") is not None
    assert find_command("python -m lib run") is None
    with pytest.raises(WorkflowError, match="a step of its own"):
        find_command("make test\necho done")
