"""Which code a notebook runs: a hash of its cells and of every module of this project that they import."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from lib.files import PROJECT_ROOT
from lib.series.parameters import notebook_path

_MODULE = re.compile(r"lib(\.\w+)+")
_LONG = ("lib", "numpy", "torch")
_FINDS_ITS_MODULES = "import_modules(__name__"  # in packages whose files are found by being there


def code_hash(notebook: str) -> str:
    """SHA-256 over the code cells of a notebook and the modules of this project that they import: directly or through
    other modules, also inside functions, and those that they start as processes. Text cells and outputs do not count.

    Raises:
        UserError: no such notebook.
    """
    path = notebook_path(notebook)
    code = _code(path)
    found: dict[Path, str] = {path: code}
    waiting = [*_imported(_python(code))]
    seen: set[str] = set()
    while waiting:
        if (name := waiting.pop()) in seen:
            continue
        seen.add(name)
        for file in _files(name):
            if file not in found:
                found[file] = file.read_text(encoding="utf-8")
                waiting += _imported(found[file])
    digest = hashlib.sha256()
    for file in sorted(found):
        digest.update(f"{file.name}\0{found[file]}\0".encode())
    return digest.hexdigest()


def import_lines(notebook: str) -> list[str]:
    """The lines by which the cells of a notebook import what takes long: modules of this project, NumPy, PyTorch.

    Raises:
        UserError: no such notebook.
    """
    lines = []
    for node in ast.walk(ast.parse(_python(_code(notebook_path(notebook))))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if any(name.partition(".")[0] in _LONG for name in names):
            lines.append(ast.unparse(node))
    return lines


def _code(path: Path) -> str:
    cells = json.loads(path.read_bytes())["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def _python(code: str) -> str:
    """Without the commands of IPython."""
    return "\n".join(line for line in code.splitlines() if not line.lstrip().startswith(("%", "!")))


def _files(name: str) -> Iterator[Path]:
    """The file of a module with those of the packages around it, and what a package imports by looking for files."""
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        base = PROJECT_ROOT.joinpath(*parts[:depth])
        package = base / "__init__.py"
        yield from (file for file in (base.with_suffix(".py"), package) if file.is_file())
        if package.is_file() and _FINDS_ITS_MODULES in package.read_text(encoding="utf-8"):
            yield from base.glob("[!_]*.py")


@cache
def _imported(source: str) -> tuple[str, ...]:
    """Names of modules, and of whatever may be one: what is imported from a package, and a text such as `lib.a.b`."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.append(node.value)
    return tuple(name for name in names if _MODULE.fullmatch(name))
