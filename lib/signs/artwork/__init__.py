"""Vector drawings of the signs, one file per class, and their rasterization."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image


@cache
def artwork_svg(class_id: int) -> str:
    """The drawing of one class: SVG text, `viewBox="0 0 100 100"`, transparent outside the sign."""
    return Path(__file__).with_name(f"{class_id:02d}.svg").read_text(encoding="utf-8")


@cache
def _rasterized(class_id: int, size: int) -> np.ndarray:
    import resvg_py

    svg = artwork_svg(class_id)
    png = resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, skip_system_fonts=True)
    with Image.open(io.BytesIO(bytes(png))) as image:
        pixels = np.array(image.convert("RGBA"))
    pixels.setflags(write=False)  # the array is shared by all callers
    return pixels


def render_artwork(class_id: int, size: int) -> np.ndarray:
    """The drawing as pixels: uint8 (size, size, 4), RGBA with straight alpha. A new array at each call."""
    return _rasterized(class_id, size).copy()
