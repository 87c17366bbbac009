"""Records of earlier runs on `main`, through GitHub's API, for the parameter `history` of 04.

What cannot be had is left out: a run without anything to compare with is as good as any other.
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
TIMEOUT_S = (10, 60)  # to connect; without a byte
_RECORD = re.compile(r"03_benchmark\.[A-Za-z0-9_-]+\.json")
_VARIABLES = ("GITHUB_API_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_WORKFLOW_REF", "GITHUB_TOKEN")


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
        What there is to say, line by line.

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
            for name, record in _records(content) if content else ():
                write_atomic(target / str(run) / "results" / name, record)
        except NoHistoryError as error:
            yield f"run {run} is left out: {error}"
            continue
        found += bool(content)
    yield f"{found} earlier runs with records for {architecture}: {target}"


class _Hub:
    """The requests to GitHub's API. Addresses are made here, never taken from an answer."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        if missing := [name for name in _VARIABLES if not environ.get(name)]:
            raise UserError(f"no {', '.join(missing)}; this runs in a job of GitHub Actions, with a token in its env")
        api, self.repository, self.run_id, workflow, token = (environ[name] for name in _VARIABLES)
        self.workflow = workflow.partition("@")[0].rpartition("/")[2]  # of OWNER/NAME/.github/workflows/FILE@REF
        self.root = f"{api}/repos/{self.repository}/actions"
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {token}"

    def runs(self) -> list[int]:
        """Numbers of the successful runs on `main` that no pull request started, the newest first."""
        asked = {"branch": "main", "status": "success", "exclude_pull_requests": "true", "per_page": "50"}
        return [
            run["id"]
            for run in self._list("workflow_runs", f"workflows/{self.workflow}/runs", asked)
            if run["event"] != "pull_request"  # of a fork whose branch is called main too
            and (run["head_repository"] or {}).get("full_name") == self.repository
            and str(run["id"]) != self.run_id
        ]

    def artifact(self, run: int, name: str) -> bytes | None:
        """The zip of a run's artifact, of its last attempt; None where it has none any more."""
        listed = self._list("artifacts", f"runs/{run}/artifacts", {"name": name, "per_page": "100"})
        kept = [one["id"] for one in listed if one["name"] == name and not one.get("expired")]
        return self._get(f"artifacts/{int(max(kept))}/zip", {}).content if kept else None

    def _list(self, key: str, path: str, parameters: Mapping[str, str]) -> list[dict[str, Any]]:
        answer = self._get(path, parameters)
        try:
            listed: list[dict[str, Any]] = answer.json()[key]
        except (ValueError, LookupError, TypeError):
            raise NoHistoryError(f"GitHub's answer to {path} has no {key}") from None
        return listed

    def _get(self, path: str, parameters: Mapping[str, str]) -> requests.Response:
        try:  # a redirect to another host, where artifacts are kept, does not get the token
            answer = self.session.get(f"{self.root}/{path}", params=dict(parameters), timeout=TIMEOUT_S)
        except requests.RequestException as error:
            raise NoHistoryError(f"GitHub cannot be reached ({type(error).__name__})") from None
        if answer.status_code != 200:
            raise NoHistoryError(f"GitHub answered {answer.status_code} to {path}")
        return answer


def _records(content: bytes) -> list[tuple[str, bytes]]:
    """Benchmark records in a zip, by name; other members are left alone."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return [(name, archive.read(name)) for name in archive.namelist() if _RECORD.fullmatch(name)]
    except (zipfile.BadZipFile, zlib.error) as error:
        raise NoHistoryError(f"its artifact is damaged ({error})") from None
