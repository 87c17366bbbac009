"""Eager PyTorch under bf16 autocast, for CPUs that multiply bf16 natively.

bf16 keeps 8 bits of precision, which moves logits by about a percent (40 dB below the signal) and the arg max seldom:
the tolerance of top-1 is the same as for fp32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lib.backends._torch_eager import in_another_type
from lib.backends.interface import Kernels, register
from lib.backends.torch_onednn import TorchOneDnn
from lib.machine import flags_for

if TYPE_CHECKING:
    import torch


@register
class TorchOneDnnBf16(TorchOneDnn):
    name = "torch-onednn-bf16"
    title = "PyTorch eager, oneDNN, bf16 autocast"
    promise = "convolutions run on oneDNN in bf16 in the offline scenario"
    order = 40
    default = True
    precision = "bf16"
    needs_any_flag = flags_for("bf16")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        import torch

        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(images).float()

    def broken_promise(self, kernels: Kernels) -> str:
        return super().broken_promise(kernels) or in_another_type(kernels, ("bf16",), "bf16")
