"""What 02_train shows beside accuracy: no sign, size and light, what errors cost, and images that change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from lib.analysis.severity import costly_errors
from lib.records.schema import Accuracy, BehaviourTest, Confidence
from lib.report.figures import NEUTRAL, PALETTE, describe, new_axes, show, styled
from lib.report.pictures import sheet
from lib.report.table import Banner, Cell, Table
from lib.report.words import percent, percent_interval
from lib.signs import CLASS_NAMES
from lib.training.behaviour import CORRUPTIONS
from lib.training.saliency import Saliency

NUM_COSTLY = 8  # rows
LEARNED = 0.3  # correlation with maps of random weights, up to which maps show what was learned
MIDDLE = slice(2, 7)  # of the places of an occlusion map, by row and by column


@styled
def plot_rejection(signs: np.ndarray, backgrounds: np.ndarray, found: Confidence) -> Axes:
    """How sure the network is of signs and of drawn backgrounds; the threshold between.

    Args:
        signs, backgrounds: float (N,), probability of the answers.
    """
    ax = new_axes(2.6)
    bins = np.linspace(0, 100, 41).tolist()
    for values, colour, name in ((backgrounds, PALETTE[1], "drawn backgrounds"), (signs, PALETTE[0], "signs")):
        weights = np.full(len(values), 100 / len(values))
        ax.hist(100 * values, bins=bins, weights=weights, color=colour, alpha=0.7, label=name)
    ax.axvline(100 * found.least_confidence, color=NEUTRAL, linestyle="--", label="threshold")
    ax.set_xlim(0, 100)
    ax.set_xlabel("probability of the answer (%)")
    ax.set_ylabel("share of the images (%)")
    ax.grid(axis="y")
    ax.legend(loc="upper center")
    says = (
        f'Below {percent(found.least_confidence, 1)} the answer is "no sign". So {percent(found.answered, 1)} of the '
        f"signs are answered, and {percent(found.rejected, 1)} of {found.num_backgrounds} drawn backgrounds are not."
    )
    return describe(ax, f"Probability of the answers for signs and for backgrounds. {says}", says)


def slices_table(slices: Mapping[str, Accuracy]) -> Table:
    """Accuracy by size and by light."""
    rows = [
        {
            "signs with": name,
            "top-1": Cell(percent(found.top1), percent_interval(found.top1_interval)),
            "images": found.num_images,
            "tracks": found.num_tracks or "not published",
        }
        for name, found in slices.items()
    ]
    worst = min(slices, key=lambda name: slices[name].top1)
    note = f"Worst: {worst}, {percent(slices[worst].top1)}. Interval: 95 % bootstrap over tracks, where they are known."
    return Table.of(rows, caption="By size and light", note=note)


def costs_table(confusion: Sequence[Sequence[int]], classes: Sequence[str] = CLASS_NAMES) -> Table:
    """Errors by what they cost, all of a kind together."""
    found = costly_errors(np.asarray(confusion), classes)
    total, num_wrong = sum(each.cost * each.num_images for each in found), sum(each.num_images for each in found)
    rows = [
        {
            "sign": each.group,
            "read as": each.read_as,
            "cost of one": each.cost,
            "images": each.num_images,
            "share of all costs": percent(each.cost * each.num_images / total, 1),
        }
        for each in found[:NUM_COSTLY]
    ]
    num_images = int(np.sum(confusion))
    note = "No image was confused."
    if found:
        note = (
            f"{num_wrong:,} errors cost {total / num_wrong:.1f} on average, {1000 * total / num_images:,.1f} in 1,000 "
            "images. 1: nothing follows; 10: it may kill. docs/method.md has the whole table."
        )
    return Table.of(rows, caption="What errors cost", note=note)


def behaviour_table(tests: Sequence[BehaviourTest]) -> Table:
    """What was found, what is allowed, and whether that holds."""
    rows = [
        {
            "images": test.name,
            "measured": percent(test.measured, 1),
            "at most": percent(test.limit, 1),
            "result": Cell("holds", tone="good") if test.passed else Cell("does not hold", tone="bad"),
        }
        for test in tests
    ]
    note = (
        "Share of the answers that change; for mirrored images, that are not the mirrored answer; for black, grey and "
        "white images, the highest probability of an answer."
    )
    return Table.of(rows, caption="What should not change an answer", note=note)


def in_full(figure: Axes | None) -> Banner | None:
    """A figure that only the profile `full` has; says so where there is none."""
    if figure is None:
        return Banner("Only the profile full has this part: it takes longer than fast has for it.", "info")
    show(figure)
    return None


@styled
def plot_corruptions(image: np.ndarray, found: Mapping[str, Accuracy]) -> Axes:
    """Args: image: uint8 (1, 3, H, W); found: of `corruption_accuracy`."""
    texts = [f"{name}\n{percent(found[name].top1, 1)}" for name in CORRUPTIONS]
    ax = sheet([change(image)[0] for change in CORRUPTIONS.values()], texts, 9, (1.35, 1.6))
    plain = next(iter(found.values())).top1
    worst = min(CORRUPTIONS, key=lambda name: found[name].top1)
    mild = [name for name in CORRUPTIONS if found[name].top1 >= plain - 0.01]
    says = (
        f"Top-1 of {found[worst].num_images} images under each corruption; {percent(plain, 1)} as they are. "
        f"{len(mild)} of {len(CORRUPTIONS)} cost at most one point; worst is {worst}, {percent(found[worst].top1, 1)}."
    )
    return describe(ax, says, says)


@styled
def plot_saliency(found: Saliency) -> Axes:
    """Images in the first row, their maps below, and in the last row those of random weights."""
    images, maps = found.images, found.maps
    rows = [map(_heat, images, each) for each in (maps, found.random_maps)]
    pictures = [*images, *rows[0], *rows[1]]
    ax = sheet(pictures, [""] * len(pictures), len(images), (1.06, 1.06))
    falls = maps.clip(min=0)
    middle = falls[:, MIDDLE, MIDDLE].sum() / max(falls.sum(), 1e-12)
    learned = "show what was learned" if found.correlation <= LEARNED else "say little about what was learned"
    says = (
        f"Red: where a grey patch costs the answer most. {percent(middle, 0)} of that is in the middle 25 of "
        f"{maps[0].size} places. The maps correlate by {found.correlation:.2f} with those of random weights (last "
        f"row), so they {learned}."
    )
    return describe(ax, f"{len(images)} images and their occlusion maps. {says}", says)


def _heat(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """float (3, H, W), 0..1: the image in grey, red where the values are high."""
    scaled = (values.clip(min=0) / max(float(values.max()), 1e-12)).astype(np.float32)
    heat = np.asarray(Image.fromarray(scaled).resize(image.shape[:0:-1], Image.Resampling.BILINEAR))
    coloured = matplotlib.colormaps["Reds"](heat)[..., :3].transpose(2, 0, 1)
    grey = image.mean(axis=0) / 255
    mixed: np.ndarray = 0.45 * grey + 0.55 * coloured
    return mixed
