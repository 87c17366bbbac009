"""The rehearsal keeps GitHub's rules: conditions, steps and their files, artifacts, caches, called workflows."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest

from tests.rehearsal.commandfiles import CommandFileError, read_annotations, read_env, read_pairs
from tests.rehearsal.hub import Artifacts, Caches, HubError
from tests.rehearsal.results import Event, JobResult, Variation, Walk
from tests.rehearsal.runner import Runner
from tests.rehearsal.standins import FEW_TESTS, Job, StandInError, find_command
from tests.rehearsal.workflow import WorkflowError, expand_matrix, typed_inputs

CHECKOUT = f"actions/checkout@{'0' * 40}"
UPLOAD = f"actions/upload-artifact@{'0' * 40}"
DOWNLOAD = f"actions/download-artifact@{'0' * 40}"
CACHE = f"actions/cache@{'0' * 40}"
DEPLOY = f"actions/deploy-pages@{'0' * 40}"


def walk(
    tmp_path: Path,
    jobs: str,
    event: Event | None = None,
    variation: Variation | None = None,
    files: Mapping[str, str] | None = None,
) -> Walk:
    """Walk a made-up workflow whose jobs are given as YAML, indented by two, in a repository with more `files`."""
    source = tmp_path / "source"
    head = (
        "on:\n  workflow_dispatch:\n  push:\n  pull_request:\n  merge_group:\ndefaults: {run: {shell: bash}}\njobs:\n"
    )
    for name, text in {".github/workflows/main.yml": head + jobs, "changed.txt": "x", **(files or {})}.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    subprocess.run(["git", "init", "--quiet"], cwd=source, check=True)
    event = event or Event(changed=("changed.txt",))
    return Runner(source, tmp_path / "out", event, variation, parallel=2).run(".github/workflows/main.yml")


def steps(job: JobResult) -> list[str]:
    return [step.outcome for step in job.steps]


def test_failure_skips_what_needs_it_however_far_and_status_functions_bring_it_back(tmp_path: Path) -> None:
    found = walk(tmp_path, """
  a: {runs-on: ubuntu-24.04, steps: [{run: exit 3}]}
  b: {needs: a, runs-on: ubuntu-24.04, steps: [{run: "true"}]}
  c: {needs: b, if: always(), runs-on: ubuntu-24.04, steps: [{run: "true"}]}
  d: {needs: c, runs-on: ubuntu-24.04, steps: [{run: "true"}]}
  e: {needs: c, if: "!cancelled() && needs.c.result == 'success'", runs-on: ubuntu-24.04, steps: [{run: "true"}]}
  f: {needs: [a, b], if: failure(), runs-on: ubuntu-24.04, steps: [{run: "true"}]}
""")  # fmt: skip
    assert found.results == {
        "a": "failure",
        "b": "skipped",
        "c": "success",
        "d": "skipped",
        "e": "success",
        "f": "success",
    }


def test_steps_follow_failure_continue_on_error_and_conditions(tmp_path: Path) -> None:
    job = walk(tmp_path, """
  a:
    runs-on: ubuntu-24.04
    steps:
      - {id: soft, run: exit 1, continue-on-error: true}
      - {run: "true", if: "steps.soft.outcome == 'failure' && steps.soft.conclusion == 'success'"}
      - {run: "false | true"}
      - {run: "true"}
      - {run: "true", if: "${{ !cancelled() }}"}
      - {run: "true", if: failure()}
""").job("a")  # fmt: skip
    assert steps(job) == ["failure", "success", "failure", "skipped", "success", "success"], (
        "a pipe fails in shell bash"
    )
    assert job.result == "failure"


def test_outputs_environment_path_and_summary_reach_where_they_should(tmp_path: Path) -> None:
    found = walk(tmp_path, r"""
  a:
    runs-on: ubuntu-24.04
    outputs: {text: "${{ steps.one.outputs.text }}", list: "${{ steps.one.outputs.list }}"}
    env: {LEVEL: job, KEPT: job}
    steps:
      - id: one
        env: {LEVEL: step}
        run: |
          { echo 'text<<END'; echo 'a = b'; echo '<<'; echo END; echo 'list=["x", "y"]'; } >> "$GITHUB_OUTPUT"
          test "$LEVEL/$KEPT" = step/job
          echo LATER=yes >> "$GITHUB_ENV"
          tools="$RUNNER_TEMP/tools"; mkdir "$tools"
          printf '#!/bin/sh\necho tool' > "$tools/thing"; chmod +x "$tools/thing"
          echo "$tools" >> "$GITHUB_PATH"
          echo '# first' >> "$GITHUB_STEP_SUMMARY"
          echo "::error file=a.py,line=3,title=x%2Cy::two%0Alines"
      - run: test "$LEVEL/$LATER/$(thing)" = job/yes/tool
  b:
    needs: a
    runs-on: ubuntu-24.04
    strategy: {fail-fast: false, matrix: {item: "${{ fromJSON(needs.a.outputs.list) }}"}}
    steps:
      - env: {TEXT: "${{ needs.a.outputs.text }}", ITEM: "${{ matrix.item }}"}
        run: test "$TEXT" = "$(printf "a = b\n<<")" && test "$ITEM" != z && test -z "$LATER"
""")  # fmt: skip
    assert found.results == {"a": "success", "b (x)": "success", "b (y)": "success"}
    (error,) = found.job("a").annotations
    assert (error.message, error.properties) == ("two\nlines", {"file": "a.py", "line": "3", "title": "x,y"})
    assert found.job("a").summary == "# first\n"


def test_summary_beyond_the_limit_is_dropped_as_github_does(tmp_path: Path) -> None:
    job = walk(tmp_path, """
  a: {runs-on: ubuntu-24.04, steps: [{run: 'head -c 1048577 /dev/zero | tr "\\\\0" x > "$GITHUB_STEP_SUMMARY"'}]}
""").job("a")  # fmt: skip
    assert job.result == "success" and job.summary == ""
    assert "upload aborted" in job.annotations[0].message


def test_step_and_job_end_at_their_time_limits(tmp_path: Path) -> None:
    found = walk(tmp_path, """
  a: {runs-on: ubuntu-24.04, steps: [{run: sleep 60, timeout-minutes: 0.005}, {run: "true", if: always()}]}
  b:
    runs-on: ubuntu-24.04
    timeout-minutes: 0.005
    steps: [{run: sleep 60}, {run: "true"}, {run: "true", if: cancelled()}]
""")  # fmt: skip
    assert (found.job("a").result, steps(found.job("a"))) == ("failure", ["failure", "success"])
    assert (found.job("b").result, steps(found.job("b"))[:2]) == ("cancelled", ["failure", "skipped"])


def test_nothing_but_artifacts_and_outputs_travels_between_jobs(tmp_path: Path) -> None:
    found = walk(tmp_path, f"""
  a:
    runs-on: ubuntu-24.04
    steps:
      - {{uses: {CHECKOUT}}}
      - {{run: 'touch "$HOME/left" left "$RUNNER_TEMP/left"; mkdir out; echo 1 > out/file'}}
      - {{uses: {UPLOAD}, with: {{name: part, path: out}}}}
  b:
    needs: a
    runs-on: ubuntu-24.04
    steps:
      - {{run: 'test -z "$(ls -A)"'}}
      - {{uses: {CHECKOUT}}}
      - {{run: 'test -e changed.txt && ! test -e left && ! test -e "$HOME/left" && ! test -e "$RUNNER_TEMP/left"'}}
      - {{uses: {DOWNLOAD}, with: {{name: part, path: in}}}}
      - {{run: 'test "$(cat in/file)" = 1'}}
""")  # fmt: skip
    assert found.results == {"a": "success", "b": "success"}


def test_checkout_brings_the_history_that_was_asked_for(tmp_path: Path) -> None:
    found = walk(tmp_path, f"""
  a:
    runs-on: ubuntu-24.04
    steps:
      - {{uses: {CHECKOUT}}}
      - {{run: "! git rev-parse --verify --quiet HEAD^1"}}
      - {{uses: {CHECKOUT}, with: {{fetch-depth: 0}}}}
      - {{run: 'test "$(git diff --name-only HEAD^1)" = changed.txt'}}
      - {{env: {{HEAD: "${{{{ github.sha }}}}"}}, run: 'test "$(git rev-parse HEAD)" = "$HEAD"'}}
""", Event("pull_request", changed=("changed.txt",)))  # fmt: skip
    assert set(steps(found.job("a"))) == {"success"}


def test_cache_is_saved_after_success_and_found_by_its_key(tmp_path: Path) -> None:
    job = """
  {name}:
    {needs}
    runs-on: ubuntu-24.04
    steps:
      - {{id: cache, uses: {cache}, with: {{path: data, key: "key-${{{{ runner.os }}}}"}}}}
      - {{if: steps.cache.outputs.cache-hit != 'true', run: mkdir data && touch data/{name}}}
      - {{run: test -e data/a}}
"""
    jobs = job.format(name="a", needs="", cache=CACHE) + job.format(name="b", needs="needs: a", cache=CACHE)
    found = walk(tmp_path, jobs)
    assert found.results == {"a": "success", "b": "success"} and steps(found.job("b"))[1] == "skipped"


def test_called_workflow_gets_inputs_gives_outputs_and_may_not_ask_for_more(tmp_path: Path) -> None:
    caller = """
  call:
    uses: $/.github/workflows/called.yml
    permissions: {{contents: read{extra}}}
    with: {{word: hello, count: 2}}
  after:
    needs: call
    runs-on: ubuntu-24.04
    steps: [{{run: 'test "$SAID" = hello2', env: {{SAID: "${{{{ needs.call.outputs.said }}}}"}}}}]
"""
    called = """
on:
  workflow_call:
    inputs: {word: {type: string, required: true}, count: {type: number, default: 1}}
    outputs: {said: {value: "${{ jobs.speak.outputs.said }}"}}
permissions: {}
jobs:
  speak:
    runs-on: ubuntu-24.04
    permissions: {contents: read, pages: write}
    outputs: {said: "${{ steps.say.outputs.said }}"}
    steps:
      - {id: say, uses: $/.github/actions/say, with: {text: "${{ inputs.word }}${{ inputs.count }}"}}
"""
    action = """
name: say
description: says it
inputs: {text: {description: what, required: true}}
outputs: {said: {description: it, value: "${{ steps.inner.outputs.said }}"}}
runs:
  using: composite
  steps:
    - {id: inner, shell: bash, env: {TEXT: "${{ inputs.text }}"}, run: 'echo "said=$TEXT" >> "$GITHUB_OUTPUT"'}
"""
    files = {".github/workflows/called.yml": called, ".github/actions/say/action.yml": action}
    found = walk(tmp_path / "more", caller.format(extra=", pages: write"), files=files)
    assert found.results == {"speak": "success", "call": "success", "after": "success"}
    refused = walk(tmp_path / "less", caller.format(extra=""), files=files)
    assert "its caller allows 'pages: none'" in refused.job("call").reason
    assert refused.results == {"call": "failure", "after": "skipped"}


def test_deploying_pages_needs_rights_and_environment(tmp_path: Path) -> None:
    found = walk(tmp_path, f"""
  a: {{runs-on: ubuntu-24.04, permissions: {{}}, steps: [{{uses: {DEPLOY}}}]}}
  b: {{runs-on: ubuntu-24.04, permissions: {{pages: write, id-token: write}}, steps: [{{uses: {DEPLOY}}}]}}
""")  # fmt: skip
    assert "pages: write, id-token: write" in found.job("a").steps[0].error
    assert "environment github-pages" in found.job("b").steps[0].error


@pytest.mark.parametrize(
    ("jobs", "complaint"),
    [
        ("  a: {runs-on: x, steps: [{run: 'true', shell: bash, retries: 3}]}\n", "does not know retries"),
        ("  a: {runs-on: x, needs: b, steps: [{run: 'true'}]}\n", "needs 'b', which is no job"),
        ("  a: {runs-on: x, needs: a, steps: [{run: 'true'}]}\n", "need each other"),
        ("  a: {runs-on: x, steps: [{run: 'true', uses: ./x}]}\n", "either `run` or `uses`"),
        ("  a: {runs-on: x, container: y, steps: [{run: 'true'}]}\n", "does not know container"),
        ("  a: {runs-on: x, steps: [{id: s, run: 'true'}, {id: s, run: 'true'}]}\n", "stands twice"),
        ("  a: {runs-on: x, steps: [{run: 'true'}]}\n  a: {runs-on: x, steps: [{run: 'true'}]}\n", "stands twice"),
    ],
)  # fmt: skip
def test_file_that_github_refuses_or_the_rehearsal_cannot_follow_is_an_error(
    tmp_path: Path, jobs: str, complaint: str
) -> None:
    with pytest.raises(WorkflowError, match=complaint):
        walk(tmp_path, jobs)


@pytest.mark.parametrize(
    ("step", "complaint"),
    [
        ("uses: someone/action@" + "0" * 40, "no stand-in for 'someone/action'"),
        ("uses: actions/checkout@v7", "not pinned"),
        (f"{{uses: {CHECKOUT}, with: {{fetch-deph: 0}}}}", "no input fetch-deph"),
        ("uses: ./.github/actions/x", "was the repository checked out"),
        ("run: echo '${{ steps.nobody.outputs.x }}'", "has no 'nobody'"),
        ("run: echo '::set-output name=x::y'", "was removed"),
        ("run: echo nothing >> $GITHUB_OUTPUT", "invalid format"),
        ("run: echo GITHUB_SHA=x >> $GITHUB_ENV", "may not set GITHUB_SHA"),
    ],
)
def test_step_that_would_go_wrong_at_github_fails(tmp_path: Path, step: str, complaint: str) -> None:
    job = walk(tmp_path, f"  a:\n    runs-on: ubuntu-24.04\n    steps:\n      - {step}\n").job("a")
    assert job.result == "failure" and complaint in job.steps[0].error


def test_fail_fast_stops_the_other_legs_and_false_does_not(tmp_path: Path) -> None:
    job = """
  {name}:
    runs-on: ubuntu-24.04
    strategy: {{fail-fast: {fast}, matrix: {{n: [1, 2]}}}}
    steps: [{{run: exit 1}}]
"""
    found = walk(tmp_path, job.format(name="fast", fast="true") + job.format(name="slow", fast="false"))
    assert list(found.results.values()) == ["failure", "cancelled", "failure", "failure"]


def test_matrix_multiplies_excludes_and_includes() -> None:
    found = expand_matrix({"os": ["a", "b"], "n": [1, 2], "exclude": [{"os": "b", "n": 2}],
                           "include": [{"os": "a", "extra": True}, {"os": "c"}]})  # fmt: skip
    assert found == [
        {"os": "a", "n": 1, "extra": True},
        {"os": "a", "n": 2, "extra": True},
        {"os": "b", "n": 1},
        {"os": "c"},
    ]
    with pytest.raises(WorkflowError, match="does not contain any values"):
        expand_matrix({"backend": []})


def test_inputs_are_those_of_the_form() -> None:
    declared = {
        "size": {"type": "choice", "options": ["s", "m"], "default": "s"},
        "n": {"type": "number", "default": 1},
    }
    assert typed_inputs(declared, {"n": "3"}, strings=True) == {"size": "s", "n": 3}
    with pytest.raises(WorkflowError, match="none of the choices"):
        typed_inputs(declared, {"size": "xl"}, strings=True)
    with pytest.raises(WorkflowError, match="does not know"):
        typed_inputs(declared, {"sise": "s"})


def test_empty_value_of_a_caller_is_an_empty_text_and_not_the_default() -> None:
    declared = {"text": {"type": "string", "default": "x"}, "n": {"type": "number", "default": 1}}
    assert typed_inputs(declared, {"text": None}) == {"text": "", "n": 1}
    with pytest.raises(WorkflowError, match="'n' must be a number, got None"):
        typed_inputs(declared, {"n": None})


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    for name in ("out/a.html", "out/deep/b.html", "out/.hidden/c.html", "other/d.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return Artifacts(tmp_path / "store")


def unpacked(artifacts: Artifacts, target: Path, **what: str) -> list[str]:
    artifacts.download(target, **what)  # type: ignore[arg-type]
    return sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("patterns", "files"),
    [
        (["out/"], ["a.html", "deep/b.html"]),
        (["out/a.html"], ["a.html"]),
        (["out/**/*.html"], ["a.html", "deep/b.html"]),
        (["out", "other"], ["other/d.json", "out/a.html", "out/deep/b.html"]),
        (["out", "!out/deep/**"], ["a.html"]),
        (["out", "!out/a.html"], ["deep/b.html"]),
    ],
)
def test_upload_keeps_the_paths_that_github_would(
    artifacts: Artifacts, tmp_path: Path, patterns: list[str], files: list[str]
) -> None:
    artifacts.upload(tmp_path, patterns, name="part")
    assert unpacked(artifacts, tmp_path / "in", name="part") == files


def test_upload_without_archive_takes_one_file_under_its_own_name(artifacts: Artifacts, tmp_path: Path) -> None:
    artifacts.upload(tmp_path, ["out/a.html"], name="ignored", archive=False)
    assert list(artifacts.stored) == ["a.html"] and unpacked(artifacts, tmp_path / "in", name="a.html") == ["a.html"]
    with pytest.raises(HubError, match="single file can be uploaded; found 2"):
        artifacts.upload(tmp_path, ["out"], name="x", archive=False)
    with pytest.raises(HubError, match=r"Conflict: an artifact with the name 'a\.html' already exists"):
        artifacts.upload(tmp_path, ["out/a.html"], name="another", archive=False)


def test_upload_takes_a_name_once_unless_it_overwrites(artifacts: Artifacts, tmp_path: Path) -> None:
    artifacts.upload(tmp_path, ["out"], name="part")
    with pytest.raises(HubError, match="Conflict"):
        artifacts.upload(tmp_path, ["other"], name="part")
    artifacts.upload(tmp_path, ["other"], name="part", overwrite=True)
    assert unpacked(artifacts, tmp_path / "in", name="part") == ["d.json"]


def test_a_repeated_attempt_keeps_what_the_one_before_uploaded_and_may_take_its_names(
    artifacts: Artifacts, tmp_path: Path
) -> None:
    artifacts.upload(tmp_path, ["out"], name="part")
    artifacts.attempt = 2
    artifacts.upload(tmp_path, ["other"], name="part")
    assert len(artifacts.named("part")) == 2
    assert unpacked(artifacts, tmp_path / "in", name="part") == ["d.json"], "the newest of a name"
    with pytest.raises(HubError, match="Conflict"):
        artifacts.upload(tmp_path, ["out"], name="part")


@pytest.mark.parametrize(
    ("name", "result"), [("github-pages", "failure"), ("pages-${{ github.run_attempt }}", "success")]
)
def test_a_site_of_a_fixed_name_can_never_be_deployed_again(tmp_path: Path, name: str, result: str) -> None:
    jobs = f"""
  publish:
    runs-on: ubuntu-24.04
    permissions: {{pages: write, id-token: write}}
    environment: github-pages
    steps:
      - run: mkdir site && echo hello > site/index.html
      - {{uses: actions/upload-pages-artifact@{"0" * 40}, with: {{path: site, name: "{name}"}}}}
      - {{name: Deploy, uses: {DEPLOY}, with: {{artifact_name: "{name}"}}}}
"""
    first = walk(tmp_path / "first", jobs, variation=Variation(broken=["publish/Deploy"]))
    assert first.results == {"publish": "failure"}
    again = walk(tmp_path / "again", jobs, variation=Variation(earlier=first, attempt=2))
    assert again.results == {"publish": result}
    assert result == "success" or "Artifact count is 2" in again.job("publish").steps[-1].error


def test_steps_read_the_event_and_a_merge_queue_runs_on_what_would_be_merged(tmp_path: Path) -> None:
    found = walk(tmp_path, f"""
  a:
    runs-on: ubuntu-24.04
    steps:
      - {{uses: {CHECKOUT}, with: {{fetch-depth: 0}}}}
      - run: |
          read='import json, os; print(json.load(open(os.environ["GITHUB_EVENT_PATH"]))["merge_group"]["base_sha"])'
          base="$(python3 -c "$read")"
          test "$(git diff --name-only "$base" HEAD)" = changed.txt
          case "$GITHUB_REF" in refs/heads/gh-readonly-queue/main/*) ;; *) exit 1 ;; esac
""", Event("merge_group", changed=("changed.txt",)))  # fmt: skip
    assert found.results == {"a": "success"}


@pytest.mark.parametrize("rights", ["contents: read", "actions: read"])
def test_a_token_may_do_what_its_job_was_granted(tmp_path: Path, rights: str) -> None:
    found = walk(tmp_path, f"""
  a:
    runs-on: ubuntu-24.04
    permissions: {{{rights}}}
    steps:
      - env: {{GITHUB_TOKEN: "${{{{ github.token }}}}"}}
        run: |
          curl --fail --silent --show-error -H "Authorization: Bearer $GITHUB_TOKEN" \
            "$GITHUB_API_URL/repos/owner/repository/actions/workflows/main.yml/runs" | grep '"id": 7'
""", variation=Variation(past={7: {}}))  # fmt: skip
    assert found.results == {"a": "success" if "actions" in rights else "failure"}


def test_upload_of_nothing_ends_as_it_was_told_to(artifacts: Artifacts, tmp_path: Path) -> None:
    with pytest.raises(HubError, match="No files were found with the provided path: gone"):
        artifacts.upload(tmp_path, ["gone"], name="part", if_no_files_found="error")
    with pytest.raises(HubError, match="No files were found"):  # hidden files do not count
        artifacts.upload(tmp_path, ["out/.hidden"], name="part", if_no_files_found="error")
    assert artifacts.upload(tmp_path, ["gone"], name="part", if_no_files_found="ignore") is None
    assert not artifacts.stored


@pytest.mark.parametrize("days", [-1, 91])
def test_retention_out_of_range_is_refused(artifacts: Artifacts, tmp_path: Path, days: int) -> None:
    with pytest.raises(HubError, match="retention-days must be 1 to 90"):
        artifacts.upload(tmp_path, ["out"], name="part", retention_days=days)


@pytest.mark.parametrize("name", ["a/b", "a:b", "what?", "new\nline", ""])
def test_name_with_a_character_that_github_forbids_is_refused(artifacts: Artifacts, tmp_path: Path, name: str) -> None:
    with pytest.raises(HubError, match="forbids"):
        artifacts.upload(tmp_path, ["out"], name=name)


def test_download_of_a_missing_name_is_an_error_and_of_a_pattern_without_match_is_not(
    artifacts: Artifacts, tmp_path: Path
) -> None:
    with pytest.raises(HubError, match="Artifact not found for name: part"):
        artifacts.download(tmp_path / "in", name="part")
    assert unpacked(artifacts, tmp_path / "in", pattern="part.*") == []


def test_download_by_pattern_gives_each_its_folder_but_a_single_match_none(
    artifacts: Artifacts, tmp_path: Path
) -> None:
    artifacts.upload(tmp_path, ["other"], name="part.b")
    assert unpacked(artifacts, tmp_path / "one", pattern="part.*") == ["d.json"]
    artifacts.upload(tmp_path, ["out/a.html"], name="part.a")
    artifacts.upload(tmp_path, ["out/a.html"], name="unlike")
    assert unpacked(artifacts, tmp_path / "two", pattern="part.*") == ["part.a/a.html", "part.b/d.json"]


def test_artifact_that_is_lost_was_uploaded_and_never_arrives(artifacts: Artifacts, tmp_path: Path) -> None:
    artifacts.lost = frozenset({"part"})
    assert artifacts.upload(tmp_path, ["out"], name="part") is not None
    with pytest.raises(HubError, match="not found"):
        artifacts.download(tmp_path / "in", name="part")


def test_cache_key_is_written_once_and_prefixes_find_the_newest(tmp_path: Path) -> None:
    caches = Caches(tmp_path / "caches")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_text("1")
    assert caches.save(tmp_path, "key-1", ["data"]) and not caches.save(tmp_path, "key-1", ["data"])
    assert caches.restore(tmp_path / "in", "key-2", ["data"], []) == ""
    assert caches.restore(tmp_path / "in", "key-2", ["data"], ["key-"]) == "key-1"
    assert (tmp_path / "in/data/file").read_text() == "1"
    assert caches.restore(tmp_path / "in", "key-1", ["elsewhere"], []) == "", "other paths are another cache"


def test_command_files_are_read_as_github_does(tmp_path: Path) -> None:
    file = tmp_path / "GITHUB_OUTPUT"
    file.write_text("a=1=2\n\nb<<X\nline\n\n  a=b\nX\na=last\n")
    assert read_pairs(file) == {"a": "last", "b": "line\n\n  a=b"}
    file.write_text("b<<X\nline\n")
    with pytest.raises(CommandFileError, match="not closed by 'X'"):
        read_pairs(file)
    file.write_text("RUNNER_TEMP=x\n")
    with pytest.raises(CommandFileError, match="may not set RUNNER_TEMP"):
        read_env(file)


def test_annotations_are_unescaped_and_stopped_commands_are_text() -> None:
    printed = "::warning title=a%3Ab::50%25\nx ::error::no\n::stop-commands::T\n::error::no\n::T::\n::notice::yes\n"
    assert [(one.level, one.message, one.properties) for one in read_annotations(printed)] == [
        ("warning", "50%", {"title": "a:b"}),
        ("notice", "yes", {}),
    ]


def test_replaced_command_must_stand_alone() -> None:
    assert find_command("make TORCH_INDEX=https://x \\\n  .venv\n") is not None
    assert find_command("python -m lib run") is None
    script = ".venv/bin/python -m coverage run -m pytest -n auto --all-backends"
    suite = find_command(script)
    assert suite is not None and suite.act(cast(Job, None), script) == f"{script} {FEW_TESTS}"
    with pytest.raises(StandInError, match="a step of its own"):
        find_command("make test\necho done")
