"""ExecuTorch with XNNPACK, int8: weights by channel, activations by tensor, both with ranges found beforehand.

The exact logits move by a few percent (30 dB below the signal with signnet_small) and the arg max of about one image in
a hundred, mostly of images that the network is unsure of; what counts is the loss of top-1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lib.backends._executorch import ExecuTorchXnnpack, convolutions, export
from lib.backends.interface import Kernels, Tolerance, register

if TYPE_CHECKING:
    import torch
    from torch import nn

_CALIBRATION_BATCH = 64


@register
class ExecuTorchXnnpackInt8(ExecuTorchXnnpack):
    name = "executorch-xnnpack-int8"
    title = "ExecuTorch, delegated to XNNPACK, int8 by static quantization (PT2E)"
    promise = "convolutions run in XNNPACK in int8"
    order = 170
    precision = "int8"
    needs_calibration = True
    tolerance = Tolerance(0.003, 20.0, 0.97)

    def exported(self, model: nn.Module, calibration: np.ndarray, image_size: int) -> torch.export.ExportedProgram:
        import torch
        from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
            XNNPACKQuantizer,
            get_symmetric_quantization_config,
        )
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        config = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=False)
        observed = prepare_pt2e(export(model, image_size).module(), XNNPACKQuantizer().set_global(config))
        with torch.inference_mode():
            for start in range(0, len(calibration), _CALIBRATION_BATCH):
                observed(torch.from_numpy(calibration[start : start + _CALIBRATION_BATCH]))
        return export(convert_pt2e(observed), image_size)

    def broken_promise(self, kernels: Kernels) -> str:
        ran = convolutions(kernels)
        wide = [name for name in ran if "QC8" not in name and "QS8" not in name]
        if wide:
            return f"{len(wide)} of {len(ran)} convolutions did not run in int8: {', '.join(sorted(set(wide)))}"
        return super().broken_promise(kernels)
