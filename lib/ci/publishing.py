"""A release at GitHub: its notes, its files on a draft, published once. A repeated attempt goes on where one ended."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from lib.ci.gate import judge_run
from lib.ci.hub import Hub, needed
from lib.ci.tagged import tag_of
from lib.errors import RefusedError
from lib.files import project_path
from lib.release import Release
from lib.release.reader import BOM, CARD, SIGNATURE, SUMS, WEIGHTS

_ISSUER = "https://token.actions.githubusercontent.com"


def release_notes(run_dir: Path, image: str, environ: Mapping[str, str]) -> str:
    """What the page of a release says: image, what the gate found, how to check it, and the model card.

    Args:
        run_dir: a run with a release.
        image: its name at the registry.
        environ: GITHUB_REF, GITHUB_SHA, GITHUB_SERVER_URL, GITHUB_REPOSITORY and GITHUB_WORKFLOW_REF.

    Raises:
        UserError: the run has no release.
        RefusedError: the gate fails, the run is a smoke run, or another commit was trained than is tagged.
    """
    names = ("GITHUB_SHA", "GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_WORKFLOW_REF")
    commit, server, repository, workflow = needed(environ, *names)
    release, verdicts = Release.load(run_dir), judge_run(run_dir)
    manifest = release.manifest
    if failed := verdicts.of("fail"):
        first = f"{failed[0].check} {failed[0].subject}: {failed[0].found}"
        raise RefusedError(f"the gate does not let this run pass ({verdicts.words}; {first}); release another one")
    if manifest.profile == "smoke":
        raise RefusedError("a smoke run made this release, and its figures mean nothing; release a run of fast or full")
    if manifest.commit != commit:
        raise RefusedError(f"commit {manifest.commit or 'unknown'} trained, and {commit} is tagged; tag what trained")
    doubts = [f"- to be looked at: {one.check} {one.subject}: {one.found}" for one in verdicts.of("investigate")]
    folder = archive_name(release).removesuffix(".tar")
    _, _, card = release.text(CARD).split("---\n", 2)  # behind what model hubs read
    return "\n".join(
        [
            f"Image: `{image}`, for linux/arm64 and linux/amd64. Digest of the release: `{release.digest}`.",
            "",
            f"Gate of the run: {verdicts.words}",
            *doubts,
            "",
            "Check what you have got:",
            "",
            f"    tar --extract --file {archive_name(release)}",
            f"    python -m lib verify {folder}",
            f"    python -m model_signing verify sigstore {folder} \\",
            f"      --signature {folder}/{SIGNATURE} --identity_provider {_ISSUER} \\",
            f"      --identity {server}/{workflow}",
            f"    gh attestation verify {WEIGHTS} --repo {repository}",
            card,
        ]
    )


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
    alone = [WEIGHTS, *(model.path for model in release.manifest.models), BOM, SUMS]
    return {archive: packed.getvalue(), **{Path(name).name: (release.path / name).read_bytes() for name in alone}}


def publish(folder: Path, notes: Path, environ: Mapping[str, str]) -> Iterator[str]:
    """Put the files of a release onto a draft and publish it; what an earlier attempt has done is not done again.

    Args:
        folder: a signed release.
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
    says = {"name": f"{tag}: {release.name} {release.version}", "body": project_path(notes).read_text(encoding="utf-8")}
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
