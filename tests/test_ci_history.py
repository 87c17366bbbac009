"""Records of earlier runs: what is fetched from GitHub, what is left out, and who is measured again."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lib.ci import earlier
from lib.ci.earlier import fetch_history
from lib.ci.hub import HubError
from lib.ci.suspects import suspects
from lib.cli import main
from lib.errors import UserError
from lib.records.schema import record_path, second_path, write_record
from tests.made_records import made_benchmark, made_compare
from tests.rehearsal.api import REPOSITORY, Api, token_with

RECORD = "03_benchmark.torch-blas.json"


def packed(**files: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def past(*runs: int, content: bytes = packed(**{RECORD: b"{}"})) -> dict[int, dict[str, bytes]]:
    return {run: {"records.arm64": content} for run in runs}


def environ_of(api: Api, rights: Mapping[str, str] | None = None) -> dict[str, str]:
    return {
        "GITHUB_API_URL": api.address,
        "GITHUB_REPOSITORY": REPOSITORY,
        "GITHUB_RUN_ID": "50",
        "GITHUB_WORKFLOW_REF": f"{REPOSITORY}/.github/workflows/notebooks.yml@refs/heads/main",
        "GITHUB_TOKEN": token_with({"actions": "read"} if rights is None else rights),
    }


def fetched(api: Api, out: Path, **environ: str) -> list[str]:
    with api.serving():
        return list(fetch_history(out, "arm64", {**environ_of(api), **environ}))


def runs_in(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir())


def test_records_of_the_last_runs_lie_as_in_run_folders(tmp_path: Path) -> None:
    content = packed(**{RECORD: b"{}", "../evil.json": b"x", "02_train.json": b"x", "03_benchmark.x/y.json": b"x"})
    out = tmp_path / "history"
    lines = fetched(Api({**past(7, 9, content=content), 8: {"records.x64": content}, 10: {}}), out)
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == [
        f"7/results/{RECORD}", f"9/results/{RECORD}",
    ]  # fmt: skip
    assert lines[-1].startswith("2 earlier runs with records for arm64")


def test_no_earlier_run_is_fine_and_leaves_an_empty_folder(tmp_path: Path) -> None:
    assert fetched(Api({}), tmp_path / "history")[-1].startswith("0 earlier runs")
    assert runs_in(tmp_path / "history") == []


def test_the_newest_runs_are_taken_and_no_more_than_a_range_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(earlier, "MAX_RUNS", 2)
    fetched(Api(past(7, 8, 9)), tmp_path / "history")
    assert runs_in(tmp_path / "history") == ["8", "9"]


def test_this_run_and_runs_of_pull_requests_and_forks_are_no_history(tmp_path: Path) -> None:
    class Listing(Api):
        def answer(self, path: str, authorization: str) -> tuple[int, bytes]:
            status, content = super().answer(path, authorization)
            if "/workflows/notebooks.yml/runs?branch=main&status=success" not in path:
                return status, content
            listed = json.loads(content)
            for run in listed["workflow_runs"]:
                run["event"] = "pull_request" if run["id"] == 7 else run["event"]
                run["head_repository"] = None if run["id"] == 8 else run["head_repository"]
            return status, json.dumps(listed).encode()

    fetched(Listing(past(7, 8, 9, 50)), tmp_path / "history")
    assert runs_in(tmp_path / "history") == ["9"]


def test_of_a_repeated_run_the_records_of_the_last_attempt_count(tmp_path: Path) -> None:
    class Repeated(Api):
        def answer(self, path: str, authorization: str) -> tuple[int, bytes]:
            if path.split("?")[0].endswith("/runs/7/artifacts"):
                kept = [{"id": number, "name": "records.arm64", "expired": number == 5} for number in (3, 4, 5)]
                return 200, json.dumps({"artifacts": kept}).encode()
            if path.endswith("/artifacts/4/zip"):
                return 200, packed(**{RECORD: b'"last"'})
            return super().answer(path, authorization)

    fetched(Repeated(past(7)), tmp_path / "history")
    assert (tmp_path / "history" / "7" / "results" / RECORD).read_text() == '"last"'


@pytest.mark.parametrize("content", [b"no zip", packed(**{RECORD: b"{}"})[:-30]])
def test_an_artifact_that_is_damaged_is_left_out_with_its_reason(tmp_path: Path, content: bytes) -> None:
    lines = fetched(Api({**past(7), **past(8, content=content)}), tmp_path / "history")
    assert lines[0].startswith("run 8 is left out: its artifact is damaged")
    assert runs_in(tmp_path / "history") == ["7"]


def test_a_missing_right_or_a_host_that_is_down_is_a_warning_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    api = Api(past(7))
    with api.serving():
        refused = environ_of(api, {"contents": "read"})
        with pytest.raises(HubError, match="403"):
            list(fetch_history(tmp_path / "history", "arm64", refused))
        for name, value in refused.items():
            monkeypatch.setenv(name, value)
        assert main(["ci", "history", "--arch", "arm64", "--out", str(tmp_path / "one")]) == 0
    assert "::warning title=no history::" in capsys.readouterr().out
    assert (
        main(["ci", "history", "--arch", "arm64", "--out", str(tmp_path / "two")]) == 0
    )  # the host does not answer any more
    assert "cannot be reached" in capsys.readouterr().out and runs_in(tmp_path / "two") == []


@pytest.mark.parametrize("content", [b"<html>", b"[]", b'{"message": "moved"}'])
def test_an_answer_that_makes_no_sense_is_a_warning_too(tmp_path: Path, content: bytes) -> None:
    class Confused(Api):
        def answer(self, path: str, authorization: str) -> tuple[int, bytes]:
            return 200, content

    with pytest.raises(HubError, match="has no workflow_runs"):
        fetched(Confused({}), tmp_path / "history")


@pytest.mark.parametrize("missing", ["GITHUB_TOKEN", "GITHUB_WORKFLOW_REF", "GITHUB_API_URL"])
def test_outside_of_a_job_it_says_what_it_needs(tmp_path: Path, missing: str) -> None:
    with pytest.raises(UserError, match=missing):
        list(fetch_history(tmp_path, "arm64", {**environ_of(Api({})), "GITHUB_API_URL": "x", missing: ""}))


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ({"torch-blas": {"offline": "no change"}, "openvino": {"offline": "suspected faster"}}, ""),
        (
            {"torch-blas": {"offline": "suspected slower"}, "openvino": {"offline": "confirmed slower"}},
            '["torch-blas"]',
        ),
        ({"a": {"x": "no change", "y": "suspected slower"}, "b": {"x": "suspected slower"}}, '["a", "b"]'),
        ({"measured-again": {"offline": "suspected slower"}}, ""),
    ],
)
def test_suspected_slow_downs_without_a_second_measurement_are_measured_again(
    tmp_path: Path, history: dict[str, Any], expected: str
) -> None:
    assert suspects(tmp_path) == "", "where nothing was measured, 04 leaves no record"
    write_record(made_compare(history=history), record_path(tmp_path, "04_compare"))
    write_record(made_benchmark("torch-blas"), second_path(tmp_path, "measured-again"))
    assert suspects(tmp_path) == expected
