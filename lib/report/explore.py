"""The page of 01_explore, section by section, and the data of every other page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes

from lib.analysis.folds import load_folds
from lib.analysis.shift import beyond_chance
from lib.data import Data, Split
from lib.data.audit import CLASS_MIX, MAX_TEST_OVERLAP, TEST, TRAIN, VAL, Audit, Duplicate, mean_brightness
from lib.errors import UserError
from lib.records.schema import Shift, TrackResult
from lib.report.figures import PALETTE, describe, new_axes, show, styled
from lib.report.live import is_live
from lib.report.pictures import as_picture, class_axis, class_label, sheet, sign_cell, track_strips
from lib.report.table import Banner, Cell, Stack, Table, Tone, Value, profile_banner
from lib.report.words import number, percent
from lib.signs import CLASS_NAMES
from lib.training.augmentation import augment_batch
from lib.training.recipes import choose_recipe

SHOWN = 3  # pixels of a picture for one of an image; a cell shows it at half of that
MOST_DOUBTED = 12  # tracks whose frames are shown
MEDIUM_LIGHT = 100.0  # mean pixel value at which a sign is easily seen


def data_table(data: Data, profile: str) -> Stack:
    """Which images these are, and how many, by split; with the banner of a smoke run."""
    rows = [
        {
            "split": name,
            "images": split.num_images,
            "tracks": split.num_tracks if split.has_tracks else "not published",
            "classes": len(np.unique(split.labels)),
        }
        for name, split in data.splits.items()
    ]
    notes = "; ".join([*data.notes, f"manifest hash {data.manifest_hash[:12]}"])
    absent = None
    if data.test is None:
        absent = Banner("This data set has no test images: accuracy is reported on the validation images.", "info")
    return Stack(profile_banner(profile), absent, Table.of(rows, caption=f"Images: {data.source}", note=notes))


@styled
def plot_class_balance(
    images_per_class: Sequence[int], tracks_per_class: Sequence[int], classes: Sequence[str] = CLASS_NAMES
) -> Axes:
    """Images per class, the most frequent first; each bar names its number of tracks."""
    ax = new_axes(3.5)
    order = sorted(range(len(images_per_class)), key=lambda class_id: -images_per_class[class_id])
    counts = [images_per_class[class_id] for class_id in order]
    ax.bar(range(len(order)), counts, width=0.78, color=PALETTE[0])
    for position, class_id in enumerate(order):
        text = str(tracks_per_class[class_id])
        ax.annotate(text, (position, counts[position]), (0, 2), textcoords="offset points", ha="center", fontsize=6.5)
    class_axis(ax, order, classes)
    ax.grid(axis="y")
    ax.set_ylabel("training images")
    ax.set_xlabel("class")
    ax.set_title(f"Images per class; on each bar its number of tracks ({sum(tracks_per_class):,} in all)")
    most, least = order[0], order[-1]
    ratio = counts[0] / counts[-1] if counts[-1] else float("inf")
    return describe(
        ax,
        f"Bar chart of {sum(counts):,} training images over {len(counts)} classes. Most frequent: {classes[most]} "
        f"with {counts[0]:,} images from {tracks_per_class[most]} tracks; least frequent: {classes[least]} with "
        f"{counts[-1]:,} from {tracks_per_class[least]}; a factor of {ratio:.1f}.",
        f"The most frequent class, {classes[most]}, has {ratio:.1f} times as many images as the rarest, "
        f"{classes[least]}.",
    )


@styled
def plot_class_gallery(
    images: np.ndarray, labels: np.ndarray, classes: Sequence[str] = CLASS_NAMES, columns: int = 9
) -> Axes:
    """One picture of each class with its name. Of 64 spread over the class, the one nearest to medium light.

    Args:
        images: uint8 (N, 3, H, W).
        labels: int (N,).
    """
    labels = np.asarray(labels)
    pictures: list[np.ndarray | None] = []
    for class_id in range(len(classes)):
        members = np.flatnonzero(labels == class_id)
        members = members[:: max(1, len(members) // 64)]
        light = mean_brightness(np.asarray(images[members])) if len(members) else None
        pictures.append(None if light is None else images[members[np.abs(light - MEDIUM_LIGHT).argmin()]])
    ax = sheet(pictures, [class_label(class_id, classes) for class_id in range(len(classes))], columns, (1.22, 1.62))
    missing = [str(class_id) for class_id, picture in enumerate(pictures) if picture is None]
    without = f" Without images: classes {', '.join(missing)}." if missing else ""
    return describe(ax, f"One image of each of the {len(classes)} classes, above its number and name.{without}")


@styled
def plot_sizes(sizes: np.ndarray, image_size: int = 32) -> Axes:
    """Histogram of the larger side of the original images; `sizes` is (N, 2), height and width in pixels."""
    ax = new_axes(2.6)
    larger = np.asarray(sizes).max(1)
    span = int(larger.max()) - int(larger.min())
    step = max(1, span // 60)
    bins = np.arange(larger.min(), larger.max() + 2 * step, step) - 0.5
    below = f"{100 * (larger < image_size).mean():.0f} %"
    says = f"{below} of the images are smaller than the network's input; the middle one measures {{middle:.0f}} pixels."
    _histogram(ax, larger, "pixels", "larger image side", bins, says)
    ax.axvline(image_size, color=PALETTE[1], linewidth=1.4, ymax=0.88, label=f"network input, {image_size} pixels")
    ax.legend(loc="upper right")
    ax.set_title(f"Size of the original images; {below} are smaller than the network's input")
    return ax


@styled
def plot_brightness(brightness: np.ndarray) -> Axes:
    """Histogram of the mean pixel value per image, 0..255 (see `mean_brightness`)."""
    says = "Half of the images are darker than {middle:.0f} of 255, 5 % darker than {low:.0f}."
    ax = _histogram(new_axes(2.6), np.asarray(brightness), "0..255", "mean pixel value", np.arange(0, 257, 4), says)
    ax.set_xlim(0, 255)
    ax.set_title("Brightness of the images")
    return ax


def _histogram(ax: Axes, values: np.ndarray, unit: str, what: str, bins: np.ndarray, says: str) -> Axes:
    """Histogram with lines at the 5th, 50th and 95th percentile, which `says` may name."""
    ax.hist(values, bins=bins.tolist(), color=PALETTE[0], alpha=0.85)
    low, middle, high = (float(value) for value in np.percentile(values, (5, 50, 95)))
    top = ax.get_ylim()[1]
    ax.set_ylim(0, top * 1.14)
    for name, value in (("p5", low), ("p50", middle), ("p95", high)):
        ax.axvline(value, color="#24292f", linewidth=1, linestyle="--", ymax=0.88)
        ax.annotate(f"{name} {value:.0f}", (value, top * 1.02), ha="center", va="bottom", fontsize=8)
    ax.set_ylabel("images")
    ax.set_xlabel(f"{what} ({unit})")
    ax.grid(axis="y")
    return describe(
        ax,
        f"Histogram of {what} of {len(values):,} images, in {unit}: 5 % are below {low:.0f}, half below {middle:.0f}, "
        f"95 % below {high:.0f}.",
        says.format(low=low, middle=middle, high=high),
    )


def tracks_of(split: Split, class_id: int) -> list[int]:
    """Track ids of one class, the longest track first."""
    ids, counts = np.unique(np.asarray(split.track_ids)[np.asarray(split.labels) == class_id], return_counts=True)
    return [int(track_id) for track_id in ids[np.argsort(-counts, kind="stable")]]


def show_track(split: Split, track_id: int, classes: Sequence[str] = CLASS_NAMES) -> None:
    """Display the frames of one track."""
    frames = np.flatnonzero(np.asarray(split.track_ids) == track_id)
    class_id = int(split.labels[frames[0]])
    heights = np.asarray(split.sizes)[frames].max(1)
    name = split.track_name(int(frames[0]))
    title = f"{classes[class_id]}, track {name}, {len(frames)} frames, {heights[0]} to {heights[-1]} pixels"
    show(plot_track(np.asarray(split.images[frames]), title))


def track_browser(data: Data, class_id: int = 14) -> None:
    """Show one track of the training images; in a live notebook with a choice of class and track.

    Args:
        class_id: where to begin (14: stop); the first class with images where it has none.
    """
    split = data.train
    present = [int(label) for label in np.unique(split.labels)]
    class_id = class_id if class_id in present else present[0]

    def draw(label: int, number: int) -> None:
        ids = tracks_of(split, label)
        show_track(split, ids[min(number, len(ids)) - 1], data.classes)

    if not is_live():
        draw(class_id, 1)
        return
    import ipywidgets as widgets

    options = [(f"{label} {data.classes[label]}", label) for label in present]
    chooser = widgets.Dropdown(options=options, value=class_id, description="class")
    most = max(len(tracks_of(split, label)) for label in present)
    slider = widgets.IntSlider(min=1, max=most, value=1, description="track")
    widgets.interact(draw, label=chooser, number=slider)


@styled
def plot_track(images: np.ndarray, title: str) -> Axes:
    """The frames of one track, uint8 (N, 3, H, W), in the order of the drive; at most 30 evenly chosen ones."""
    chosen = np.unique(np.linspace(0, len(images) - 1, min(len(images), 30)).round().astype(int))
    ax = sheet([images[frame] for frame in chosen], [str(frame + 1) for frame in chosen], 15, (1.06, 1.45))
    ax.set_title(title)
    return describe(ax, f"{len(chosen)} of {len(images)} frames of one track: {title}, in order.")


def audit_table(audit: Audit) -> Table:
    """Tracks and images that two splits share."""
    rows = []
    for (first, second), tracks in audit.shared_tracks.items():
        images, shared = audit.num_shared(first, second), Cell("tracks not published", tone="muted")
        if tracks is not None:
            shared = Cell(f"{len(tracks):,}", tone="bad" if tracks else "good")
        share = percent(images / audit.num_images[second]) + f" of {second}" if images else ""
        same = Cell(f"{images:,}", share, "warn" if images else "good")
        rows.append({"splits": f"{first} and {second}", "tracks in both": shared, "images in both": same})
    inside = ", ".join(f"{name} {audit.num_repeats(name):,}" for name in audit.num_images)
    note = f"Images that repeat another one inside their split: {inside}. Compared at their original size."
    return Table.of(rows, caption="Leaks between splits", note=note)


def duplicates(data: Data, audit: Audit, limit: int = 16) -> Stack | None:
    """Images that are there more than once: what they are, with pictures, names and tracks."""
    found = audit.duplicates
    if not found:
        return None
    splits = [name for name in data.splits if any(duplicate.num_in(name) for duplicate in found)]
    note = "Names are those of the files; a training file is named class/track_frame."
    if len(found) > limit:
        note = f"The first {limit} of {len(found):,} pictures; the record of this page names all. {note}"
    rows = [_duplicate_row(data, duplicate, splits) for duplicate in found[:limit]]
    return Stack(*_judged(audit), Table.of(rows, caption="Images that are there twice", note=note))


def _duplicate_row(data: Data, duplicate: Duplicate, splits: Sequence[str]) -> dict[str, Value]:
    """The picture with its class, or classes where its labels differ; its track; its names by split."""
    of = [(data.splits[name], index) for name, index in duplicate.places]
    split, index = of[0]
    pixels = as_picture(split.images[index]).repeat(SHOWN, 0).repeat(SHOWN, 1)
    labels = sorted({int(split.labels[index]) for split, index in of})
    names = ", but also ".join(f"{label} {data.classes[label]}" for label in labels)
    tracks = sorted({split.track_name(index) for split, index in of} - {""})
    places = {
        name: ", ".join(data.splits[name].image_name(index) for split, index in duplicate.places if split == name)
        for name in splits
    }
    sign = Cell(names, tone="bad" if len(labels) > 1 else "", image=pixels)
    return {"sign": sign, "track": ", ".join(tracks) or Cell("not published", tone="muted"), **places}


def _judged(audit: Audit) -> list[Banner]:
    """What the duplicates mean for the accuracy."""
    banners = []
    known, unknown, total = audit.num_known(), audit.num_unknown(), audit.num_images.get(TEST, 0)
    in_both = "Test images that are in training or validation too"
    both = "02_train gives accuracy with and without them."
    if known:
        text = (
            f"{in_both}: {known} of {total:,} ({percent(known / total)}). They show one stop sign that GTSRB itself "
            "has in its training set and in its test set. All images stay where GTSRB puts them, so that accuracy "
            f"compares with the literature. {both}"
        )
        banners.append(Banner(text, "info"))
    if unknown:
        others = ", beside those that GTSRB is known for" if known else ""
        text = f"{in_both}{others}: {unknown:,} of {total:,} ({percent(unknown / total)})."
        banners.append(Banner(f"{text} Up to {percent(MAX_TEST_OVERLAP, 1)} is tolerated. {both}"))
    if inside := audit.num_shared(TRAIN, VAL):
        banners.append(Banner(f"Validation images that are in training too, under another track: {inside:,}. {both}"))
    return banners


def shift_table(tracks: Mapping[str, Mapping[str, np.ndarray]], found: list[Shift]) -> Table:
    """What the tracks of each split are like, and where another split differs from training.

    Args:
        tracks: by split, as of `lib.data.audit.track_statistics`.
        found: of the same.
    """
    differ = beyond_chance(found)
    columns = ["of a track", *tracks, *(f"{split} from train" for split in tracks if split != TRAIN)]
    rows: dict[str, dict[str, Value]] = {
        name: {column: name if column == columns[0] else "" for column in columns} for name in tracks[TRAIN]
    }
    for split, measures in tracks.items():
        for measure, values in measures.items():
            low, middle, high = (number(float(rank), 2) for rank in np.percentile(values, (5, 50, 95)))
            if measure != CLASS_MIX:
                rows[measure][split] = Cell(middle, f"[{low}, {high}]")
    for shift in found:
        tone: Tone = "warn" if shift in differ else ""
        distance = Cell(f"{shift.statistic:.2f}", f"p = {shift.p_value:.3f}", tone)
        rows[shift.measure][f"{shift.split} from train"] = distance
    said = [f"{shift.split} in {shift.measure.partition(',')[0]}" for shift in differ]
    note = (
        f"Differs from training beyond chance: {', '.join(said) or 'nothing'}. Middle track, 5 % and 95 %; distance of "
        "the distributions (Kolmogorov and Smirnov; of classes the total variation), and how often tracks that are "
        "shared out at random differ as much."
    )
    if len({len(measures) for measures in tracks.values()}) > 1:
        note += " Which test images belong together was not published, so each counts, and its p is too small."
    return Table.of([*rows.values()], caption="Tracks by split", note=note, compact=True)


def label_audit(data: Data, folds: str) -> Banner | Stack:
    """Training tracks whose label all networks contradict that have not seen them.

    Args:
        folds: a finished `sweep 02` over all folds of these images; empty: says how to make one.

    Raises:
        UserError: no folds in there, or those of other images.
    """
    if not folds:
        how = "python -m lib sweep 02 -p fold 1,2,3,4,5 --out runs/folds, then this page with -p folds runs/folds"
        return Banner(f"Not audited: networks that have not seen a track must judge its label. Run {how}", "info")
    found, splits = load_folds(folds), [data.train, data.val]
    names = {split.track_name(row) for split in splits for row in range(split.num_images)}
    if missing := found.names - names:
        raise UserError(f"{folds} has folds of other images: {len(missing)} of their tracks are not among these")
    judged = f"{len(found.names):,} of {len(names):,} tracks, by {len(found.by_seed)} seeds of {found.recipe}"
    if not found.doubted:
        return Stack(Banner(f"No label is contradicted ({judged}).", "info"))
    says = f"{len(found.doubted)} tracks are misread in most of their frames by every network ({judged})."
    show(plot_doubted(splits, found.doubted[:MOST_DOUBTED], data.classes, says))
    rows = [
        {
            "track": track.name,
            "label": sign_cell(track.label, data.classes),
            "read as": sign_cell(track.label if track.mistaken_for is None else track.mistaken_for, data.classes),
            "frames read as labelled": f"{track.num_right} of {track.num_images}",
        }
        for track in found.doubted
    ]
    return Stack(
        Table.of(rows, caption="Labels to look at", note="A wrong label, or a sign that is hard to read.", compact=True)
    )


@styled
def plot_doubted(splits: Sequence[Split], tracks: Sequence[TrackResult], classes: Sequence[str], says: str) -> Axes:
    """Strips of tracks whose label is in doubt."""
    return track_strips(splits, tracks, classes, says)


def augmentation(data: Data, recipe: str, *, num_samples: int = 12, num_versions: int = 3, seed: int = 0) -> None:
    """Evenly chosen images above versions of them as training by a recipe that augments sees them."""
    split, plan = data.train, choose_recipe(recipe, "fast").augmentation
    assert plan is not None, f"{recipe} takes images as they are"
    chosen = np.linspace(0, split.num_images - 1, num_samples).round().astype(int)
    images, labels = torch.from_numpy(np.array(split.images[chosen])), torch.from_numpy(np.array(split.labels[chosen]))
    generator = torch.Generator().manual_seed(seed)
    versions = [augment_batch(images, labels, generator, plan, data.classes)[0].numpy() for _ in range(num_versions)]
    show(plot_augmentation(images.numpy(), np.stack(versions)))


@styled
def plot_augmentation(before: np.ndarray, after: np.ndarray) -> Axes:
    """Images above their augmented versions.

    Args:
        before: uint8 (N, 3, H, W).
        after: the same images augmented, float 0..1, (versions, N, 3, H, W).
    """
    pictures = [*before, *(image for images in after for image in images)]
    ax = sheet(pictures, [""] * len(pictures), len(before), (1.06, 1.06))
    ax.set_title("Training images in the first row, augmented versions of each below")
    return describe(ax, f"{len(before)} training images in the first row, {len(after)} augmented version(s) below.")
