"""Eager PyTorch under bf16 autocast, for CPUs that multiply bf16 themselves.

bf16 keeps 8 bits of precision, which moves logits by about a percent (40 dB below the signal) and the arg max seldom:
the tolerance of top-1 is the same as for fp32.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from lib.backends._torch_eager import ran
from lib.backends.interface import Kernels, register
from lib.backends.torch_onednn import TorchOneDnn


@register
class TorchOneDnnBf16(TorchOneDnn):
    name = "torch-onednn-bf16"
    title = "PyTorch eager, oneDNN, bf16 autocast"
    promise = "convolutions run on oneDNN in bf16 in the offline scenario"
    order = 40
    precision = "bf16"
    sqnr_min_db = 25.0
    agreement_min = 0.99
    needs_any_flag = ("avx512_bf16", "amx_bf16", "bf16")

    def autocast(self) -> AbstractContextManager[Any]:
        import torch

        return torch.autocast("cpu", torch.bfloat16)

    def broken_promise(self, kernels: Kernels) -> str:
        convolutions = ran(kernels, "onednn convolution")
        if not convolutions:
            return "no convolution ran on oneDNN in bf16"
        for layer in convolutions:
            for name in kernels[layer]:
                if name.startswith("onednn convolution") and not name.endswith("bf16"):
                    return f"{layer} ran as {name}, not in bf16"
        return ""
