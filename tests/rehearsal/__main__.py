"""`python -m tests.rehearsal`: all scenarios, those named, or one walk of your own."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from lib.errors import UserError
from lib.files import project_path
from tests.rehearsal.results import EVENTS, Event, Variation, Walk
from tests.rehearsal.runner import Runner
from tests.rehearsal.scenarios import (
    ARM,
    BACKENDS,
    Scenario,
    never_run,
    rehearse,
    report,
    scenarios,
    write_summaries,
)
from tests.rehearsal.standins import table
from tests.rehearsal.workflow import WorkflowError


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 all as expected, 1 not, 2 bad input or a workflow that GitHub would refuse."""
    parser = argparse.ArgumentParser(prog="python -m tests.rehearsal", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="default: all")
    parser.add_argument("--list", action="store_true", help="name the scenarios and the stand-ins, and run nothing")
    parser.add_argument("--backends", default=BACKENDS, metavar="A,B", help=f"three, with null (default: {BACKENDS})")
    parser.add_argument(
        "--out", default="build/rehearsal", metavar="DIR", help="emptied first (default: build/rehearsal)"
    )
    parser.add_argument(
        "--images", default="", metavar="DIR", help="data_root of GTSRB: what the scenario `images` fetches and runs on"
    )
    parser.add_argument("--parallel", type=int, default=2, metavar="N", help="legs of a matrix at a time (default 2)")
    own = parser.add_argument_group("one walk of your own")
    own.add_argument("--event", choices=list(EVENTS))
    own.add_argument("--workflow", default=ARM, metavar="FILE", help=f"default: {ARM}")
    own.add_argument("--input", action="append", default=[], metavar="NAME=VALUE", help="of workflow_dispatch")
    own.add_argument("--variable", action="append", default=[], metavar="NAME=VALUE", help="of the repository")
    own.add_argument("--break", dest="broken", action="append", default=[], metavar="JOB/STEP", help="let a step fail")
    own.add_argument("--lose", action="append", default=[], metavar="ARTIFACT", help="let an upload never arrive")
    arguments = parser.parse_args(argv)

    images = project_path(arguments.images) if arguments.images else None
    known = {scenario.name: scenario for scenario in scenarios(arguments.backends, images)}
    unknown = set(arguments.scenarios) - set(known)
    if unknown:
        parser.error(f"unknown scenario {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    if arguments.list:
        print("\n".join(f"  {name:14} {scenario.title}" for name, scenario in known.items()))
        print(f"replaced:\n{table()}")
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
            if arguments.event:
                event = Event(arguments.event, dict(_pairs(arguments.input)), dict(_pairs(arguments.variable)))
                env = {} if event.inputs else {"INPUT_BACKENDS": arguments.backends}
                variation = Variation(env=env, lost=arguments.lose, broken=arguments.broken)
                runner = Runner(project_path("."), out / "walk", event, variation, say=say, parallel=arguments.parallel)
                walk = runner.run(arguments.workflow)
                say(report(walk))
                write_summaries(walk, out / "walk" / "summaries")
                for name in set(arguments.broken) - runner.broke:
                    raise ValueError(f"no step {name!r} ran; give JOB/STEP as the log names them")
                return int(walk.failed)
            wrong = _scenarios(known, arguments.scenarios or list(known), out, say, arguments.parallel)
        except (WorkflowError, UserError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        say("\n".join(wrong) or "everything as expected")
    return int(bool(wrong))


def _scenarios(
    known: dict[str, Scenario], chosen: list[str], out: Path, say: Callable[[str], None], parallel: int
) -> list[str]:
    walks: dict[str, Walk] = {}
    wrong: list[str] = []
    for name in reversed(known):  # earlier ones stand before those that take over their jobs
        if name in chosen and known[name].after:
            chosen = [*chosen, known[name].after]
    for name in (name for name in known if name in chosen):
        say(f"\n=== {name}: {known[name].title}")
        wrong += [f"{name}: {line}" for line in rehearse(known[name], out, walks, say, parallel)]
        write_summaries(walks[name], out / name / "summaries")
    if set(known) <= set(chosen):
        wrong += [
            f"no walk ran the step {name!r} of job {job}" for job, name in sorted(never_run(list(walks.values())))
        ]
    return wrong


def _pairs(given: Sequence[str]) -> list[tuple[str, str]]:
    for text in given:
        if "=" not in text:
            raise ValueError(f"give NAME=VALUE, not {text!r}")
    return [(text.split("=", 1)[0], text.split("=", 1)[1]) for text in given]


if __name__ == "__main__":
    sys.exit(main())
