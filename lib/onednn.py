"""oneDNN's own report of what it executes, which is the proof for training and for every backend on PyTorch."""

from __future__ import annotations

import math
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lib.model import LayerInfo


@dataclass(frozen=True)
class Primitive:
    """One line of oneDNN's report."""

    kind: str  # convolution, inner_product, matmul, reorder, ...
    implementation: str
    direction: str  # forward_inference, forward_training, backward_data, backward_weights, ...; undef
    precision: str  # of its input; in a backward pass of what the gradients of its output are in
    post_ops: tuple[str, ...]  # sum, eltwise_relu, ...
    problem: str  # mb1_ic3oc16_ih32oh32kh3sh1dh0ph1_iw32ow32kw3sw1dw0pw1
    relaxed: str  # precision that oneDNN may use inside of fp32; empty: none

    @property
    def text(self) -> str:
        relaxed = f" (fpmath {self.relaxed})" if self.relaxed else ""
        return f"onednn {self.kind} {self.implementation} {self.precision}{relaxed}".strip()

    def computes(self, layer: LayerInfo) -> bool:
        """False where the problem is another one than the layer's."""
        sizes = {key: int(value) for key, value in re.findall(r"([a-z]+)(\d+)", self.problem)}
        if self.kind == "convolution" and {"oc", "oh", "ow", "ic", "kh", "kw"} <= sizes.keys():
            output = (sizes["oc"], sizes["oh"], sizes["ow"])
            num_macs = math.prod(output) * sizes["ic"] // sizes.get("g", 1) * sizes["kh"] * sizes["kw"]
            return tuple(layer.output_shape) == output and layer.num_macs == num_macs
        return True


@contextmanager
def onednn_report() -> Iterator[list[Primitive]]:
    """A list that at the end of the context holds what oneDNN executed meanwhile; it prints to file descriptor 1."""
    import torch

    primitives: list[Primitive] = []
    with tempfile.TemporaryFile() as report:
        with descriptor_to(report.fileno(), 1), torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
            yield primitives
        report.seek(0)
        primitives += parse_report(report.read().decode(errors="replace"))


def parse_report(text: str) -> list[Primitive]:
    """Lines of oneDNN's verbose mode that report an execution."""
    primitives = []
    for line in text.splitlines():
        fields = line.split(",")
        if "exec" not in fields[:5] or "primitive" not in fields[:4]:
            continue
        kind, implementation, direction = fields[fields.index("exec") + 2 :][:3]
        source = re.search(r"src(?::|_)([a-z]+\d+)", line)  # src:f32:a:... now, src_f32:a:... before oneDNN 3.4
        post_ops = re.search(r"attr-post-ops:(\S+?)(?:,| |$)", line)
        relaxed = re.search(r"attr-fpmath:([a-z0-9]+)", line)
        primitives.append(
            Primitive(
                kind,
                implementation,
                direction,
                source.group(1) if source else "",
                tuple(op.split(":")[0] for op in post_ops.group(1).split("+")) if post_ops else (),
                fields[-2],
                relaxed.group(1) if relaxed else "",
            )
        )
    return primitives


@contextmanager
def descriptor_to(target: int, descriptor: int) -> Iterator[None]:
    """Send what C code writes to a descriptor somewhere else for a while."""
    sys.stdout.flush()
    saved = os.dup(descriptor)
    os.dup2(target, descriptor)
    try:
        yield
    finally:
        os.dup2(saved, descriptor)
        os.close(saved)
