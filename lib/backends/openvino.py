"""OpenVINO in fp32, set explicitly: on CPUs that multiply bf16 or f16 natively its default is the shorter type."""

from __future__ import annotations

from lib.backends._openvino import OpenVino
from lib.backends.interface import register


@register
class OpenVinoFp32(OpenVino):
    name = "openvino"
    title = "OpenVINO, its CPU plugin (oneDNN on x86-64, Arm Compute Library on Arm)"
    promise = "convolutions run in fp32 in OpenVINO's CPU plugin in the offline scenario"
    order = 130
    default = True
