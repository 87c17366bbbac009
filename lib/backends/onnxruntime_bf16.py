"""ONNX Runtime on Arm: the fp32 model, allowed to multiply in bf16 (`mlas.enable_gemm_fastmath_arm64_bfloat16`).

Matrix products have bf16 kernels, and of the convolutions those with 1x1 pixels, depthwise ones and those that read an
image; whether others do depends on release and build. A profile says `float` either way. Only the result shows it:
each convolution and product is run once more on its own, with and without the switch, on the same numbers. Rounding
factors to bf16 changes results by about a thousandth, adding in another order by less than a millionth.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from lib.backends._onnx import INPUT
from lib.backends.interface import Kernels, register
from lib.backends.onnxruntime import CONVOLUTIONS, PRODUCTS, PROVIDER, OnnxRuntime, groups_with, kernels_of
from lib.machine import flags_for

IN_BF16 = "multiplies in bf16: differs from fp32 as bf16 rounding does"
IN_FP32 = "multiplies in fp32: same result as without bf16"
_SWITCH = "mlas.enable_gemm_fastmath_arm64_bfloat16"
_LEAST_BF16_DIFFERENCE = 2.0**-14  # of the result, root mean square: bf16 rounds factors by up to 2^-9, fp32 by 2^-24


@register
class OnnxRuntimeBf16(OnnxRuntime):
    name = "onnxruntime-bf16"
    title = "ONNX Runtime, fp32 model multiplied in bf16"
    promise = "convolutions multiply in bf16"
    order = 120
    precision = "bf16"
    storage = "fp32"
    architectures = ("aarch64",)
    needs_any_flag = flags_for("bf16", "aarch64")
    session_entries: ClassVar[dict[str, str]] = {_SWITCH: "1"}

    def trace(self, images: np.ndarray) -> Kernels:
        """As in fp32, and of each convolution and product in which type it multiplies."""
        passes, optimized = self.profile(images, 1)
        kernels = kernels_of(passes[0])
        shapes = {INPUT: list(images.shape)}
        for step in passes[0]:
            shapes |= dict(zip(step.node.output, step.output_shapes, strict=False))
        for step in passes[0]:
            if step.node.op_type in CONVOLUTIONS + PRODUCTS:
                kernels[step.group].append(self.multiplies_in(step.node, optimized, shapes))
        return kernels

    def broken_promise(self, kernels: Kernels) -> str:
        in_bf16 = {group for group, names in kernels.items() if IN_BF16 in names}
        if not in_bf16:
            return "no convolution and no matrix product multiplied in bf16"
        convolutions = groups_with(kernels, CONVOLUTIONS)
        if convolutions and not in_bf16 & set(convolutions):
            return f"all {len(convolutions)} convolutions multiplied in fp32"
        return ""

    def doubts(self, kernels: Kernels) -> str:
        in_fp32 = [group for group, names in kernels.items() if IN_FP32 in names]
        return f"{len(in_fp32)} layers multiplied in fp32, e.g. {in_fp32[0]}" if in_fp32 else ""

    def multiplies_in(self, node: Any, optimized: Any, shapes: dict[str, list[int]]) -> str:
        """Run one node of the optimized graph with and without the switch, on its own weights and random numbers."""
        import onnx
        import onnxruntime

        weights = [weight for weight in optimized.graph.initializer if weight.name in node.input]
        inputs = [name for name in dict.fromkeys(node.input) if name in shapes]
        number = onnx.TensorProto.FLOAT
        graph = onnx.helper.make_graph(
            [node],
            "one_node",
            [onnx.helper.make_tensor_value_info(name, number, shapes[name]) for name in inputs],
            [onnx.helper.make_tensor_value_info(node.output[0], number, None)],
            weights,
        )
        model = onnx.helper.make_model(
            graph, opset_imports=optimized.opset_import, ir_version=optimized.ir_version
        ).SerializeToString()
        random = np.random.default_rng(0)
        values = {name: random.normal(size=shapes[name]).astype(np.float32) for name in inputs}
        results = []
        for switch in (self.session_entries[_SWITCH], "0"):
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = self.num_threads
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.add_session_config_entry(_SWITCH, switch)
            session = onnxruntime.InferenceSession(model, options, providers=[PROVIDER])
            results.append(session.run(None, values)[0])
        return product_type(*results)


def product_type(result: np.ndarray, in_fp32: np.ndarray) -> str:
    """In which type a result was multiplied that is known in fp32."""
    size = float(np.linalg.norm(in_fp32))
    difference = float(np.linalg.norm(result - in_fp32))
    return IN_BF16 if difference > _LEAST_BF16_DIFFERENCE * size else IN_FP32
