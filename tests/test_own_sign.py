"""The cell for a reader's own image: any ordinary file works, anything else ends in one line."""

from __future__ import annotations

from pathlib import Path

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


PHOTO = Image.new("RGB", (40, 60), "red")


@pytest.mark.parametrize("name", ["a.jpg", "a b'ö.png"])
def test_image_is_shown_with_what_the_network_sees_and_reads(checkpoint: Checkpoint, tmp_path: Path, name: str) -> None:
    PHOTO.save(tmp_path / name)
    shown = predict_file(checkpoint, f' "{tmp_path / name}" ')
    assert isinstance(shown, Stack)
    given, read = shown.parts[:2]
    assert isinstance(given, Table) and given.columns[0] == "your image, 40 x 60"
    assert isinstance(read, Table) and len(read.cells) == 5 and name in read.caption
    assert shown._repr_html_().count("<img") == 7, "the image, what the network sees, and five signs"


def test_what_was_assumed_of_an_image_is_said_beside_it(checkpoint: Checkpoint, tmp_path: Path) -> None:
    PHOTO.convert("CMYK").save(tmp_path / "a.jpg")
    shown = predict_file(checkpoint, str(tmp_path / "a.jpg"))
    assert isinstance(shown, Stack) and "About your image: it is CMYK" in str(shown.parts[1])


@pytest.mark.parametrize(
    ("name", "complaint"), [("missing.png", "no file"), ("broken.png", "not an image"), ("", "is a folder")]
)
def test_what_is_no_image_ends_in_one_line(checkpoint: Checkpoint, tmp_path: Path, name: str, complaint: str) -> None:
    (tmp_path / "broken.png").touch()
    with pytest.raises(UserError, match=complaint) as caught:
        predict_file(checkpoint, str(tmp_path / name))
    assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("least", "says"), [(0.0, "is not sure"), (0.9, "takes this for no sign")])
def test_unsure_answer_has_a_warning(tmp_path: Path, least: float, says: str) -> None:
    PHOTO.save(tmp_path / "a.png")
    path = save_untrained(tmp_path, "learning_path", least_confidence=least)
    assert says in str(predict_file(load_checkpoint(path), str(tmp_path / "a.png")))


def test_cell_without_a_file_asks_for_one(checkpoint: Checkpoint) -> None:
    assert isinstance(predict_file(checkpoint, ""), Banner)
