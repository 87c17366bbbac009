"""Open Inference Protocol, version 2: tensors in, tensors out, as JSON or as bytes behind a JSON header.

The one input is `pixels`: decoded images, resized to the network's size, before normalization.
"""

from __future__ import annotations

import json
import math
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from lib.release.reader import OUTPUT, Release
from lib.serving.decoding import MAX_BYTES, Refused
from lib.serving.engine import MAX_BATCH

MODEL = "gtsrb"
INPUT = "pixels"
PROBABILITIES = "probabilities"
HEADER_LENGTH = "inference-header-content-length"  # of the JSON, where bytes of tensors follow
SERVER = {"name": "gtsrb-serving", "extensions": ["binary_tensor_data"]}
_SWITCH = {"type": "boolean"}
REQUEST: dict[str, Any] = {  # JSON schema of a request to infer; the shape is checked with the release that answers
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": {"type": "object", "properties": {"binary_data_output": _SWITCH}},
        "inputs": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "datatype", "shape"],
                "properties": {
                    "name": {"enum": [INPUT]},
                    "datatype": {"enum": ["UINT8"]},
                    "shape": {"type": "array", "minItems": 4, "maxItems": 4, "items": {"type": "integer"}},
                    "data": {
                        "description": "Pixels, flat; nested lists are also taken.",
                        "type": "array",
                        "items": {"type": "integer", "minimum": 0, "maximum": 255},
                    },
                    "parameters": {"type": "object", "properties": {"binary_data_size": {"type": "integer"}}},
                },
            },
        },
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"enum": [OUTPUT, PROBABILITIES]},
                    "parameters": {"type": "object", "properties": {"binary_data": _SWITCH}},
                },
            },
        },
    },
}


class Question(NamedTuple):
    """What a request asks."""

    pixels: np.ndarray  # uint8 (N, 3, H, W)
    id: str
    outputs: dict[str, bool]  # name -> whether as bytes


def metadata(release: Release) -> dict[str, Any]:
    """Inputs and outputs of the model."""
    num_classes = len(release.labels)
    return {
        "name": MODEL,
        "versions": [release.version],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, *release.preprocessing.image_shape]}],
        "outputs": [{"name": name, "datatype": "FP32", "shape": [-1, num_classes]} for name in (OUTPUT, PROBABILITIES)],
        "parameters": {"digest": release.digest},
    }


def max_bytes(image_shape: tuple[int, ...]) -> int:
    """Of a request to infer: a full batch as indented JSON, and what stands around it.

    The event loop parses it, and every other request waits meanwhile.
    """
    return min(MAX_BYTES, 64 * 1024 + MAX_BATCH * math.prod(image_shape) * len(" 255,\r\n"))


def num_bytes(header: str) -> int | None:
    """What a header says; None where it is not a number of bytes."""
    return int(header) if header.isdecimal() and len(header) < 20 else None


def parse(body: bytes, header_length: str | None, image_shape: tuple[int, ...]) -> Question:
    """A request to infer.

    Args:
        header_length: bytes of JSON at the start of the body; None where it is JSON alone.

    Raises:
        Refused: not such a request, or a tensor that the network does not take.
    """
    length = len(body) if header_length is None else num_bytes(header_length)
    if length is None or length > len(body):
        raise _bad(f"the header {HEADER_LENGTH} is {header_length!r:.60}; give the number of bytes of the JSON")
    try:
        asked = json.loads(body[:length])
        (given,) = asked["inputs"]
        wanted = asked.get("outputs") or [{"name": OUTPUT}, {"name": PROBABILITIES}]
        all_binary = _parameter(asked, "binary_data_output", False)
        outputs = {str(each["name"]): bool(_parameter(each, "binary_data", all_binary)) for each in wanted}
        question_id = str(asked.get("id", ""))
        name, datatype, shape = given["name"], given["datatype"], given["shape"]
        size = _parameter(given, "binary_data_size", None)
        data = given.get("data")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise _bad("the body is not a request of the Open Inference Protocol with one input") from None
    if unknown := sorted(set(outputs) - {OUTPUT, PROBABILITIES}):
        raise _bad(f"there is no output {unknown[0][:40]!r}; there are {OUTPUT} and {PROBABILITIES}")
    right = isinstance(shape, list) and shape[1:] == list(image_shape) and type(shape[0]) is int
    if (name, datatype) != (INPUT, "UINT8") or not right or not 1 <= shape[0] <= MAX_BATCH:
        raise _bad(f"the input must be {INPUT}, UINT8, of shape {['N', *image_shape]} with N from 1 to {MAX_BATCH}")
    if size is not None:
        pixels = np.frombuffer(body[length:], np.uint8)
        if size != len(pixels):
            raise _bad(f"{len(pixels)} bytes follow the JSON, and binary_data_size is {size!r}")
    else:
        pixels = _flat(data)
    if pixels.size != shape[0] * math.prod(image_shape):
        raise _bad(f"the input has {pixels.size:,} values; its shape asks for {shape[0] * math.prod(image_shape):,}")
    return Question(pixels.reshape(-1, *image_shape), question_id, outputs)


def answer(question: Question, tensors: dict[str, np.ndarray], release: Release) -> tuple[bytes, int | None]:
    """The body of an answer, and how many of its bytes are JSON if tensors follow as bytes."""
    outputs: list[dict[str, Any]] = []
    behind = []
    for name, binary in question.outputs.items():
        tensor = np.ascontiguousarray(tensors[name], "<f4")
        entry: dict[str, Any] = {"name": name, "datatype": "FP32", "shape": list(tensor.shape)}
        if binary:
            behind.append(tensor.tobytes())
            entry["parameters"] = {"binary_data_size": tensor.nbytes}
        else:
            entry["data"] = tensor.ravel().tolist()
        outputs.append(entry)
    content = {
        "model_name": MODEL,
        "model_version": release.version,
        "id": question.id,
        "parameters": {"digest": release.digest},
        "outputs": outputs,
    }
    head = json.dumps(content).encode()
    return b"".join([head, *behind]), len(head) if behind else None


def _parameter(entry: dict[str, Any], name: str, default: object) -> Any:
    return (entry.get("parameters") or {}).get(name, default)


def _flat(data: object) -> np.ndarray:
    """Whole numbers from 0 to 255, flat or nested."""
    try:
        while isinstance(data, list) and data and isinstance(data[0], list):
            data = list(chain.from_iterable(data))
        if isinstance(data, list):
            return np.frombuffer(bytes(data), np.uint8)  # np.array would need memory for the longest of all texts
    except (TypeError, ValueError):
        pass
    raise _bad("the data of the input must be whole numbers from 0 to 255, flat or in the given shape")


def _bad(sentence: str) -> Refused:
    return Refused(400, "request", sentence)
