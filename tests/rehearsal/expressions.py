"""GitHub's expression language: `${{ … }}` in strings, and the bare form of `if:`.

Values are those of JSON. Names are found whatever their case, strings compare without case, and values of unlike types
compare as numbers, as in https://docs.github.com/actions/reference/workflows-and-actions/expressions. GitHub's own
`@actions/expressions` (JavaScript) gave the outcomes that tests/test_rehearsal_expressions.py holds this against.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Function = Callable[..., Any]


class ExpressionError(ValueError):
    """An expression that GitHub refuses, or that reads something which nothing declares."""


class Declared(dict[str, Any]):
    """A context in which every name that may be read is declared.

    GitHub reads any other name as an empty string, so that a misspelt one goes unseen for months; here it is an error.
    """

    def __init__(self, what: str, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.what = what


class _Filtered(list[Any]):
    """What `*` gives: a further property is read from every item."""


_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>[+-]?(?:0x[0-9a-fA-F]+|0o[0-7]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|Infinity)(?![\w-]))
    | (?P<string>'(?:[^']|'')*')
    | (?P<name>[A-Za-z_][A-Za-z0-9_-]*)
    | (?P<operator>==|!=|<=|>=|&&|\|\||[()\[\].,!<>*])
    )""",
    re.VERBOSE,
)
_WORDS = {"true": True, "false": False, "null": None, "NaN": math.nan, "Infinity": math.inf}
STATUS_FUNCTIONS = ("success", "failure", "cancelled", "always")


class _Parser:
    """Recursive descent; every method evaluates nothing but returns a function of the contexts."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str]] = []
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if match is None:
                raise ExpressionError(f"unexpected symbol at {text[position:].strip()!r} in expression: {text}")
            self.tokens.append((str(match.lastgroup), match.group(str(match.lastgroup))))
            position = match.end()
        self.tokens.append(("end", ""))
        self.position = 0

    @property
    def next(self) -> tuple[str, str]:
        return self.tokens[self.position]

    def take(self, *operators: str) -> str:
        """The next operator if it is one of these, else an empty string."""
        kind, text = self.next
        if kind == "operator" and text in operators:
            self.position += 1
            return text
        return ""

    def expect(self, operator: str) -> None:
        if not self.take(operator):
            raise ExpressionError(f"expected {operator!r}, found {self.next[1] or 'the end'!r} in: {self.text}")

    def parse(self) -> _Node:
        node = self.logical(0)
        if self.next[0] != "end":
            raise ExpressionError(f"unexpected {self.next[1]!r} in expression: {self.text}")
        return node

    def logical(self, level: int) -> _Node:
        operators: tuple[tuple[str, ...], ...] = (("||",), ("&&",), ("==", "!="), ("<", "<=", ">", ">="))
        if level == len(operators):
            return self.unary()
        node = self.logical(level + 1)
        while operator := self.take(*operators[level]):
            node = _binary(operator, node, self.logical(level + 1))
        return node

    def unary(self) -> _Node:
        if self.take("!"):
            operand = self.unary()
            return lambda scope: not truthy(operand(scope))
        return self.postfix()

    def postfix(self) -> _Node:
        node = self.primary()
        while True:
            if self.take("."):
                if self.take("*"):
                    node = _star(node)
                    continue
                kind, name = self.next
                if kind != "name":
                    raise ExpressionError(f"unexpected {name!r} after '.' in: {self.text}")
                self.position += 1
                node = _access(node, _constant(name))
            elif self.take("["):
                node = _star(node) if self.take("*") else _access(node, self.logical(0))
                self.expect("]")
            else:
                return node

    def primary(self) -> _Node:
        kind, text = self.next
        self.position += 1
        if kind == "number":
            return _constant(_number(text))
        if kind == "string":
            return _constant(text[1:-1].replace("''", "'"))
        if kind == "operator" and text == "(":
            node = self.logical(0)
            self.expect(")")
            return node
        if kind == "name":
            if self.take("("):
                return self.call(text)
            if text in _WORDS:
                return _constant(_WORDS[text])
            return lambda scope: scope.context(text)
        raise ExpressionError(f"unexpected {text or 'end'!r} in expression: {self.text}")

    def call(self, name: str) -> _Node:
        arguments: list[_Node] = []
        if not self.take(")"):
            arguments.append(self.logical(0))
            while self.take(","):
                arguments.append(self.logical(0))
            self.expect(")")
        if name.lower() == "case":
            raise ExpressionError("the rehearsal does not know the function case()")
        return lambda scope: scope.call(name, [argument(scope) for argument in arguments])


class Scope:
    """What an expression may read and call where it stands."""

    def __init__(self, contexts: Mapping[str, Any], functions: Mapping[str, Function] | None = None) -> None:
        self.contexts = {name.lower(): value for name, value in contexts.items()}
        self.functions: dict[str, Function] = {**_FUNCTIONS}
        self.functions.update({name.lower(): function for name, function in (functions or {}).items()})

    def context(self, name: str) -> Any:
        """The context of that name; raises when it is not available where the expression stands."""
        if name.lower() not in self.contexts:
            available = ", ".join(self.contexts) or "none"
            raise ExpressionError(f"unrecognized named-value {name!r}; available here: {available}")
        return self.contexts[name.lower()]

    def call(self, name: str, arguments: Sequence[Any]) -> Any:
        """Call a function by its name, whatever its case."""
        function = self.functions.get(name.lower())
        if function is None:
            raise ExpressionError(f"unrecognized function {name!r}; available here: {', '.join(self.functions)}")
        try:
            return function(*arguments)
        except TypeError as error:
            raise ExpressionError(f"{name}: wrong number or type of arguments ({error})") from None


_Node = Callable[[Scope], Any]


def evaluate(text: str, scope: Scope) -> Any:
    """The value of one expression, without `${{ }}`."""
    return _Parser(text).parse()(scope)


def interpolate(text: str, scope: Scope) -> Any:
    """A string with its `${{ }}` replaced; when it is nothing but one expression, the value keeps its type."""
    parts = _split(text)
    if len(parts) == 1 and parts[0][0]:
        return evaluate(parts[0][1], scope)
    return "".join(to_string(evaluate(part, scope)) if is_expression else part for is_expression, part in parts)


def condition(text: str | bool | None, scope: Scope) -> bool:
    """An `if:`. Without a status function in it, `success()` is required too, as GitHub does."""
    if text is None or text == "":
        return truthy(scope.call("success", []))
    text = to_string(text)
    parts = _split(text)
    if all(not is_expression for is_expression, _ in parts):
        bare = text
    elif len(parts) == 1:
        bare = parts[0][1]
    else:
        raise ExpressionError(f"text beside ${{{{ }}}} in a condition is always true: if: {text}")
    named = {name.lower() for kind, name in _Parser(bare).tokens if kind == "name"}
    if not named & set(STATUS_FUNCTIONS) and not truthy(scope.call("success", [])):
        return False
    return truthy(evaluate(bare, scope))


def resolve(value: Any, scope: Scope) -> Any:
    """Interpolate every string in lists and mappings."""
    if isinstance(value, str):
        return interpolate(value, scope)
    if isinstance(value, dict):
        return {key: resolve(inner, scope) for key, inner in value.items()}
    if isinstance(value, list):
        return [resolve(inner, scope) for inner in value]
    return value


def _split(text: str) -> list[tuple[bool, str]]:
    """Cut into (is an expression, text); quotes inside an expression may hold `}}`."""
    parts: list[tuple[bool, str]] = []
    position = 0
    for match in re.finditer(r"\$\{\{((?:'(?:[^']|'')*'|(?!\}\}).)*)\}\}", text, re.DOTALL):
        if match.start() > position:
            parts.append((False, text[position : match.start()]))
        parts.append((True, match[1]))
        position = match.end()
    if "${{" in text[position:]:
        raise ExpressionError(f"an expression that is not closed in: {text}")
    if position < len(text) or not parts:
        parts.append((False, text[position:]))
    return parts


def truthy(value: Any) -> bool:
    """False are null, false, 0, NaN and the empty string; an empty list is true."""
    if isinstance(value, float) and math.isnan(value):
        return False
    return bool(value) or isinstance(value, (list, dict))


def to_string(value: Any) -> str:
    """As GitHub puts a value into a string."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int() | float():
            return _format_number(value)
        case list():
            return "Array"
        case _:
            return "Object"


def _format_number(number: float) -> str:
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return str(int(number)) if number == int(number) and abs(number) < 1e21 else repr(round(float(number), 15))


def _number(value: Any) -> float:
    """A value as a number; what is none is NaN."""
    match value:
        case None:
            return 0
        case bool():
            return int(value)
        case int() | float():
            return value
        case str():
            text = value.strip()
            if not text:
                return 0
            if re.fullmatch(r"0x[0-9a-fA-F]+|0o[0-7]+", text):
                return int(text, 0)
            if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
                return float(text)
            return {"Infinity": math.inf, "+Infinity": math.inf, "-Infinity": -math.inf}.get(text, math.nan)
        case _:
            return math.nan


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "list"
        case _:
            return "dict"


def _alike(left: Any, right: Any) -> tuple[Any, Any] | None:
    """Both as one type, or None where they never compare."""
    kinds = (_kind(left), _kind(right))
    if kinds[0] == kinds[1]:
        return (_upper(left), _upper(right)) if kinds[0] == "string" else (left, right)
    if set(kinds) & {"list", "dict"}:
        return None
    return _number(left), _number(right)


def _upper(text: str) -> str:
    return "ı".join(part.upper() for part in text.split("ı"))


def equal(left: Any, right: Any) -> bool:
    """GitHub's `==`: strings without case, unlike types as numbers, lists and objects only if they are the same one."""
    pair = _alike(left, right)
    if pair is None:
        return False
    return pair[0] is pair[1] if isinstance(pair[0], (list, dict)) else bool(pair[0] == pair[1])


def _less(left: Any, right: Any) -> bool:
    pair = _alike(left, right)
    return pair is not None and not isinstance(pair[0], (list, dict)) and pair[0] is not None and pair[0] < pair[1]


def _constant(value: Any) -> _Node:
    return lambda scope: value


def _binary(operator: str, left: _Node, right: _Node) -> _Node:
    def node(scope: Scope) -> Any:
        first = left(scope)
        if operator == "&&":
            return right(scope) if truthy(first) else first
        if operator == "||":
            return first if truthy(first) else right(scope)
        second = right(scope)
        return {
            "==": lambda: equal(first, second),
            "!=": lambda: not equal(first, second),
            "<": lambda: _less(first, second),
            "<=": lambda: equal(first, second) or _less(first, second),
            ">": lambda: _less(second, first),
            ">=": lambda: equal(first, second) or _less(second, first),
        }[operator]()

    return node


def _star(node: _Node) -> _Node:
    def star(scope: Scope) -> Any:
        value = node(scope)
        items = _Filtered()
        for one in value if isinstance(value, _Filtered) else [value]:
            items.extend(one.values() if isinstance(one, dict) else one if isinstance(one, list) else [])
        return items

    return star


def _access(node: _Node, index: _Node) -> _Node:
    def access(scope: Scope) -> Any:
        value, key = node(scope), index(scope)
        if isinstance(value, _Filtered) and not isinstance(key, (int, float)):
            found = [_get(item, key) for item in value]
            return _Filtered(item for item in found if item is not None)
        return _get(value, key)

    return access


def _get(value: Any, key: Any) -> Any:
    if isinstance(value, dict):
        for name, item in value.items():
            if to_string(key).lower() == name.lower():
                return item
        if isinstance(value, Declared):
            raise ExpressionError(f"{value.what} has no {to_string(key)!r}; it has: {', '.join(value) or 'nothing'}")
        return None
    if isinstance(value, list):
        position = _number(key)
        if not math.isnan(position) and 0 <= position < len(value):
            return value[int(position)]
    return None


def _format(template: Any, *arguments: Any) -> str:
    def replace(match: re.Match[str]) -> str:
        if match[0] in ("{{", "}}"):
            return match[0][0]
        if match[1] is None:
            raise ExpressionError(f"invalid format string: {template}")
        if int(match[1]) >= len(arguments):
            raise ExpressionError(f"format string names more arguments than there are: {template}")
        return to_string(arguments[int(match[1])])

    return re.sub(r"\{\{|\}\}|\{(\d+)\}|[{}]", replace, to_string(template))


def _contains(searched: Any, item: Any) -> bool:
    if isinstance(searched, list):
        return any(equal(item, one) for one in searched)
    if isinstance(searched, dict) or isinstance(item, (list, dict)):
        return False
    return to_string(item).lower() in to_string(searched).lower()


def _at_edge(method: str) -> Function:
    def edge(searched: Any, part: Any) -> bool:
        if isinstance(searched, (list, dict)) or isinstance(part, (list, dict)):
            return False
        return bool(getattr(_upper(to_string(searched)), method)(_upper(to_string(part))))

    return edge


def _join(items: Any, separator: Any = ",") -> str:
    if isinstance(items, list):
        between = "," if isinstance(separator, (list, dict)) else to_string(separator)
        return between.join(to_string(item) for item in items)
    return "" if isinstance(items, dict) else to_string(items)


def _from_json(text: Any) -> Any:
    try:
        return json.loads(to_string(text))
    except ValueError as error:
        raise ExpressionError(f"fromJSON of {to_string(text)!r}: {error}") from None


def _to_json(value: Any) -> str:
    def plain(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: plain(inner) for key, inner in item.items()}
        if isinstance(item, list):
            return [plain(inner) for inner in item]
        return int(item) if isinstance(item, float) and item.is_integer() else item

    return json.dumps(plain(value), indent=2, ensure_ascii=False)


_FUNCTIONS: dict[str, Function] = {
    "contains": _contains,
    "startswith": _at_edge("startswith"),
    "endswith": _at_edge("endswith"),
    "format": _format,
    "join": _join,
    "tojson": _to_json,
    "fromjson": _from_json,
}
