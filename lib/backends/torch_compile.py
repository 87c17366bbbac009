"""PyTorch's compiler, in the process that runs the network."""

from __future__ import annotations

from lib.backends._torch_compiled import TorchJit
from lib.backends.interface import register


@register
class TorchCompile(TorchJit):
    name = "torch-compile"
    title = "torch.compile: Inductor, weights frozen and prepacked, one static shape per batch size"
    promise = "convolutions run on oneDNN as Inductor fused them, the rest in C++ that Inductor wrote"
    order = 50
