"""Vector drawings of the signs, one file per class, and their rasterization."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image


@cache
def num_designs(class_id: int) -> int:
    """In how many designs the sign is drawn: `NN.svg`, and what `NN.2.svg`, `NN.3.svg` add."""
    return len(list(Path(__file__).parent.glob(f"{class_id:02d}.*svg")))


@cache
def artwork_svg(class_id: int, design: int = 0) -> str:
    """The drawing of one class: SVG text, `viewBox="0 0 100 100"`, transparent outside the sign.

    Args:
        design: 0 for today's, from 1 for older and other ones.
    """
    suffix = f".{design + 1}.svg" if design else ".svg"
    return Path(__file__).with_name(f"{class_id:02d}{suffix}").read_text(encoding="utf-8")


@cache
def _rasterized(class_id: int, size: int, design: int) -> np.ndarray:
    import resvg_py

    svg = artwork_svg(class_id, design)
    png = resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, skip_system_fonts=True)
    with Image.open(io.BytesIO(bytes(png))) as image:
        pixels = np.array(image.convert("RGBA"))
    pixels.setflags(write=False)  # the array is shared by all callers
    return pixels


def render_artwork(class_id: int, size: int, design: int = 0) -> np.ndarray:
    """The drawing as pixels: uint8 (size, size, 4), RGBA with straight alpha. A new array at each call."""
    return _rasterized(class_id, size, design).copy()
