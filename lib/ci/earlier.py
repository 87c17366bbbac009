"""Records of earlier runs on `main`, through GitHub's API, for the parameter `history` of 04.

What cannot be had is left out: a run is none the worse for having nothing to compare with. An artifact is input from
elsewhere all the same, and is read with limits.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import requests

from lib.errors import UserError
from lib.files import project_path, write_atomic

MAX_RUNS = 10  # enough for a range; each costs two requests and a download
MAX_PACKED_BYTES = 50_000_000  # of one artifact
MAX_RECORD_BYTES = 50_000_000  # of one record; in `full` with sweeps it has a few megabytes
MAX_MEMBERS = 200
TIMEOUT_S = (10, 60)  # to connect; without a byte
_RECORD = re.compile(r"03_benchmark\.[A-Za-z0-9_-]+\.json")
_WORKFLOW = re.compile(r"[^@]+/\.github/workflows/([A-Za-z0-9_.-]+\.yml)@.+")


class NoHistoryError(Exception):
    """The API, or an artifact, did not give what was asked for."""


def fetch_history(out: Path, architecture: str, environ: Mapping[str, str]) -> Iterator[str]:
    """Bring the benchmark records of the last successful runs of this workflow on `main`, the newest first.

    Args:
        out: gets a folder for each run, named by its number, as a run folder has them; made also where there is none.
        architecture: arm64 or x64; part of the artifact's name.
        environ: GITHUB_API_URL, GITHUB_REPOSITORY, GITHUB_RUN_ID and GITHUB_WORKFLOW_REF as GitHub sets them, and
            GITHUB_TOKEN with `actions: read`.

    Yields:
        What there is to tell, line by line.

    Raises:
        UserError: a variable is missing, or the folder cannot be written to.
        NoHistoryError: GitHub cannot be reached or refuses to list the runs.
    """
    target = project_path(out)
    target.mkdir(parents=True, exist_ok=True)
    hub = _Hub(environ)
    found = 0
    for run in hub.runs():
        if found == MAX_RUNS:
            break
        try:
            content = hub.artifact(run, f"records.{architecture}")
            if content is None:
                continue
            for name, record in _records(content):
                write_atomic(target / str(run) / "results" / name, record)
        except NoHistoryError as error:
            yield f"run {run} is left out: {error}"
            continue
        found += 1
    yield f"{found} earlier runs with records for {architecture}: {target}"


class _Hub:
    """The requests to GitHub's API. Addresses are made here, never taken from an answer."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        names = ("API_URL", "REPOSITORY", "RUN_ID", "WORKFLOW_REF", "TOKEN")
        values = {name: environ.get(f"GITHUB_{name}", "") for name in names}
        if missing := [f"GITHUB_{name}" for name, value in values.items() if not value]:
            raise UserError(f"no {', '.join(missing)}; this runs in a job of GitHub Actions, with a token in its env")
        workflow = _WORKFLOW.fullmatch(values["WORKFLOW_REF"])
        if workflow is None:
            raise UserError(f"GITHUB_WORKFLOW_REF is {values['WORKFLOW_REF']!r}, expected OWNER/NAME/.github/...@REF")
        self.repository, self.run_id, self.workflow = values["REPOSITORY"], values["RUN_ID"], workflow[1]
        self.root = f"{values['API_URL']}/repos/{self.repository}/actions"
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {values['TOKEN']}"

    def runs(self) -> list[int]:
        """Numbers of the successful runs on `main` that no pull request started, the newest first."""
        asked = {"branch": "main", "status": "success", "exclude_pull_requests": "true", "per_page": "50"}
        listed = self._json(f"workflows/{self.workflow}/runs", asked).get("workflow_runs", [])
        return [
            run["id"]
            for run in listed
            if run.get("event") != "pull_request"  # of a fork whose branch is called main too
            and (run.get("head_repository") or {}).get("full_name") == self.repository
            and isinstance(run.get("id"), int)
            and str(run["id"]) != self.run_id
        ]

    def artifact(self, run: int, name: str) -> bytes | None:
        """The zip of a run's artifact, of its last attempt; None where it has none any more."""
        listed = self._json(f"runs/{run}/artifacts", {"name": name, "per_page": "100"}).get("artifacts", [])
        kept = [one["id"] for one in listed if one.get("name") == name and not one.get("expired")]
        return self._bytes(f"artifacts/{int(max(kept))}/zip") if kept else None

    def _json(self, path: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        try:
            content: Any = self._get(path, parameters).json()
        except ValueError:
            raise NoHistoryError(f"GitHub's answer to {path} is not JSON") from None
        if not isinstance(content, dict):
            raise NoHistoryError(f"GitHub's answer to {path} is not an object")
        return content

    def _bytes(self, path: str) -> bytes:
        content = b""
        try:
            for chunk in self._get(path, {}).iter_content(1 << 16):
                content += chunk
                if len(content) > MAX_PACKED_BYTES:
                    raise NoHistoryError(f"its artifact has more than {MAX_PACKED_BYTES:,} bytes")
        except requests.RequestException as error:
            raise NoHistoryError(f"its artifact broke off ({type(error).__name__})") from None
        return content

    def _get(self, path: str, parameters: Mapping[str, str]) -> requests.Response:
        try:  # a redirect to another host, where artifacts are kept, does not get the token
            answer = self.session.get(f"{self.root}/{path}", params=dict(parameters), stream=True, timeout=TIMEOUT_S)
        except requests.RequestException as error:
            raise NoHistoryError(f"GitHub cannot be reached ({type(error).__name__})") from None
        if answer.status_code != 200:
            raise NoHistoryError(f"GitHub answered {answer.status_code} to {path}")
        return answer


def _records(content: bytes) -> list[tuple[str, bytes]]:
    """Benchmark records in a zip, by name; other members are left alone."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if len(archive.infolist()) > MAX_MEMBERS:
                raise NoHistoryError(f"its artifact has more than {MAX_MEMBERS} members")
            members = [info for info in archive.infolist() if _RECORD.fullmatch(info.filename)]
            if any(info.file_size > MAX_RECORD_BYTES for info in members):
                raise NoHistoryError(f"its artifact has a record of more than {MAX_RECORD_BYTES:,} bytes")
            return [(info.filename, archive.read(info)) for info in members]  # no more than `file_size` is unpacked
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise NoHistoryError(f"its artifact is damaged ({error})") from None
