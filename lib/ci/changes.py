"""Does a change need the series to run? Standard library only: this is the first job, before anything is installed.

The filter lives here and not under `on:` of the workflow: a workflow that a path filter skips reports nothing, and a
required check that reports nothing blocks a pull request for ever.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from lib.files import PROJECT_ROOT

# What can change without the notebooks, their pages or a test of them changing. Everything else runs the series: a file
# of an unforeseen kind costs runner time, never a missed fault. Nothing below .github belongs here: the job
# that is skipped is also the one that looks at the security of the workflows.
WITHOUT_EFFECT = (
    "docs/*",  # pictures and measured outcomes for readers
    "*.md",
    "LICENSE",
    "CITATION.cff",
    ".gitignore",
)


def must_run(paths: Iterable[str]) -> bool:
    """True if any of the changed files may matter; no file at all changes nothing.

    Args:
        paths: relative to the project, with forward slashes, as `git diff --name-only` prints them.
    """
    return any(not any(fnmatchcase(path, pattern) for pattern in WITHOUT_EFFECT) for path in paths)


def touched_backends(paths: Iterable[str], root: Path = PROJECT_ROOT) -> list[str]:
    """The backends whose own files are all that a change touches, beside files without effect.

    Returns:
        Names, as a file names its backend; empty where anything else changed: a file that is gone, or one that others
        import, as the reference's. Everything runs then.
    """
    names = []
    for path in paths:
        if not must_run([path]):
            continue
        file = re.fullmatch(r"lib/backends/([a-z][a-z0-9_]*)\.py", path)
        if file is None or not (root / path).is_file() or _is_imported(file[1], root):
            return []
        names.append(file[1].replace("_", "-"))
    return names


def _is_imported(module: str, root: Path) -> bool:
    """Whether code of the project names a module of the backends."""
    named = re.compile(rf"lib\.backends\.{module}\b|from lib\.backends import\b[\s\w,(]*\b{module}\b")
    files = [*(root / "lib").rglob("*.py"), *(root / "notebooks").glob("*.ipynb")]
    return any(named.search(file.read_text(encoding="utf-8")) for file in files)


def base_commit(environ: Mapping[str, str]) -> str:
    """The commit that an event asks to compare with; empty where it names none, as a schedule does.

    Args:
        environ: GITHUB_EVENT_NAME, and GITHUB_EVENT_PATH, a file in which GitHub describes the event.
    """
    name = environ.get("GITHUB_EVENT_NAME", "")
    if name == "pull_request":
        return "HEAD^1"  # it is checked out merged: the first parent is the base
    try:
        event = json.loads(Path(environ.get("GITHUB_EVENT_PATH", "")).read_bytes())
        base = event["merge_group"]["base_sha"] if name == "merge_group" else event["before"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return base if isinstance(base, str) else ""


def changed_files(base: str, root: Path = PROJECT_ROOT) -> list[str] | None:
    """Files that differ between a commit and the checked-out one, deleted and renamed ones too.

    Args:
        base: a commit, such as `HEAD^1` or what the push event calls `before`.

    Returns:
        None where that is not known: no base, a commit that a forced push took away, no checkout.
    """
    found = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{base}^{{commit}}")
    if found is None:
        return None
    listed = _git(root, "diff", "--name-only", "--no-renames", "-z", found.strip(), "HEAD", "--")
    return None if listed is None else [path for path in listed.split("\0") if path]


def same_code(commit: str, root: Path = PROJECT_ROOT) -> bool:
    """True if the checked-out commit differs from another one at most by files without effect."""
    changed = changed_files(commit, root)
    return changed is not None and not must_run(changed)


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="surrogateescape")
