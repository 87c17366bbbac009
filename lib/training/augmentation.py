"""Batched augmentation in tensor code: one warp and one lighting change per image, no worker processes.

Ranges follow what a camera in a moving car does to a sign; horizontal flips only where the sign stays a sign
(`lib.signs.mirror_map`): a mirrored "keep left" is a "keep right".
"""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.signs import mirror_map
from lib.training.recipes import Augmentation


@cache
def _mirror_table(classes: tuple[str, ...]) -> Tensor:
    """int64, by class: the class a flip turns it into, -1 where a flip is not legal."""
    return torch.tensor([-1 if other is None else other for other in mirror_map(classes)])


def _rand(*shape: int, generator: torch.Generator) -> Tensor:
    """Uniform in 0..1, where the generator is."""
    return torch.rand(shape, generator=generator, device=generator.device)


def _uniform(num_images: int, half_width: float, generator: torch.Generator) -> Tensor:
    return (_rand(num_images, generator=generator) * 2 - 1) * half_width


def _mirror(
    images: Tensor, labels: Tensor, generator: torch.Generator, classes: tuple[str, ...]
) -> tuple[Tensor, Tensor]:
    mirrored = _mirror_table(classes).to(labels.device)[labels]
    flip = (_rand(len(images), generator=generator) < 0.5) & (mirrored >= 0)
    images = torch.where(flip.view(-1, 1, 1, 1), images.flip(3), images)
    return images, torch.where(flip, mirrored, labels)


def _warp(images: Tensor, plan: Augmentation, generator: torch.Generator) -> Tensor:
    """Rotation, scale, aspect, shear, shift and perspective in one homography and one bilinear sampling."""
    num_images, _, height, width = images.shape

    def draw(half_width: float) -> Tensor:
        return _uniform(num_images, half_width, generator)

    angle = draw(plan.rotation_deg * math.pi / 180)
    scale, aspect = 1 + draw(plan.scale), 1 + draw(plan.aspect)
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    homography = torch.stack(
        [
            torch.stack([cosine * aspect, -sine + draw(plan.shear), draw(plan.shift)], 1),
            torch.stack([sine, cosine / aspect, draw(plan.shift)], 1),
            torch.stack([draw(plan.perspective), draw(plan.perspective), torch.ones_like(angle)], 1),
        ],
        1,
    )
    # pixel centres, as grid_sample counts them
    rows, columns = (torch.linspace(-1, 1, size, device=images.device) * (1 - 1 / size) for size in (height, width))
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)], -1).view(1, -1, 3) @ homography.transpose(1, 2)
    grid = (points[..., :2] / points[..., 2:]).view(num_images, height, width, 2)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _light(images: Tensor, plan: Augmentation, generator: torch.Generator) -> Tensor:
    num_images = len(images)

    def factor(log_half_width: float) -> Tensor:
        return torch.exp(_uniform(num_images, log_half_width, generator)).view(-1, 1, 1, 1)

    images = images.clamp(1e-4, 1).pow(factor(plan.log_gamma))
    mean = images.mean((1, 2, 3), keepdim=True)
    images = (images - mean) * factor(plan.log_contrast) + mean * factor(plan.log_brightness)
    cast = 1 + (_rand(num_images, 3, 1, 1, generator=generator) * 2 - 1) * plan.colour_cast
    return (images * cast).clamp(0, 1)


def _erase(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Cover one rectangle, a fifth to a half of each side, with one random colour."""
    num_images, channels, height, width = images.shape

    def span(size: int) -> Tensor:
        half = size * (0.1 + 0.15 * _rand(num_images, 1, generator=generator))
        centre = size * _rand(num_images, 1, generator=generator)
        return (torch.arange(size, device=images.device).view(1, -1) - centre).abs() < half

    rows, columns = span(height), span(width)
    chosen = _rand(num_images, 1, 1, generator=generator) < share
    mask = (rows.unsqueeze(2) & columns.unsqueeze(1) & chosen).unsqueeze(1)
    return torch.where(mask, _rand(num_images, channels, 1, 1, generator=generator), images)


def augment_batch(
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
    plan: Augmentation,
    classes: tuple[str, ...],
) -> tuple[Tensor, Tensor]:
    """uint8 (N, 3, H, W) and int64 (N,) -> float32 (N, 3, H, W) in 0..1 and the labels after flips.

    All randomness comes from `generator`; the inputs are not altered.

    Args:
        generator: on the device of the images and labels.
        classes: their names, which say what a flip makes of them.
    """
    unit = images.to(torch.float32) / 255
    if plan.mirror:
        unit, labels = _mirror(unit, labels, generator, classes)
    unit = _light(_warp(unit, plan, generator), plan, generator)
    if plan.erase > 0:
        unit = _erase(unit, plan.erase, generator)
    return unit, labels
