"""`python -m tests.rehearsal`: all scenarios, or those named."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from lib.errors import UserError
from lib.files import project_path
from tests.rehearsal.results import Walk, WorkflowError
from tests.rehearsal.scenarios import BACKENDS, Scenario, never_run, rehearse, scenarios, write_logs
from tests.rehearsal.standins import table


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 all as expected, 1 not, 2 bad input or a workflow that GitHub would refuse."""
    parser = argparse.ArgumentParser(prog="python -m tests.rehearsal", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="default: all")
    parser.add_argument("--list", action="store_true", help="name the scenarios and the stand-ins, and run nothing")
    parser.add_argument("--backends", default=BACKENDS, metavar="A,B", help=f"three, with null (default: {BACKENDS})")
    parser.add_argument("--out", default="build/rehearsal", metavar="DIR", help="emptied first; default: %(default)s")
    parser.add_argument("--replay", metavar="RUN", help="take 01, 02 and 03 from this smoke run if that will do")
    parser.add_argument("--parallel", type=int, default=2, metavar="N", help="legs of a matrix at a time (default 2)")
    arguments = parser.parse_args(argv)

    if arguments.list:
        known = scenarios(arguments.backends)
        print("\n".join(f"  {one.name:14} {one.title}" for one in known), f"replaced:\n{table()}", sep="\n")
        return 0
    out = project_path(arguments.out)
    if out.exists() and not (out / "log.txt").exists() and any(out.iterdir()):
        parser.error(f"{out} is not empty and holds no earlier rehearsal; give another folder with --out")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with (out / "log.txt").open("w") as log:

        def say(text: str) -> None:
            print(text, flush=True)
            log.write(text + "\n")

        say(f"replaced in this rehearsal:\n{table()}")
        try:
            wrong = _walk(_chosen(arguments), out, say, arguments.parallel)
        except (WorkflowError, UserError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        say("\n".join(wrong) or "everything as expected")
    return int(bool(wrong))


def _chosen(arguments: argparse.Namespace) -> list[Scenario]:
    """The scenarios that were asked for, with those that they take jobs from."""
    again = project_path(arguments.replay) if arguments.replay else None
    known = {scenario.name: scenario for scenario in scenarios(arguments.backends)}
    if unknown := set(arguments.scenarios) - set(known):
        raise ValueError(f"unknown scenario {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    names = set(arguments.scenarios or known)
    for name in reversed(known):  # earlier ones stand before those that take over their jobs
        if name in names and known[name].after:
            names.add(known[name].after)
    chosen = [scenario for name, scenario in known.items() if name in names]
    return [_replaying(scenario, again) if again and not scenario.real else scenario for scenario in chosen]


def _replaying(scenario: Scenario, run: Path) -> Scenario:
    return dataclasses.replace(
        scenario, variation=lambda walks: dataclasses.replace(scenario.variation(walks), replay=run)
    )


def _walk(chosen: list[Scenario], out: Path, say: Callable[[str], None], parallel: int) -> list[str]:
    walks: dict[str, Walk] = {}
    wrong: list[str] = []
    for scenario in chosen:
        say(f"\n=== {scenario.name}: {scenario.title}")
        wrong += [f"{scenario.name}: {line}" for line in rehearse(scenario, out, walks, say, parallel)]
        write_logs(walks[scenario.name], out / scenario.name / "logs")
    if len(chosen) == len(scenarios()):
        wrong += [
            f"no walk ran the step {name!r} of job {job}" for job, name in sorted(never_run(list(walks.values())))
        ]
    return wrong


if __name__ == "__main__":
    sys.exit(main())
