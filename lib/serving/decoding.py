"""From the bytes of an upload to the pixels that a network takes. Limits are checked on the header, before decoding."""

from __future__ import annotations

import io
import threading
from contextlib import nullcontext

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from lib.data.images import MAX_PIXELS, as_photo, resize_image
from lib.errors import UserError

FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/x-portable-pixmap": "PPM"}  # media type -> Pillow's name
MAX_BYTES = 10 * 1024 * 1024  # of a request; photographs of phones have 2 to 6 MB
LARGE_PIXELS = 2_000_000  # from here on one image is decoded at a time: several copies of its pixels are in memory
_ALLOWED = "JPEG, PNG or PPM"
_large = threading.Lock()


class Refused(Exception):  # noqa: N818  # what a client gets, not what is wrong here
    """A request that is not answered.

    Args:
        status: of HTTP.
        reason: one word for the metrics.
        sentence: for the client.
    """

    def __init__(self, status: int, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.reason, self.sentence = status, reason, sentence


def decode(content: bytes, media_type: str, image_size: int) -> tuple[np.ndarray, list[str]]:
    """An image file -> uint8 (1, 3, image_size, image_size), and what was assumed about it, in words.

    Args:
        media_type: what the client says it is; empty if it does not say.

    Raises:
        Refused: empty, of another format than allowed or declared, too many pixels, or damaged.
    """
    if not content:
        raise Refused(400, "empty", f"the image is empty; send the bytes of a {_ALLOWED} file")
    try:
        with Image.open(io.BytesIO(content), formats=tuple(FORMATS.values())) as opened:
            _check_header(opened, media_type)
            with _large if opened.width * opened.height > LARGE_PIXELS else nullcontext():
                image, notes = as_photo(opened)
                return resize_image(image, image_size)[None], notes
    except Refused:
        raise
    except UnidentifiedImageError:
        raise Refused(
            415, "format", f"this is not a {_ALLOWED} image; convert it first (HEIC of a phone: export it as JPEG)"
        ) from None
    except Image.DecompressionBombError:
        raise _too_many_pixels() from None
    except UserError as error:
        raise Refused(400, "pixels", f"the image cannot be used: {error}") from None
    except Exception as error:  # damaged files make Pillow raise errors of any class
        known = " ".join(f"{error}".split()) or type(error).__name__
        raise Refused(400, "damaged", f"the image is damaged or truncated ({known[:200]})") from None


def _check_header(opened: ImageFile.ImageFile, media_type: str) -> None:
    found = "JPEG" if opened.format == "MPO" else opened.format  # of a phone: a JPEG with its previews behind it
    if media_type and FORMATS.get(media_type) != found:
        raise Refused(415, "media_type", f"the image was sent as {media_type}, but it is a {found} file")
    if opened.width * opened.height > MAX_PIXELS:
        raise _too_many_pixels()


def _too_many_pixels() -> Refused:
    return Refused(
        413, "pixels", f"the image has more than the {MAX_PIXELS:,} pixels that are allowed; make it smaller"
    )
