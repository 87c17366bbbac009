"""ONNX Runtime, int8 weights and activations: static post-training quantization of convolutions, sums and pools.

The type of the activations decides between twice as fast as fp32 and slower than fp32:

- x86-64: uint8. MLAS multiplies uint8 by int8 with VNNI and has no fast kernel for int8 by int8. For int8 activations
  (the default of the quantization tool) ONNX Runtime turns them into uint8 when loading, but not where a tensor has
  two readers, as at each residual connection; there the layers stay unfused and run in fp32 between conversions.
- Arm: int8. Its kernels multiply int8 by int8 (SDOT, SMMLA), for convolutions of 64 and more channels without
  gathering pixels first.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lib.backends._onnx import INPUT
from lib.backends.interface import Kernels, register
from lib.backends.onnxruntime import CONVOLUTIONS, EXPORTED, PRODUCTS, PROVIDER, OnnxRuntime, groups_with
from lib.machine import isa_flags

_QUANTIZED = "quantized.onnx"
_INT8_CONVOLUTIONS = ("QLinearConv", "ConvInteger")
_INT8_PRODUCTS = ("QGemm", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat")
_CALIBRATION_BATCH = 32


@register
class OnnxRuntimeInt8(OnnxRuntime):
    """Ranges of activations are the least and largest values seen; weights have a scale per output channel."""

    name = "onnxruntime-int8"
    title = "ONNX Runtime, int8 weights and activations"
    promise = "convolutions run in int8 on ONNX Runtime's CPU provider"
    order = 110
    default = True
    precision = "int8"
    needs_calibration = True
    model_file = _QUANTIZED

    def prepare(self, checkpoint: Path, calibration: np.ndarray, folder: Path) -> None:
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        super().prepare(checkpoint, calibration, folder)
        folded = folder / "folded.onnx"  # batch norm within the convolutions
        quant_pre_process(folder / EXPORTED, folded, skip_symbolic_shape=True)
        x86 = platform.machine() == "x86_64"
        quantize_static(
            folded,
            folder / _QUANTIZED,
            _Batches(calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8 if x86 else QuantType.QInt8,
            weight_type=QuantType.QInt8,
            # without VNNI two products are added in 16 bits, where 8-bit weights overflow
            reduce_range=x86 and not {"avx512_vnni", "avx_vnni"} & set(isa_flags()),
            calibrate_method=CalibrationMethod.MinMax,
        )
        folded.unlink()

    def broken_promise(self, kernels: Kernels) -> str:
        in_int8 = groups_with(kernels, _INT8_CONVOLUTIONS + _INT8_PRODUCTS, PROVIDER)
        if not in_int8:
            return f"no convolution and no matrix product ran in int8 on {PROVIDER}"
        int8, fp32 = groups_with(kernels, _INT8_CONVOLUTIONS), groups_with(kernels, CONVOLUTIONS)
        if len(fp32) >= max(1, len(int8)):
            return f"{len(fp32)} of {len(fp32) + len(int8)} convolutions ran in fp32, e.g. {fp32[0]}"
        return ""

    def doubts(self, kernels: Kernels) -> str:
        fp32 = groups_with(kernels, CONVOLUTIONS + PRODUCTS)
        return f"{len(fp32)} layers ran in fp32, e.g. {fp32[0]}" if fp32 else ""


class _Batches:
    """What the quantization tool reads images from."""

    def __init__(self, images: np.ndarray) -> None:
        self._batches: Iterator[np.ndarray] = iter(
            [images[start : start + _CALIBRATION_BATCH] for start in range(0, len(images), _CALIBRATION_BATCH)]
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}
