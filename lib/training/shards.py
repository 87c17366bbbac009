"""A step over fixed shards of a batch: the same network to the bit, however many processes share them.

Data parallel training as a rule lets a collective add the gradients. It adds in an order that depends on the number of
processes, and training amplifies what differs by rounding. Here everything is added in pairs of shards.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lib.training.group import Group


def _in_pairs(parts: list[Tensor]) -> Tensor:
    """The sum of two, four, eight ... tensors: of neighbours, then of neighbouring sums."""
    while len(parts) > 1:
        parts = [one + other for one, other in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


class Shards:
    """What the shards of a step add up to: gradients, running statistics of batch norm (one update per step), figures.

    Each shard is normalised by its own statistics, as by Hoffer et al. 2017 (arXiv 1705.08741).
    """

    def __init__(self, model: nn.Module, num_shards: int, group: Group) -> None:
        self._weights, self._num_shards, self._group = list(model.parameters()), num_shards, group
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        self._momentum = next((norm.momentum or 0.0 for norm in norms), 0.0)
        for norm in norms:
            norm.momentum = 1.0  # its running statistics are those of the newest shard, until `finish`
        buffers = [buffer for norm in norms for buffer in norm.buffers()]
        self._statistics = [buffer for buffer in buffers if buffer.is_floating_point()]
        self._counts = [buffer for buffer in buffers if not buffer.is_floating_point()]

    def begin(self) -> None:
        """Before the first shard of a step."""
        self._parts: list[Tensor] = []
        self._before = [statistic.clone() for statistic in self._statistics]

    def add(self, figures: Tensor) -> None:
        """Take the gradients and statistics of a shard of this process, after its backward pass.

        Args:
            figures: float32 (M,), to be averaged too.
        """
        gradients = [weight.grad for weight in self._weights if weight.grad is not None]
        self._parts.append(torch.cat([each.flatten() for each in (*gradients, *self._statistics, figures)]))
        for weight in self._weights:
            weight.grad = None

    def finish(self) -> Tensor:
        """Set gradients and statistics to the mean over all shards of all processes; returns that of the figures."""
        mean = _in_pairs(self._group.gathered(_in_pairs(self._parts))) / self._num_shards
        sizes = [tensor.numel() for tensor in (*self._weights, *self._statistics)]
        means: list[Tensor] = list(mean.split([*sizes, mean.numel() - sum(sizes)]))
        for weight in self._weights:
            weight.grad = torch.empty_like(weight).copy_(means.pop(0).view_as(weight))
        for statistic, before, new in zip(self._statistics, self._before, means, strict=False):
            statistic.copy_(before.lerp(new, self._momentum))
        for count in self._counts:
            count -= len(self._parts) - 1
        return means[-1]
