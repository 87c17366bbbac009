"""The one preprocessing definition, used by training, evaluation, benchmark and export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pydantic
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from lib.data import IMAGE_SIZE, resize_image

MAX_IMAGE_SIZE = 1024  # pixels; as the parameter of 03
_Mean = Annotated[float, pydantic.Field(ge=0, le=1)]
_Std = Annotated[float, pydantic.Field(gt=0, le=1)]


@dataclass(frozen=True)
class Preprocessing:
    """Decoded 8-bit RGB image -> what a network reads. Mean and deviation are on the 0..1 scale, per channel.

    The limits are checked where one is read from a file.
    """

    mean: tuple[_Mean, _Mean, _Mean]
    std: tuple[_Std, _Std, _Std]
    image_size: Annotated[int, pydantic.Field(ge=1, le=MAX_IMAGE_SIZE)] = IMAGE_SIZE

    def normalize(self, images: np.ndarray | Tensor) -> Tensor:
        """uint8 (N, 3, H, W), 0..255 -> float32 (N, 3, image_size, image_size), contiguous NCHW.

        Images of another size are resized bilinearly.
        """
        if isinstance(images, np.ndarray):
            images = torch.from_numpy(np.ascontiguousarray(images))
        unit = images.to(torch.float32) / 255
        if unit.shape[-1] != self.image_size:
            unit = F.interpolate(unit, (self.image_size, self.image_size), mode="bilinear", antialias=True)
        return self.normalize_unit(unit)

    def normalize_unit(self, images: Tensor) -> Tensor:
        """float (N, 3, H, W), 0..1 -> float, zero mean and unit deviation over the training images."""
        mean = torch.tensor(self.mean).view(1, 3, 1, 1)
        std = torch.tensor(self.std).view(1, 3, 1, 1)
        return (images - mean) / std

    def from_image(self, image: Image.Image) -> Tensor:
        """8-bit RGB image, see `lib.data.images.read_image` -> float32 (1, 3, H, W), resized as the data set is."""
        return self.normalize(resize_image(image)[None])


def fit_preprocessing(images: np.ndarray, limit: int = 8192) -> Preprocessing:
    """Mean and deviation per channel of (about `limit` evenly spread) training images, uint8 (N, 3, H, W)."""
    step = max(1, len(images) // limit)
    sample = np.asarray(images[::step], dtype=np.float32) / 255
    mean, std = sample.mean((0, 2, 3)), sample.std((0, 2, 3))
    red, green, blue = (round(float(value), 4) for value in mean)
    red_std, green_std, blue_std = (round(max(float(value), 1e-3), 4) for value in std)
    return Preprocessing((red, green, blue), (red_std, green_std, blue_std))
