"""Open Inference Protocol, version 2: tensors in, tensors out, as JSON or as bytes behind a JSON header.

The one input is `pixels`: decoded images, resized to the network's size, before normalization.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np

from lib.release.reader import OUTPUT, Release
from lib.serving.decoding import Refused
from lib.serving.engine import MAX_BATCH

MODEL = "gtsrb"
INPUT = "pixels"
PROBABILITIES = "probabilities"
HEADER_LENGTH = "inference-header-content-length"  # of the JSON, where bytes of tensors follow
SERVER = {"name": "gtsrb-serving", "extensions": ["binary_tensor_data"]}


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


def parse(body: bytes, header_length: str | None, image_shape: tuple[int, ...]) -> Question:
    """A request to infer.

    Args:
        header_length: bytes of JSON at the start of the body; None where it is JSON alone.

    Raises:
        Refused: not such a request, or a tensor that the network does not take.
    """
    length = len(body) if header_length is None else int(header_length) if header_length.isdecimal() else -1
    if not 0 <= length <= len(body):
        raise _bad(f"the header {HEADER_LENGTH} is {header_length!r}; give the number of bytes of the JSON")
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
    if pixels.size != np.prod(shape):
        raise _bad(f"the input has {pixels.size:,} values, and its shape asks for {np.prod(shape):,}")
    return Question(pixels.reshape(shape), question_id, outputs)


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
        values = np.array(data)
        if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 255:
            raise ValueError
    except (ValueError, OverflowError, RecursionError):
        raise _bad("the data of the input must be whole numbers from 0 to 255, flat or in the given shape") from None
    return values.astype(np.uint8).ravel()


def _bad(sentence: str) -> Refused:
    return Refused(400, "request", sentence)
