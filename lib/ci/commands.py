"""`python -m lib ci ...` and `python -m lib gate`. Imports are lazy: `ci changes` runs on a Python without packages."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib.ci import RefusedError
from lib.ci.github import command, on_github, write_outputs
from lib.errors import UserError

OK, FAILED = 0, 1
_Function = Callable[[argparse.Namespace], int]


def _told(function: _Function) -> _Function:
    """Every bad end is one line, and on GitHub an annotation too."""

    @functools.wraps(function)
    def guarded(arguments: argparse.Namespace) -> int:
        try:
            return function(arguments)
        except (UserError, RefusedError) as error:
            if on_github(os.environ):
                print(command("error", str(error)), flush=True)
            if isinstance(error, UserError):
                raise
            print(f"error: {error}", file=sys.stderr)
            return FAILED

    return guarded


@_told
def _settings(_arguments: argparse.Namespace) -> int:
    from lib.ci.settings import settings

    write_outputs(settings(os.environ), os.environ)
    return OK


@_told
def _changes(arguments: argparse.Namespace) -> int:
    from lib.ci.changes import base_commit, changed_files, must_run

    if arguments.event:
        arguments.base = base_commit(os.environ)
    if arguments.base is None:
        text = Path(arguments.files).read_text(encoding="utf-8") if arguments.files else sys.stdin.read()
        run = must_run(text.splitlines())
    else:
        changed = changed_files(arguments.base)
        if changed is None:
            print(f"nobody knows what changed since {arguments.base!r}: everything runs")
        run = changed is None or must_run(changed)
    write_outputs({"run": str(run).lower()}, os.environ)
    return OK


@_told
def _data(arguments: argparse.Namespace) -> int:
    from lib.ci.official_images import fetch_images

    found = fetch_images(arguments.dataset, progress=lambda line: print(line, flush=True))
    if found["note"]:
        print(command("warning", found["note"], title="synthetic images"))
    write_outputs(found, os.environ)
    return OK


@_told
def _inputs(_arguments: argparse.Namespace) -> int:
    from lib.ci.inputs import inputs_yaml

    print(inputs_yaml(), end="")
    return OK


@_told
def _checkpoint(arguments: argparse.Namespace) -> int:
    from lib.ci.check import checkpoint_sha256, require_checkpoint

    if arguments.expect is None:
        write_outputs({"checkpoint_sha256": checkpoint_sha256(arguments.run_dir)}, os.environ)
    else:
        print(require_checkpoint(arguments.run_dir, arguments.expect))
    return OK


@_told
def _check(arguments: argparse.Namespace) -> int:
    from lib.ci.check import check_benchmark

    print(check_benchmark(arguments.run_dir, arguments.backend, arguments.checkpoint, arguments.blas))
    return OK


@_told
def _pages(arguments: argparse.Namespace) -> int:
    from lib.ci.pages import write_pages

    for path in write_pages(arguments.run_dir, arguments.arch, arguments.out, arguments.notebook, arguments.suffix):
        print(path)
    return OK


@_told
def _collect(arguments: argparse.Namespace) -> int:
    from lib.ci.collect import collect

    names = [name.strip() for name in arguments.expect_backends.split(",") if name.strip()]
    asked = {"checkpoint": arguments.checkpoint, "blas": arguments.blas}
    for line in collect(arguments.parts, arguments.out, names, **asked):
        print(line)
    return OK


@_told
def _summary(arguments: argparse.Namespace) -> int:
    from lib.ci.step_summary import summary

    print(summary(arguments.run_dir, os.environ, page_url=arguments.page_url, architecture=arguments.arch), end="")
    return OK


@_told
def _history(arguments: argparse.Namespace) -> int:
    from lib.ci.earlier import NoHistoryError, fetch_history

    try:
        for line in fetch_history(arguments.out, arguments.arch, os.environ):
            print(line, flush=True)
    except NoHistoryError as error:
        print(command("warning", f"04 is compared with no earlier run: {error}", title="no history"))
    return OK


@_told
def _suspects(arguments: argparse.Namespace) -> int:
    from lib.ci.suspects import suspects

    write_outputs({"suspects": suspects(arguments.run_dir)}, os.environ)
    return OK


@_told
def _annotate(arguments: argparse.Namespace) -> int:
    from lib.ci.annotate import annotate_run

    for line in annotate_run(arguments.run_dir):
        print(line)
    return OK


@_told
def _gate(arguments: argparse.Namespace) -> int:
    from lib.ci.gate import judge_run
    from lib.ci.publish import keep_verdict, reason_against
    from lib.ci.step_summary import append_summary, gate_section
    from lib.ci.verdicts import verdict_annotations, verdict_table

    verdicts = judge_run(arguments.run_dir, arguments.limits, arguments.needs)
    print(verdict_table(verdicts))
    if arguments.needs:
        why_not = reason_against(verdicts, arguments.needs, os.environ)
        print(f"pages are not published: {why_not}" if why_not else "pages are published, with this verdict on them")
        write_outputs({"publish": str(not why_not).lower()}, os.environ)
        if not why_not:
            keep_verdict(arguments.run_dir, verdicts)
    if on_github(os.environ):
        print("\n".join(verdict_annotations(verdicts)))
        append_summary(gate_section(verdicts), os.environ)
    return verdicts.exit_status


def add_commands(commands: Any) -> None:
    """Add `ci` and `gate` to the parser of the command line (`add_subparsers` made the argument)."""
    ci = commands.add_parser("ci", help="what the workflows call")
    actions = ci.add_subparsers(dest="action", required=True, metavar="ACTION")

    settings = actions.add_parser("settings", help="check the inputs of a workflow and write them as outputs")
    settings.set_defaults(function=_settings)

    changes = actions.add_parser("changes", help="is there anything to run for these changed files?")
    changes.add_argument("--files", default="", metavar="FILE", help="one path a line; default: standard input")
    changes.add_argument(
        "--base", metavar="COMMIT", help="ask git instead; runs everything where the commit is empty or unknown"
    )
    changes.add_argument(
        "--event", action="store_true", help="the commit to compare with is that of the event that GitHub names"
    )
    changes.set_defaults(function=_changes)

    data = actions.add_parser("data", help="fetch the images, or fall back to synthetic ones while their host is down")
    data.add_argument("--dataset", required=True, metavar="NAME", help="see `python -m lib params`")
    data.set_defaults(function=_data)

    inputs = actions.add_parser("inputs", help="print the inputs of the workflow as YAML, from the parameter schema")
    inputs.set_defaults(function=_inputs)

    checkpoint = actions.add_parser("checkpoint", help="write the checkpoint's SHA-256 as output, or compare it")
    checkpoint.add_argument("run_dir", type=Path, metavar="RUN")
    checkpoint.add_argument("--expect", metavar="SHA", help="exit status 1 where the file has another one")
    checkpoint.set_defaults(function=_checkpoint)

    check = actions.add_parser("check", help="did 03 measure this checkpoint by the promised libraries?")
    check.add_argument("run_dir", type=Path, metavar="RUN")
    check.add_argument("--backend", required=True)
    check.add_argument("--checkpoint", required=True, metavar="SHA")
    check.add_argument("--blas", default="", metavar="NAME", help="BLAS that torch-blas must have run on")
    check.set_defaults(function=_check)

    pages = actions.add_parser("pages", help="pages that stand alone, named <label>.<arch>.html")
    pages.add_argument("run_dir", type=Path, metavar="RUN")
    pages.add_argument("--arch", required=True)
    pages.add_argument("--suffix", default="", help="of the label, such as .again; default: none")
    pages.add_argument("--out", type=Path, required=True, metavar="DIR")
    pages.add_argument("--notebook", default="", help="only this one, such as 04; default: all")
    pages.set_defaults(function=_pages)

    collect = actions.add_parser("collect", help="merge the artifacts of all jobs into one run folder")
    collect.add_argument("parts", type=Path, metavar="PARTS", help="one folder for each artifact")
    collect.add_argument("--out", type=Path, required=True, metavar="RUN")
    collect.add_argument("--expect-backends", default="", metavar="A,B", help="those without a part count as failed")
    collect.add_argument("--checkpoint", default="", metavar="SHA", help="what measured another one counts as failed")
    collect.add_argument("--blas", default="", metavar="NAME", help="BLAS that torch-blas must have run on")
    collect.set_defaults(function=_collect)

    summary = actions.add_parser("summary", help="Markdown for $GITHUB_STEP_SUMMARY, on standard output")
    summary.add_argument("run_dir", type=Path, metavar="RUN")
    summary.add_argument("--page-url", default="", metavar="URL", help="of the page that this job uploaded")
    summary.add_argument("--arch", default="", help="for the title")
    summary.set_defaults(function=_summary)

    history = actions.add_parser("history", help="fetch the records of the last successful runs on main")
    history.add_argument("--arch", required=True)
    history.add_argument("--out", type=Path, required=True, metavar="DIR", help="one folder for each run")
    history.set_defaults(function=_history)

    suspects = actions.add_parser("suspects", help="backends that 04 suspects to be slower than in earlier runs")
    suspects.add_argument("run_dir", type=Path, metavar="RUN")
    suspects.set_defaults(function=_suspects)

    annotate = actions.add_parser("annotate", help="annotations at the notebook cells that failed")
    annotate.add_argument("run_dir", type=Path, metavar="RUN")
    annotate.set_defaults(function=_annotate)

    gate = commands.add_parser("gate", help="pass (0), fail (1) or investigate (3): a run against .github/gate.toml")
    gate.add_argument("run_dir", type=Path, metavar="RUN")
    gate.add_argument("--limits", type=Path, default=None, metavar="FILE", help="default: .github/gate.toml")
    gate.add_argument("--needs", default="", metavar="JSON", help="toJSON(needs) of the workflow")
    gate.set_defaults(function=_gate)
