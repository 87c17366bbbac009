"""Networks, preprocessing and checkpoints."""

from __future__ import annotations

import gzip
import json
import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from PIL import Image

from lib.data import resize_image
from lib.data.preprocessing import Preprocessing, fit_preprocessing
from lib.errors import UserError
from lib.files import sha256_file
from lib.model import (
    ARCHITECTURES,
    build_network,
    leaf_layers,
    load_checkpoint,
    num_weights,
    random_checkpoint,
    save_checkpoint,
)
from lib.signs import NUM_CLASSES
from lib.training.recipes import RECIPES
from tests.made_data import made_data, noise
from tests.untrained import save_untrained, untrained

PREPROCESSING = Preprocessing((0.4, 0.3, 0.2), (0.2, 0.25, 0.3))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save_untrained(tmp_path, "learning_path")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_network_gives_one_logit_per_class_and_its_layers_have_every_weight_once(architecture: str) -> None:
    model = build_network(architecture, NUM_CLASSES).train()
    layers = leaf_layers(model)
    assert model.training, "in the mode it was in"
    assert sum(layer.num_weights for layer in layers) == num_weights(model)
    assert len({layer.name for layer in layers}) == len(layers)
    assert model.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, NUM_CLASSES)


def test_learning_path_net_is_the_published_one() -> None:
    model = build_network("learning_path", NUM_CLASSES)
    assert num_weights(model) == 319_979
    assert sum(layer.num_macs for layer in leaf_layers(model)) == 4_193_024


@pytest.mark.parametrize(
    ("name", "most_weights", "most_macs"), [("record", 3e6, 115e6), ("small", 1e6, 45e6), ("tiny", 1e5, 5e6)]
)
def test_network_of_a_recipe_is_as_small_as_its_title_says(name: str, most_weights: float, most_macs: float) -> None:
    recipe = RECIPES[name]
    network = build_network(recipe.architecture, NUM_CLASSES)
    layers = leaf_layers(network, (3, recipe.image_size, recipe.image_size))
    assert num_weights(network) < most_weights and sum(layer.num_macs for layer in layers) < most_macs


def test_unknown_architecture_names_the_known_ones() -> None:
    with pytest.raises(UserError, match="signnet"):
        build_network("signet", NUM_CLASSES)


def test_normalized_training_images_have_zero_mean_and_unit_deviation() -> None:
    images = np.random.default_rng(0).integers(0, 200, (64, 3, 32, 32), dtype=np.uint8)
    normalized = fit_preprocessing(images).normalize(images)
    assert np.abs(normalized.mean((0, 2, 3))).max() < 1e-3
    assert np.abs(normalized.std((0, 2, 3)) - 1).max() < 1e-3


def test_preprocessing_is_equal_to_the_bit_to_the_same_steps_in_pytorch() -> None:
    images = np.arange(256, dtype=np.uint8).repeat(12).reshape(16, 16, 3, 4).transpose(0, 2, 1, 3)  # every level
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (PREPROCESSING.mean, PREPROCESSING.std))
    expected = (torch.from_numpy(images.copy()).float() / 255 - mean) / std
    found = replace(PREPROCESSING, image_size=16).normalize(np.ascontiguousarray(images.repeat(4, 3)))
    np.testing.assert_array_equal(found, expected.numpy().repeat(4, 3))


def test_single_image_gets_the_same_pixels_as_the_data_set() -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 255, (57, 41, 3), dtype=np.uint8))
    expected = PREPROCESSING.normalize(resize_image(image)[None])
    np.testing.assert_array_equal(PREPROCESSING.from_image(image), expected)


def test_checkpoint_round_trip_keeps_weights_and_metadata(checkpoint: Path) -> None:
    torch.manual_seed(0)
    expected = build_network("learning_path", NUM_CLASSES).state_dict()
    loaded = load_checkpoint(checkpoint)
    assert loaded.metadata == untrained("learning_path")
    assert loaded.sha256 == sha256_file(checkpoint)
    assert not loaded.model.training
    for name, tensor in loaded.model.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)
    save_checkpoint(checkpoint, loaded.model.to(memory_format=torch.channels_last), loaded.metadata)
    assert sha256_file(checkpoint) == loaded.sha256, "equal weights, equal file"


def test_missing_checkpoint_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="02_train"):
        load_checkpoint(tmp_path / "none.safetensors")


def test_truncated_checkpoint_is_refused(checkpoint: Path) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(UserError, match="not a readable checkpoint"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"PK\3\4", r"is a ZIP archive, as torch\.save writes it"),
        (pickle.dumps(["fc.weight"] * 9, protocol=2), r"is a pickle .* never loaded"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        (b"\n<!DOCTYPE html>\n<html>", "is a web page .* download the file itself"),
        (gzip.compress(b"weights"), "is compressed with gzip; unpack it"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file, as Keras writes it"),
        (b"", "is empty"),
    ],
    ids=["pth", "old pth", "Git LFS", "web page", "gzip", "Keras", "empty"],
)
def test_foreign_file_is_called_what_it_is(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{path} {told}.*02_train") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="is a folder"):
        load_checkpoint(tmp_path)


def rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], object]) -> None:
    """Save a checkpoint again with other metadata or weights."""
    with safetensors.safe_open(path, framework="pt") as file:
        ((key, content),) = file.metadata().items()
    fields, weights = json.loads(content), safetensors.torch.load_file(path)
    change(fields, weights)
    safetensors.torch.save_file(weights, path, {key: json.dumps(fields)})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda fields, _: fields.pop("recipe"), r"at 'recipe'"),
        (lambda fields, _: fields.update(num_epochs="7"), r"at 'num_epochs'"),
        (lambda fields, _: fields.update(data_source=["gtsrb"]), r"at 'data_source'"),
        (lambda fields, _: fields.update(note="x"), r"at 'note'"),
        (lambda fields, _: fields["preprocessing"].update(image_size=100_000), r"at 'preprocessing\.image_size'"),
        (lambda fields, _: fields["preprocessing"].update(mean=[0.1, 0.2]), r"at 'preprocessing\.mean"),
        (lambda fields, _: fields["preprocessing"].update(std=[0.1, 0.2, 0.0]), r"at 'preprocessing\.std\.2'"),
        (lambda fields, _: fields["preprocessing"].update(mean=[math.nan] * 3), r"at 'preprocessing\.mean\.0'"),
        (lambda _, weights: weights.update({"fc2.bias": weights["fc2.bias"].half()}), r"fc2\.bias is torch\.float16"),
        (lambda _, weights: weights.update({"fc2.bias": weights["fc2.bias"].int()}), r"fc2\.bias is torch\.int32"),
        (lambda _, weights: weights["fc2.bias"].fill_(math.nan), r"fc2\.bias"),
    ],
)  # fmt: skip
def test_metadata_and_weights_of_another_type_or_out_of_range_are_refused(
    checkpoint: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], object], told: str
) -> None:
    rewrite(checkpoint, lambda fields, weights: None)
    load_checkpoint(checkpoint)
    rewrite(checkpoint, change)
    with pytest.raises(UserError, match=told) as caught:
        load_checkpoint(checkpoint)
    assert "\n" not in str(caught.value)


def test_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(UserError, match="not a checkpoint of this project"):
        load_checkpoint(path)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    path = save_untrained(tmp_path, "signnet", build_network("learning_path", NUM_CLASSES))
    with pytest.raises(UserError, match="does not fit signnet"):
        load_checkpoint(path)


def test_failed_save_keeps_the_old_checkpoint(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = checkpoint.read_bytes()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="No space left"):
        save_untrained(checkpoint.parent, "learning_path")
    assert checkpoint.read_bytes() == before
    assert [path.name for path in checkpoint.parent.iterdir()] == [checkpoint.name]


class TrainsOnLargerImages(torch.nn.Module):
    """As `inception_v3`: in training a second classifier computes too, on more pixels than there are at 32."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = torch.nn.BatchNorm2d(3)
        self.second = torch.nn.Conv2d(3, 1, 64)
        self.head = torch.nn.Linear(3, NUM_CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.bn(images)
        if self.training:
            self.second(hidden)
        logits: torch.Tensor = self.head(hidden.mean((2, 3)))
        return logits


def test_network_that_only_trains_on_larger_images_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.models.get_model", lambda name, **options: TrainsOnLargerImages())
    train = noise("train", 64)
    found = random_checkpoint("inception_v3", made_data(train, train), tmp_path / "model.safetensors")
    with torch.no_grad():
        hidden = found.model.get_submodule("bn")(torch.from_numpy(found.preprocessing.normalize(train.images)))
    assert hidden.mean((0, 2, 3)).abs().max() < 0.01, "batch norm does not have the statistics of the images"
    assert (hidden.std((0, 2, 3)) - 1).abs().max() < 0.01
