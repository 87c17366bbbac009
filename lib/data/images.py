"""Decode and resize: the one way from an image to what a network sees, with limits checked before decoding."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from lib.errors import UserError

IMAGE_SIZE = 32  # pixels; the larger side of official training images has a median of 44
MAX_PIXELS = 25_000_000  # of any image given to `resize_image`: 75 MB decoded
MAX_SIGN_SIDE = 1024  # pixels; official training images are 25 to 243 on a side
MAX_SIGN_BYTES = MAX_SIGN_SIDE * MAX_SIGN_SIDE * 3 + 1024  # the largest such PPM with its header


def resize_image(image: Image.Image) -> np.ndarray:
    """Any image -> uint8 (3, 32, 32) RGB: the whole image, antialiased bilinear, without keeping its aspect.

    Raises:
        UserError: too many pixels, or the file behind the image is truncated. The limit is checked on the header,
            so a small file that claims a huge image costs nothing.
    """
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UserError(f"image of {width} x {height} pixels; at most {MAX_PIXELS:,} are allowed, make it smaller")
    try:
        rgb = image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"damaged image ({error})") from None
    small = rgb.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1))


def pixel_digest(image: Image.Image) -> bytes:
    """SHA-256 of an RGB image's size and pixels: equal for equal pictures, whatever file they come from."""
    return hashlib.sha256(f"{image.width} {image.height}\n".encode() + image.tobytes()).digest()


def digest_images(images: np.ndarray) -> np.ndarray:
    """uint8 (N, 3, H, W) -> `pixel_digest` of each, uint8 (N, 32)."""
    digests = [pixel_digest(Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))) for image in images]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(len(images), 32)


def decode_sign(content: bytes, path: Path) -> tuple[np.ndarray, tuple[int, int], bytes]:
    """The bytes of one GTSRB image (8-bit RGB PPM) -> uint8 (3, 32, 32), its (height, width) in pixels, and the
    `pixel_digest` of the image before it was resized.

    Raises:
        UserError: not such an image, too large, or truncated; the message names `path`.
    """
    advice = "unpack the data again"
    try:
        with Image.open(io.BytesIO(content), formats=("PPM",)) as image:
            width, height = image.size
            if max(width, height) > MAX_SIGN_SIDE:
                raise UserError(f"{path} claims {width} x {height} pixels; at most {MAX_SIGN_SIDE} a side; {advice}")
            if image.mode != "RGB":
                raise UserError(f"{path} is of mode {image.mode}, not 8-bit RGB; {advice}")
            return resize_image(image), (height, width), pixel_digest(image)
    except UnidentifiedImageError:
        raise UserError(f"{path} is not a PPM image; {advice}") from None
    except UserError as error:
        raise error if str(path) in str(error) else UserError(f"{path}: {error}; {advice}") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is a damaged image ({error}); {advice}") from None
