"""What GitHub keeps between the jobs of a run: the repository, artifacts, caches. Nothing else travels."""

from __future__ import annotations

import shutil
import subprocess
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path


class HubError(ValueError):
    """What the action would fail with."""


@dataclass(frozen=True)
class Artifact:
    """One upload: a zip of files, or with `archive: false` one file as it is."""

    name: str
    path: Path
    archived: bool
    number: int
    owner: str  # the job that uploaded it
    attempt: int = 1  # of the run


@dataclass
class Artifacts:
    """The artifacts of one run, the oldest first. A name can be taken once in each attempt, and those of earlier
    attempts stay beside it."""

    folder: Path
    lost: Sequence[str] = ()  # uploads that never arrive, to rehearse that
    attempt: int = 1
    uploaded: list[Artifact] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)  # legs of a matrix upload at the same time

    @property
    def stored(self) -> dict[str, Artifact]:
        """What can be downloaded, by name: of several with one name the newest."""
        return {one.name: one for one in self.uploaded if one.name not in self.lost}

    def upload(
        self, workspace: Path, paths: Sequence[str], name: str, *, archive: bool = True, overwrite: bool = False,
        owner: str = "",
    ) -> Artifact:  # fmt: skip
        """As actions/upload-artifact v7 with `if-no-files-found: error`.

        Raises:
            HubError: nothing found, a name that is taken, or several files without an archive.
        """
        root, files = find_files(workspace, paths)
        if not files:
            raise HubError(f"No files were found with the provided path: {', '.join(paths)}")
        if not archive:
            if len(files) > 1:
                raise HubError(f"with archive: false a single file can be uploaded; found {len(files)}")
            name = files[0].name  # the given one is ignored
        artifact = self._reserved(name, archive, overwrite, owner)
        artifact.path.parent.mkdir(parents=True, exist_ok=True)
        if not archive:
            shutil.copyfile(files[0], artifact.path)
            return artifact
        with zipfile.ZipFile(artifact.path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
            for file in files:
                target.write(file, file.relative_to(root))
        return artifact

    def _reserved(self, name: str, archive: bool, overwrite: bool, owner: str) -> Artifact:
        """A place for an upload, if its name is free; `overwrite` deletes the newest of that name."""
        with self.lock:
            same = [one for one in self.uploaded if one.name == name]
            if same and overwrite:
                self.uploaded.remove(same[-1])
            elif any(one.attempt == self.attempt for one in same):
                raise HubError(f"Conflict: an artifact with the name {name!r} already exists on the workflow run")
            number = max((one.number for one in self.uploaded), default=0) + 1
            path = self.folder / str(number) / (f"{name}.zip" if archive else name)
            self.uploaded.append(Artifact(name, path, archive, number, owner, self.attempt))
            return self.uploaded[-1]

    def download(self, target: Path, *, name: str = "", pattern: str = "", merge: bool = False) -> list[str]:
        """As actions/download-artifact v8; returns the names of what was downloaded.

        A pattern that matches exactly one artifact puts its files straight into `target`, as if it were named; with
        several, each gets a folder unless they are merged. A pattern that matches none is no error.

        Raises:
            HubError: there is no artifact of that name.
        """
        if name and name not in self.stored:
            raise HubError(f"Unable to download artifact(s): Artifact not found for name: {name}")
        chosen = [one for key, one in self.stored.items() if fnmatchcase(key, name or pattern)]
        for artifact in chosen:
            place = target if merge or len(chosen) == 1 else target / artifact.name
            place.mkdir(parents=True, exist_ok=True)
            if artifact.archived:
                with zipfile.ZipFile(artifact.path) as source:
                    source.extractall(place)
            else:
                shutil.copyfile(artifact.path, place / artifact.name)
        return [one.name for one in chosen]


def find_files(workspace: Path, patterns: Sequence[str]) -> tuple[Path, list[Path]]:
    """The root of an artifact, and its files without hidden ones, for paths, globs and `!` exclusions.

    The root is the folder that is given, or the part before the first wildcard; of several paths, the workspace's
    folder that holds them all.
    """
    found: dict[Path, None] = {}
    roots: list[Path] = []
    for pattern in patterns:
        matches = [
            file
            for match in sorted(workspace.glob(pattern.strip("!/")))
            for file in ([match] if match.is_file() else sorted(match.rglob("*")))
            if file.is_file() and not any(part.startswith(".") for part in file.relative_to(workspace).parts)
        ]
        if pattern.startswith("!"):
            found = {file: None for file in found if file not in matches}
            continue
        found.update(dict.fromkeys(matches))
        fixed = workspace / pattern.split("*")[0].rpartition("/")[0] if "*" in pattern else workspace / pattern
        roots.append(fixed.parent if fixed.is_file() else fixed)
    shared = [folder for folder in (roots[0], *roots[0].parents) if all(root.is_relative_to(folder) for root in roots)]
    return shared[0], list(found)


@dataclass
class Caches:
    """Caches by key; a key is written once, as at GitHub."""

    folder: Path

    def restore(self, workspace: Path, key: str, path: str) -> bool:
        """Bring back the folder of a key; false where there is none."""
        if (self.folder / key).exists():
            _copy(self.folder / key, workspace / path)
        return (self.folder / key).exists()

    def save(self, workspace: Path, key: str, path: str) -> bool:
        """Keep a folder under a key; false where the key is taken or there is no folder."""
        if (self.folder / key).exists() or not (workspace / path).is_dir():
            return False
        _copy(workspace / path, self.folder / key)
        return True


def _copy(source: Path, target: Path) -> None:
    """A folder, or the link to one, as `.venv` is here."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        target.symlink_to(source.readlink())
    else:
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)


@dataclass(frozen=True)
class Repository:
    """A git repository that holds the working tree as the commit to run, on top of a base commit."""

    folder: Path
    base: str
    head: str
    merged: str  # what a pull request runs on: base and head as parents

    def checkout(self, workspace: Path, commit: str, depth: int) -> None:
        """As actions/checkout: a fresh clone at a commit, with so many commits of history; 0: all."""
        shutil.rmtree(workspace)
        workspace.mkdir()
        limit = [f"--depth={depth}"] if depth else ["+refs/heads/*:refs/remotes/origin/*"]
        _git(workspace, "init", "--quiet")
        _git(workspace, "fetch", "--quiet", f"file://{self.folder}", *limit, f"+{commit}:refs/rehearsal/head")
        _git(workspace, "checkout", "--quiet", "--detach", "refs/rehearsal/head")


def _git(folder: Path, *arguments: str) -> str:
    settings = ("user.name=rehearsal", "user.email=rehearsal@localhost", "commit.gpgsign=false",
                "core.hooksPath=/dev/null", "advice.detachedHead=false")  # fmt: skip
    command = ["git", *(part for setting in settings for part in ("-c", setting)), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def make_repository(source: Path, folder: Path, changed: Sequence[str]) -> Repository:
    """Everything in `source` that git would take, twice: the base lacks what the head has in `changed`."""
    for name in filter(None, _git(source, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")):
        if (source / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, folder / name)
    _git(folder, "init", "--quiet", "--initial-branch=main")
    _git(folder, "config", "uploadpack.allowAnySHA1InWant", "true")  # as GitHub's servers
    _git(folder, "add", "--all")
    tree = _git(folder, "write-tree").strip()
    _git(folder, "rm", "--quiet", "--cached", "--", *changed)
    base = _git(folder, "commit-tree", "-m", "base", _git(folder, "write-tree").strip()).strip()
    head = _git(folder, "commit-tree", "-m", "head", "-p", base, tree).strip()
    merged = _git(folder, "commit-tree", "-m", "merge", "-p", base, "-p", head, tree).strip()
    for reference, commit in {"heads/main": head, "pull/1/merge": merged}.items():
        _git(folder, "update-ref", f"refs/{reference}", commit)
    _git(folder, "reset", "--quiet")
    return Repository(folder, base, head, merged)
