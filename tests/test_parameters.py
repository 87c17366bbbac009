"""The parameter contract: read without executing, checked without guessing."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from papermill.translators import PythonTranslator

from lib.backends import backend_names
from lib.errors import UserError
from lib.series.notebook import injected_names, start
from lib.series.parameters import Parameter, Schema, load_schema, notebook_names, notebook_path, parse_parameters

CELL = """
profile: str = "fast"  # size of everything [smoke|fast|full]
num_epochs: int = 0  # training epochs, 0 = by profile [0..500]
min_seconds: float = 0.5  # a = b, then "#" in a comment [0..]
download: bool = False  # fetch what is missing
data_root: str = "a#b=c"  # default with signs that other readers trip over
backend: str = "torch-blas"  # what is measured [a backend]
"""


@pytest.fixture
def schema() -> Schema:
    return Schema("02_train", parse_parameters(CELL))


def test_cell_gives_names_types_defaults_and_limits(schema: Schema) -> None:
    assert list(schema) == ["profile", "num_epochs", "min_seconds", "download", "data_root", "backend"]
    assert schema["num_epochs"] == Parameter("num_epochs", "int", 0, "training epochs, 0 = by profile", (), 0, 500)
    assert schema["profile"].choices == ("smoke", "fast", "full")
    assert (schema["min_seconds"].low, schema["min_seconds"].high) == (0, None)
    assert schema["data_root"].default == "a#b=c"
    assert schema["backend"].choices == tuple(backend_names())


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("a: int = 1", "no comment"),
        ("a = 1  # untyped", "must read"),
        ("a: int | None = None  # union", "must read"),
        ("a: int = 1.5  # wrong default", "literal of type int"),
        ("a: bool = 1  # wrong default", "literal of type bool"),
        ("import os  # code", "must read"),
        ("a: int = f()  # call", "literal of type int"),
        ("a: int = -9  # default out of range [0..1000000]", "must be int in 0..1,000,000: got -9"),
        ('a: str = "y"  # default out of the choices [x|z]', "unknown a 'y'"),
        ("a: int = 1 2  # two values", "is not Python"),
        ('api_key: str = ""  # secret', "looks like a secret"),
    ],
)
def test_line_outside_the_contract_is_refused(line: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_parameters(line)


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("num_epochs", "12", 12),
        ("num_epochs", 12, 12),
        ("min_seconds", "2", 2.0),
        ("min_seconds", 3, 3.0),
        ("download", "true", True),
        ("download", "False", False),
        ("download", True, True),
        ("data_root", "/tmp/x", "/tmp/x"),
    ],
)
def test_value_gets_the_declared_type(schema: Schema, name: str, given: Any, expected: Any) -> None:
    value = schema.resolve({name: given})[name]
    assert value == expected and type(value) is type(expected)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("num_epochs", "1.5"),
        ("num_epochs", True),
        ("num_epochs", "501"),
        ("num_epochs", "-1"),
        ("num_epochs", "__import__('os')"),
        ("min_seconds", "nan"),
        ("min_seconds", "inf"),
        ("min_seconds", "-0.1"),
        ("download", "yes"),
        ("download", 1),
        ("data_root", 3),
        ("profile", "fats"),
        ("backend", "ort"),
    ],
)
def test_value_of_wrong_type_or_range_is_refused_with_what_is_allowed(schema: Schema, name: str, given: Any) -> None:
    with pytest.raises(UserError, match=name) as refusal:
        schema.resolve({name: given})
    assert repr(given) in str(refusal.value) or str(given) in str(refusal.value)


@pytest.mark.parametrize("value", ["'; import os #", '"""', "a\nb", "\\", "{x}", "$(rm -rf)", "\u2028", "üñ"])
def test_value_reaches_the_notebook_as_the_same_text_and_no_code(value: str) -> None:
    source = PythonTranslator.codify({"data_root": value})
    statements = ast.parse(source).body
    assert len(statements) == 1 and isinstance(statements[0], ast.Assign)
    assert ast.literal_eval(statements[0].value) == value


def test_only_names_of_the_newest_injected_cell_count() -> None:
    history = ["", "x = 1", "# Parameters\nold = 1\n", "# Parameters\nnum_epoch = 3\nprofile = 'smoke'\n", "y = 2"]
    assert injected_names(history) == ["num_epoch", "profile"]
    assert injected_names(["", "num_epoch = 3"]) == []


def namespace(**changes: Any) -> dict[str, Any]:
    values = {name: parameter.default for name, parameter in load_schema("02_train").items()}
    return {**values, "unrelated": 1, "In": [""], **changes}


def test_notebook_refuses_a_misspelt_injected_name(tmp_path: Any) -> None:
    mine = namespace(run_dir=str(tmp_path), num_epoch=3, In=["", "# Parameters\nnum_epoch = 3\n"])
    with pytest.raises(UserError, match="did you mean 'num_epochs'"):
        start("02_train", mine)


def test_notebook_gives_its_globals_the_declared_types(tmp_path: Any) -> None:
    mine = namespace(
        run_dir=str(tmp_path), download="false", num_epochs=4, In=["", "# Parameters\ndownload = 'false'\n"]
    )
    run = start("02_train", mine)
    assert mine["download"] is False and run.params["download"] is False and run.params["num_epochs"] == 4


def test_notebook_shows_parameters_and_machine_as_tables(tmp_path: Any) -> None:
    html = start("02_train", namespace(run_dir=str(tmp_path)))._repr_html_()
    assert "num_epochs" in html and "training epochs" not in html.split("num_epochs")[0]
    assert "Machine" in html


@pytest.mark.parametrize(
    "given", ["03", "benchmark", "03_benchmark", "03_benchmark.ipynb", "notebooks/03_benchmark.ipynb"]
)
def test_notebook_is_found_under_each_of_its_names(given: str) -> None:
    assert notebook_path(given).stem == "03_benchmark"


DIFFERENT = ("num_threads", "data_root")  # trains or measures with them; 05 looks where the training did


def test_parameter_of_the_same_name_means_the_same_in_every_notebook() -> None:
    seen: dict[str, Parameter] = {}
    for name in notebook_names():
        for parameter in load_schema(name).values():
            assert seen.setdefault(parameter.name, parameter) == parameter or parameter.name in DIFFERENT
