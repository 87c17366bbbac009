"""Finding and listing image files as people have them: in upper or lower case, one level up or down, with leftovers."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from lib.errors import UserError

GET_DATA = "fetch it with `python -m lib data get`"
_LEFTOVERS = ("__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir")  # of macOS, Windows and Synology; others are hidden


class Listed(NamedTuple):
    """One file as the folder lists it."""

    file: str
    size: int  # bytes
    # Of content and entry: a program that replaces a file may keep the first, as `cp -p` and `rsync -t` do, but not the
    # second. An inode would add nothing, and network folders number theirs anew.
    times_ns: tuple[int, int]


def listed(path: str | Path) -> Listed:
    """One file.

    Raises:
        OSError: it cannot be read.
    """
    status = os.stat(path)
    return Listed(str(path), status.st_size, (status.st_mtime_ns, status.st_ctime_ns))


def fingerprint(files: Iterable[Listed]) -> str:
    """A quick hash over names, sizes and times: while it is equal, the files are unchanged."""
    lines = (f"{file.file}\0{file.size}\0{file.times_ns}\n" for file in files)
    return hashlib.sha256(os.fsencode("".join(lines))).hexdigest()


def visible(folder: Path) -> list[os.DirEntry[str]]:
    """What people see in a folder, by name: no `._NAME` files of macOS, and no leftovers of file managers.

    Raises:
        OSError: it is not a folder, or cannot be read.
    """
    with os.scandir(folder) as entries:
        seen = [entry for entry in entries if not entry.name.startswith(".") and entry.name not in _LEFTOVERS]
    return sorted(seen, key=lambda entry: entry.name)


def visible_if_any(path: Path) -> list[os.DirEntry[str]]:
    """The same of what may be a file, not there or not readable: then nothing."""
    try:
        return visible(path)
    except OSError:
        return []


def scan(folder: Path, suffix: str) -> list[Listed]:
    """The files of one folder with this suffix in upper or lower case, by name; empty if the folder does not exist."""
    entries = visible(folder) if folder.is_dir() else []
    return [listed(entry.path) for entry in entries if entry.name.lower().endswith(suffix) and entry.is_file()]


def below(folder: Path, path: PurePosixPath) -> Path | None:
    """`folder / path` in upper or lower case; None where it is not there."""
    for name in path.parts:
        if not os.path.exists(folder / name):
            alike = [entry.name for entry in visible_if_any(folder) if entry.name.lower() == name.lower()]
            if not alike:
                return None
            name = alike[0]
        folder /= name
    return folder


def bases(root: Path, wanted: PurePosixPath) -> Iterator[list[Path]]:
    """Folders that may hold `wanted`: those for a `root` at any level of its path, then those one level down."""

    def inside(folder: Path) -> list[Path]:
        return [folder, *filter(None, [below(folder, PurePosixPath("gtsrb"))])]

    names, levels = ([part.lower() for part in path.parts] for path in (root, wanted))
    above = [root.parents[depth - 1] for depth in range(1, len(levels) + 1) if names[-depth:] == levels[:depth]]
    yield [*inside(root), *above]
    folders = [Path(entry.path) for outer in inside(root) for entry in visible_if_any(outer) if entry.is_dir()]
    yield [base for folder in folders for base in inside(folder)]


def only(root: Path, what: str, found: Iterable[Path | None]) -> Path | None:
    """The one that was found, or None.

    Raises:
        UserError: there are several.
    """
    places = {os.path.realpath(path): path for path in found if path is not None}
    if len(places) > 1:
        named = " and ".join(str(path) for path in places.values())
        raise UserError(f"{root} holds {what} twice: {named}; point data_root at one")
    return next(iter(places.values()), None)


def some(names: Iterable[str]) -> str:
    """At most three names, fit for a terminal, and how many more."""
    ordered = [name.encode("unicode_escape").decode() for name in sorted(names)]
    return ", ".join(ordered[:3]) + (f" and {len(ordered) - 3} more" if len(ordered) > 3 else "")


def contents(folder: Path) -> str:
    """What is in a folder, in words.

    Raises:
        UserError: it cannot be read.
    """
    try:
        names = [entry.name + "/" * entry.is_dir() for entry in visible(folder)]
    except OSError as error:
        raise UserError(f"cannot read {folder}: {error.strerror}") from None
    return f"it has {some(names)}" if names else "it is empty"


def read_labels(file: Path | str, name_column: str, delimiter: str) -> list[tuple[str, int]]:
    """(name of an image, class id) per row of a csv with a column `ClassId`.

    Raises:
        UserError: it cannot be read, a column is missing, or a row is damaged.
    """
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
        rows = [row for row in csv.reader(text.splitlines(), delimiter=delimiter, skipinitialspace=True) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} is not a readable csv ({error}); unpack the data again") from None
    header = [name.strip() for name in rows[0]] if rows else []
    if not {name_column, "ClassId"} <= set(header):
        raise UserError(
            f"{file} has no columns {name_column} and ClassId, separated by {delimiter!r}; unpack the data again"
        )
    names, classes = header.index(name_column), header.index("ClassId")
    labels = []
    for number, row in enumerate(rows[1:], start=2):
        try:
            if len(row) != len(header):
                raise ValueError
            labels.append((row[names].strip(), int(row[classes])))
        except ValueError:
            raise UserError(f"{file}, row {number}, is cut off or damaged: {';'.join(row)[:80]!r}") from None
    return labels


class Labelled(NamedTuple):
    """One image that a csv names."""

    file: str
    name: re.Match[str]  # of the pattern that all names have
    label: int


def match(
    csv_file: str, labels: list[tuple[str, int]], images: Mapping[str, Listed], pattern: str, num_classes: int
) -> list[Labelled]:
    """Rows of a csv joined with the files: exactly the same names on both sides.

    Args:
        images: by the name that the csv should give them.
        pattern: that names must match.

    Raises:
        UserError: names that are missing, too many, twice or of another kind, or a class that does not exist.
    """
    named = dict(labels)
    if len(named) < len(labels):
        raise UserError(f"{csv_file} names a file twice; unpack the data again")
    if missing := named.keys() - images.keys():
        raise UserError(
            f"{csv_file} names files that are not there: {some(missing)}; "
            f"the data are half unpacked, {GET_DATA} or unpack them again"
        )
    if extra := images.keys() - named.keys():
        raise UserError(f"{csv_file} does not name these files beside it: {some(extra)}; unpack the data again")
    found = []
    for name, label in labels:
        matched = re.fullmatch(pattern, name)
        if matched is None:
            raise UserError(f"{images[name].file} is not named as the images of this data set are")
        if not 0 <= label < num_classes:
            raise UserError(f"{csv_file} gives class {label} to {name}; classes are 0 to {num_classes - 1}")
        found.append(Labelled(images[name].file, matched, label))
    return found
