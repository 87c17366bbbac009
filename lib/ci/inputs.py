"""The inputs of the workflows, written from the parameter schema. A test compares them with the files."""

from __future__ import annotations

import json
from typing import Any

from lib.ci.settings import OTHERWISE, PARAMETERS
from lib.data.sets import fetchable_names
from lib.series.jobs import TRAIN
from lib.series.parameters import Parameter, load_schema

BACKENDS_HELP = "backends that are measured, with commas between them; empty: all default ones"


def dispatch_inputs() -> dict[str, dict[str, Any]]:
    """Inputs of `workflow_dispatch`, for the form behind the button *Run workflow*."""
    schema = load_schema(TRAIN)
    fields = {name: _field(schema[name]) for name in PARAMETERS}
    backends = {"description": BACKENDS_HELP, "type": "string", "default": ""}
    return {**{name: fields[name] for name in ("profile", "dataset", "recipe")}, "backends": backends,
            "num_threads": fields["num_threads"]}  # fmt: skip


def call_inputs() -> dict[str, dict[str, Any]]:
    """The same for `workflow_call`, all as text: a form hands numbers on as text, and `ci settings` checks them."""
    return {
        name: {"description": field["description"], "type": "string", "default": str(field["default"])}
        for name, field in dispatch_inputs().items()
    }


def inputs_yaml() -> str:
    """Both blocks as they stand in the files, with a line of comment before each."""
    return "".join(
        f"# on.{trigger}.inputs\n{_yaml(inputs)}"
        for trigger, inputs in (("workflow_dispatch", dispatch_inputs()), ("workflow_call", call_inputs()))
    )


def _field(parameter: Parameter) -> dict[str, Any]:
    default = OTHERWISE.get(parameter.name, parameter.default)
    if parameter.choices:
        options = fetchable_names() if parameter.name == "dataset" else list(parameter.choices)
        return {
            "description": parameter.help,
            "type": "choice",
            "options": options,
            "default": default,
        }
    return {"description": parameter.help, "type": "number", "default": default}


def _yaml(inputs: dict[str, dict[str, Any]]) -> str:
    """JSON scalars and lists are YAML; the indent is that below `inputs:`."""
    lines = []
    for name, field in inputs.items():
        lines.append(f"      {name}:\n")
        lines += [f"        {key}: {_scalar(value)}\n" for key, value in field.items()]
    return "".join(lines)


def _scalar(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(str, value)) + "]"
    return value if isinstance(value, str) and value.isidentifier() else json.dumps(value, ensure_ascii=False)
