"""Folding batch norm into convolutions: every runtime does it in its own way, some only if it is done for them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def fold_batch_norms(model: nn.Module) -> dict[str, str]:
    """Put each batch norm that follows a convolution into its weights, in place.

    Returns:
        Name of the batch norm -> name of the convolution that it is now part of.
    """
    from torch import fx, nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    class LeafTracer(fx.Tracer):
        def is_leaf_module(self, module: nn.Module, module_qualified_name: str) -> bool:
            return not any(True for _ in module.children())

    folded = {}
    modules = dict(model.named_modules())
    nodes = list(LeafTracer().trace(model).nodes)
    num_calls = Counter(str(node.target) for node in nodes if node.op == "call_module")
    for node in nodes:
        norm = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        source = node.args[0]
        convolution = modules.get(str(source.target)) if source.op == "call_module" else None
        alone = len(source.users) == num_calls[str(source.target)] == num_calls[str(node.target)] == 1
        if isinstance(convolution, nn.Conv2d) and alone:
            model.set_submodule(str(source.target), fuse_conv_bn_eval(convolution, norm))
            model.set_submodule(str(node.target), nn.Identity())
            folded[str(node.target)] = str(source.target)
    return folded
