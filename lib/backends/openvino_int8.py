"""OpenVINO in int8: weights and activations quantized after training by NNCF.

Ranges come from 512 training images; the small shift of each layer's mean output that rounding its weights causes is
measured on them and taken from its bias. Residual sums and the first convolution are quantized as well. Int8 costs a
few images in ten thousand: 0.3 points of top-1 are allowed.
"""

from __future__ import annotations

import contextlib
import io
import logging
from typing import TYPE_CHECKING

import numpy as np

from lib.backends._openvino import OpenVino
from lib.backends.interface import register

if TYPE_CHECKING:
    import openvino

_BATCH = 32  # a range is the mean over batches of the extremes in each


@register
class OpenVinoInt8(OpenVino):
    name = "openvino-int8"
    title = "OpenVINO, int8 weights and activations (post-training quantization by NNCF)"
    promise = "convolutions run in int8 in OpenVINO's CPU plugin in the offline scenario"
    order = 150
    precision = "int8"
    packages = ("openvino", "nncf")
    needs_calibration = True
    top1_drop = 0.003
    sqnr_min_db = 15.0
    agreement_min = 0.99
    kernel_types = ("i8", "u8")

    def lower(self, exported: openvino.Model, calibration: np.ndarray) -> openvino.Model:
        import nncf

        nncf.set_log_level(logging.ERROR)
        batches = [calibration[start : start + _BATCH] for start in range(0, len(calibration), _BATCH)]
        with contextlib.redirect_stdout(io.StringIO()):  # progress bars
            quantized: openvino.Model = nncf.quantize(
                exported, nncf.Dataset(batches), subset_size=len(batches), fast_bias_correction=False
            )
        return quantized
