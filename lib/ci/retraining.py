"""Retraining: whether there is anything new to train on, the champion to compare with, and an issue with the evidence.

It never promotes. The same inputs are decided once: the issue with their key is the decision, and is not made again.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lib.ci.github import run_url
from lib.ci.hub import Hub, needed
from lib.ci.settings import settings
from lib.ci.tagged import ARTIFACT
from lib.errors import RefusedError, UserError
from lib.files import project_path
from lib.records.schema import RELEASE, ReleaseRecord, read_record, record_path
from lib.release import Release, verify
from lib.report.promotion import rules_table, verdict_words
from lib.report.words import capital

LABEL = "retraining"  # of its issues
NO_EXTRA = "none"
# All of a hash: the same images have one name, of their release too.
_EXTRA = re.compile(rf"[0-9a-f]{{64}}|{NO_EXTRA}|")


def plan(environ: Mapping[str, str]) -> dict[str, str]:
    """Outputs of the plan job.

    Args:
        environ: what `settings` and `Hub` read, GITHUB_SHA, and INPUT_EXTRA_DATA (whole hash of images, or `none`;
            empty: those that the champion was trained with).

    Returns:
        What `settings` gives; extra_data; champion (tag of the latest release; empty: none is published); key (SHA-256
        of all that decides); train (`false` where there is no champion, or where an issue has decided on this key).

    Raises:
        UserError: a bad input.
        RefusedError: GitHub does not answer.
    """
    (commit,), hub = needed(environ, "GITHUB_SHA"), Hub(environ)
    extra = environ.get("INPUT_EXTRA_DATA", "").strip()
    if not _EXTRA.fullmatch(extra):
        raise UserError(
            f"extra_data is {extra[:80]!r}; give the whole hash that `python -m lib data add` printed, or "
            f"{NO_EXTRA!r}, or nothing for those of the champion"
        )
    chosen, latest = settings(environ), hub.latest()
    champion = latest["tag_name"] if latest else ""
    if champion and not extra:
        with tempfile.TemporaryDirectory() as folder:
            extra = fetch_release(champion, Path(folder), environ).manifest.figures.extra_hash
    extra = extra.removeprefix(NO_EXTRA)
    digests = sorted(str(asset.get("digest")) for asset in latest["assets"]) if latest else []
    inputs = [
        commit,
        extra,
        champion,
        digests,
        *(chosen[name] for name in ("profile", "dataset", "recipe", "data_key")),
    ]
    key = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()
    if not champion:
        print("no release is published: there is no champion that another network could replace")
    if decided := _decided(hub, key):
        print(f"these inputs are decided already: {decided}")
    train = bool(champion) and not decided
    return {**chosen, "extra_data": extra, "champion": champion, "key": key, "train": str(train).lower()}


def fetch_release(tag: str, out: Path, environ: Mapping[str, str]) -> Release:
    """Download a published release and verify it.

    Args:
        out: folder that gets it.

    Raises:
        RefusedError: no such release, its archive is damaged or not the one that GitHub names, or a link does not hold.
    """
    hub = Hub(environ)
    found = hub.release(tag)
    archives = [asset for asset in found["assets"] if asset["name"].endswith(".tar")] if found else []
    if found is None or found["draft"] or len(archives) != 1:
        raise RefusedError(f"{tag} is not a published release with one archive; choose another tag")
    head = {"Accept": "application/octet-stream"}
    content = hub.ask("GET", f"releases/assets/{int(archives[0]['id'])}", headers=head).content
    if archives[0].get("digest") != f"sha256:{hashlib.sha256(content).hexdigest()}":
        raise RefusedError(f"{archives[0]['name']} of {tag} is not the file that GitHub names; try again")
    target = project_path(out)
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(target, filter="data")
    except tarfile.TarError as error:
        raise RefusedError(f"{archives[0]['name']} of {tag} cannot be unpacked ({error})") from None
    return verify(target / archives[0]["name"].removesuffix(".tar"))[0]


def report(run_dir: Path, environ: Mapping[str, str]) -> str:
    """Open the issue on a retrained network, and return its address. One with the same key is left as it is.

    Args:
        run_dir: with the record of 05.
        environ: KEY, GITHUB_RUN_ID, PAGE_URL, CHAMPION, GITHUB_SERVER_URL; what `Hub` reads, with `issues: write`.

    Raises:
        RefusedError: 05 compared nothing, or GitHub does not answer.
    """
    (key, number), hub = needed(environ, "KEY", "GITHUB_RUN_ID"), Hub(environ)
    if decided := _decided(hub, key):
        return decided
    record = read_record(record_path(project_path(run_dir), RELEASE), ReleaseRecord)
    if record.promotion is None:
        raise RefusedError(f"the record of 05 in {run_dir} has no comparison with a champion; see its page")
    run, folder = run_url(environ), f"runs/retrained-{number}"
    how = [
        "Nothing is promoted without you. After a look at the page, let servers follow:",
        "",
        f"    gh run download {number} --name {ARTIFACT} --dir {folder}",
        f"    python -m lib promote --to {folder}",
        "",
        f"`release` publishes it, started by hand on a tag of this commit with the run number {number}.",
    ]
    body = [
        f"{capital(verdict_words(record.promotion))}.",
        "",
        "```",
        str(rules_table(record.promotion)),
        "```",
        "",
        f"Page of 05: {environ.get('PAGE_URL') or run}. [The run]({run}) has all pages, and in the artifact "
        f"`{ARTIFACT}` the release with digest `{record.digest}`. The champion is {environ.get('CHAMPION', '')}.",
        "",
        *(how if record.promotion.verdict != "keep" else ["There is nothing to do: the champion stays."]),
        "",
        f"<!-- inputs {key} -->",
    ]
    title = f"Retrained {record.name} {record.version}: {record.promotion.verdict}"
    opened = hub.ask("POST", "issues", json={"title": title, "body": "\n".join(body), "labels": [LABEL]}).json()
    return str(opened["html_url"])


def _decided(hub: Hub, key: str) -> str:
    """The issue that has decided on a key, of the last hundred about retraining, open or closed; empty: none has."""
    issues = hub.listed("", "issues", {"labels": LABEL, "state": "all", "per_page": "100"})
    return next((str(issue["html_url"]) for issue in issues if key in (issue["body"] or "")), "")
