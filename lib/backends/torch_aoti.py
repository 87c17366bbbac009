"""PyTorch's compiler ahead of time: `prepare` compiles, the process that runs it loads machine code."""

from __future__ import annotations

from lib.backends._torch_compiled import TorchAhead
from lib.backends.interface import register


@register
class TorchAoti(TorchAhead):
    name = "torch-aoti"
    title = "AOTInductor: the network as machine code, compiled ahead of time, no Python between layers"
    promise = "convolutions run on oneDNN as Inductor fused them, the rest in C++ that Inductor wrote"
    order = 70
