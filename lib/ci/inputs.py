"""The inputs of the workflows, written from the parameter schema. A test compares them with the files."""

from __future__ import annotations

import json
from typing import Any

from lib.ci.settings import OTHERWISE
from lib.data.sets import fetchable_names
from lib.records.schema import TRAIN
from lib.series.parameters import load_schema

BACKENDS_HELP = "backends that are measured, with commas between them; empty: all default ones"


def dispatch_inputs() -> dict[str, dict[str, Any]]:
    """Inputs of `workflow_dispatch`, for the form behind the button *Run workflow*."""
    schema = load_schema(TRAIN)
    fields: dict[str, dict[str, Any]] = {}
    for name in ("profile", "dataset", "recipe"):
        options = fetchable_names() if name == "dataset" else list(schema[name].choices)
        default = OTHERWISE.get(name, schema[name].default)
        fields[name] = {"description": schema[name].help, "type": "choice", "options": options, "default": default}
    fields["backends"] = {"description": BACKENDS_HELP, "type": "string", "default": ""}
    threads = schema["num_threads"]
    fields["num_threads"] = {"description": threads.help, "type": "number", "default": threads.default}
    return fields


def call_inputs() -> dict[str, dict[str, Any]]:
    """The same for `workflow_call`, all as text: a form hands numbers on as text, and `ci settings` checks them."""
    return {
        name: {"description": field["description"], "type": "string", "default": str(field["default"])}
        for name, field in dispatch_inputs().items()
    }


def inputs_yaml() -> str:
    """Both blocks as they stand in the files, with a line of comment before each. JSON is YAML."""
    lines = []
    for trigger, inputs in (("workflow_dispatch", dispatch_inputs()), ("workflow_call", call_inputs())):
        lines.append(f"# on.{trigger}.inputs\n")
        for name, field in inputs.items():
            lines.append(f"      {name}:\n")
            lines += [f"        {key}: {json.dumps(value)}\n" for key, value in field.items()]
    return "".join(lines)
