"""Eager PyTorch as it comes: oneDNN, which on Arm may call the Arm Compute Library. The reference backend."""

from __future__ import annotations

import platform

from lib.backends._torch_eager import TorchEager, ran
from lib.backends.interface import Kernels, register


@register
class TorchOneDnn(TorchEager):
    name = "torch-onednn"
    title = "PyTorch eager as installed; convolutions by oneDNN (with Arm Compute Library on Arm)"
    promise = "convolutions run on oneDNN in the offline scenario"
    order = 30
    default = True

    def configure(self) -> None:
        import torch

        torch.backends.mkldnn.enabled = True  # type: ignore[assignment]

    def broken_promise(self, kernels: Kernels) -> str:
        return "" if ran(kernels, "onednn convolution") else "no convolution ran on oneDNN"

    def doubts(self, kernels: Kernels) -> str:
        if platform.machine() != "aarch64" or any(":acl" in name for names in kernels.values() for name in names):
            return ""
        return "oneDNN ran without the Arm Compute Library: newer releases leave it out, or this build lacks it"
