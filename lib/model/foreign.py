"""Classifiers of torchvision with random weights: their speed can be measured, their answers mean nothing."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from lib.data import Data
from lib.data.preprocessing import Preprocessing
from lib.errors import UserError
from lib.header import CheckpointMetadata
from lib.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from lib.model.networks import TORCHVISION, build_network

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's own, of ImageNet
NUM_IMAGES = 64  # for the statistics of batch norm


def random_checkpoint(name: str, data: Data, path: Path, *, image_size: int = 0, seed: int = 0) -> Checkpoint:
    """Build a torchvision classifier with random weights for the classes of these data, and save it as a checkpoint.

    Its batch norm layers get the statistics of real images. With those of a fresh network the activations of a deep one
    shrink or grow from layer to layer, and numbers near zero can be computed more slowly than others.

    Args:
        name: as torchvision lists it, e.g. `mobilenet_v3_small`.
        data: whose training images give the statistics.
        image_size: of the network's input, pixels; 0 = that of the images.

    Raises:
        UserError: unknown name, or a network that does not take images of this size.
    """
    torch.manual_seed(seed)
    model, images = build_network(TORCHVISION + name, len(data.classes)), data.train.images
    preprocessing = Preprocessing(_MEAN, _STD, image_size or data.image_size)
    step = max(1, len(images) // NUM_IMAGES)
    try:
        _fit_batch_norm(model, torch.from_numpy(preprocessing.normalize(images[::step][:NUM_IMAGES])))
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{name} does not take images of {preprocessing.image_size} pixels ({reason}); give another size, "
            "e.g. -p image_size 224"
        ) from None
    metadata = CheckpointMetadata(
        TORCHVISION + name, "random weights", "fast", 0, seed, data.source, "", data.classes, preprocessing
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, model, metadata)
    return load_checkpoint(path)


def _fit_batch_norm(model: nn.Module, batch: Tensor) -> None:
    """Only these layers train: a pass in training mode may need more than inference does, as `inception_v3` needs
    larger images for its second classifier."""
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # the average over all passes, so one pass sets it
            module.train()
    with torch.no_grad():
        model(batch)
        model.eval()(batch[:1])
