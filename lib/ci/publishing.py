"""A release at GitHub: its notes, its files on a draft, published once. A repeated attempt goes on where one ended."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from lib.ci.gate import judge_run
from lib.ci.hub import Hub, needed
from lib.ci.publish import unfit
from lib.ci.retraining import fetch_release
from lib.ci.tagged import tag_of
from lib.errors import RefusedError
from lib.files import project_path
from lib.records.schema import RELEASE, ReleaseRecord, read_record, record_path
from lib.release import Release
from lib.release.reader import BOM, CARD, DEMO, SIGNATURE, SUMS, WEIGHTS
from lib.report.promotion import verdict_words

_ISSUER = "https://token.actions.githubusercontent.com"


def release_notes(run_dir: Path, environ: Mapping[str, str]) -> str:
    """What the page of a release says: its origin, what the gate found, how to check it, and the model card.

    Args:
        run_dir: a run with a release.
        environ: NOTEBOOKS_RUN and NOTEBOOKS_COMMIT, the number of that run and what it checked out; GITHUB_REF,
            GITHUB_SERVER_URL, GITHUB_REPOSITORY and GITHUB_WORKFLOW_REF.

    Raises:
        UserError: the run has no release.
        RefusedError: the gate fails, the figures are not for the public, the champion is to be kept, or another commit
            was trained.
    """
    names = ("NOTEBOOKS_RUN", "NOTEBOOKS_COMMIT", "GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_WORKFLOW_REF")
    number, commit, server, repository, workflow = needed(environ, *names)
    release, verdicts = Release.load(run_dir), judge_run(run_dir)
    manifest = release.manifest
    promotion = read_record(record_path(project_path(run_dir), RELEASE), ReleaseRecord).promotion
    if failed := verdicts.of("fail"):
        first = f"{failed[0].check} {failed[0].subject}: {failed[0].found}"
        raise RefusedError(f"the gate does not let this run pass ({verdicts.words}; {first}); release another one")
    if reason := unfit(manifest.profile, manifest.figures.data):
        raise RefusedError(f"the figures of this run are not for the public: {reason}; release another one")
    if manifest.commit != commit:
        raise RefusedError(f"commit {manifest.commit or 'unknown'} trained, and {commit} ran; release another run")
    if promotion is not None and promotion.verdict == "keep":
        raise RefusedError(f"05 decided to {verdict_words(promotion)}; release another run")
    doubts = [f"{one.check} {one.subject}: {one.found}" for one in verdicts.of("investigate")]
    if promotion is not None and promotion.verdict == "investigate":
        doubts.append(f"promotion: {verdict_words(promotion)}")
    folder = archive_name(release).removesuffix(".tar")
    _, _, card = release.text(CARD).split("---\n", 2)  # behind what model hubs read
    return "\n".join(
        [
            f"Digest of the release: `{release.digest}`.",
            "",
            f"Trained and measured by [run {number}]({server}/{repository}/actions/runs/{number}), "
            f"which ran commit {commit}.",
            "",
            f"Gate of that run: {verdicts.words}",
            *(f"- to be looked at: {doubt}" for doubt in doubts),
            "",
            "To check it, put the archive into the root of a checkout of this repository. In that folder, "
            "`make EXTRAS=sign .venv` brings the tools, then:",
            "",
            f"    tar --extract --file {archive_name(release)}",
            f"    .venv/bin/python -m lib verify {folder}",
            f"    .venv/bin/python -m model_signing verify sigstore {folder} \\",
            f"      --signature {folder}/{SIGNATURE} --identity_provider {_ISSUER} \\",
            f"      --identity {server}/{workflow}",
            f"    gh attestation verify {folder}/{WEIGHTS} --repo {repository}",
            "",
            "Signature and attestation prove which workflow published these files: `release`, on this tag. "
            "They do not prove which run trained them; the log of the run named above shows that.",
            card,
        ]
    )


def roll_back(out: Path, environ: Mapping[str, str]) -> str:
    """Mark the published release of a tag as the latest again, if it still verifies.

    Args:
        out: folder that gets its files.
        environ: GITHUB_REF, and what `Hub` reads; the token needs `contents: write`.

    Raises:
        RefusedError: not such a release, or a link of its chain does not hold. Nothing has changed then.
    """
    tag, hub = tag_of(environ), Hub(environ)
    release = fetch_release(tag, out, environ)
    found = hub.release(tag)
    assert found is not None
    hub.ask("PATCH", f"releases/{int(found['id'])}", json={"make_latest": "true"})
    return f"{tag} is the latest release again: {release.name} {release.version}, digest {release.digest}"


def archive_name(release: Release) -> str:
    """Of the file with all files."""
    return f"{release.name}-{release.version}.tar"


def files_of(release: Release) -> dict[str, bytes]:
    """What is attached, by name: all files in one archive, the same bytes each time, and the models by themselves."""
    packed, archive = io.BytesIO(), archive_name(release)
    folder = archive.removesuffix(".tar")
    with tarfile.open(fileobj=packed, mode="w") as target:
        for name in sorted([*release.sums, SUMS, SIGNATURE]):
            content = (release.path / name).read_bytes()
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            target.addfile(member, io.BytesIO(content))
    alone = [WEIGHTS, *(model.path for model in release.manifest.models), *({DEMO} & release.sums.keys()), BOM, SUMS]
    return {archive: packed.getvalue(), **{Path(name).name: (release.path / name).read_bytes() for name in alone}}


def publish(folder: Path, notes: Path, image: str, environ: Mapping[str, str]) -> Iterator[str]:
    """Put the files of a release onto a draft and publish it; what an earlier attempt has done is not done again.

    Args:
        folder: a signed release.
        notes: a file, as `release_notes` wrote it.
        image: with tag and digest, as it was pushed.
        environ: GITHUB_REF, and what `Hub` reads; the token needs `contents: write`.

    Yields:
        What was done, line by line.

    Raises:
        UserError: not a release.
        RefusedError: it is not signed, or GitHub does not do what it is asked.
    """
    release, tag, hub = Release.load(folder), tag_of(environ), Hub(environ)
    if not (release.path / SIGNATURE).is_file():
        raise RefusedError(f"{release.path} is not signed, and only what is signed is published")
    found = hub.release(tag)
    if found and not found["draft"]:
        yield f"{tag} is published already: {found['html_url']}"
        return
    says = {
        "name": f"{tag}: {release.name} {release.version}",
        "body": f"Image: `{image}`, for linux/arm64 and linux/amd64. "
        + project_path(notes).read_text(encoding="utf-8"),
        "prerelease": not re.fullmatch(r"v[\d.]+", tag),  # such as v1.0.0-rc.1, which is never the latest
    }
    draft = found or hub.ask("POST", "releases", json={"tag_name": tag, "draft": True, **says}).json()
    place = f"releases/{int(draft['id'])}"
    there = {one["name"]: one for one in hub.listed("", f"{place}/assets", {"per_page": "100"})}
    files = files_of(release)
    for name, content in files.items():
        wanted = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if name in there and (there[name]["state"], there[name].get("digest")) == ("uploaded", wanted):
            yield f"{name} is there"
            del there[name]
            continue
        if name in there:
            hub.ask("DELETE", f"releases/assets/{int(there.pop(name)['id'])}")
        head = {"Content-Type": "application/octet-stream"}
        hub.ask("POST", f"{place}/assets", uploads=True, params={"name": name}, data=content, headers=head)
        yield f"{name}: {len(content):,} bytes"
    for stranger in there.values():  # of an attempt with other content
        hub.ask("DELETE", f"releases/assets/{int(stranger['id'])}")
    published = hub.ask("PATCH", place, json={"draft": False, **says}).json()
    yield f"{tag} is published: {published['html_url']}"
