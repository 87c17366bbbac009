"""01_explore, and the data of every other page."""

from __future__ import annotations

import numpy as np
import torch

from lib.data import Audit, Data, Split
from lib.data.audit import MAX_TEST_OVERLAP, TEST, TRAIN, VAL, Duplicate
from lib.report.figures import show
from lib.report.plots import plot_augmentation, plot_class_balance
from lib.report.table import Banner, Cell, Stack, Table, Value, profile_banner
from lib.report.words import percent
from lib.signs import NUM_CLASSES, SIGNS
from lib.training.augmentation import augment_batch
from lib.training.recipes import RECIPES

SHOWN = 3  # pixels of a picture for one of an image; a cell shows it at half of that


def data_table(data: Data, profile: str) -> Stack:
    """Which images these are, and how many, by split; with the banner of a smoke run."""
    rows: list[list[Value]] = [
        [
            name,
            split.num_images,
            split.num_tracks if split.has_tracks else "not published",
            len(np.unique(split.labels)),
        ]
        for name, split in data.splits.items()
    ]
    notes = "; ".join([*data.notes, f"manifest hash {data.manifest_hash[:12]}"])
    table = Table(["split", "images", "tracks", "classes"], rows, caption=f"Images: {data.source}", note=notes)
    absent = None
    if data.test is None:
        absent = Banner("There are no test images here: accuracy is reported on the validation images.", "info")
    return Stack(profile_banner(profile), absent, table)


def class_counts(split: Split) -> tuple[list[int], list[int]]:
    """Images and tracks per class."""
    labels_of_tracks = np.unique(np.stack([split.labels, split.track_ids]), axis=1)[0]
    return (
        np.bincount(split.labels, minlength=NUM_CLASSES).tolist(),
        np.bincount(labels_of_tracks, minlength=NUM_CLASSES).tolist(),
    )


def class_balance(split: Split) -> None:
    """Images per class, with the number of tracks."""
    show(plot_class_balance(*class_counts(split)))


def audit_table(audit: Audit) -> Table:
    """Tracks and images that two splits share."""
    rows: list[list[Value]] = []
    for (first, second), tracks in audit.shared_tracks.items():
        images = audit.num_shared(first, second)
        shared = Cell(f"{len(tracks):,}", tone="bad" if tracks else "good") if tracks is not None else None
        share = percent(images / audit.num_images[second]) + f" of {second}" if images else ""
        rows.append(
            [
                f"{first} and {second}",
                shared or Cell("tracks not published", tone="muted"),
                Cell(f"{images:,}", share, "warn" if images else "good"),
            ]
        )
    inside = ", ".join(f"{name} {audit.num_repeats(name):,}" for name in audit.num_images)
    note = f"Images that repeat another one inside their split: {inside}. Compared at their original size."
    return Table(["splits", "tracks in both", "images in both"], rows, caption="Leaks between splits", note=note)


def duplicates(data: Data, audit: Audit, limit: int = 16) -> Stack | None:
    """Images that are there more than once: what they are, with pictures, names and tracks."""
    found = audit.duplicates
    if not found:
        return None
    splits = [name for name in data.splits if any(duplicate.num_in(name) for duplicate in found)]
    rows = [
        [*_picture(data, duplicate), *(_places(data, duplicate, name) for name in splits)]
        for duplicate in found[:limit]
    ]
    note = "Names are those of the files; a training file is named class/track_frame."
    if len(found) > limit:
        note = f"The first {limit} of {len(found):,} pictures; the record of this page names all. {note}"
    table = Table(["sign", "track", *splits], rows, caption="Images that are there twice", note=note)
    return Stack(*_judged(audit), table)


def _picture(data: Data, duplicate: Duplicate) -> list[Value]:
    """The picture with its class, or classes where its labels differ; and its track."""
    of = [(data.splits[name], index) for name, index in duplicate.places]
    split, index = of[0]
    pixels = np.ascontiguousarray(split.images[index].transpose(1, 2, 0)).repeat(SHOWN, 0).repeat(SHOWN, 1)
    labels = sorted({int(split.labels[index]) for split, index in of})
    names = ", but also ".join(f"{label} {SIGNS[label].name}" for label in labels)
    tracks = sorted({split.track_name(index) for split, index in of} - {""})
    sign = Cell(names, tone="bad" if len(labels) > 1 else "", image=pixels)
    return [sign, ", ".join(tracks) or Cell("not published", tone="muted")]


def _places(data: Data, duplicate: Duplicate, name: str) -> str:
    return ", ".join(data.splits[name].image_name(index) for split, index in duplicate.places if split == name)


def _judged(audit: Audit) -> list[Banner]:
    """What the duplicates mean for the accuracy."""
    banners = []
    known, unknown, total = audit.num_known(), audit.num_unknown(), audit.num_images.get(TEST, 0)
    in_both = "Test images that are in training or validation too"
    both = "02_train gives accuracy with and without them."
    if known:
        text = f"{in_both}: {known} of {total:,} ({percent(known / total)}). They show one stop sign that GTSRB itself "
        text += "has in its training set and in its test set. All images stay where GTSRB puts them, so that accuracy "
        banners.append(Banner(f"{text}compares with the literature. {both}", "info"))
    if unknown:
        text = f"{in_both}{', beside those that GTSRB is known for' if known else ''}: {unknown:,} of {total:,} "
        text += f"({percent(unknown / total)}). Up to {percent(MAX_TEST_OVERLAP, 1)} is tolerated. "
        banners.append(Banner(f"{text}{both}"))
    if inside := audit.num_shared(TRAIN, VAL):
        banners.append(Banner(f"Validation images that are in training too, under another track: {inside:,}. {both}"))
    return banners


def augmentation(split: Split, recipe: str, *, num_samples: int = 12, num_versions: int = 3, seed: int = 0) -> None:
    """Evenly chosen images above versions of them as training by a recipe that augments sees them."""
    plan = RECIPES[recipe].augmentation
    assert plan is not None, f"{recipe} takes images as they are"
    chosen = np.linspace(0, split.num_images - 1, num_samples).round().astype(int)
    images, labels = torch.from_numpy(np.array(split.images[chosen])), torch.from_numpy(np.array(split.labels[chosen]))
    generator = torch.Generator().manual_seed(seed)
    versions = [augment_batch(images, labels, generator, plan)[0].numpy() for _ in range(num_versions)]
    show(plot_augmentation(images.numpy(), np.stack(versions)))
