"""The parameters of a notebook: one contract, read from its `parameters` cell, for help, validation and the page.

A line reads `num_epochs: int = 0  # training epochs, 0 = by profile [0..500]`. Names, types and defaults come from the
syntax tree, the comment from the tokens; nothing is executed. Brackets at the end of the comment hold choices
(`[smoke|fast|full]`), a range (`[0..500]`, either end may be open), or the name of a registry whose names are the
choices (`[a backend]`, `[a data set]`, `[a recipe]`).
"""

from __future__ import annotations

import ast
import contextlib
import functools
import io
import json
import math
import re
import tokenize
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.backends import backend_names
from lib.data.sets import dataset_names
from lib.errors import UserError, did_you_mean, unknown
from lib.files import PROJECT_ROOT
from lib.records.schema import ParameterValue
from lib.training.recipes import recipe_names

NOTEBOOK_DIR = PROJECT_ROOT / "notebooks"
TYPES: dict[str, type[ParameterValue]] = {"bool": bool, "int": int, "float": float, "str": str}
_SECRET = re.compile(r"secret|token|passw|credential|api_?key|private_?key", re.IGNORECASE)
_NAME = re.compile(r"[0-9]{2}_[A-Za-z0-9_]+")
_REGISTRIES: dict[str, Callable[[], Iterable[str]]] = {
    "a backend": backend_names,
    "a data set": dataset_names,
    "a recipe": recipe_names,
}


@dataclass(frozen=True)
class Parameter:
    """One declared parameter."""

    name: str
    type: str  # bool, int, float, str
    default: ParameterValue
    help: str  # the comment without its brackets
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None

    @property
    def allowed(self) -> str:
        """What a value may be, in words."""
        if self.choices:
            return ", ".join(self.choices)
        if self.type == "bool":
            return "true, false"
        limits = [f"{limit:,.10g}" if limit is not None else "" for limit in (self.low, self.high)]
        return f"{self.type} in {limits[0]}..{limits[1]}" if any(limits) else self.type

    def parse(self, value: object) -> ParameterValue:
        """A value of the declared type, from what a command line or papermill gave. Never guesses another type.

        Raises:
            UserError: wrong type, not among the choices, or out of range.
        """
        parsed = self._of_type(value)
        if parsed is None:
            raise UserError(f"parameter {self.name!r} must be {self.allowed}: got {value!r}")
        if isinstance(parsed, str) and parsed != parsed.encode(errors="replace").decode():
            raise UserError(f"parameter {self.name!r} must be UTF-8: got {value!r}")
        if self.choices and parsed not in self.choices:
            raise unknown(self.name, parsed, self.choices)
        if isinstance(parsed, int | float) and not isinstance(parsed, bool) and not self._in_range(parsed):
            raise UserError(f"parameter {self.name!r} must be {self.allowed}: got {value!r}")
        return parsed

    def _in_range(self, number: float) -> bool:
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        return low <= number <= high and abs(number) != math.inf  # not a number is in no range

    def _of_type(self, value: object) -> ParameterValue | None:
        """The value; text is read as JSON unless text is wanted. None where it is of another type."""
        kind = TYPES[self.type]
        with contextlib.suppress(ValueError, OverflowError):  # not JSON, or more digits than a number may have
            if isinstance(value, str) and kind is not str:
                value = json.loads(value.lower())
            if kind is float and type(value) is int:
                value = float(value)
        return value if type(value) is kind else None


class Schema(dict[str, Parameter]):
    """The parameters of one notebook by name, in the order of the cell."""

    def __init__(self, notebook: str, parameters: list[Parameter]) -> None:
        super().__init__((parameter.name, parameter) for parameter in parameters)
        self.notebook = notebook

    def resolve(self, given: dict[str, Any]) -> dict[str, ParameterValue]:
        """Every parameter's value: the given ones, checked and of the declared type, and defaults for the rest.

        Raises:
            UserError: a name that is not declared, or a bad value.
        """
        for name in given:
            if name not in self:
                raise unknown_parameter(name, self)
        return {
            name: parameter.parse(given[name]) if name in given else parameter.default
            for name, parameter in self.items()
        }


def unknown_parameter(name: str, known: Any) -> UserError:
    """The refusal of a name, with the nearest one that exists."""
    hint = did_you_mean(name, known)
    return UserError(f"unknown parameter {name!r}{hint or ';'} allowed: {', '.join(known)}")


def notebook_names() -> list[str]:
    """The notebooks of the series, in order. A copy such as JupyterLab's `02_train-Copy1.ipynb` is not one of them."""
    return sorted(path.stem for path in NOTEBOOK_DIR.glob("*.ipynb") if _NAME.fullmatch(path.stem))


def notebook_path(notebook: str) -> Path:
    """The file of a notebook, given as `03_benchmark`, `03`, `03_benchmark.ipynb` or a path to it.

    Raises:
        UserError: there is none of this name.
    """
    stem = Path(notebook).name.removesuffix(".ipynb")
    for name in notebook_names():
        if stem in (name, name.split("_")[0], name.split("_", 1)[1]):
            return NOTEBOOK_DIR / f"{name}.ipynb"
    raise unknown("notebook", notebook, notebook_names())


def load_schema(notebook: str) -> Schema:
    """The schema of a notebook of the series.

    Raises:
        UserError: no such notebook, a file that is not a notebook, or a parameters cell that breaks the contract.
    """
    path = notebook_path(notebook)
    try:
        return _schema_of(path, path.stat().st_mtime_ns)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is not a readable notebook ({error}); repair it, or restore it with `git checkout`"
        ) from None


@functools.cache
def _schema_of(path: Path, _changed: int) -> Schema:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]  # as papermill and JupyterLab read it
    tagged = [cell for cell in cells if "parameters" in cell.get("metadata", {}).get("tags", [])]
    if len(tagged) != 1:
        raise UserError(f"{len(tagged)} cells are tagged 'parameters'; tag one, or move the file out of this folder")
    source = tagged[0]["source"]
    return Schema(path.stem, parse_parameters(source if isinstance(source, str) else "".join(source)))


def parse_parameters(source: str) -> list[Parameter]:
    """Read a parameters cell.

    Raises:
        UserError: a line that is not `name: type = literal  # help`.
    """
    try:
        statements = ast.parse(source).body
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (SyntaxError, ValueError, tokenize.TokenError) as error:
        raise UserError(f"the parameters cell is not Python: {error}") from None
    comments = {token.start[0]: token.string.lstrip("# ").strip() for token in tokens if token.type == tokenize.COMMENT}
    return [_parse_line(statement, comments.get(statement.lineno, "")) for statement in statements]


def _parse_line(statement: ast.stmt, comment: str) -> Parameter:
    where = f"line {statement.lineno} of the parameters cell"
    if not (
        isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and isinstance(statement.annotation, ast.Name)
        and statement.annotation.id in TYPES
        and statement.value is not None
    ):
        raise UserError(f"{where} must read `name: type = literal  # help` with a type of {', '.join(TYPES)}")
    name, type_name = statement.target.id, statement.annotation.id
    default: Any = None
    with contextlib.suppress(ValueError):
        default = ast.literal_eval(statement.value)
    if not isinstance(default, bool | int | float | str) or type(default) is not TYPES[type_name]:
        raise UserError(f"{where}: the default of {name!r} must be a literal of type {type_name}")
    if not comment:
        raise UserError(f"{where}: {name!r} has no comment")
    if _SECRET.search(name):
        raise UserError(f"{where}: {name!r} looks like a secret, and parameters are stored in pages and records")
    brackets = re.search(r"\s*\[([^\[\]]*)\]$", comment)
    parameter = Parameter(
        name=name,
        type=type_name,
        default=default,
        help=comment[: brackets.start()] if brackets else comment,
        **_limits(brackets.group(1) if brackets else ""),
    )
    try:
        parameter.parse(default)
    except UserError as error:
        raise UserError(f"{where}, default: {error}") from None
    return parameter


def _limits(text: str) -> dict[str, Any]:
    if text in _REGISTRIES:
        return {"choices": tuple(_REGISTRIES[text]())}
    if "|" in text:
        return {"choices": tuple(choice.strip() for choice in text.split("|"))}
    if ".." in text:
        low, high = (float(limit) if limit.strip() else None for limit in text.split("..", 1))
        return {"low": low, "high": high}
    return {}
