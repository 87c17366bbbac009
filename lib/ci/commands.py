"""`python -m lib ci ...` and `python -m lib gate`. Imports are lazy: `ci changes` runs on a Python without packages."""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib.ci.github import command, on_github, write_outputs
from lib.errors import UserError
from lib.files import project_path, write_atomic

OK, FAILED = 0, 1
_Arguments = argparse.Namespace


def _reported(function: Callable[[_Arguments], int | None]) -> Callable[[_Arguments], int]:
    """Every bad end is an annotation on GitHub too."""

    @functools.wraps(function)
    def guarded(arguments: _Arguments) -> int:
        try:
            return function(arguments) or OK
        except UserError as error:
            if on_github(os.environ):
                print(command("error", str(error)), flush=True)
            raise

    return guarded


def _settings(_arguments: _Arguments) -> None:
    from lib.ci.settings import settings

    write_outputs(settings(os.environ), os.environ)


def _changes(arguments: _Arguments) -> None:
    from lib.ci.changes import base_commit, changed_files, must_run, touched_backends

    base = base_commit(os.environ) if arguments.base is None else arguments.base
    changed = changed_files(base)
    if changed is None:
        print(f"it is not known what changed since {base!r}: everything runs")
    run = str(changed is None or must_run(changed)).lower()
    write_outputs({"run": run, "backends": ",".join(touched_backends(changed or []))}, os.environ)


def _data(arguments: _Arguments) -> None:
    from lib.ci.official_images import fetch_images

    found = fetch_images(arguments.dataset, restored=arguments.restored == "true")
    if found["note"]:
        print(command("warning", found["note"], title="synthetic images"))
    write_outputs(found, os.environ)


def _inputs(_arguments: _Arguments) -> None:
    from lib.ci.inputs import inputs_yaml

    print(inputs_yaml(), end="")


def _checkpoint(arguments: _Arguments) -> None:
    from lib.ci.check import checkpoint_sha256

    write_outputs({"checkpoint_sha256": checkpoint_sha256(arguments.run_dir)}, os.environ)


def _check(arguments: _Arguments) -> None:
    from lib.ci.check import check_benchmark

    print(check_benchmark(arguments.run_dir, arguments.backend, arguments.checkpoint, arguments.blas))


def _pages(arguments: _Arguments) -> None:
    from lib.ci.pages import write_pages

    for path in write_pages(arguments.run_dir, arguments.arch, arguments.out, arguments.notebook, arguments.suffix):
        print(path)


def _collect(arguments: _Arguments) -> None:
    from lib.ci.collect import collect, has_measurements

    names = arguments.expect_backends.split(",")
    print(*collect(arguments.parts, arguments.out, names), sep="\n")
    write_outputs({"measured": str(has_measurements(arguments.out)).lower()}, os.environ)


def _summary(arguments: _Arguments) -> None:
    from lib.ci.step_summary import summary

    print(summary(arguments.run_dir, os.environ, page_url=arguments.page_url, architecture=arguments.arch), end="")


def _history(arguments: _Arguments) -> None:
    from lib.ci.earlier import fetch_history
    from lib.ci.hub import HubError

    try:
        for line in fetch_history(arguments.out, arguments.arch, os.environ):
            print(line, flush=True)
    except HubError as error:
        print(command("warning", f"04 is compared with no earlier run: {error}", title="no history"))


def _suspects(arguments: _Arguments) -> None:
    from lib.ci.suspects import suspects

    write_outputs({"suspects": suspects(arguments.run_dir)}, os.environ)


def _release(arguments: _Arguments) -> None:
    from lib.ci.released import verified

    digest, lines = verified(arguments.run_dir)
    print(*lines, sep="\n")
    write_outputs({"released": str(bool(lines)).lower(), "digest": digest}, os.environ)


def _tagged(_arguments: _Arguments) -> None:
    from lib.ci.tagged import tagged

    write_outputs(tagged(os.environ), os.environ)


def _notes(arguments: _Arguments) -> None:
    from lib.ci.publishing import release_notes

    write_atomic(project_path(arguments.out), release_notes(arguments.run_dir, os.environ))


def _publish(arguments: _Arguments) -> None:
    from lib.ci.publishing import publish

    for line in publish(arguments.release, arguments.notes, arguments.image, os.environ):
        print(line, flush=True)


def _roll_back(arguments: _Arguments) -> None:
    from lib.ci.publishing import roll_back

    print(roll_back(arguments.out, os.environ))


def _retrain(_arguments: _Arguments) -> None:
    from lib.ci.retraining import plan

    write_outputs(plan(os.environ), os.environ)


def _champion(arguments: _Arguments) -> None:
    from lib.ci.retraining import fetch_release

    release = fetch_release(arguments.tag, arguments.out, os.environ)
    write_outputs({"champion": str(release.path)}, os.environ)


def _retrained(arguments: _Arguments) -> None:
    from lib.ci.retraining import report

    print(report(arguments.run_dir, os.environ))


def _sweep_plan(arguments: _Arguments) -> None:
    from lib.ci.sweeping import sweep_settings

    write_outputs(sweep_settings(arguments.file), os.environ)


def _sweep_collect(arguments: _Arguments) -> None:
    from lib.ci.sweeping import collect_sweep

    print(collect_sweep(arguments.file, arguments.out))


def _annotate(arguments: _Arguments) -> None:
    from lib.ci.annotate import annotate_run

    for line in annotate_run(arguments.run_dir):
        print(line)


def _gate(arguments: _Arguments) -> int:
    from lib.ci.gate import judge_run, read_needs
    from lib.ci.publish import keep_verdict, reason_against
    from lib.ci.step_summary import append_summary, gate_section
    from lib.ci.verdicts import EXIT_STATUS, verdict_annotations, verdict_table

    needs = read_needs(arguments.needs) if arguments.needs else None
    verdicts = judge_run(arguments.run_dir, arguments.limits, needs)
    print(verdict_table(verdicts))
    if on_github(os.environ):
        print(*verdict_annotations(verdicts), sep="\n")
        append_summary(gate_section(verdicts), os.environ)
    if needs is None:
        return EXIT_STATUS[verdicts.outcome]
    why_not = reason_against(verdicts, needs, os.environ)
    print(f"pages are not published: {why_not}" if why_not else "pages are published, with this verdict on them")
    write_outputs({"publish": str(not why_not).lower()}, os.environ)
    if not why_not:
        keep_verdict(arguments.run_dir, verdicts)
    return FAILED if verdicts.outcome == "fail" else OK  # a doubt is a warning and must not stop a merge


def add_commands(commands: Any) -> None:
    """Add `ci` and `gate` to the parser of the command line (`add_subparsers` made the argument)."""
    ci = commands.add_parser("ci", help="what the workflows call")
    actions = ci.add_subparsers(dest="action", required=True, metavar="ACTION")

    def add(to: Any, name: str, function: Callable[[_Arguments], int | None], about: str, *, run: bool = True) -> Any:
        parser = to.add_parser(name, help=about)
        parser.set_defaults(function=_reported(function))
        if run:
            parser.add_argument("run_dir", type=Path, metavar="RUN")
        return parser

    add(actions, "settings", _settings, "check the inputs of a workflow and write them as outputs", run=False)
    changes = add(actions, "changes", _changes, "is there anything to run for what changed?", run=False)
    changes.add_argument("--base", metavar="COMMIT", help="to compare with; default: that of the event on GitHub")

    data = add(actions, "data", _data, "fetch the images, or fall back to synthetic ones", run=False)
    data.add_argument("--dataset", required=True, metavar="NAME", help="see `python -m lib params`")
    data.add_argument("--restored", default="", metavar="TRUE", help="true where the cache brought the images")

    add(actions, "inputs", _inputs, "print the inputs of the workflow as YAML, from the parameter schema", run=False)

    add(actions, "checkpoint", _checkpoint, "write the checkpoint's SHA-256 as output")

    check = add(actions, "check", _check, "did 03 measure this checkpoint by the promised libraries?")
    check.add_argument("--backend", required=True)
    check.add_argument("--checkpoint", required=True, metavar="SHA", help="of the trained network")
    check.add_argument("--blas", default="", metavar="NAME", help="BLAS that torch-blas must have run on")

    pages = add(actions, "pages", _pages, "pages that stand alone, named <label>.<arch>.html")
    pages.add_argument("--suffix", default="", help="of the label, such as .again; default: none")
    pages.add_argument("--out", type=Path, required=True, metavar="DIR")
    pages.add_argument("--notebook", default="", help="only this one, such as 04; default: all")

    collect = add(actions, "collect", _collect, "merge the artifacts of all jobs into one run folder", run=False)
    collect.add_argument("parts", type=Path, metavar="PARTS", help="one folder for each artifact")
    collect.add_argument("--out", type=Path, required=True, metavar="RUN")
    collect.add_argument("--expect-backends", required=True, metavar="A,B", help="those without a part have failed")
    summary = add(actions, "summary", _summary, "Markdown for $GITHUB_STEP_SUMMARY, on standard output")
    summary.add_argument("--page-url", default="", metavar="URL", help="of the page that this job uploaded")

    history = add(actions, "history", _history, "fetch the records of the last successful runs on main", run=False)
    history.add_argument("--out", type=Path, required=True, metavar="DIR", help="one folder for each run")
    for parser in (pages, summary, history):
        parser.add_argument("--arch", required=True, choices=("arm64", "x64"))

    add(actions, "suspects", _suspects, "backends that 04 suspects to be slower than in earlier runs")
    add(actions, "release", _release, "whether a run was released, and whether every link of that release holds")

    add(actions, "tagged", _tagged, "which run a tag means, and whether it is released already", run=False)
    notes = add(actions, "notes", _notes, "notes of a release, where the gate lets its run pass")
    notes.add_argument("--out", type=Path, required=True, metavar="FILE")
    publish = add(actions, "publish", _publish, "fill the draft of a release at GitHub and publish it", run=False)
    publish.add_argument("release", type=Path, metavar="RELEASE")
    publish.add_argument("--notes", type=Path, required=True, metavar="FILE")
    publish.add_argument(
        "--image", required=True, metavar="NAME", help="of the release, at the registry, with its digest"
    )

    back = add(actions, "roll-back", _roll_back, "mark an earlier release as the latest, if it verifies", run=False)
    back.add_argument("--out", type=Path, required=True, metavar="DIR")

    add(actions, "retrain", _retrain, "is there anything new to train on, and a champion to compare with?", run=False)
    champion = add(actions, "champion", _champion, "download a published release and verify it", run=False)
    champion.add_argument("tag", metavar="TAG")
    champion.add_argument("--out", type=Path, required=True, metavar="DIR")
    add(actions, "retrained", _retrained, "open an issue with what 05 found out about a retrained network")

    sweep_plan = add(actions, "sweep-plan", _sweep_plan, "the combinations of a sweep file, for a matrix", run=False)
    sweep_collect = add(actions, "sweep-collect", _sweep_collect, "table and page from the jobs of a sweep", run=False)
    for parser in (sweep_plan, sweep_collect):
        parser.add_argument("file", metavar="FILE", help="TOML, in this repository")
    sweep_collect.add_argument("--out", type=Path, required=True, metavar="DIR", help="with the run folders that came")

    add(actions, "annotate", _annotate, "annotations at the notebook cells that failed")

    gate = add(commands, "gate", _gate, "pass (0), fail (1) or investigate (3): a run against .github/gate.toml")
    gate.add_argument("--limits", type=Path, default=None, metavar="FILE", help="default: .github/gate.toml")
    gate.add_argument(
        "--needs", default="", metavar="JSON", help="toJSON(needs) of the workflow; investigate is 0 then"
    )
