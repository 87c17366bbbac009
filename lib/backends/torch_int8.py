"""PyTorch's own int8: static quantization after training (PT2E), compiled ahead of time by Inductor.

Weights are quantized per output channel and activations per tensor, with ranges from training images. Rounding moves
logits by one or two percent; a network that was not trained for it may lose some tenths of a percent of top-1.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

import numpy as np

from lib.backends._torch_compiled import TorchAhead, is_convolution
from lib.backends._torch_eager import in_another_type, ran
from lib.backends.interface import Kernels, Shape, register

if TYPE_CHECKING:
    import torch
    from torch import nn

BATCH_SIZE = 64  # of calibration; has no influence on the result except through the smoothing of ranges


@register
class TorchInt8(TorchAhead):
    name = "torch-int8"
    title = "PyTorch int8: PT2E static quantization, AOTInductor"
    promise = "all convolutions run on oneDNN in int8"
    order = 80
    precision = "int8"
    packages = ("torch", "torchao")
    extra = "torchao"
    needs_calibration = True

    def _program(self, model: nn.Module, calibration: np.ndarray, shape: Shape) -> torch.export.ExportedProgram:
        import torch
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        observed = prepare_pt2e(super()._program(model, calibration, shape).module(), _quantizer())
        with torch.no_grad():
            for start in range(0, len(calibration), BATCH_SIZE):
                observed(torch.from_numpy(np.ascontiguousarray(calibration[start : start + BATCH_SIZE])))
        return super()._program(convert_pt2e(observed), calibration, shape)

    def broken_promise(self, kernels: Kernels) -> str:
        convolutions = ran(kernels, "onednn convolution")
        if not convolutions:
            return "no convolution ran on oneDNN"
        for layer, names in kernels.items():
            if any(is_convolution(name) for name in names) and layer not in convolutions:
                return f"{layer} ran as {names[0]}, not on oneDNN"
        return in_another_type(kernels, ("u8", "s8"), "int8")


def _quantizer() -> Any:
    """The quantizer for what Inductor can compute in int8 on this architecture."""
    if platform.machine() == "aarch64":
        from torchao.quantization.pt2e.quantizer import arm_inductor_quantizer as arm

        return arm.ArmInductorQuantizer().set_global(arm.get_default_arm_inductor_quantization_config())
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    return x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
