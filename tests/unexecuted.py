"""Which public functions of `lib/` no test executes: `make coverage` fails for any that is not listed here.

    python -m coverage run -m pytest && python -m tests.unexecuted

Counted in all processes: tests, notebook kernels, workers, and the copies of the project that a rehearsal checks out.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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
        r"\.py:.*",
        because="takes minutes: only with --all-backends, as in the weekly workflow",
    ),
    Unexecuted(
        r"lib/backends/(torch_int8|torch_onednn_bf16|torch_onednn_fastmath|_openvino)\.py:"
        r"\w+\.(broken_promise|forward|configure|ran_as_promised)",
        because="needs a CPU with bfloat16, VNNI or float16, which not every runner has",
    ),
)


@dataclass(frozen=True)
class Function:
    """A public function or method, and the lines of its body without its docstring."""

    name: str  # `lib/file.py:Class.function`
    lines: range


def public_functions(path: Path, root: Path = PROJECT_ROOT) -> list[Function]:
    """Those of a module and of its public classes that have a body; functions inside of functions belong to these."""
    file = path.relative_to(root).as_posix()
    return [Function(f"{file}:{name}", lines) for name, lines in _functions(ast.parse(path.read_text("utf-8")).body)]


def _functions(body: Sequence[ast.stmt], prefix: str = "") -> Iterator[tuple[str, range]]:
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if isinstance(node, ast.ClassDef):
            yield from _functions(node.body, f"{prefix}{node.name}.")
        elif statements := node.body[ast.get_docstring(node) is not None :]:
            yield prefix + node.name, range(statements[0].lineno, (node.end_lineno or 0) + 1)


def unexecuted(functions: Sequence[Function], executed: Callable[[str], set[int]]) -> list[str]:
    """Names of the functions of which no line was executed.

    Args:
        executed: lines of a file, by its path from the project root.
    """
    return [found.name for found in functions if executed(found.name.split(":")[0]).isdisjoint(found.lines)]


def is_listed(name: str) -> bool:
    """True for a function with a reason not to be executed."""
    return any(re.fullmatch(entry.functions, name) for entry in LISTED)


def main() -> int:
    """Print what was covered, and what was not and is listed; 1 where anything else was not, or nothing was counted."""
    measured = coverage.Coverage()
    measured.combine()
    measured.report(skip_covered=True, include=[str(PROJECT_ROOT / "lib" / "*")])  # tests also write modules
    data = measured.get_data()

    def executed(file: str) -> set[int]:
        return set(data.lines(str(PROJECT_ROOT / file)) or ())

    functions = [found for path in sorted((PROJECT_ROOT / "lib").rglob("*.py")) for found in public_functions(path)]
    missed = unexecuted(functions, executed)
    for name in missed:
        print(f"{'listed' if is_listed(name) else 'NOT EXECUTED'}: {name}")
    unlisted = [name for name in missed if not is_listed(name)]
    print(f"{len(functions)} public functions, {len(missed)} not executed, {len(unlisted)} of them not listed")
    return int(bool(unlisted))


if __name__ == "__main__":
    sys.exit(main())
