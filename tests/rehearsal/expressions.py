"""The part of GitHub's expression language that the workflows need; anything else is refused.

Decisions are made by `python -m lib ci`, so that what remains is to read names and to compare them with a text:
`needs.plan.outputs.profile`, `==`, `!=`, `&&`, `||`, `!` before a call, and a few functions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

STATUS_FUNCTIONS = ("success", "failure", "cancelled", "always")
_TOKEN = re.compile(
    r"(?P<text>'(?:[^']|'')*')|(?P<call>!?\s*[A-Za-z]+\()|(?P<name>[A-Za-z_][\w.-]*)"
    r"|(?P<operator>==|!=|&&|\|\|)|(?P<kept>[(),\s])"
)
_PYTHON = {"==": "==", "!=": "!=", "&&": " and ", "||": " or "}


class ExpressionError(ValueError):
    """An expression that GitHub refuses, that reads what nothing declares, or that is not rehearsed."""


class Lenient(dict[str, Any]):
    """Names that may be absent, which read as an empty text: outputs of steps, variables of a repository."""

    def __missing__(self, name: str) -> str:
        return ""


class Scope:
    """The contexts and functions that an expression may use where it stands.

    GitHub reads a name that nothing declares as an empty text, so that a misspelt one goes unseen; here it is an error.
    """

    def __init__(self, contexts: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]]) -> None:
        self.contexts = contexts
        own: dict[str, Callable[..., Any]] = {"fromJSON": json.loads, "toJSON": json.dumps, "format": str.format}
        self.functions = {**own, **functions}

    def read(self, path: str) -> Any:
        """The value of a name such as `steps.data.outputs.note`."""
        value: Any = self.contexts
        for name in path.split("."):
            try:
                value = value[name]
            except (KeyError, TypeError):
                known = ", ".join(value) if isinstance(value, dict) else "nothing"
                raise ExpressionError(f"{path}: nothing declares {name!r}; there are: {known}") from None
        return value

    def evaluate(self, text: str) -> Any:
        """The value of one expression, without `${{ }}`."""
        python, position = "", 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise ExpressionError(f"not rehearsed: {text[position:]!r} in the expression {text!r}")
            python += self._python(str(match.lastgroup), match[0])
            position = match.end()
        try:
            return eval(python, {"__builtins__": {}, "read": self.read, **self.functions})
        except (SyntaxError, NameError, TypeError, ValueError) as error:
            raise ExpressionError(f"{text!r}: {error}") from None

    def _python(self, kind: str, token: str) -> str:
        if kind == "text":
            return repr(token[1:-1].replace("''", "'"))
        if kind == "call":
            return token.replace("!", " not ")
        if kind == "name":
            return f"read({token!r})"
        return _PYTHON.get(token, token)

    def fill(self, value: Any) -> Any:
        """Every `${{ }}` in a text, or in the texts of a list or mapping. One that is the whole text keeps its type."""
        if isinstance(value, dict):
            return {name: self.fill(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.fill(inner) for inner in value]
        whole = re.fullmatch(r"\s*\$\{\{((?:(?!\}\}).)*)\}\}\s*", value)
        if whole:
            return self.evaluate(whole[1].strip())
        return re.sub(r"\$\{\{(.*?)\}\}", lambda match: as_text(self.evaluate(match[1].strip())), value)

    def texts(self, values: Mapping[str, str] | None) -> dict[str, str]:
        """A mapping with all values filled in, as texts."""
        return {name: as_text(self.fill(value)) for name, value in (values or {}).items()}

    def holds(self, condition: str | None) -> bool:
        """An `if:`. Without a status function in it, `success()` is required too, as at GitHub."""
        bare = (condition or "success()").strip()
        if bare.startswith("${{") and bare.endswith("}}"):
            bare = bare[3:-2].strip()
        if "${{" in bare:
            raise ExpressionError(f"text beside ${{{{ }}}} in a condition is always true: if: {condition}")
        calls = re.findall(r"(\w+)\(", re.sub(r"'[^']*'", "", bare))
        if not set(calls) & set(STATUS_FUNCTIONS) and not self.functions["success"]():
            return False
        return bool(self.evaluate(bare))


def as_text(value: Any) -> str:
    """As GitHub puts a value into a text."""
    return str(value).lower() if isinstance(value, bool) else str(value)
