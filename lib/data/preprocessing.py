"""The one preprocessing definition, used by training, evaluation, benchmark and export. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pydantic
from PIL import Image

from lib.data.images import IMAGE_SIZE, resize_image, resize_images

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

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Of one image as the network reads it: channels, height, width."""
        return 3, self.image_size, self.image_size

    def normalize(self, images: np.ndarray) -> np.ndarray:
        """uint8 (N, 3, H, W), 0..255 -> float32 (N, 3, image_size, image_size), contiguous NCHW.

        Images of another size are resized as `resize_image` does. Equal to the bit to the same steps in PyTorch.
        """
        unit = resize_images(np.asarray(images), self.image_size).astype(np.float32)
        unit /= 255
        mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in (self.mean, self.std))
        normalized: np.ndarray = (unit - mean) / std
        return normalized

    def from_image(self, image: Image.Image) -> np.ndarray:
        """8-bit RGB image, see `lib.data.images.read_image` -> float32 (1, 3, image_size, image_size)."""
        return self.normalize(resize_image(image, self.image_size)[None])


def fit_preprocessing(images: np.ndarray, limit: int = 8192) -> Preprocessing:
    """Mean and deviation per channel of (about `limit` evenly spread) training images, uint8 (N, 3, H, W)."""
    step = max(1, len(images) // limit)
    sample = np.asarray(images[::step], dtype=np.float32) / 255
    mean, std = sample.mean((0, 2, 3)), sample.std((0, 2, 3))
    red, green, blue = (round(float(value), 4) for value in mean)
    red_std, green_std, blue_std = (round(max(float(value), 1e-3), 4) for value in std)
    return Preprocessing((red, green, blue), (red_std, green_std, blue_std), images.shape[-1])
