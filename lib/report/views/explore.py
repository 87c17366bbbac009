"""01_explore, and the data of every other page."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch

from lib.data import Data, Split, count_duplicates
from lib.report.figures import show
from lib.report.plots import plot_augmentation, plot_class_balance
from lib.report.table import Banner, Cell, Stack, Table, Value, profile_banner
from lib.signs import NUM_CLASSES
from lib.training import augment_batch


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


def _count_cell(number: int | None) -> Cell:
    """Zero is good, more is bad, and what cannot be known says so."""
    if number is None:
        return Cell("tracks not published", tone="muted")
    return Cell(f"{number:,}", tone="bad" if number else "good")


def split_table(data: Data) -> Table:
    """Tracks and images that two splits share; all must be zero for an accuracy to mean something."""
    duplicates = count_duplicates(data)
    tracks = {name: set(split.track_ids.tolist()) for name, split in data.splits.items()}
    rows: list[list[Value]] = []
    for first, second in combinations(data.splits, 2):
        shared: int | None = len(tracks[first] & tracks[second])
        if not (data.splits[first].has_tracks and data.splits[second].has_tracks):
            shared = None
        found = (shared, duplicates[f"{first}/{second}"])
        rows.append([f"{first} and {second}", *(_count_cell(number) for number in found)])
    inside = ", ".join(f"{name} {duplicates[name]:,}" for name in data.splits)
    note = f"Images that repeat another one inside their split: {inside}."
    return Table(["splits", "tracks in both", "images in both"], rows, caption="Leaks between splits", note=note)


def augmentation(split: Split, *, num_samples: int = 12, num_versions: int = 3, seed: int = 0) -> None:
    """Evenly chosen images above versions of them as training sees them."""
    chosen = np.linspace(0, split.num_images - 1, num_samples).round().astype(int)
    images, labels = torch.from_numpy(np.array(split.images[chosen])), torch.from_numpy(np.array(split.labels[chosen]))
    generator = torch.Generator().manual_seed(seed)
    versions = [augment_batch(images, labels, generator)[0].numpy() for _ in range(num_versions)]
    show(plot_augmentation(images.numpy(), np.stack(versions)))
