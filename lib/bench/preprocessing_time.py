"""What an image costs before the network sees it."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from PIL import Image

from lib.data import Split
from lib.data.images import resize_image
from lib.data.preprocessing import Preprocessing
from lib.records.schema import PreprocessingTime

NUM_IMAGES = 200
NUM_ROUNDS = 7
BUDGET_S = 1.5  # no further round begins after this; large inputs of a network take their time

In = TypeVar("In")
Out = TypeVar("Out")


def measure_preprocessing(split: Split, preprocessing: Preprocessing) -> PreprocessingTime:
    """Seconds per image, one image after the other on one thread, as in `Preprocessing.from_image`.

    Timed apart: decoding a PPM file in memory; `resize_image` on the decoded image; and `Preprocessing.normalize`,
    which also enlarges where the network wants more pixels than the data set has. The files are made of the stored
    images, enlarged to their original size: that size is what the work depends on. GTSRB is already cropped to the
    sign.

    Args:
        split: images evenly spread over it are taken.
    """
    chosen = np.unique(np.linspace(0, split.num_images - 1, min(NUM_IMAGES, split.num_images)).astype(int))
    files = [_ppm(split, int(index)) for index in chosen]
    decode_s, resize_s, normalize_s = list[float](), list[float](), list[float]()
    begun = time.perf_counter()
    with _one_thread():
        _timed(_decode, files[:20])  # a warm-up: codecs are loaded on first use
        preprocessing.normalize(split.images[:1])
        while not decode_s or (len(decode_s) < NUM_ROUNDS and time.perf_counter() - begun < BUDGET_S):
            seconds, decoded = _timed(_decode, files)
            decode_s.append(seconds)
            seconds, resized = _timed(partial(resize_image, size=split.images.shape[-1]), decoded)
            resize_s.append(seconds)
            seconds, _ = _timed(preprocessing.normalize, [image[None] for image in resized])
            normalize_s.append(seconds)
    return PreprocessingTime(decode_s, resize_s, normalize_s, len(files), "PPM")


def _timed(step: Callable[[In], Out], inputs: Sequence[In]) -> tuple[float, list[Out]]:
    """Seconds per input, and the outputs."""
    started = time.perf_counter()
    outputs = [step(each) for each in inputs]
    return (time.perf_counter() - started) / len(inputs), outputs


def _decode(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content), formats=("PPM",))
    image.load()
    return image


def _ppm(split: Split, index: int) -> bytes:
    """A PPM file as large as the original."""
    height, width = (int(side) for side in split.sizes[index])
    image = Image.fromarray(np.ascontiguousarray(split.images[index].transpose(1, 2, 0)))
    buffer = io.BytesIO()
    image.resize((max(1, width), max(1, height)), Image.Resampling.BILINEAR).save(buffer, format="PPM")
    return buffer.getvalue()


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
