"""What oneDNN ran in one training step, and whether that is made for speed."""

from __future__ import annotations

from collections.abc import Sequence

from lib.onednn import Primitive
from lib.records.schema import StepKernels


def step_kernels(primitives: Sequence[Primitive]) -> StepKernels:
    """Kernels of one step by direction, without the reorders between them.

    A reference kernel (`ref:any`) in a convolution deserves a look: it is plain loops, and a hundred times as slow.
    """
    found: dict[str, dict[str, int]] = {}
    for primitive in primitives:
        if primitive.kind != "reorder":
            of_direction = found.setdefault(primitive.direction, {})
            of_direction[primitive.text] = of_direction.get(primitive.text, 0) + 1
    convolutions = [primitive for primitive in primitives if primitive.kind == "convolution"]
    slow = [primitive for primitive in convolutions if primitive.implementation.startswith("ref")]
    investigate = ""
    if slow:
        where = ", ".join(dict.fromkeys(f"{primitive.direction} in {primitive.precision}" for primitive in slow))
        investigate = (
            f"{len(slow)} of {len(convolutions)} convolutions of a training step ran on oneDNN's reference "
            f"implementation, which is not made for speed ({where})"
        )
    elif not convolutions:
        investigate = "no convolution of a training step ran on oneDNN"
    return StepKernels(found, investigate)
