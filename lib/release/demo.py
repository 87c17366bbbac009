"""The network of a release inside one HTML file, which reads signs in a browser without a server and without a request.

Weights have 8 bits, with a scale for each filter and batch norm folded into them; the page computes in float32.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from lib.errors import UserError
from lib.files import project_path, sha256_source, write_atomic
from lib.header import CheckpointMetadata
from lib.release.page import page, page_part
from lib.release.reader import FP32, INPUT, OUTPUT, Manifest, Release
from lib.signs import artwork_svg, sign_named

MAX_BYTES = 1_000_000  # of the page in a release; `write_demo` makes larger ones too
_LEVELS = 127
# What demo.js computes: the attributes that it reads, and those that have only this value there.
_OPERATIONS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "Conv": (("strides", "pads"), {"group": 1, "dilations": [1, 1]}),
    "MaxPool": (("strides", "kernel_shape"), {"pads": [0] * 4, "dilations": [1, 1], "ceil_mode": 0}),
    "Gemm": ((), {"alpha": 1, "beta": 1, "transB": 1}),
    "Relu": ((), {}),
    "Add": ((), {}),
    "GlobalAveragePool": ((), {}),
    "Flatten": ((), {"axis": 1}),
}
_WITH_WEIGHTS = ("Conv", "Gemm")


def demo_of(model: Path, manifest: Manifest, network: CheckpointMetadata) -> tuple[str, str]:
    """The page, and the part of it that follows from the network alone, in whatever version of the page.

    Args:
        model: an ONNX file that takes normalized images.
        network: what its checkpoint says of itself.

    Raises:
        UserError: an operation that the page does not compute, or onnx is missing.
    """
    used = network.preprocessing
    content = _embedded(
        {
            "name": f"{manifest.name} {manifest.version}",
            "labels": network.classes,
            "temperature": network.temperature,
            "least_confidence": network.least_confidence,
            "pixels": {"size": used.image_size, "mean": used.mean, "deviation": used.std},
            "input": INPUT,
            "output": OUTPUT,
            "nodes": _folded_nodes(model),
        }
    )
    signs = {sign.name: artwork_svg(sign.class_id) for sign in map(sign_named, network.classes) if sign is not None}
    style, script = page_part("page.css"), page_part("page.js") + page_part("demo.js")
    policy = (
        f"default-src 'none'; img-src data: blob:; style-src {sha256_source(style)}; script-src "
        f"{sha256_source(script)}; base-uri 'none'; form-action 'none'"
    )
    head = (
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<link rel="icon" href="data:,">\n'
        f"<style>{style}</style>"
    )
    blocks = {"network": content, "artwork": _embedded(signs)}
    data = "\n".join(f'<script type="application/json" id="{name}">{text}</script>' for name, text in blocks.items())
    return page(head, f"{data}\n<script>{script}</script>"), content


def write_demo(release: str, out: str) -> Path:
    """Write the page of a release, however large it is.

    Raises:
        UserError: as `demo_of`, no release, or a file that cannot be written.
    """
    loaded = Release.load(release)
    path = project_path(out)
    write_atomic(path, demo_of(loaded.model(FP32), loaded.manifest, loaded.metadata)[0])
    return path


def _embedded(content: Any) -> str:
    """JSON that no HTML parser takes for the end of the element it is in."""
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")


def _folded_nodes(model: Path) -> list[dict[str, Any]]:
    """The nodes of an ONNX file in order, each batch norm folded into the convolution before it, weights in 8 bits."""
    try:
        import onnx
    except ImportError:
        raise UserError("onnx is not installed; install it with `pip install onnx`") from None
    graph = onnx.load(model).graph
    arrays = {array.name: onnx.numpy_helper.to_array(array) for array in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    nodes: dict[str, dict[str, Any]] = {}  # by output
    weights: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # and bias, by the output of the node
    renamed: dict[str, str] = {}  # output of a batch norm -> of the node that it is folded into
    for node in graph.node:
        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        inputs = [renamed.get(name, name) for name in node.input if name not in arrays]
        given = [arrays[name] for name in node.input if name in arrays]
        (output,) = node.output
        if node.op_type == "BatchNormalization" and inputs[0] in weights and uses[node.input[0]] == 1:
            kernel, bias = weights[inputs[0]]
            gain, shift, mean, variance = given
            factor = gain / np.sqrt(variance + np.float32(attributes["epsilon"]))
            folded = kernel * factor.reshape(-1, *[1] * (kernel.ndim - 1))
            weights[inputs[0]] = folded, (bias - mean) * factor + shift
            renamed[output] = inputs[0]
            continue
        kept, fixed = _OPERATIONS.get(node.op_type, ((), {"": ""}))
        if {name: attributes.get(name) for name in fixed} != fixed or bool(given) != (node.op_type in _WITH_WEIGHTS):
            raise UserError(f"the page does not compute {node.name} ({node.op_type}) of this network")
        nodes[output] = {"operation": node.op_type, "inputs": inputs, "output": output}
        nodes[output] |= {name: attributes[name] for name in kept}
        if given:
            weights[output] = given[0], given[1] if len(given) > 1 else np.zeros(len(given[0]), np.float32)
    for output, (kernel, bias) in weights.items():
        nodes[output] |= _in_levels(kernel, bias)
    return list(nodes.values())


def _in_levels(kernel: np.ndarray, bias: np.ndarray) -> dict[str, Any]:
    """Weights as whole numbers from -127 to 127, with a scale for each filter."""
    rows = kernel.reshape(len(kernel), -1)
    scales = np.maximum(np.abs(rows).max(axis=1), np.float32(1e-30)) / np.float32(_LEVELS)
    levels = np.rint(rows / scales[:, None]).astype(np.int8)
    arrays = {"levels": levels, "scales": scales, "bias": bias.astype(np.float32)}
    return {
        "shape": list(kernel.shape),
        **{name: base64.b64encode(array.tobytes()).decode() for name, array in arrays.items()},
    }
