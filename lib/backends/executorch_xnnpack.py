"""ExecuTorch with all it can delegate given to XNNPACK, fp32."""

from __future__ import annotations

from lib.backends._executorch import ExecuTorchXnnpack
from lib.backends.interface import register


@register
class ExecuTorchXnnpackFp32(ExecuTorchXnnpack):
    name = "executorch-xnnpack"
    title = "ExecuTorch, delegated to XNNPACK"
    promise = "convolutions run in XNNPACK"
    order = 160
