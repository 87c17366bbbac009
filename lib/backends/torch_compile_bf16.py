"""PyTorch's compiler under bf16 autocast, for CPUs that multiply bf16 natively.

Autocast and not a network converted to bf16: batch norm is folded into the weights in fp32 before they are rounded.
Tolerances are those of bf16 in eager mode, see `torch_onednn_bf16`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from lib.backends._torch_compiled import TorchJit
from lib.backends._torch_eager import in_another_type
from lib.backends.interface import Kernels, register
from lib.machine import flags_for


@register
class TorchCompileBf16(TorchJit):
    name = "torch-compile-bf16"
    title = "torch.compile under bf16 autocast"
    promise = "convolutions run on oneDNN in bf16 as Inductor fused them, the rest in C++ that Inductor wrote"
    order = 60
    precision = "bf16"
    needs_any_flag = flags_for("bf16")

    def autocast(self) -> AbstractContextManager[Any]:
        import torch

        return torch.autocast("cpu", torch.bfloat16)

    def broken_promise(self, kernels: Kernels) -> str:
        return super().broken_promise(kernels) or in_another_type(kernels, ("bf16",), "bf16")
