"""Which public functions of `lib/` no test executes: `make coverage` fails for any that is not listed here.

    python -m coverage run -m pytest && python -m tests.unexecuted

Counted in all processes: tests, notebook kernels, workers, and the copies of the project that a rehearsal checks out.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from typing import Any

import coverage

from lib.files import PROJECT_ROOT


@dataclass(frozen=True)
class Unexecuted:
    """Functions that need no test that executes them."""

    functions: str  # pattern of `lib/file.py:Class.function`
    because: str


LISTED = (
    Unexecuted(
        r"lib/backends/(_aligned|_executorch|executorch_\w+|ncnn|_torch_compiled|torch_compile_bf16|torch_onednn_tuned)"
        r"\.py:.*|lib/bench/(selfcheck|loads)\.py:.*",
        because="takes long: only with --slow, as in the weekly workflow",
    ),
    Unexecuted("lib/bench/harness.py:harness_cost", because="takes 15 minutes; what it repeats is tested"),
    Unexecuted(
        r"lib/backends/(torch_int8|torch_onednn_bf16|torch_onednn_fastmath|_openvino)\.py:"
        r"\w+\.(broken_promise|forward|configure|ran_as_promised)",
        because="needs a CPU with bfloat16, VNNI or float16, which not every runner has",
    ),
)


def public_functions(report: dict[str, Any]) -> dict[str, bool]:
    """By `lib/file.py:Class.function`, whether a line of it was executed.

    Functions inside of functions belong to these, and those that have only a docstring do not count.

    Args:
        report: of `coverage json`.
    """
    return {
        f"{file}:{name}": function["summary"]["covered_lines"] > 0
        for file, content in report["files"].items()
        for name, function in content["functions"].items()
        if name and not re.search(r"(^|\.)_", name) and function["summary"]["num_statements"]
    }


def is_listed(name: str) -> bool:
    """True for a function with a reason not to be executed."""
    return any(re.fullmatch(entry.functions, name) for entry in LISTED)


def main() -> int:
    """Print what was covered, and what was not and is listed; 1 where anything else was not, or nothing was counted."""
    measured, out = coverage.Coverage(), PROJECT_ROOT / "build" / "coverage.json"
    measured.combine()
    library = [str(PROJECT_ROOT / "lib" / "*")]  # tests also write modules
    measured.report(skip_covered=True, include=library)
    measured.json_report(include=library, outfile=str(out))
    functions = public_functions(json.loads(out.read_text()))
    missed = [name for name, executed in functions.items() if not executed]
    for name in missed:
        print(f"{'listed' if is_listed(name) else 'NOT EXECUTED'}: {name}")
    unlisted = [name for name in missed if not is_listed(name)]
    print(f"{len(functions)} public functions, {len(missed)} not executed, {len(unlisted)} of them not listed")
    return int(bool(unlisted) or not functions)


if __name__ == "__main__":
    sys.exit(main())
