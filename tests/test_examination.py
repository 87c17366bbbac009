"""What 02 examines beside accuracy, on networks whose answers are known."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lib.analysis.severity import COSTS, GROUPS, OTHER, costly_errors
from lib.data import Split
from lib.files import PROJECT_ROOT
from lib.model import Checkpoint
from lib.records.schema import BehaviourTest
from lib.report.examination import behaviour_table, costs_table, in_full, slices_table
from lib.signs import CLASS_NAMES, NUM_CLASSES
from lib.training.behaviour import (
    CORRUPTIONS,
    background_confidence,
    behavioural_tests,
    corruption_accuracy,
    judge_confidence,
)
from lib.training.evaluation import Evaluation, evaluate, fair_confidence, slices
from lib.training.saliency import saliency
from tests.made_data import made_split
from tests.untrained import untrained

KEEP_RIGHT, KEEP_LEFT, STOP, YIELD = 38, 39, 14, 13
TURNED, LIT, MIRRORED = "turned by 5 degrees", "20 % more or less light", "mirrored"
BLANK = "without anything on them"
Reads = Callable[[Tensor], Tensor]


class _Reader(nn.Module):
    """A network of one rule. Args: reads: float (N, 3, H, W), -1..1 -> logit of `positive`; `negative` has 0."""

    def __init__(self, reads: Reads, positive: int, negative: int) -> None:
        super().__init__()
        self.reads, self.positive, self.negative = reads, positive, negative
        self.weight = nn.Parameter(torch.zeros(()))  # its device is that of the network

    def forward(self, images: Tensor) -> Tensor:
        logits = torch.full((len(images), NUM_CLASSES), -20.0)
        logits[:, self.negative] = 0
        logits[:, self.positive] = self.reads(images)
        return logits


def network(reads: Reads, positive: int = KEEP_LEFT, negative: int = KEEP_RIGHT, **changes: float) -> Checkpoint:
    return Checkpoint(_Reader(reads, positive, negative), untrained("learning_path", **changes), "", Path())


def side(images: Tensor) -> Tensor:
    """Whether the left is brighter."""
    return 20 * (images[..., :16].mean((1, 2, 3)) - images[..., 16:].mean((1, 2, 3)))


def light(images: Tensor) -> Tensor:
    """Whether the image is brighter than mid grey."""
    return 100 * images.mean((1, 2, 3))


def sided() -> Split:
    """40 images in 8 tracks, every other one bright on the left, or else on the right."""
    images = np.full((40, 3, 32, 32), 60, np.uint8)
    images[::2, ..., :16] = 180
    images[1::2, ..., 16:] = 180
    return made_split("val", images, np.tile([KEEP_LEFT, KEEP_RIGHT], 20), np.arange(40) // 10 * 2 + np.arange(40) % 2)


def measured(checkpoint: Checkpoint) -> dict[str, BehaviourTest]:
    return {test.name: test for test in behavioural_tests(checkpoint, sided())}


def test_network_that_reads_what_matters_passes_all_behavioural_tests() -> None:
    found = measured(network(side))
    assert {name: test.passed for name, test in found.items()} == dict.fromkeys([TURNED, LIT, MIRRORED, BLANK], True)
    assert found[BLANK].measured == pytest.approx(0.5, abs=0.01), "two classes are equally likely"


@pytest.mark.parametrize(
    ("checkpoint", "broken"),
    [
        (network(lambda images: light(images) + 4), {LIT, MIRRORED, BLANK}),
        (network(lambda images: 60 * images[:, 0, 1, 15]), {TURNED, BLANK}),
        (network(lambda images: torch.full((len(images),), 9.0), STOP, YIELD), {BLANK}),
    ],
    ids=["light alone", "one pixel at the edge", "always stop, which has no mirror image"],
)
def test_network_that_reads_what_does_not_matter_fails(checkpoint: Checkpoint, broken: set[str]) -> None:
    found = measured(checkpoint)
    assert {name for name, test in found.items() if not test.passed} == broken
    assert str(behaviour_table(list(found.values()))).count("does not hold") == len(broken)


def test_stronger_corruptions_change_an_image_more() -> None:
    images = np.random.default_rng(0).integers(60, 190, (5, 3, 32, 32), np.uint8)
    changed = {name: change(images) for name, change in CORRUPTIONS.items()}
    assert all(each.shape == images.shape and each.dtype == np.uint8 for each in changed.values())
    far = np.array([np.abs(each.astype(float) - images).mean() for each in changed.values()]).reshape(-1, 3)
    assert len(far) == 6 and (far[:, 0] > 1).all() and (np.diff(far) > 0).all(), far


def test_accuracy_under_corruptions_is_that_of_the_same_images() -> None:
    split, checkpoint = sided(), network(light, STOP, YIELD)
    labels = np.where(split.images.mean((1, 2, 3)) > 127.5, STOP, YIELD)
    found = corruption_accuracy(checkpoint, made_split("val", split.images, labels, split.track_ids))
    assert found["as they are"].top1 == 1 and found["light x 0.5"].top1 == 1, "dark stays dark"
    assert found["light x 3"].top1 == 0 and found["JPEG quality 40"].num_images == 40


def test_part_of_the_full_profile_says_that_it_is() -> None:
    assert "Only the profile full has this part" in str(in_full(None))


def test_threshold_and_temperature_are_judged_on_signs_and_on_drawn_backgrounds() -> None:
    checkpoint = network(side, temperature=2.0, least_confidence=0.7)
    backgrounds = background_confidence(checkpoint, 8)
    assert len(set(backgrounds.round(6).tolist())) == 8, "other scenes"
    np.testing.assert_array_equal(backgrounds, background_confidence(checkpoint, 8))
    logits = np.full((4, NUM_CLASSES), -50, np.float32)
    logits[:, :2] = [[3, 0], [3, 0], [1, 0], [0, 3]]
    split = made_split("test", sided().images[:4], np.array([0, 0, 0, 0]), np.array([0, 0, 1, 1]))
    evaluation = evaluate(logits, split, temperature=2.0)
    found = judge_confidence(evaluation, split, checkpoint.metadata, np.array([0.6, 0.69, 0.7, 0.9]))
    sure, less = (1 / (1 + np.exp(-logit / 2)) for logit in (3, 1))
    assert (found.answered, found.rejected, found.num_backgrounds) == (0.75, 0.5, 4)
    assert found.error == pytest.approx((abs(3 * sure - 2) + 1 - less) / 4)
    assert found.error_before != pytest.approx(found.error)


def test_confidence_on_validation_is_that_of_the_temperature_of_other_tracks() -> None:
    split = sided()
    evaluation = evaluate(np.eye(NUM_CLASSES, dtype=np.float32)[split.labels], split, temperature=3.0)
    assert fair_confidence(evaluation, split).min() > evaluation.confidence.max(), "they are all right: colder"
    test = made_split("test", split.images, split.labels, split.track_ids)
    np.testing.assert_array_equal(fair_confidence(evaluation, test), evaluation.confidence)


def test_slices_are_by_size_and_light_and_name_the_worst() -> None:
    images = np.repeat(np.array([10, 200], np.uint8), 20)[:, None, None, None] * np.ones((1, 3, 32, 32), np.uint8)
    split = made_split("val", images, np.zeros(40, int), np.arange(40) // 5, side=47)
    logits = np.eye(NUM_CLASSES, dtype=np.float32)[np.where(np.arange(40) < 5, 1, 0)]
    found = slices(evaluate(logits, split), split)
    assert {name: (each.top1, each.num_tracks) for name, each in found.items()} == {
        "larger side 32 to 48 px": (0.875, 8),
        "mean level below 32": (0.75, 4),
        "mean level 128 and more": (1.0, 4),
    }
    assert "Worst: mean level below 32, 75.00 %." in str(slices_table(found))


def confusion(*errors: tuple[int, int, int]) -> np.ndarray:
    counts = np.diag(np.full(NUM_CLASSES, 100))
    for true, read, number in errors:
        counts[true, read] += number
    return counts


def test_missed_stop_sign_costs_more_than_mixed_up_limits() -> None:
    found = costly_errors(confusion((1, 2, 4), (2, 5, 2), (STOP, 1, 3)), CLASS_NAMES)
    assert [(each.group, each.read_as, each.cost, each.num_images) for each in found] == [
        ("stop, yield, no entry", "speed limit", 10, 3),
        ("speed limit", "speed limit", 2, 6),
    ]
    table = str(costs_table(confusion((1, 2, 4), (2, 5, 2), (STOP, 1, 3)).tolist()))
    assert "9 errors cost 4.7 on average" in table and "71.4 %" in table
    assert "No image was confused" in str(costs_table(confusion().tolist()))


def test_every_sign_is_of_one_group_and_classes_of_others_cost_one() -> None:
    assert sorted(class_id for ids in GROUPS.values() for class_id in ids) == list(range(NUM_CLASSES))
    (found,) = costly_errors(np.array([[5, 2], [0, 5]]), ("elephants crossing", "stop"))
    assert (found.group, found.cost, found.num_images) == (OTHER, 1, 2)


def test_costs_of_the_documents_are_those_that_count() -> None:
    text = (PROJECT_ROOT / "docs/method.md").read_text()
    rows = re.findall(r"^\| \*\*([\w ,]+)\*\* \|((?: \d+ \|)+)$", text, re.MULTILINE)
    assert [name for name, _ in rows] == [name for name in GROUPS if name != OTHER]
    assert [[int(cost) for cost in re.findall(r"\d+", costs)] for _, costs in rows] == COSTS[:-1, :-1].tolist()


def corner_read() -> tuple[Split, Evaluation, Checkpoint]:
    """All images have a bright corner, which is all that the network reads."""
    images = np.random.default_rng(0).integers(90, 140, (20, 3, 32, 32), np.uint8)
    images[..., :8, :8] = 250
    split = made_split("val", images, np.arange(20) % 2 + STOP, np.arange(20))
    checkpoint = network(lambda given: 9 * given[..., :8, :8].mean((1, 2, 3)) - 4, STOP, YIELD)
    return split, evaluate(np.eye(NUM_CLASSES, dtype=np.float32)[split.labels], split), checkpoint


def test_saliency_is_highest_where_the_network_looks_and_is_held_against_random_weights() -> None:
    split, evaluation, checkpoint = corner_read()
    found = saliency(checkpoint, evaluation, split)
    assert found.images.shape == (2, 3, 32, 32), "one of each class"
    assert found.maps[0].argmax() == 0 and found.maps[0, 0, 0] > 2
    assert np.abs(found.maps[0, 3:, 3:]).max() < 1e-3, "nothing else matters"
    assert found.maps.shape == found.random_maps.shape and -1 <= found.correlation <= 1
    assert type(found)(found.images, found.maps, found.maps).correlation == pytest.approx(1)
