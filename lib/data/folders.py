"""Finding and listing image files as people have them: in upper or lower case, one level up or down, with leftovers."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from lib.data.images import Box
from lib.errors import UserError

GET_DATA = "fetch it with `python -m lib data get`"
NUMBER = re.compile(r"\d{1,9}")  # in a csv
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


def _is_seen(name: str) -> bool:
    return not name.startswith(".") and name not in _LEFTOVERS


def visible(folder: Path) -> list[os.DirEntry[str]]:
    """What people see in a folder, by name: no `._NAME` files of macOS, and no leftovers of file managers.

    Raises:
        UserError: it is not a folder, or cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            seen = [entry for entry in entries if _is_seen(entry.name)]
    except OSError as error:
        raise UserError(f"cannot read {folder}: {error.strerror}") from None
    return sorted(seen, key=lambda entry: entry.name)


def scan(folder: Path, suffix: str) -> list[Listed]:
    """The files of one folder with this suffix in upper or lower case, by name; empty if the folder does not exist."""
    entries = visible(folder) if folder.is_dir() else []
    return [listed(entry.path) for entry in entries if entry.name.lower().endswith(suffix.lower()) and entry.is_file()]


def alike(path: PurePosixPath | str) -> str:
    """A pattern for `Path.glob` that finds a path in upper and in lower case."""
    return re.sub("[a-zA-Z]", lambda letter: f"[{letter[0].lower()}{letter[0].upper()}]", str(path))


def find(root: Path, wanted: PurePosixPath, what: str) -> Path | None:
    """A file or folder of a data set, as people have it; None where it is not there.

    `root` may be at any level of its path. Else it is searched in `root`, in `gtsrb/` there, and one folder further
    down, as archives may have been unpacked into a folder each.

    Raises:
        UserError: it is there twice.
    """
    names, levels = ([part.lower() for part in path.parts] for path in (root, wanted))
    above = [root.parents[depth - 1] for depth in range(1, len(levels) + 1) if names[-depth:] == levels[:depth]]
    pattern, home = alike(wanted), alike("gtsrb")
    near = [path for base in (root, *root.glob(home), *above) for path in base.glob(pattern)]
    found = [path for folder in ("*", f"*/{home}", f"{home}/*") for path in root.glob(f"{folder}/{pattern}")]
    further = [path for path in found if all(map(_is_seen, path.relative_to(root).parts))]
    for paths in (near, further):
        places = {os.path.realpath(path): path for path in paths}
        if len(places) > 1:
            named = " and ".join(map(str, places.values()))
            raise UserError(f"{root} holds {what} twice: {named}; point data_root at one")
        if places:
            return next(iter(places.values()))
    return None


def some(names: Iterable[str]) -> str:
    """At most three names, fit for a terminal, and how many more."""
    ordered = [name.encode("unicode_escape").decode() for name in sorted(names)]
    return ", ".join(ordered[:3]) + (f" and {len(ordered) - 3} more" if len(ordered) > 3 else "")


def contents(folder: Path) -> str:
    """What is in a folder, in words.

    Raises:
        UserError: it cannot be read.
    """
    names = [entry.name + "/" * entry.is_dir() for entry in visible(folder)]
    return f"it has {some(names)}" if names else "it is empty"


class Row(NamedTuple):
    """What a csv says about one image."""

    name: str
    label: int
    box: Box | None  # of the sign; None where the csv does not have it


def read_rows(file: Path | str, columns: Iterable[str], delimiter: str) -> list[dict[str, str]]:
    """The rows of a csv that has at least these columns.

    Raises:
        UserError: it cannot be read, a column is missing, or a row is too long or too short, or has no class id.
    """
    try:
        lines = Path(file).read_text(encoding="utf-8-sig").splitlines()
        reader = csv.DictReader(lines, delimiter=delimiter, skipinitialspace=True)
        rows, found = list(reader), reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} is not a readable csv ({error}); unpack the data again") from None
    if not {*columns} <= {*found}:
        named = " and ".join([", ".join([*columns][:-1]), [*columns][-1]])
        raise UserError(f"{file} has no columns {named}, separated by {delimiter!r}; unpack the data again")
    for number, row in enumerate(rows, start=2):
        if None in (*row, *row.values()) or not NUMBER.fullmatch(row["ClassId"]):
            raise UserError(f"{file}, row {number}, is cut off or damaged: {lines[number - 1][:80]!r}")
    return rows


def read_labels(file: Path | str, name_column: str, delimiter: str) -> list[Row]:
    """The rows of a csv with a column `ClassId`, and with those of the box of the sign as a rule.

    Raises:
        UserError: as `read_rows`
    """
    rows = read_rows(file, (name_column, "ClassId"), delimiter)
    return [Row(row[name_column], int(row["ClassId"]), _box_of(row)) for row in rows]


def _box_of(row: Mapping[str, str]) -> Box | None:
    """The corners are read as edges between pixels: so the official images have their 5 pixels around the sign on all
    four sides."""
    corners = [row.get(f"Roi.{corner}", "") for corner in ("X1", "Y1", "X2", "Y2")]
    if not all(map(str.isdecimal, corners)):
        return None
    left, top, right, bottom = map(float, corners)
    return left, top, right, bottom


class Labelled(NamedTuple):
    """One image that a csv names."""

    file: str
    name: re.Match[str]  # of the pattern that all names have
    label: int
    box: Box | None


def match(
    csv_file: str, labels: list[Row], images: Mapping[str, Listed], pattern: str, num_classes: int
) -> list[Labelled]:
    """Rows of a csv joined with the files: exactly the same names on both sides.

    Args:
        images: by the name that the csv should give them.
        pattern: that names must match.

    Raises:
        UserError: names that are missing, too many, twice or of another kind, or a class that does not exist.
    """
    named = {row.name: row for row in labels}
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
    for name, label, box in labels:
        matched = re.fullmatch(pattern, name)
        if matched is None:
            raise UserError(f"{images[name].file} is not named as the images of this data set are")
        if not 0 <= label < num_classes:
            raise UserError(f"{csv_file} gives class {label} to {name}; classes are 0 to {num_classes - 1}")
        found.append(Labelled(images[name].file, matched, label, box))
    return found
