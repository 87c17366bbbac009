"""Eager PyTorch, fp32 in and out, where oneDNN may compute in bf16 ("fast math"), for CPUs that multiply bf16.

Weights and activations stay fp32 in memory and are rounded on the way into the multiplier, so the error is that of
bf16 (see `torch_onednn_bf16`) while the traffic is that of fp32. oneDNN may do so; nothing forces it to.
"""

from __future__ import annotations

from lib.backends._torch_eager import ran
from lib.backends.interface import Kernels, register
from lib.backends.torch_onednn import TorchOneDnn


@register
class TorchOneDnnFastMath(TorchOneDnn):
    name = "torch-onednn-fastmath"
    title = "PyTorch eager, oneDNN, fp32 computed in bf16 (fpmath mode)"
    promise = "convolutions run on oneDNN in fpmath mode bf16 in the offline scenario"
    order = 35
    precision = "bf16"
    storage = "fp32"
    # avx512_bf16 is not enough: oneDNN 3.12 has these kernels for AMX and Arm, and computes in fp32 elsewhere
    needs_any_flag = ("amx_bf16", "bf16")
    environ = {"ONEDNN_DEFAULT_FPMATH_MODE": "BF16"}  # noqa: RUF012  # the default of every primitive; read once

    def configure(self) -> None:
        import torch

        super().configure()
        torch.backends.mkldnn.conv.fp32_precision = "bf16"  # type: ignore[attr-defined]
        # without this, linear layers on x86-64 stay on MKL and never reach oneDNN
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # type: ignore[attr-defined]

    def broken_promise(self, kernels: Kernels) -> str:
        if reason := super().broken_promise(kernels):
            return reason
        found = [
            (layer, name)
            for layer in ran(kernels, "onednn convolution")
            for name in kernels[layer]
            if name.startswith("onednn convolution")
        ]
        for layer, name in found:
            if "fpmath bf16" not in name:
                return f"{layer} ran as {name}, without fpmath mode bf16"
        # On x86-64 the name of an implementation shows its instructions; on Arm it does not.
        on_x86 = any("avx" in name for _, name in found)
        if on_x86 and not any(word in name.split(" (")[0] for _, name in found for word in ("bf16", "amx")):
            return f"bf16 was allowed and no convolution used it: {found[0][0]} ran as {found[0][1]}"
        return ""
