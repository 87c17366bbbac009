"""Optimizers by recipe, and the learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lib.training.recipes import Recipe

MOMENTUM = 0.9


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimizer of a recipe over all weights of a network."""
    if recipe.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=recipe.lr)
    # no decay on biases and batch norm: pulling them to zero only fights the normalization
    decayed = [weight for weight in model.parameters() if weight.ndim > 1]
    plain = [weight for weight in model.parameters() if weight.ndim <= 1]
    if recipe.optimizer == "sgd":
        groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=MOMENTUM, nesterov=True)
    filters = [weight for weight in decayed if weight.ndim == 4][1:]  # not those that read the image
    others = [weight for weight in decayed if all(weight is not each for each in filters)]
    return Muon(others, plain, filters, recipe)


class Muon(torch.optim.Optimizer):
    """Each update of a convolution is made orthogonal first; all other weights take steps of SGD.

    After Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon): the momentum of a layer's filters, one row
    each, is replaced by a matrix with the same directions, all about equally strong. So rare directions learn as fast
    as frequent ones. Filters are kept at length 1 on average, as batch norm undoes their length anyway. So they need no
    decay, and the learning rate is the share by which they turn in a step.
    """

    def __init__(
        self, decayed: Sequence[Tensor], plain: Sequence[Tensor], filters: Sequence[Tensor], recipe: Recipe
    ) -> None:
        """
        Args:
            filters: (outputs, inputs, height, width) each, followed by batch norm.
        """
        super().__init__(
            [
                {"params": decayed, "weight_decay": recipe.weight_decay},
                {"params": plain, "weight_decay": 0.0},
                {"params": filters, "lr_scale": recipe.filter_lr / recipe.lr, "orthogonal": True},
            ],
            {"lr": recipe.lr},
        )

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update all weights from their gradients."""
        for group in self.param_groups:
            for weight in group["params"]:
                if group.get("orthogonal"):
                    update = orthogonal(self._momentum(weight, weight.grad).flatten(1)).reshape(weight.shape)
                    weight.mul_(math.sqrt(len(weight)) / weight.norm())
                else:
                    update = self._momentum(weight, weight.grad.add(weight, alpha=group["weight_decay"]))
                weight.sub_(update, alpha=group["lr"])

    def _momentum(self, weight: Tensor, gradient: Tensor) -> Tensor:
        """Nesterov's, as SGD in PyTorch has it."""
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].mul_(MOMENTUM).add_(gradient)
        return gradient.add(state["momentum"], alpha=MOMENTUM)


def orthogonal(matrix: Tensor) -> Tensor:
    """The same singular vectors, with most singular values levelled to between 0.7 and 1.2.

    Five Newton-Schulz steps of the fifth order with the coefficients of Jordan et al., which are steep at zero. A value
    that was a hundredth of the largest ends lower, but above 0.3.

    Args:
        matrix: float (rows, columns).
    """
    wide: Tensor = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(5):
        gram = wide @ wide.T
        wide = 3.4445 * wide + (-4.7750 * gram + 2.0315 * gram @ gram) @ wide
    return wide if matrix.shape[0] <= matrix.shape[1] else wide.T


def lr_at(recipe: Recipe, step: int, num_steps: int) -> float:
    """One cycle (Smith 2018, arXiv 1803.09820): linear warm-up, then a cosine to nearly zero."""
    if recipe.schedule == "constant":
        return recipe.lr
    warmup = max(1, int(num_steps * recipe.warm_up))
    if step < warmup:
        return recipe.lr * (0.1 + 0.9 * step / warmup)
    progress = (step - warmup) / max(1, num_steps - warmup)
    return recipe.lr * (0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * progress)))


def set_lr(groups: Iterable[dict[str, Any]], lr: float) -> None:
    """The learning rate of the next step; groups may take a multiple of it."""
    for group in groups:
        group["lr"] = lr * group.get("lr_scale", 1)
