"""The runner's own protocols: workflow commands, output files, the page of a run. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lib.errors import UserError

MAX_ANNOTATIONS = 10  # of each kind that GitHub shows from one step


def on_github(environ: Mapping[str, str]) -> bool:
    """True in a job of GitHub Actions."""
    return environ.get("GITHUB_ACTIONS") == "true"


def command(kind: str, message: str, **properties: object) -> str:
    """A workflow command such as `::error file=a.ipynb,line=3::text`, with everything escaped as the runner reads it.

    Properties with an empty value are left out.
    """
    listed = ",".join(
        f"{name}={_property(str(value))}" for name, value in properties.items() if value not in ("", None)
    )
    return f"::{kind}{' ' + listed if listed else ''}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def shown(commands: list[str], kind: str) -> list[str]:
    """Annotations of one kind, no more than GitHub shows; the last one says how many there are beside them."""
    if len(commands) <= MAX_ANNOTATIONS:
        return commands
    more = len(commands) - MAX_ANNOTATIONS + 1
    return [*commands[: MAX_ANNOTATIONS - 1], command(kind, f"{more} more in the summary of this run and in its log")]


def write_outputs(values: Mapping[str, str], environ: Mapping[str, str]) -> None:
    """Show outputs of a step and add them to `$GITHUB_OUTPUT` where there is one.

    Raises:
        UserError: a value has a line break, with which it could set other outputs.
    """
    if broken := [name for name, value in values.items() if "\n" in value or "\r" in value]:
        raise UserError(f"the output {broken[0]} has a line break: {values[broken[0]]!r}; give one line")
    lines = "".join(f"{name}={value}\n" for name, value in values.items())
    print(lines, end="")
    if target := environ.get("GITHUB_OUTPUT", ""):
        with Path(target).open("a", encoding="utf-8") as file:
            file.write(lines)


def run_url(environ: Mapping[str, str]) -> str:
    """Address of the page of this workflow run, or an empty string elsewhere."""
    server, repository, run = (environ.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
    return f"{server}/{repository}/actions/runs/{run}" if server and repository and run else ""
