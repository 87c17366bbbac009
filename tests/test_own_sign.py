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
from lib.report.train import predict_file
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


@pytest.mark.parametrize("name", ["a.jpg", "a b'ö.png"])
def test_image_is_shown_with_what_the_network_sees_and_reads(
    checkpoint: Checkpoint, photo: Image.Image, tmp_path: Path, name: str
) -> None:
    photo.save(tmp_path / name)
    shown = predict_file(checkpoint, f' "{tmp_path / name}" ')
    assert isinstance(shown, Stack)
    given, read = shown.parts[:2]
    assert isinstance(given, Table) and given.columns[0] == "your image, 40 x 60"
    assert isinstance(read, Table) and len(read.rows) == 5 and name in read.caption
    assert shown._repr_html_().count("<img") == 7, "the image, what the network sees, and five signs"


def test_what_was_assumed_of_an_image_is_said_beside_it(
    checkpoint: Checkpoint, photo: Image.Image, tmp_path: Path
) -> None:
    photo.convert("CMYK").save(tmp_path / "a.jpg")
    shown = predict_file(checkpoint, str(tmp_path / "a.jpg"))
    assert isinstance(shown, Stack) and "About your image: it is CMYK" in str(shown.parts[1])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "no file"),
        (b"", "not an image"),
        (b"\xff\xd8\xff not a jpeg", "not an? (readable )?image"),
        (b"P6\n6000 6000\n255\n", "at most 25,000,000 are allowed"),
        (b"P6\n30000 30000\n255\n", "than the 25,000,000 that are allowed"),
        (b"P6\n300 300\n255\nshort", "not a readable image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "give a JPEG, PNG, WebP, TIFF or PPM file"),
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
