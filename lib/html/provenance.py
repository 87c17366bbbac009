"""Where a page comes from: what ran, on which code, data and network, where, when, and with which parameters.

The notebook's own description of its run (`lib.series.notebook`) is in the metadata of an output, so that it is there
also where a run broke before it wrote its record. Whatever is not known is left out or says so; nothing is guessed.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any

import pydantic
from markupsafe import Markup

from lib.html.frame import safe
from lib.records.schema import BenchmarkRecord, Environment, ExploreRecord, Record
from lib.report import NOTE_VARIABLE, RUN_METADATA
from lib.report.words import duration, size

if TYPE_CHECKING:  # a notebook that only describes itself need not wait a second for this import
    from nbformat import NotebookNode

SHORT_HASH = 12  # characters
_SERVER = re.compile(r"https://[A-Za-z0-9.-]+(:\d+)?")
_REPOSITORY = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_HOSTED = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_SHA", NOTE_VARIABLE)
_ENVIRONMENT = pydantic.TypeAdapter(Environment)


@dataclass(frozen=True)
class Fact:
    """One line of the block on top of a page."""

    name: str
    value: Markup


@dataclass
class Origin:
    """What is known about a run, from whichever place knows it."""

    notebook: str
    backend: str
    parameters: dict[str, Any]
    defaults: dict[str, Any]
    environment: Environment | None
    started: str
    seconds: float | None
    hosted: dict[str, str] = field(default_factory=dict)  # as `hosted` gives it
    record: Record | None = None

    @property
    def is_smoke(self) -> bool:
        return self.parameters.get("profile") == "smoke" or (self.record is not None and self.record.profile == "smoke")

    @property
    def note(self) -> str:
        return self.hosted.get("note", "")


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


def run_metadata(notebook: str, parameters: Mapping[str, Any], environment: Mapping[str, Any], started: str) -> Any:
    """What the notebook's description of its run carries for the page, as metadata of its HTML output."""
    content = {
        "notebook": notebook,
        "parameters": dict(parameters),
        "environment": dict(environment),
        "started": started,
        "hosted": {name: os.environ[name] for name in _HOSTED if name in os.environ},
    }
    return {RUN_METADATA: content}


def _described(notebook: NotebookNode) -> dict[str, Any]:
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            metadata = output.get("metadata", {}).get("text/html", {})
            if isinstance(metadata, dict) and isinstance(metadata.get(RUN_METADATA), dict):
                return dict(metadata[RUN_METADATA])
    return {}


def _defaults(notebook: NotebookNode) -> dict[str, Any]:
    """Names and literals of the parameters cell."""
    values: dict[str, Any] = {}
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
                for statement in ast.parse(cell.source).body:
                    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                        values[statement.target.id] = ast.literal_eval(statement.value or "")
    return values


def _environment(given: Any) -> Environment | None:
    try:
        return _ENVIRONMENT.validate_python(given)
    except pydantic.ValidationError:
        return None


def origin_of(notebook: NotebookNode, record: Record | None, title: str) -> Origin:
    """Gather what the notebook, its record and the variables of a hosted run say; the first two come first."""
    described = _described(notebook)
    papermill = _dictionary(notebook.metadata.get("papermill"))
    defaults = _defaults(notebook)
    parameters = {**defaults, **_dictionary(papermill.get("parameters")), **_dictionary(described.get("parameters"))}
    seconds = papermill.get("duration")
    if record is not None:
        parameters |= record.params
        seconds = seconds or record.duration_s
    label, _, backend = title.partition(".")
    return Origin(
        notebook=str(described.get("notebook") or label),
        backend=record.backend if isinstance(record, BenchmarkRecord) else str(parameters.get("backend") or backend),
        parameters=parameters,
        defaults=defaults,
        environment=record.environment if record is not None else _environment(described.get("environment")),
        started=str(papermill.get("start_time") or described.get("started") or (record.started if record else "")),
        seconds=seconds if isinstance(seconds, int | float) else None,
        hosted=_hosted_of(described),
        record=record,
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
    environment, record = origin.environment, origin.record
    profile = origin.parameters.get("profile") or (record.profile if record is not None else "")
    parts = [
        origin.notebook + (f", {origin.backend}" if origin.backend else ""),
        f"profile {profile}" if profile else "",
    ]
    if record is not None and record.data is not None:
        parts.append(record.data.source)
    if environment is not None:
        parts += [environment.cpu_model or "unknown CPU", f"{environment.num_threads} threads"]
    parts.append(when(origin.started))
    return " · ".join(part for part in parts if part)


def facts_of(origin: Origin) -> list[Fact]:
    """The lines of the block, in the order in which a reader asks."""
    record, environment = origin.record, origin.environment
    what = origin.notebook + (f", backend {origin.backend}" if origin.backend else "")
    facts = [("What ran", escape(what)), ("Commit", _commit(origin))]
    if origin.hosted.get("run"):
        run_id = origin.hosted["run"].rpartition("/")[2]
        facts.append(("Run", f'<a href="{escape(origin.hosted["run"])}">{escape(run_id)} on GitHub</a>'))
    facts += _parameters(origin)
    if record is not None and record.data is not None:
        counts = ", ".join(f"{count:,} {split}" for split, count in record.data.num_images.items())
        facts.append(
            ("Data", f"{escape(record.data.source)}: {escape(counts)} images; {_hash(record.data.manifest_hash)}")
        )
    if record is not None and not isinstance(record, ExploreRecord):
        facts.append(("Checkpoint", _hash(record.checkpoint_sha256)))
    if environment is not None:
        versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
        facts += [("Machine", escape(_machine(environment))), ("Versions", escape(versions))]
    facts.append(("Started", escape(when(origin.started))))
    facts.append(("Duration", duration(origin.seconds) if origin.seconds is not None else ""))
    return [Fact(name, safe(value)) for name, value in facts if value]


def _commit(origin: Origin) -> str:
    known = origin.environment.git_commit if origin.environment is not None else None
    commit = (known or origin.hosted.get("commit") or "").strip()
    plain = commit.removesuffix("+")
    if not plain:
        return "unknown (not a git checkout)"
    text = f"<code>{escape(plain[:SHORT_HASH])}</code>"
    if _COMMIT.fullmatch(plain) and origin.hosted.get("repository"):
        text = f'<a href="{escape(origin.hosted["repository"])}/commit/{plain}">{text}</a>'
    return text + (" with changes since" if commit.endswith("+") else "")


def _parameters(origin: Origin) -> list[tuple[str, str]]:
    """Changed ones with their default, then the others."""
    changed, others = [], []
    for name, value in origin.parameters.items():
        shown = f"<code>{escape(str(name))}</code>&nbsp;= "
        if name in origin.defaults and origin.defaults[name] == value:
            others.append(shown + escape(repr(value)))
        else:
            default = f" (default {escape(repr(origin.defaults[name]))})" if name in origin.defaults else ""
            changed.append(f"{shown}<b>{escape(repr(value))}</b>{default}")
    found = [("Parameters changed", _list(changed) or "none")] if origin.parameters else []
    return [*found, *([("Others, as by default", _list(others))] if others else [])]


def _list(items: list[str]) -> str:
    return "; ".join(f"<span>{item}</span>" for item in items)


def _hash(sha256: str | None) -> str:
    return f'SHA-256 <code class="r-hash">{escape(sha256)}</code>' if sha256 else "unknown"


def _machine(environment: Environment) -> str:
    parts = [
        f"{environment.cpu_model or 'unknown CPU'} ({environment.architecture})",
        f"{environment.num_threads} threads on {environment.num_cores} cores",
        size(environment.memory_bytes) + " memory" if environment.memory_bytes is not None else "",
        f"kernel {environment.kernel}",
        f"BLAS {environment.blas}" if environment.blas else "",
        f"oneDNN {environment.onednn}" + (" with the Arm Compute Library" if environment.acl else "")
        if environment.onednn
        else "",
        "EMULATED: times mean nothing" if environment.emulated else "",
    ]
    return ", ".join(part for part in parts if part)


def when(text: str) -> str:
    """An ISO 8601 time as a page shows it; empty where it is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return ""
    found = found if found.tzinfo is None else found.astimezone(UTC)
    return found.strftime("%d %b %Y, %H:%M UTC")
