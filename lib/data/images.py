"""From an image file to what a network sees: decode, turn upright, resize. Limits are checked before decoding."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from lib.errors import UserError

IMAGE_SIZE = 32  # pixels, unless a recipe asks for another; the larger side of official training images: 44 (median)
MAX_PIXELS = 25_000_000  # of any image that `read_image` takes: 75 MB decoded
MAX_SIGN_SIDE = 1024  # pixels; official training images are 25 to 243 on a side
SIGN_FORMATS = ("PPM", "PNG")  # of the images of a data set
# Pillow knows more, but hands some of them to other programs (EPS to Ghostscript), and photos come in these.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "PPM", "BMP", "GIF", "JPEG2000")
_OTHER_FORMAT = "give a JPEG, PNG, WebP, TIFF or PPM file (HEIC of a phone: export it as JPEG)"
_UNPACK = "unpack the data again"
_TOPS = (1, 255, 1023, 4095, 16_383, 65_535)  # white, of real numbers and of 8, 10, 12, 14 and 16 bits
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


WHOLE = "whole"  # value of `crop` for images as they are
Box = tuple[float, float, float, float]  # left, top, right and bottom edge, pixels


class Photo(NamedTuple):
    """An image file as a person would see it."""

    image: Image.Image  # 8-bit RGB, upright
    notes: list[str]  # what the file does not say and was assumed, in words; empty as a rule


def read_image(file: Path) -> Photo:
    """Any ordinary image file: turned as the camera says, transparent parts grey, deep or real levels scaled to 8 bits.

    Raises:
        UserError: no such file, not an image, damaged, or too many pixels. That limit is checked on the header, so a
            small file that claims a huge image costs nothing.
    """
    with (
        warnings.catch_warnings(record=True, action="always") as warned,
        _opened(file, FORMATS, _OTHER_FORMAT) as image,
    ):
        return as_photo(image, warned)  # Pillow's warnings are for developers; what follows for the image is in a note


@contextmanager
def _opened(file: Path, formats: tuple[str, ...], advice: str) -> Iterator[ImageFile.ImageFile]:
    """An open image file. Whatever is found wrong, also later while it is read, is one line that ends in `advice`."""
    try:
        with Image.open(file, formats=formats) as image:
            yield image
    except FileNotFoundError:
        raise UserError(f"no file {file}; give an absolute path, or one relative to the project") from None
    except IsADirectoryError:
        raise UserError(f"{file} is a folder; give one image file in it") from None
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    except Image.DecompressionBombError:
        raise UserError(f"{file} has more pixels than the {MAX_PIXELS:,} that are allowed; make it smaller") from None
    except UnidentifiedImageError:
        raise UserError(f"{file} is not an image of a format that is read here; {advice}") from None
    except Exception as error:  # damaged files make Pillow raise errors of any class
        reason = " ".join(f"{error}".split()) or type(error).__name__
        raise UserError(f"{file} is not a readable image ({reason}); {advice}") from None


def as_photo(opened: ImageFile.ImageFile, warned: Sequence[warnings.WarningMessage] = ()) -> Photo:
    """What `read_image` makes of an opened file.

    Args:
        warned: what Pillow warned of while it opened the file and will warn of. Threads cannot record that: they leave
            it out, and a note about EXIF data that are cut off with it.

    Raises:
        UserError: too many pixels, or grey levels without a known white; damaged files raise errors of any class.
    """
    width, height = opened.size
    if width * height > MAX_PIXELS:
        raise UserError(f"image of {width} x {height} pixels; at most {MAX_PIXELS:,} are allowed, make it smaller")
    notes = []
    if getattr(opened, "is_animated", False) and opened.format != "MPO":  # of a phone: one photo with its previews
        notes.append("it has several frames or pages, and the first one is read")
    deep = any(";16" in str(tile.args) for tile in opened.tile)
    opened.load()  # before its EXIF is read: a PNG may keep it behind the pixels, and a TIFF is turned by this already
    turn, damaged = _turn(opened, warned)
    image: Image.Image = opened
    if damaged:
        notes.append("its EXIF data are damaged: it is shown as it is stored, which may be turned")
    if image.mode.startswith(("I", "F")):
        image, note = _grey(image)
        notes += [note] if note else []
    elif deep and image.mode.startswith("RGB") and np.asarray(image)[..., :3].max() < 64:
        notes.append(
            "it has 16 bits per channel, of which its pixels use at most 14, and it is read as dark as that is; if it "
            "holds 10, 12 or 14 bits, scale them up first"
        )
    if image.mode == "CMYK":
        notes.append("it is CMYK, for print, and is converted without a colour profile: colours may be off")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (128, 128, 128, 255)), image)
    if turn is not None:
        image = image.transpose(turn)
    return Photo(image.convert("RGB"), notes)


def _turn(image: Image.Image, warned: Sequence[warnings.WarningMessage]) -> tuple[Image.Transpose | None, bool]:
    """How the image must be turned, and whether its EXIF data are too damaged to say it.

    Only the one entry is read. `ImageOps.exif_transpose` writes all of them again, and stumbles over what cameras and
    tools put into the others.
    """
    try:
        exif = image.getexif()
        orientation = exif.get(ExifTags.Base.Orientation)
    except Exception:  # damaged entries make Pillow raise errors of any class
        return None, True
    if orientation in _TURNS:
        return _TURNS[orientation], False
    empty = bool(image.info.get("exif")) and not exif
    cut_off = orientation is None and any("Corrupt EXIF" in str(each.message) for each in warned)
    return None, empty or cut_off or orientation not in (None, 0, 1)  # 0: the camera does not know


def _grey(image: Image.Image) -> tuple[Image.Image, str]:
    """Whole or real grey levels -> 8 bits, and what was taken for white where the file does not say it.

    Cameras store 10, 12 or 14 bits in 16, and programs real numbers from 0 to 1 or to 255.
    """
    levels = np.asarray(image, dtype=np.float32)
    low, high = float(levels.min()), float(levels.max())
    whole = image.mode != "F"
    # The header of a PPM says what white is, and Pillow scales that to 16 bits. Elsewhere 0 stands for no such range.
    said = whole and image.format == "PPM"
    top = 65_535 if said else next((top for top in _TOPS if high <= top), 0)
    if not top or low < 0:
        raise UserError(f"its grey levels are from {low:g} to {high:g}; scale them to 8 bits, 0 to 255")
    note = "" if whole and top == 65_535 else f"its grey levels reach {high:g}, and {top:,} was taken for white"
    return Image.fromarray((levels * (255 / top)).round().astype(np.uint8)), note


def crop_margin(crop: str) -> float | None:
    """What `crop` asks for: None for `whole`, else the margin around the box of the sign as a share of its sides.

    Raises:
        UserError: neither `whole` nor `box` nor `box+PERCENT`.
    """
    if crop == WHOLE:
        return None
    if (found := re.fullmatch(r"box(?:\+([0-9]{1,3}))?", crop)) is None:
        raise UserError(
            f"crop is {crop!r}; give whole for the whole image, box for the box of the sign, or box+10 for that box "
            "and a margin of 10 % of its sides"
        )
    return int(found[1] or 0) / 100


def resize_image(image: Image.Image, size: int = IMAGE_SIZE, region: Box | None = None) -> np.ndarray:
    """8-bit RGB image -> uint8 (3, size, size): antialiased bilinear, without keeping its aspect.

    Args:
        region: of the image; None = all of it.

    Raises:
        ValueError: another mode, whose values would mean something else; see `read_image`.
    """
    if image.mode != "RGB":
        raise ValueError(f"an image of mode {image.mode}, not RGB")
    resized = image.resize((size, size), Image.Resampling.BILINEAR, region)
    return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))


def resize_images(images: np.ndarray, size: int) -> np.ndarray:
    """`resize_image` of each of a uint8 (N, 3, H, W) -> uint8 (N, 3, size, size); the array itself where it fits."""
    if images.shape[2:] == (size, size):
        return images
    return np.stack([resize_image(as_image(image), size) for image in images])


def as_image(image: np.ndarray) -> Image.Image:
    """uint8 (3, H, W) -> RGB image."""
    return Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))


def pixel_digest(image: Image.Image) -> bytes:
    """SHA-256 of an RGB image's size and pixels: equal for equal pictures, whatever file they come from."""
    return hashlib.sha256(f"{image.width} {image.height}\n".encode() + image.tobytes()).digest()


def digest_images(images: np.ndarray) -> np.ndarray:
    """uint8 (N, 3, H, W) -> `pixel_digest` of each, uint8 (N, 32)."""
    digests = [pixel_digest(as_image(image)) for image in images]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(len(images), 32)


def _around(box: Box, margin: float, image: Image.Image) -> Box:
    """A box with a margin, as far as the image reaches.

    Raises:
        UserError: the box is not in the image.
    """
    (left, top, right, bottom), (width, height) = box, image.size
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise UserError(f"the box {box} of the sign is not in its {width} x {height} pixels; {_UNPACK}")
    across, down = margin * (right - left), margin * (bottom - top)
    widened = np.clip([left - across, top - down, right + across, bottom + down], 0, [width, height] * 2)
    return tuple(widened.tolist())


def decode_sign(
    file: Path, image_size: int, box: Box | None = None, margin: float = 0.0
) -> tuple[np.ndarray, tuple[int, int], bytes]:
    """One image of a data set (8-bit RGB, PPM or PNG) -> uint8 (3, image_size, image_size), its (height, width) in
    pixels, and the `pixel_digest` of the whole image before it was resized.

    Args:
        box: of the sign, to crop to; None = the whole image.
        margin: around the box, as a share of its sides.

    Raises:
        UserError: not such an image, too large, or truncated, or a box beyond it; the message names the file.
    """
    with _opened(file, SIGN_FORMATS, _UNPACK) as image:
        width, height = image.size
        if max(width, height) > MAX_SIGN_SIDE:
            raise UserError(f"image of {width} x {height} pixels; at most {MAX_SIGN_SIDE} a side; {_UNPACK}")
        if image.mode != "RGB":
            raise UserError(f"image of mode {image.mode}, not 8-bit RGB; {_UNPACK}")
        region = _around(box, margin, image) if box else None
        return resize_image(image, image_size, region), (height, width), pixel_digest(image)
