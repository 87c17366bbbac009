"""Whether the pages of a run go to the public site, and the verdict that goes with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lib.ci.gate import Needs, output
from lib.ci.official_images import SYNTHETIC
from lib.ci.verdicts import Verdicts
from lib.files import project_path
from lib.html.index import write_index
from lib.report.gate_result import Judged, write_judged

BY_HAND = "workflow_dispatch"  # the event of a run whose inputs someone chose


def unfit(profile: str, dataset: str) -> str:
    """Why the figures of a run are not for the public, in words; empty where they are.

    Args:
        dataset: which images the run used.
    """
    if profile == "smoke":
        return "the profile is smoke"
    return "synthetic images stand in for the real ones" if dataset == SYNTHETIC else ""


def reason_against(verdicts: Verdicts, needs: Needs, environ: Mapping[str, str]) -> str:
    """Why the pages stay where they are, in words; empty where they are published.

    Pages of a run with other inputs, of a smoke run, or of synthetic images that stand in for real ones, must not take
    the place of good ones.

    Args:
        needs: the jobs before the gate.
        environ: ARCH, GITHUB_REF, GITHUB_EVENT_NAME, and PAGES_ENABLED, a variable of the repository.
    """
    event, ref = environ.get("GITHUB_EVENT_NAME", ""), environ.get("GITHUB_REF", "")
    profile, dataset = output(needs, "plan", "profile"), output(needs, "train", "dataset")
    against = {
        "the gate fails": verdicts.outcome == "fail",
        "the repository's variable PAGES_ENABLED is not true": environ.get("PAGES_ENABLED") != "true",
        "there is one site, and it shows arm64": environ.get("ARCH") != "arm64",
        f"{ref or 'this'} is not the branch main": ref != "refs/heads/main",
        "the inputs of this run were chosen by hand": event == BY_HAND,
        "there is nothing to run for this change": not profile,
    }
    return next((reason for reason, holds in against.items() if holds), unfit(profile, dataset))


def keep_verdict(run_dir: Path, verdicts: Verdicts) -> None:
    """Write the verdict into a run folder, and the index again, which shows it.

    Raises:
        UserError: the folder cannot be written to.
    """
    folder = project_path(run_dir)
    doubts = [(verdict.check, verdict.subject, verdict.found, verdict.asked) for verdict in verdicts.of("investigate")]
    write_judged(folder, Judged(verdicts.outcome, verdicts.words, doubts))
    write_index(folder)
