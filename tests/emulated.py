"""`python -m tests.emulated PYTHON`: the whole suite with another Python, such as an emulated one, file by file.

It may take days. Each test file leaves its result in `build/emulated/`; the same command continues where it was
stopped, and repeats files that failed at another commit. At the end, and with `--table`, it prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any

from lib.files import PROJECT_ROOT, write_atomic
from lib.machine import git_commit

MACHINE = """
import importlib.metadata, json
from lib.backends import all_backends
from lib.machine import collect_environment
found, installed = collect_environment(), importlib.metadata.packages_distributions()
names = ["torch", "numpy", *(name for backend in all_backends() for name in backend.packages)]
versions = {name: importlib.metadata.version(installed[name][0]) for name in names if name in installed}
print(json.dumps({"architecture": found.architecture, "cpu": found.cpu_model, "emulated": found.emulated,
                  "python": found.versions["python"], **versions}))
"""


def run_file(python: str, name: str, limit_s: float, options: list[str], folder: Path) -> dict[str, Any]:
    """Run one test file in processes of its own, all of which end with it."""
    junit, started = folder / f"{name}.xml", time.monotonic()
    junit.unlink(missing_ok=True)
    command = [python, "-m", "pytest", f"tests/{name}", f"--junitxml={junit}", "-p", "no:cacheprovider", *options]
    environ = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    with (folder / f"{name}.log").open("w") as log:
        tests = subprocess.Popen(command, cwd=PROJECT_ROOT, env=environ, stdout=log, stderr=log, start_new_session=True)
        try:
            ended = f"status {tests.wait(limit_s)}"
        except subprocess.TimeoutExpired:
            ended = f"stopped after {limit_s / 60:.0f} minutes"
        finally:
            if tests.poll() is None:
                os.killpg(tests.pid, signal.SIGKILL)
    failed, skipped, passed = [], Counter[str](), 0
    for case in ElementTree.parse(junit).iter("testcase") if junit.exists() else []:
        if (skip := case.find("skipped")) is not None:
            skipped[skip.get("message", "")] += 1
        elif case.find("failure") is not None or case.find("error") is not None:
            failed.append(case.get("name", ""))
        else:
            passed += 1
    if not failed and ended not in ("status 0", "status 5"):  # 5: no test in the file was chosen
        failed.append(ended)
    told = {"commit": git_commit() or "unknown", "options": options, "seconds": time.monotonic() - started}
    return {**told, "passed": passed, "failed": failed, "skipped": dict(skipped)}


def table(results: dict[str, dict[str, Any]], machine: dict[str, Any]) -> str:
    """The results in Markdown."""
    lines = [", ".join(f"{key} {value}" for key, value in machine.items()), ""]
    lines += ["| file | commit | minutes | passed | failed | skipped, with the reason |", "|---|---|---|---|---|---|"]
    for name, result in sorted(results.items()):
        commit, failed = result["commit"][:7] + result["commit"][40:], "; ".join(result["failed"])
        skips = "; ".join(f"{count}: {reason}".replace("|", "\\|") for reason, count in result["skipped"].items())
        minutes, passed = f"{result['seconds'] / 60:.1f}", result["passed"]
        lines.append(f"| `{name}` | {commit} | {minutes} | {passed} | {failed} | {skips} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, epilog="Other options go to pytest.")
    parser.add_argument("python", help="interpreter that runs the tests")
    parser.add_argument("files", nargs="*", metavar="FILE", help="only these, and again, such as test_bench.py")
    parser.add_argument("--limit-minutes", type=float, default=600, help="for each file [%(default)s]")
    parser.add_argument("--table", action="store_true", help="run nothing, print the table")
    given, options = parser.parse_known_args()
    (folder := PROJECT_ROOT / "build" / "emulated").mkdir(parents=True, exist_ok=True)
    names = sorted(path.name for path in (PROJECT_ROOT / "tests").glob("test_*.py"))
    results = {name: json.loads(path.read_text()) for name in names if (path := folder / f"{name}.json").exists()}
    machine = subprocess.run([given.python, "-c", MACHINE], cwd=PROJECT_ROOT, capture_output=True, check=True).stdout
    for name in [] if given.table else given.files or names:
        old, commit = results.get(name), git_commit()
        if given.files or not old or old["options"] != options or (old["failed"] and old["commit"] != commit):
            results[name] = new = run_file(given.python, name, given.limit_minutes * 60, options, folder)
            write_atomic(folder / f"{name}.json", json.dumps(new, indent=1))
            print(f"{name:<36} {'; '.join(new['failed']) or 'ok'} ({new['seconds']:.0f} s)", flush=True)
    print(table(results, json.loads(machine.splitlines()[-1])))
    return 1 if any(result["failed"] for result in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
