"""OpenVINO computing in bf16, which its CPU plugin does on x86-64 only."""

from __future__ import annotations

from lib.backends._openvino import OpenVino
from lib.backends.interface import register
from lib.machine import flags_for


@register
class OpenVinoBf16(OpenVino):
    name = "openvino-bf16"
    title = "OpenVINO, bf16 by its precision hint"
    promise = "convolutions run in bf16 in OpenVINO's CPU plugin in the offline scenario"
    order = 135
    default = True
    precision = "bf16"
    architectures = ("x86_64",)
    needs_any_flag = flags_for("bf16", "x86_64")
    hint = "bf16"
    kernel_types = ("bf16",)
