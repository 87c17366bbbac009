"""OpenVINO in int8: weights and activations quantized after training by NNCF.

NNCF's defaults are made for large feature maps and lose several times more on small ones (21.5 dB of signal to error
instead of 32.9 on a trained network for 32 px):

- A range is the extremes over all calibration images, not the mean of the extremes of each batch, which clips.
- No bias correction. It estimates the shift of a convolution from one mean input, and on a map of 4 x 4 px most
  outputs see the zero padding that the estimate leaves out. Channels with weights of their own scale need none.

Residual sums and the first convolution are quantized as well. On x86-64 without VNNI products of 8-bit numbers may
overflow, for which NNCF keeps the first layer's weights to 7 bits. Int8 costs a few images in a thousand near the
border between two classes: 0.3 points of top-1 are allowed.

On Arm the plugin (2026.4.1, seen by traces) runs 3 of the 14 convolutions of a residual network in int8, those with a
stride, and the others in fp32, five of them on reference code. It leaves 3x3 convolutions of stride 1 in fp32 however
they are quantized (docs/arm.md), also in a plain chain of them with up to 384 channels: the Arm Compute Library's are
slower in int8 than in fp32 (ARM-software/ComputeLibrary#1225). There the proof reports that this backend is not what
its name promises, and asks to investigate.
"""

from __future__ import annotations

import contextlib
import io
import logging
import platform
from typing import TYPE_CHECKING

import numpy as np

from lib.backends._openvino import OpenVino, convolutions
from lib.backends.interface import Kernels, Tolerance, register

if TYPE_CHECKING:
    import openvino

_BATCH = 32  # images at a time; does not alter the result


@register
class OpenVinoInt8(OpenVino):
    name = "openvino-int8"
    title = "OpenVINO, int8 weights and activations (post-training quantization by NNCF)"
    promise = "convolutions run in int8 in OpenVINO's CPU plugin in the offline scenario"
    order = 150
    default = True
    precision = "int8"
    packages = ("openvino", "nncf")
    needs_calibration = True
    tolerance = Tolerance(0.003, 20.0, 0.99)
    kernel_types = ("i8", "u8")

    def lower(self, exported: openvino.Model, calibration: np.ndarray) -> openvino.Model:
        import nncf
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

        nncf.set_log_level(logging.ERROR)
        batches = [calibration[start : start + _BATCH] for start in range(0, len(calibration), _BATCH)]
        settings = nncf.AdvancedQuantizationParameters(
            disable_bias_correction=True, activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
        )
        with contextlib.redirect_stdout(io.StringIO()):  # progress bars
            quantized: openvino.Model = nncf.quantize(
                exported, nncf.Dataset(batches), subset_size=len(batches), advanced_parameters=settings
            )
        return quantized

    def broken_promise(self, kernels: Kernels) -> str:
        return "" if self._partly_on_arm(kernels) else super().broken_promise(kernels)

    def doubts(self, kernels: Kernels) -> str:
        doubts = super().doubts(kernels)
        return f"not what its name promises: on Arm {doubts}" if self._partly_on_arm(kernels) else doubts

    def _partly_on_arm(self, kernels: Kernels) -> bool:
        """Some convolutions ran in int8, and the greater part did not: this is the best that the plugin does on Arm."""
        on_arm = platform.machine() == "aarch64"
        return on_arm and bool(super().broken_promise(kernels)) and bool(self.promised(convolutions(kernels)))
