"""Recipes: a named training, network and hyperparameters together. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lib.data.images import IMAGE_SIZE


@dataclass(frozen=True)
class Augmentation:
    """Half-widths of uniform distributions; zero switches a part off."""

    rotation_deg: float = 15.0
    scale: float = 0.15  # of the image size
    aspect: float = 0.08
    shear: float = 0.12
    shift: float = 0.15  # of half the image size
    perspective: float = 0.12
    log_gamma: float = 0.5
    log_contrast: float = 0.4
    log_brightness: float = 0.3
    colour_cast: float = 0.1  # per channel
    mirror: bool = True
    erase: float = 0.0  # share of images with one erased rectangle (Zhong et al. 2017, arXiv 1708.04896)


@dataclass(frozen=True)
class Plan:
    """What one profile trains."""

    architecture: str
    num_epochs: int
    max_steps: int = 0  # 0 = no limit; smoke ends early however large the data are


@dataclass(frozen=True)
class Recipe:
    """How to train. `plans` has one entry per profile."""

    name: str
    title: str
    plans: dict[str, Plan]
    optimizer: Literal["sgd", "adam"]
    lr: float  # peak of the schedule
    batch_size: int
    schedule: Literal["one_cycle", "constant"]
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    augmentation: Augmentation | None = None  # None = the images as they are
    fixed_normalization: bool = False  # mean and deviation 0.5 instead of those of the training images
    image_size: int = IMAGE_SIZE  # pixels that the images are loaded at
    bf16: bool = False  # autocast where oneDNN has bf16 convolutions for the CPU, backward too


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="signnet",
            title="small residual net with batch norm, strong warping and lighting, one-cycle SGD",
            plans={
                "smoke": Plan("signnet_small", num_epochs=6, max_steps=100),
                "fast": Plan("signnet_small", num_epochs=6),
                "full": Plan("signnet", num_epochs=14),
            },
            optimizer="sgd",
            lr=0.2,
            batch_size=128,
            schedule="one_cycle",
            weight_decay=5e-4,
            label_smoothing=0.1,
            augmentation=Augmentation(),
            bf16=True,
        ),
        Recipe(
            name="learning_path",
            title="the net, optimizer and transforms of Arm's learning path: Adam, no augmentation",
            plans={
                "smoke": Plan("learning_path", num_epochs=6, max_steps=200),
                "fast": Plan("learning_path", num_epochs=10),
                "full": Plan("learning_path", num_epochs=10),
            },
            optimizer="adam",
            lr=1e-3,
            batch_size=64,
            schedule="constant",
            fixed_normalization=True,
        ),
    )
}
