"""Where a page comes from: what ran, on which code, data and network, where, when, and with which parameters.

The notebook's own description of its run (`lib.series.notebook`) is in the metadata of an output, so that it is there
also where a run broke before it wrote its record. Whatever is not known is left out or says so; nothing is guessed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any

import pydantic
from markupsafe import Markup

from lib.html.frame import safe
from lib.records.schema import Record
from lib.report import NOTE_VARIABLE, RUN_METADATA
from lib.report.words import duration

if TYPE_CHECKING:  # a notebook that only describes itself need not wait a second for this import
    from nbformat import NotebookNode

SHORT_HASH = 12  # characters
_SERVER = re.compile(r"https://[A-Za-z0-9.-]+(:\d+)?")
_REPOSITORY = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_HOSTED = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_SHA", NOTE_VARIABLE)
_RECORD = pydantic.TypeAdapter(Record)


@dataclass(frozen=True)
class Origin:
    """What is known about a run.

    Attributes:
        what: the notebook, with its backend.
        record: that of the notebook; where it broke before it wrote one, what it had described of itself.
        hosted: as `hosted` gives it.
    """

    what: str
    record: Record | None
    seconds: float | None
    hosted: dict[str, str]


def hosted(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Where a hosted run and its code can be looked up, from GitHub's variables, and the note for readers.

    Only addresses of the known form pass: a notebook that keeps these variables may have been edited.

    Keys, each only where known: `repository` and `run` (https addresses), `commit`, `note`.
    """
    found: dict[str, str] = {}
    server, repository = environ.get("GITHUB_SERVER_URL", ""), environ.get("GITHUB_REPOSITORY", "")
    run_id, commit = environ.get("GITHUB_RUN_ID", ""), environ.get("GITHUB_SHA", "")
    if _SERVER.fullmatch(server) and _REPOSITORY.fullmatch(repository):
        found["repository"] = f"{server}/{repository}"
        if run_id.isdecimal() and run_id.isascii():
            found["run"] = f"{server}/{repository}/actions/runs/{run_id}"
    if _COMMIT.fullmatch(commit):
        found["commit"] = commit
    if note := " ".join(environ.get(NOTE_VARIABLE, "").split()):
        found["note"] = note
    return found


def run_metadata(notebook: str, common: Mapping[str, Any]) -> Any:
    """What the notebook's description of its run carries for the page, as metadata of its HTML output.

    Args:
        common: the fields that every record has, as JSON takes them.
    """
    hosted = {name: os.environ[name] for name in _HOSTED if name in os.environ}
    return {RUN_METADATA: {"notebook": notebook, "record": {"kind": "", **common}, "hosted": hosted}}


def _described(notebook: NotebookNode) -> dict[str, Any]:
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            metadata = output.get("metadata", {}).get("text/html", {})
            if isinstance(metadata, dict) and isinstance(metadata.get(RUN_METADATA), dict):
                return dict(metadata[RUN_METADATA])
    return {}


def _record_in(described: Mapping[str, Any]) -> Record | None:
    try:
        return _RECORD.validate_python(described.get("record"))
    except pydantic.ValidationError:
        return None


def origin_of(notebook: NotebookNode, record: Record | None, title: str) -> Origin:
    """Gather what the notebook, its record and the variables of a hosted run say; the first two come first."""
    described = _described(notebook)
    record = record or _record_in(described)
    label, _, backend = title.partition(".")
    if record is not None:
        backend = getattr(record, "backend", None) or str(record.params.get("backend", backend))
    seconds = _dictionary(notebook.metadata.get("papermill")).get("duration") or (record and record.duration_s)
    name = str(described.get("notebook") or label)
    return Origin(
        what=f"{name}, {backend}" if backend else name,
        record=record,
        seconds=seconds if isinstance(seconds, int | float) else None,
        hosted=_hosted_of(described),
    )


def _dictionary(given: Any) -> dict[str, Any]:
    return dict(given) if isinstance(given, dict) else {}


def _hosted_of(described: dict[str, Any]) -> dict[str, str]:
    """A page may be made again elsewhere than where its notebook ran: the notebook knows better, but for the note."""
    here = hosted()
    if not described:
        return here
    kept = {name: value for name, value in _dictionary(described.get("hosted")).items() if isinstance(value, str)}
    return {**({"note": here["note"]} if "note" in here else {}), **hosted(kept)}


def line_of(origin: Origin) -> str:
    """The most important of the facts in a line: a page folds the others behind it."""
    parts, record = [origin.what], origin.record
    if record is not None:
        machine = record.environment
        profile = record.params.get("profile") or (record.profile if record.kind else "")
        parts += [f"profile {profile}" if profile else "", record.data.source if record.data is not None else ""]
        parts += [machine.cpu_model or "unknown CPU", f"{machine.num_threads} threads", when(record.started)]
    return " · ".join(part for part in parts if part)


def facts_of(origin: Origin) -> list[tuple[str, Markup]]:
    """Names and values, as a reader asks; parameters and machine are in the notebook's own tables."""
    record, address = origin.record, escape(origin.hosted.get("run", ""))
    facts = [
        ("What ran", escape(origin.what)),
        ("Commit", _commit(origin)),
        ("Run", f'<a href="{address}">{address.rpartition("/")[2]} on GitHub</a>' if address else ""),
    ]
    if record is not None and record.data is not None:
        counts = ", ".join(f"{count:,} {split}" for split, count in record.data.num_images.items())
        data = f"{escape(record.data.source)}: {escape(counts)} images; {_hash(record.data.manifest_hash)}"
        data += f", with extra training images {_hash(record.data.extra_hash)}" if record.data.extra_hash else ""
        facts.append(("Data", data))
    if record is not None:
        facts.append(("Checkpoint", _hash(record.checkpoint_sha256) if record.checkpoint_sha256 else ""))
        facts.append(("Started", when(record.started)))
    facts.append(("Duration", duration(origin.seconds) if origin.seconds is not None else ""))
    return [(name, safe(value)) for name, value in facts if value]


def _commit(origin: Origin) -> str:
    known = origin.record.environment.git_commit if origin.record is not None else None
    commit = known or origin.hosted.get("commit", "")
    plain = commit.removesuffix("+")
    if not plain:
        return "unknown (not a git checkout)"
    text = f"<code>{escape(plain[:SHORT_HASH])}</code>"
    if _COMMIT.fullmatch(plain) and origin.hosted.get("repository"):
        text = f'<a href="{escape(origin.hosted["repository"])}/commit/{plain}">{text}</a>'
    return text + (" with changes since" if commit.endswith("+") else "")


def _hash(sha256: str) -> str:
    return f'SHA-256 <code class="r-hash">{escape(sha256)}</code>'


def when(text: str) -> str:
    """An ISO 8601 time as a page shows it; empty where it is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return ""
    found = found if found.tzinfo is None else found.astimezone(UTC)
    return found.strftime("%d %b %Y, %H:%M UTC")
