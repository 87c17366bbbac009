"""What a step says to GitHub: the files behind GITHUB_OUTPUT and the like, and `::commands::` on standard output."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FILES = ("GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_PATH", "GITHUB_STEP_SUMMARY", "GITHUB_STATE")
SUMMARY_LIMIT = 1024 * 1024  # bytes of one step's summary; GitHub drops a larger one
OUTPUT_LIMIT = 1024 * 1024  # bytes of one job's outputs
FORBIDDEN_ENV = re.compile(r"GITHUB_\w+|RUNNER_\w+|NODE_OPTIONS", re.IGNORECASE)


class CommandFileError(ValueError):
    """Content that GitHub refuses; the step fails with it."""


def make_files(folder: Path) -> dict[str, str]:
    """Fresh empty files for one step, as environment variables."""
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).touch()
    return {name: str(folder / name) for name in FILES}


def read_pairs(path: Path) -> dict[str, str]:
    """`name=value` lines and `name<<DELIMITER` blocks.

    Raises:
        CommandFileError: a line is neither, or a block is not closed.
    """
    pairs: dict[str, str] = {}
    lines = path.read_text().split("\n")
    while lines:
        line = lines.pop(0).rstrip("\r")
        if not line:
            continue
        equals, heredoc = line.find("="), line.find("<<")
        if equals >= 0 and (heredoc < 0 or equals < heredoc):
            name, value = line.split("=", 1)
        elif heredoc >= 0:
            name, delimiter = line.split("<<", 1)
            if not delimiter:
                raise CommandFileError(f"{path.name}: a block without a delimiter: {line!r}")
            content: list[str] = []
            while True:
                if not lines:
                    raise CommandFileError(f"{path.name}: the block {name!r} is not closed by {delimiter!r}")
                inner = lines.pop(0)
                if inner.rstrip("\r") == delimiter:
                    break
                content.append(inner)
            value = "\n".join(content)
        else:
            raise CommandFileError(f"{path.name}: invalid format {line!r}")
        if not name:
            raise CommandFileError(f"{path.name}: a value without a name: {line!r}")
        pairs[name] = value
    return pairs


def read_env(path: Path) -> dict[str, str]:
    """Variables for the steps that follow; GitHub's own may not be set."""
    pairs = read_pairs(path)
    for name in pairs:
        if FORBIDDEN_ENV.fullmatch(name):
            raise CommandFileError(f"GITHUB_ENV may not set {name}")
    return pairs


@dataclass(frozen=True)
class Annotation:
    """An `::error::`, `::warning::` or `::notice::`, unescaped."""

    level: str
    message: str
    properties: dict[str, str]


_COMMAND = re.compile(r"^::(?P<name>[\w-]+)(?: (?P<properties>[^\n]*?))?::(?P<message>.*)$")
_REMOVED = {"set-output", "save-state", "set-env", "add-path"}


def read_annotations(output: str) -> list[Annotation]:
    """Annotations in what a step printed.

    Raises:
        CommandFileError: a command that GitHub has removed, such as `::set-output::`.
    """
    found: list[Annotation] = []
    stopped = ""
    for line in output.splitlines():
        match = _COMMAND.match(line.lstrip())
        if match is None:
            continue
        name = match["name"]
        if stopped or name == "stop-commands":
            stopped = "" if name == stopped else stopped or match["message"]
            continue
        if name in _REMOVED:
            raise CommandFileError(f"::{name}:: was removed from GitHub; use the command files")
        if name in ("error", "warning", "notice"):
            properties = dict(part.split("=", 1) for part in (match["properties"] or "").split(",") if "=" in part)
            found.append(
                Annotation(
                    name,
                    _unescape(match["message"]),
                    {key.strip(): _unescape(value, True) for key, value in properties.items()},
                )
            )
    return found


def _unescape(text: str, is_property: bool = False) -> str:
    pairs = [("%0D", "\r"), ("%0A", "\n")] + ([("%3A", ":"), ("%2C", ",")] if is_property else [])
    for escaped, plain in pairs:
        text = text.replace(escaped, plain)
    return text.replace("%25", "%")
