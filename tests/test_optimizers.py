"""Muon: orthogonal updates of filters, steps of SGD for all other weights."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from lib.model import build_network
from lib.training.optimizers import build_optimizer, lr_at, orthogonal, set_lr
from lib.training.recipes import RECIPES

RECIPE = RECIPES["minute"]


@pytest.mark.parametrize("shape", [(8, 72), (72, 8), (20, 20)])
def test_orthogonal_keeps_directions_and_levels_how_strong_they_are(shape: tuple[int, int]) -> None:
    left, _, right = torch.linalg.svd(torch.randn(shape, generator=torch.Generator().manual_seed(0)), False)
    uneven = left * torch.logspace(0, -2, min(shape)) @ right  # the strongest a hundred times the weakest
    levelled = left.T @ orthogonal(uneven) @ right.T
    singular = levelled.diagonal()
    assert singular.min() > 0.3 and singular.max() < 1.3
    torch.testing.assert_close(levelled, singular.diag(), atol=1e-4, rtol=0)


def stepped(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The weights after three steps on gradients that are the same for each model."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        for weight in model.parameters():
            weight.grad = torch.randn(weight.shape, generator=generator)
        set_lr(optimizer.param_groups, RECIPE.lr / 2)
        optimizer.step()
    return dict(model.named_parameters())


def test_all_weights_but_filters_take_the_steps_of_sgd() -> None:
    model = build_network(RECIPE.architecture, 43)
    other = copy.deepcopy(model)
    muon = stepped(build_optimizer(model, RECIPE), model)
    sgd = stepped(build_optimizer(other, replace(RECIPE, optimizer="sgd")), other)
    alike = {name for name in muon if torch.allclose(muon[name], sgd[name], atol=1e-6)}
    filters = {name for name in muon if name.endswith(("down.conv.weight", "conv1.weight", "conv2.weight"))}
    assert set(muon) - alike == filters
    assert {"stem.conv.weight", "head.weight", "head.bias", "stem.bn.weight"} <= alike


def test_a_step_turns_filters_by_its_learning_rate_whatever_the_size_of_the_gradient() -> None:
    for size in (1e-6, 1e3):
        model = build_network(RECIPE.architecture, 43)
        optimizer = build_optimizer(model, RECIPE)
        filters = model.get_parameter("stage3.block1.conv1.weight")
        for weight in model.parameters():
            weight.grad = torch.zeros_like(weight)
        filters.grad = size * torch.randn(filters.shape, generator=torch.Generator().manual_seed(2))
        before = filters.detach() * len(filters) ** 0.5 / filters.detach().norm()
        set_lr(optimizer.param_groups, RECIPE.lr)
        optimizer.step()
        turned = float((filters.detach() - before).norm() / before.norm())
        assert turned == pytest.approx(RECIPE.filter_lr, rel=0.15), size


def test_warm_up_takes_the_share_of_the_recipe() -> None:
    rates = [lr_at(RECIPE, step, 200) for step in range(200)]
    assert rates.index(max(rates)) == RECIPE.warm_up * 200 and max(rates) == pytest.approx(RECIPE.lr)
    assert rates[0] == pytest.approx(RECIPE.lr / 10) and rates[-1] < RECIPE.lr / 100
