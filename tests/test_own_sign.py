"""The cell for a reader's own image: any ordinary file works, anything else ends in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lib.errors import UserError
from lib.model import Checkpoint, load_checkpoint
from lib.report.table import Banner, Stack, Table
from lib.report.views import predict_file
from lib.report.views.train import _upright_rgb
from tests.untrained import save_untrained


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    torch.manual_seed(0)
    return load_checkpoint(save_untrained(tmp_path_factory.mktemp("model"), "learning_path"))


@pytest.fixture
def photo() -> Image.Image:
    """Dark above, red below: a wrong turn or a lost channel shows."""
    pixels = np.zeros((60, 40, 3), np.uint8)
    pixels[30:, :, 0] = 200
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("mode", "name"),
    [("RGB", "a.jpg"), ("RGB", "a.png"), ("RGB", "a.ppm"), ("RGBA", "a.png"), ("LA", "a.png"), ("L", "a.png"),
     ("1", "a.png"), ("P", "a.gif"), ("CMYK", "a.jpg"), ("RGB", "a b'ö.png")],
)  # fmt: skip
def test_every_common_kind_of_image_is_read(
    checkpoint: Checkpoint, photo: Image.Image, tmp_path: Path, mode: str, name: str
) -> None:
    photo.convert(mode).save(tmp_path / name)
    shown = predict_file(checkpoint, f' "{tmp_path / name}" ')
    assert isinstance(shown, Stack)
    given, read = shown.parts[:2]
    assert isinstance(given, Table) and given.columns[0] == "your image, 40 x 60"
    assert isinstance(read, Table) and len(read.rows) == 5 and name in read.caption
    assert shown._repr_html_().count("<img") == 7, "the image, what the network sees, and five signs"


def test_photo_is_turned_as_the_camera_says(photo: Image.Image, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned right by 90 degrees
    photo.rotate(90, expand=True).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    with Image.open(tmp_path / "turned.jpg") as turned:
        upright = np.asarray(_upright_rgb(turned))
    assert upright.shape == (60, 40, 3)
    assert np.abs(upright.astype(int) - np.asarray(photo).astype(int)).mean() < 5


def test_transparent_parts_become_grey_and_sixteen_bits_are_scaled(photo: Image.Image) -> None:
    clear = photo.convert("RGBA")
    clear.putalpha(0)
    assert (np.asarray(_upright_rgb(clear)) == 128).all()
    deep = Image.fromarray(np.full((4, 4), 30_000, np.uint16))
    assert (np.abs(np.asarray(_upright_rgb(deep)).astype(int) - 30_000 * 255 // 65_535) <= 1).all()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "no file"),
        (b"", "not a readable image"),
        (b"\xff\xd8\xff not a jpeg", "not a readable image"),
        (b"P6\n6000 6000\n255\n", "at most 25,000,000 are allowed"),
        (b"P6\n30000 30000\n255\n", "than the 25,000,000 that are allowed"),
        (b"P6\n300 300\n255\nshort", "not a readable image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "give a JPEG, PNG or PPM file"),
    ],
    ids=["missing", "empty", "damaged", "large", "huge", "truncated", "svg"],
)
def test_what_is_no_image_ends_in_one_line(
    checkpoint: Checkpoint, tmp_path: Path, content: bytes | None, complaint: str
) -> None:
    path = tmp_path / "sign.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=complaint) as caught:
        predict_file(checkpoint, str(path))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_folder_and_nothing_are_told_apart_from_a_broken_file(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        predict_file(checkpoint, str(tmp_path))
    assert isinstance(predict_file(checkpoint, ""), Banner)
