"""What GitHub keeps between the jobs of a run: the repository, artifacts, caches. Nothing else travels."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shutil
import subprocess
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

RETENTION_DAYS = 90  # most that a public repository may ask for
_HIDDEN = re.compile(r"(?:^|/)\.[^./]")
_FORBIDDEN_IN_NAMES = '":<>|*?\r\n\\/'


class HubError(ValueError):
    """What the action would fail with."""


@dataclass
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
    lost: frozenset[str] = frozenset()  # uploads that never arrive, to rehearse that
    attempt: int = 1
    uploaded: list[Artifact] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)  # legs of a matrix upload at the same time

    @property
    def stored(self) -> dict[str, Artifact]:
        """What can be downloaded, by name: of several with one name the newest."""
        return {one.name: one for one in self.uploaded if one.name not in self.lost}

    def named(self, name: str) -> list[Artifact]:
        """All that can be downloaded under a name, those of earlier attempts too."""
        return [one for one in self.uploaded if one.name == name and name not in self.lost]

    def keep(self, artifact: Artifact) -> None:
        """Take over what a job of an earlier walk, or an earlier attempt, uploaded."""
        self.uploaded.append(artifact)

    def upload(
        self,
        workspace: Path,
        patterns: Sequence[str],
        *,
        name: str,
        archive: bool = True,
        if_no_files_found: str = "warn",
        retention_days: int = 0,
        overwrite: bool = False,
        include_hidden_files: bool = False,
        owner: str = "",
    ) -> Artifact | None:
        """As actions/upload-artifact v7; returns None where nothing was found and that is allowed.

        Raises:
            HubError: nothing found with `error`, a name that is taken or forbidden, several files without an archive,
                a retention out of range.
        """
        if if_no_files_found not in ("warn", "error", "ignore"):
            raise HubError(f"if-no-files-found must be warn, error or ignore, got {if_no_files_found!r}")
        if not 0 <= retention_days <= RETENTION_DAYS:
            raise HubError(f"retention-days must be 1 to {RETENTION_DAYS}, got {retention_days}")
        root, files = find_files(workspace, patterns, include_hidden_files)
        if not files:
            if if_no_files_found == "error":
                raise HubError(f"No files were found with the provided path: {', '.join(patterns)}")
            return None
        if not archive:
            if len(files) > 1:
                raise HubError(f"with archive: false a single file can be uploaded; found {len(files)}")
            name = files[0].name  # the given one is ignored
        artifact = self._reserved(name, archive, owner, overwrite)
        artifact.path.parent.mkdir(parents=True, exist_ok=True)
        if archive:
            with zipfile.ZipFile(artifact.path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
                for file in files:
                    inside = file.relative_to(root).as_posix()
                    if re.search(r'[":<>|*?\r\n]', inside):
                        raise HubError(f"the path of {inside!r} has a character that artifacts may not have")
                    target.write(file, inside)
        else:
            shutil.copyfile(files[0], artifact.path)
        return artifact

    def _reserved(self, name: str, archive: bool, owner: str, overwrite: bool) -> Artifact:
        """A place for an upload, if its name is free; `overwrite` deletes the newest of that name."""
        bad = [character for character in _FORBIDDEN_IN_NAMES if character in name]
        if bad or not name:
            raise HubError(f"the artifact name {name!r} is empty or has a character that GitHub forbids: {bad}")
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

    def download(
        self, target: Path, *, name: str = "", pattern: str = "", merge_multiple: bool = False
    ) -> list[Artifact]:
        """As actions/download-artifact v8. Returns what was downloaded.

        A pattern that matches exactly one artifact puts its files straight into `target`, as if it were named; with
        several, each gets a folder. A pattern that matches none is no error.

        Raises:
            HubError: there is no artifact of that name.
        """
        if name:
            if name not in self.stored:
                raise HubError(f"Unable to download artifact(s): Artifact not found for name: {name}")
            chosen = [self.stored[name]]
        else:
            if re.search(r"[{}()!\[\]]", pattern):
                raise HubError(f"the rehearsal reads only * and ? in patterns, not {pattern!r}")
            chosen = [one for key, one in self.stored.items() if not pattern or fnmatchcase(key, pattern)]
        target.mkdir(parents=True, exist_ok=True)
        for artifact in chosen:
            place = target if merge_multiple or len(chosen) == 1 else target / artifact.name
            place.mkdir(parents=True, exist_ok=True)
            if artifact.archived:
                with zipfile.ZipFile(artifact.path) as source:
                    source.extractall(place)
            else:
                shutil.copyfile(artifact.path, place / artifact.name)
        return chosen


def find_files(workspace: Path, patterns: Sequence[str], include_hidden: bool) -> tuple[Path, list[Path]]:
    """The root of an artifact, and its files, for paths, globs and `!` exclusions as upload-artifact reads them.

    The root is the folder given, the part before the first wildcard, or what several paths have in common.
    """
    searched: list[Path] = []
    found: dict[Path, None] = {}
    excluded: set[Path] = set()
    for pattern in (line.strip() for line in patterns):
        if not pattern:
            continue
        absolute = os.path.join(workspace, pattern.removeprefix("!"))
        matches = {
            file
            for match in glob.glob(absolute, recursive=True, include_hidden=True)
            for file in ([Path(match)] if os.path.isfile(match) else Path(match).rglob("*"))
            if file.is_file()
        }
        if pattern.startswith("!"):
            excluded |= matches
            continue
        parts = PurePosixPath(absolute).parts
        fixed = next((index for index, part in enumerate(parts) if re.search(r"[*?\[]", part)), len(parts))
        searched.append(Path(*parts[:fixed]))
        found.update(dict.fromkeys(sorted(matches)))
    files = [file for file in found if file not in excluded]
    if not include_hidden:
        files = [file for file in files if not _HIDDEN.search(os.path.relpath(file, workspace))]
    if not searched:
        raise HubError("upload-artifact needs a path")
    if len(searched) > 1:
        return Path(os.path.commonpath(searched)), files
    return (searched[0].parent if searched[0].is_file() else searched[0]), files


@dataclass
class Caches:
    """Caches by key; a key is written once, as at GitHub."""

    folder: Path
    lock: threading.Lock = field(default_factory=threading.Lock)

    def _place(self, key: str, paths: Sequence[str]) -> Path:
        if not key or len(key) > 512 or "," in key:
            raise HubError(f"a cache key has 1 to 512 characters and no comma: {key!r}")
        version = hashlib.sha256("\n".join(paths).encode()).hexdigest()[:8]  # other paths are another cache
        return self.folder / version / key.replace("/", "%2F")

    def restore(self, workspace: Path, key: str, paths: Sequence[str], prefixes: Sequence[str]) -> str:
        """Bring back the files of `key`, or of the newest key that a prefix begins; returns the key, or nothing."""
        exact = self._place(key, paths)
        places = [exact] if exact.exists() else []
        for prefix in prefixes:
            stored = sorted(exact.parent.glob("*"), key=lambda path: -path.stat().st_mtime)
            places += [path for path in stored if path.name.startswith(prefix.replace("/", "%2F"))]
        if not places:
            return ""
        for path in paths:
            source, target = places[0] / path, workspace / path
            if source.exists() or source.is_symlink():
                _copy(source, target)
        return places[0].name.replace("%2F", "/")

    def save(self, workspace: Path, key: str, paths: Sequence[str]) -> bool:
        """Keep the files under `key`; false where the key is taken or there is nothing."""
        place = self._place(key, paths)
        there = [path for path in paths if (workspace / path).exists()]
        with self.lock:
            if place.exists() or not there:
                return False
            place.mkdir(parents=True)
            for path in there:
                _copy(workspace / path, place / path)
        return True


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        target.unlink(missing_ok=True)
        target.symlink_to(os.readlink(source))
    elif source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)


@dataclass(frozen=True)
class Repository:
    """A git repository that holds the working tree as the commit to run, on top of a base commit."""

    folder: Path
    base: str
    head: str
    merged: str  # what a pull request runs on: base and head as parents


def make_repository(source: Path, folder: Path, changed: Sequence[str]) -> Repository:
    """Everything in `source` that git would take, twice: the base lacks what the head has in `changed`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=source, capture_output=True, check=True,
    )  # fmt: skip
    folder.mkdir(parents=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (source / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, folder / name)

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=rehearsal", "-c", "user.email=rehearsal@localhost", "-c", "commit.gpgsign=false"]
        ran = subprocess.run(
            ["git", *who, "-c", "core.hooksPath=/dev/null", *arguments],
            cwd=folder, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return ran.stdout.strip()

    git("init", "--quiet", "--initial-branch=main")
    git("config", "uploadpack.allowAnySHA1InWant", "true")  # as GitHub's servers
    git("add", "--all")
    tree = git("write-tree")
    for name in changed:
        if not (folder / name).exists():
            raise HubError(f"{name!r}, which is said to have changed, is no file of the project")
    if changed:
        git("rm", "--quiet", "--cached", "--", *changed)
    base = git("commit-tree", "-m", "base", git("write-tree"))
    head = git("commit-tree", "-m", "head", "-p", base, tree)
    merged = git("commit-tree", "-m", "merge", "-p", base, "-p", head, tree)
    git("update-ref", "refs/heads/main", head)
    git("update-ref", "refs/heads/base", base)
    git("update-ref", "refs/pull/1/merge", merged)
    git("reset", "--quiet")
    return Repository(folder, base, head, merged)
