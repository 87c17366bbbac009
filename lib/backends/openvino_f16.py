"""OpenVINO computing in f16, for CPUs with half-precision arithmetic."""

from __future__ import annotations

from lib.backends._openvino import OpenVino
from lib.backends.interface import register
from lib.machine import flags_for


@register
class OpenVinoF16(OpenVino):
    name = "openvino-f16"
    title = "OpenVINO, f16 by its precision hint"
    promise = "convolutions run in f16 in OpenVINO's CPU plugin in the offline scenario"
    order = 140
    default = True
    precision = "f16"
    needs_any_flag = flags_for("f16")
    hint = "f16"
    kernel_types = ("f16",)
