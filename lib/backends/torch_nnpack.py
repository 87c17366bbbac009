"""Eager PyTorch with oneDNN off and NNPACK on: what "oneDNN disabled" really means for batches of 16 and more."""

from __future__ import annotations

from lib.backends._torch_eager import TorchEager, ran
from lib.backends.interface import Kernels, register


@register
class TorchNnpack(TorchEager):
    name = "torch-nnpack"
    title = "PyTorch eager; convolutions by NNPACK where it can (stride 1, batch of 16 or more), else BLAS"
    promise = "some convolutions run on NNPACK in the offline scenario, none on oneDNN"
    order = 20
    default = True

    def configure(self) -> None:
        import torch

        torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
        torch.backends.nnpack.set_flags(True)

    def broken_promise(self, kernels: Kernels) -> str:
        for library in ("onednn", "mkldnn"):
            if layers := ran(kernels, library):
                return f"{library} computed {layers[0]} ({', '.join(kernels[layers[0]])})"
        return "" if ran(kernels, "nnpack") else "no layer ran on NNPACK"
