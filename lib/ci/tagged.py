"""What a tag releases: a run of `notebooks`, and whether that has happened already."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lib.ci.hub import Hub, needed
from lib.errors import RefusedError

WORKFLOW = "notebooks.yml"
_TAG = re.compile(r"refs/tags/v(\d[0-9A-Za-z.-]{0,60})")  # what the tag of an image may have, too


def tag_of(environ: Mapping[str, str]) -> str:
    """The tag that a job runs on, such as `v1.2.0`.

    Raises:
        RefusedError: it runs on something else.
    """
    (reference,) = needed(environ, "GITHUB_REF")
    if not _TAG.fullmatch(reference):
        raise RefusedError(f"{reference} is not a tag such as v1.2.0; choose one where the workflow is started")
    return reference.removeprefix("refs/tags/")


def tagged(environ: Mapping[str, str]) -> dict[str, str]:
    """Which run a tag means: the latest successful one on `main` of the same commit, or INPUT_RUN_ID of these.

    Args:
        environ: GITHUB_REF, GITHUB_SHA, INPUT_RUN_ID, and what `Hub` reads.

    Returns:
        run_id; version (of the tag); image (its name at ghcr.io); publish (`false` where the tag has been released).

    Raises:
        RefusedError: not a tag, no such run, or GitHub does not answer.
    """
    tag, hub = tag_of(environ), Hub(environ)
    (commit,) = needed(environ, "GITHUB_SHA")
    runs = [str(run) for run in hub.runs(WORKFLOW, head_sha=commit)]
    asked = environ.get("INPUT_RUN_ID", "").strip()
    if not runs:
        raise RefusedError(
            f"{tag} is commit {commit}, of which no run of {WORKFLOW} on main has succeeded; run it first"
        )
    if asked and asked not in runs:
        raise RefusedError(f"run {asked!r} is not a successful run of {WORKFLOW} on main of commit {commit}; "
                           f"there are: {', '.join(runs)}")  # fmt: skip
    release = hub.release(tag)
    return {
        "run_id": asked or runs[0],
        "version": tag[1:],
        "image": f"ghcr.io/{hub.repository.lower()}:{tag[1:]}",
        "publish": str(release is None or release["draft"]).lower(),
    }
