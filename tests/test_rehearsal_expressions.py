"""The rehearsal's expressions say what GitHub's own evaluator says, and its conditions follow the status of a job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.rehearsal.expressions import Declared, ExpressionError, Scope, condition, evaluate, interpolate, resolve

GOLDEN = json.loads((Path(__file__).parent / "rehearsal/golden_expressions.json").read_text())


@pytest.mark.parametrize(("expression", "outcome"), GOLDEN["outcomes"], ids=[text for text, _ in GOLDEN["outcomes"]])
def test_expression_has_the_outcome_that_github_gives(expression: str, outcome: dict[str, Any]) -> None:
    if "error" in outcome:
        with pytest.raises(ExpressionError):
            evaluate(expression, Scope(GOLDEN["contexts"]))
    else:
        found = evaluate(expression, Scope(GOLDEN["contexts"]))
        assert (found, isinstance(found, bool)) == (outcome["value"], isinstance(outcome["value"], bool))


def scope(success: bool = True, **contexts: Any) -> Scope:
    status = {"success": success, "failure": not success, "always": True, "cancelled": False}
    return Scope(contexts, {name: (lambda value=value: value) for name, value in status.items()})


@pytest.mark.parametrize(
    ("text", "after_success", "after_failure"),
    [
        (None, True, False),
        ("true", True, False),
        ("false", False, False),
        ("1 == 1", True, False),
        ("${{ 1 == 1 }}", True, False),
        ("always()", True, True),
        ("${{ always() && 1 == 2 }}", False, False),
        ("failure()", False, True),
        ("!cancelled()", True, True),
        ("${{ !Cancelled() && 'a' == 'A' }}", True, True),
        ("'success()' == 'x'", False, False),
        ("'always()' != ''", True, False),
        (True, True, False),
    ],
)
def test_condition_requires_success_unless_it_asks_for_a_status(
    text: str | bool | None, after_success: bool, after_failure: bool
) -> None:
    assert condition(text, scope(success=True)) is after_success
    assert condition(text, scope(success=False)) is after_failure


def test_text_beside_an_expression_in_a_condition_is_refused() -> None:
    with pytest.raises(ExpressionError, match="always true"):
        condition("${{ 1 == 2 }} && true", scope())


def test_a_whole_expression_keeps_its_type_and_a_part_becomes_text() -> None:
    here = scope(matrix={"threads": 4, "on": True, "none": None, "list": [1]})
    assert interpolate("${{ matrix.threads }}", here) == 4
    assert interpolate("n=${{ matrix.threads }}/${{ matrix.on }}/${{ matrix.none }}/${{ matrix.list }}", here) == (
        "n=4/true//Array"
    )
    assert interpolate("${{ '}}' }}!", here) == "}}!"
    assert resolve({"a": ["${{ matrix.on }}"], "b": 1}, here) == {"a": [True], "b": 1}


def test_context_that_is_not_available_is_refused() -> None:
    with pytest.raises(ExpressionError, match="unrecognized named-value 'env'; available here: github"):
        evaluate("env.HOME", scope(github={}))


def test_misspelt_output_is_refused_and_not_an_empty_string() -> None:
    with pytest.raises(ExpressionError, match=r"needs\.plan\.outputs has no 'backend'; it has: backends"):
        evaluate("plan.backend", scope(plan=Declared("needs.plan.outputs", {"backends": "[]"})))


def test_expression_that_is_not_closed_is_refused() -> None:
    with pytest.raises(ExpressionError, match="not closed"):
        interpolate("${{ 'a' ", scope())
