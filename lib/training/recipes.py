"""Recipes: a named training, network and hyperparameters together. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

from lib.data.images import IMAGE_SIZE
from lib.errors import UserError, unknown


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

    def scaled(self, factor: float) -> Augmentation:
        """The same with all half-widths so many times as large."""
        widths = {
            field.name: getattr(self, field.name) for field in fields(self) if field.name not in ("mirror", "erase")
        }
        return replace(self, **{name: width * factor for name, width in widths.items()})


@dataclass(frozen=True)
class Recipe:
    """How to train: the same network by the same steps in every profile but `smoke`."""

    name: str
    title: str
    architecture: str
    num_epochs: int
    optimizer: Literal["sgd", "adam", "muon"]
    lr: float  # peak of the schedule
    batch_size: int
    schedule: Literal["one_cycle", "constant"]
    warm_up: float = 0.25  # share of the steps
    filter_lr: float = 0.0  # `muon`: the peak for filters; `lr` is for all other weights
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    augmentation: Augmentation | None = None  # None = the images as they are
    fixed_normalization: bool = False  # mean and deviation 0.5 instead of those of the training images
    image_size: int = IMAGE_SIZE  # pixels that the images are loaded at
    bf16: bool = False  # autocast where oneDNN has bf16 convolutions for the CPU, backward too
    drawn_share: float = 0.0  # of the images of an epoch: drawn signs beside the real ones
    drawn_images: int = 0  # that are drawn once, and that the epochs take theirs from
    shards: int = 1  # parts of a batch with statistics of batch norm of their own; docs/training says why
    smoke_steps: int = 150  # that `smoke` takes instead of its epochs
    limit_s: int = 45 * 60  # that its training may take


_MINUTE = Recipe(
    name="minute",
    title="a light residual net with strong warping and lighting: about a minute on two cores with bf16",
    architecture="signnet_light",
    num_epochs=3,
    optimizer="muon",
    lr=0.2,
    filter_lr=0.05,
    batch_size=128,
    schedule="one_cycle",
    warm_up=0.1,
    weight_decay=5e-4,
    label_smoothing=0.1,
    augmentation=Augmentation(),
    bf16=True,
    drawn_share=0.25,
    drawn_images=12_000,
)
_LONG = replace(_MINUTE, optimizer="sgd", lr=0.3, filter_lr=0.0, batch_size=256, warm_up=0.25, drawn_images=45_000)
# What was tried on the way to these is in docs/training.
_RECIPES = (
    _MINUTE,
    replace(
        _LONG,
        name="record",
        title="the wide residual net for as long as it learns: an hour or two on two cores with bf16",
        architecture="signnet",
        num_epochs=45,
        limit_s=8 * 3600,
    ),
    replace(
        _LONG,
        name="small",
        title="below a million weights, half an hour on two cores",
        architecture="signnet_medium",
        num_epochs=30,
        limit_s=110 * 60,
    ),
    replace(
        _LONG,
        name="tiny",
        title="below 100,000 weights and 5 million multiply-accumulates, for small cores and for one HTML file",
        architecture="signnet_tiny",
        num_epochs=30,
        label_smoothing=0.05,
        augmentation=Augmentation().scaled(0.7),
    ),
    Recipe(
        name="learning_path",
        title="the net, optimizer and transforms of Arm's learning path: Adam, no augmentation",
        architecture="learning_path",
        num_epochs=10,
        optimizer="adam",
        lr=1e-3,
        batch_size=64,
        schedule="constant",
        fixed_normalization=True,
        smoke_steps=200,
    ),
)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in _RECIPES}
AUTO = "auto"
_AUTOMATIC = {"smoke": "minute", "fast": "minute", "full": "record"}  # by profile


def choose_recipe(name: str, profile: str, shards: int = 0) -> Recipe:
    """The recipe of this name; `auto` leaves the choice to the profile.

    Args:
        shards: of a batch; 0 = as the recipe has it.

    Raises:
        UserError: unknown recipe or profile.
    """
    if profile not in _AUTOMATIC:
        raise unknown("profile", profile, _AUTOMATIC)
    name = _AUTOMATIC[profile] if name == AUTO else name
    if name not in RECIPES:
        raise unknown("recipe", name, recipe_names())
    return replace(RECIPES[name], shards=shards or RECIPES[name].shards)


def check_shards(recipe: Recipe, num_images: int, num_processes: int = 1) -> None:
    """Refuse shards that cannot be added in pairs, or are not shared out equally, or have less than two images.

    Args:
        num_images: of the training; a batch has no more.

    Raises:
        UserError: they are such.
    """
    shards, batch_size = recipe.shards, min(recipe.batch_size, num_images)
    if shards & (shards - 1) or shards % num_processes or batch_size % shards or batch_size < 2 * shards:
        raise UserError(
            f"shards: {shards}, images of a batch: {batch_size}, processes: {num_processes}; shards must be a power of "
            "two that the processes and the batch can share out, with two images each"
        )


def recipe_names() -> list[str]:
    """What the parameter `recipe` may be."""
    return [AUTO, *RECIPES]
