"""The variant of a model that takes the bytes of pixels: the normalization becomes its first steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lib.data.preprocessing import Preprocessing
from lib.release.reader import INPUT, PIXELS


def pixels_variant(model: Path, preprocessing: Preprocessing) -> bytes:
    """A copy of an ONNX file whose input is `pixels`, uint8 (N, H, W, 3), RGB, at the size of the network.

    The same operations as `Preprocessing.normalize`, in the same order, each in fp32: the answers are equal to the bit
    where a runtime does not rewrite them.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    loaded = onnx.load(model)
    graph = loaded.graph
    batch = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    size = preprocessing.image_size
    constants = {
        "pixels.scale": np.array(255, np.float32),
        "pixels.mean": np.array(preprocessing.mean, np.float32).reshape(1, 3, 1, 1),
        "pixels.std": np.array(preprocessing.std, np.float32).reshape(1, 3, 1, 1),
    }
    steps: list[Any] = [
        helper.make_node("Transpose", [PIXELS], ["pixels:chw"], "pixels/Transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["pixels:chw"], ["pixels:float"], "pixels/Cast", to=TensorProto.FLOAT),
        helper.make_node("Div", ["pixels:float", "pixels.scale"], ["pixels:unit"], "pixels/Div"),
        helper.make_node("Sub", ["pixels:unit", "pixels.mean"], ["pixels:centred"], "pixels/Sub"),
        helper.make_node("Div", ["pixels:centred", "pixels.std"], [INPUT], "pixels/Div~2"),
    ]
    nodes = [*steps, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    graph.input[0].CopyFrom(helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, [batch, size, size, 3]))
    onnx.checker.check_model(loaded)
    variant: bytes = loaded.SerializeToString(deterministic=True)
    return variant
