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

from lib.ci.hub import Hub, HubError, needed
from lib.files import project_path, write_atomic

MAX_RUNS = 10  # enough for a range; each costs two requests and a download
_RECORD = re.compile(r"03_benchmark\.[A-Za-z0-9_-]+\.json")


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
        HubError: GitHub cannot be reached or refuses to list the runs.
    """
    target = project_path(out)
    target.mkdir(parents=True, exist_ok=True)
    hub = Hub(environ)
    this, workflow = needed(environ, "GITHUB_RUN_ID", "GITHUB_WORKFLOW_REF")
    found = 0
    listed = hub.runs(workflow.partition("@")[0].rpartition("/")[2])  # OWNER/NAME/.github/workflows/FILE@REF
    for run in [one["id"] for one in listed]:
        if found == MAX_RUNS:
            break
        if str(run) == this:
            continue
        try:
            content = hub.artifact(run, f"records.{architecture}")
            for name, record in _records(content) if content else ():
                write_atomic(target / str(run) / "results" / name, record)
        except HubError as error:
            yield f"run {run} is left out: {error}"
            continue
        found += bool(content)
    yield f"{found} earlier runs with records for {architecture}: {target}"


def _records(content: bytes) -> list[tuple[str, bytes]]:
    """Benchmark records in a zip, by name; other members are left alone."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return [(name, archive.read(name)) for name in archive.namelist() if _RECORD.fullmatch(name)]
    except (zipfile.BadZipFile, zlib.error) as error:
        raise HubError(f"its artifact is damaged ({error})") from None
