"""Eager PyTorch on plain BLAS: oneDNN and NNPACK off. OpenBLAS in the CPU wheels for Arm, MKL in those for x86-64."""

from __future__ import annotations

from lib.backends._torch_eager import TorchEager, ran
from lib.backends.interface import Kernels, register


@register
class TorchBlas(TorchEager):
    name = "torch-blas"
    title = "PyTorch eager; convolutions as im2col + BLAS matrix product"
    promise = "convolutions and linear layers run on BLAS, none on oneDNN or NNPACK"
    order = 10
    default = True

    def configure(self) -> None:
        import torch

        torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
        torch.backends.nnpack.set_flags(False)

    def broken_promise(self, kernels: Kernels) -> str:
        for library in ("onednn", "mkldnn", "nnpack"):
            if layers := ran(kernels, library):
                return f"{library} computed {layers[0]} ({', '.join(kernels[layers[0]])})"
        if not ran(kernels, "slow_conv2d") and not ran(kernels, "addmm"):
            return "no layer ran on BLAS"
        return ""
