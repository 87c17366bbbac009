"""What a tag releases: a run of `notebooks`, and whether that has happened already."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from lib.ci.changes import same_code
from lib.ci.hub import Hub, needed
from lib.ci.publish import BY_HAND
from lib.errors import RefusedError
from lib.files import PROJECT_ROOT

WORKFLOW, RETRAINING = "notebooks.yml", "retrain.yml"
ARTIFACT = "release.arm64"  # which only a run has that measured, and released what it measured
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


def tagged(environ: Mapping[str, str], root: Path = PROJECT_ROOT) -> dict[str, str]:
    """Which run a tag means: the latest one on `main` that released the same code, or INPUT_RUN_ID of these.

    The same code: the commits differ at most by files that run nothing, such as the changelog. A run whose inputs were
    chosen by hand counts only where it is asked for, and so does a retraining.

    Args:
        environ: GITHUB_REF, INPUT_RUN_ID, and what `Hub` reads.
        root: checkout of the tag, with its history.

    Returns:
        run_id; commit (of that run); version (of the tag); image (its name at ghcr.io); publish (`false` where the tag
        has been released).

    Raises:
        RefusedError: not a tag, no such run, or GitHub does not answer.
    """
    tag, hub = tag_of(environ), Hub(environ)
    usual, retrained = (
        {
            str(run["id"]): run
            for run in hub.runs(workflow)
            if same_code(run["head_sha"], root) and hub.artifact_number(run["id"], ARTIFACT) is not None
        }
        for workflow in (WORKFLOW, RETRAINING)
    )
    asked, runs = environ.get("INPUT_RUN_ID", "").strip(), usual | retrained
    chosen = asked or next((number for number, run in usual.items() if run["event"] != BY_HAND), "")
    if chosen not in runs:
        which = f"run {asked!r} is not" if asked else "no push and no schedule started"
        raise RefusedError(
            f"{which} a successful run of {WORKFLOW} or {RETRAINING} on main with a release of the code of {tag} "
            f"(there are: {', '.join(runs) or 'none'}); start {WORKFLOW} by hand while main is at the tagged commit, "
            f"then this workflow on {tag} with the number of that run"
        )
    release = hub.release(tag)
    return {
        "run_id": chosen,
        "commit": runs[chosen]["head_sha"],
        "version": tag[1:],
        "image": f"ghcr.io/{hub.repository.lower()}:{tag[1:]}",
        "publish": str(release is None or release["draft"]).lower(),
    }
