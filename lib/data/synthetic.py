"""Made-up images in the shape of GTSRB: same classes, frequencies, tracks and sizes, drawn by `lib.signs`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lib.errors import UserError
from lib.signs import NUM_CLASSES

FRAMES_PER_TRACK = 30  # as in GTSRB

# images per class of GTSRB's training set: the synthetic classes are as unequal
GTSRB_COUNTS = (
    *(210, 2220, 2250, 1410, 1980, 1860, 420, 1440, 1410, 1470, 2010, 1320, 2100, 2160, 780, 630, 420, 1110, 1200),
    *(210, 360, 330, 390, 510, 270, 1500, 600, 240, 540, 270, 450, 780, 240, 689, 420, 1200, 390, 210, 2070, 300),
    *(360, 240, 240),
)


class Synthetic(NamedTuple):
    """Generated images, in the order of their tracks."""

    images: np.ndarray  # uint8 (N, 3, 32, 32), RGB
    labels: np.ndarray  # int64 (N,)
    track_ids: np.ndarray  # int64 (N,), from 0, without gaps
    sizes: np.ndarray  # int32 (N, 2): height and width in pixels before resizing


def tracks_per_class(num_tracks: int) -> list[int]:
    """`num_tracks` shared out in proportion to GTSRB's counts, with one to four per class at the least.

    A class needs a track to validate on and others to train on; proportion alone would give the rarest classes two
    tracks of 10,000 images.

    Raises:
        UserError: fewer tracks than classes.
    """
    if num_tracks < NUM_CLASSES:
        raise UserError(f"{num_tracks} tracks are too few for {NUM_CLASSES} classes; raise num_images")
    least = 1 + min(3, num_tracks // (2 * NUM_CLASSES))
    counts = [least] * NUM_CLASSES
    for _ in range(num_tracks - least * NUM_CLASSES):  # Sainte-Lague: the next track where it is missed most
        counts[max(range(NUM_CLASSES), key=lambda c: GTSRB_COUNTS[c] / (2 * counts[c] + 1))] += 1
    return counts


def frames_per_track(num_images: int) -> list[int]:
    """The lengths of all tracks: 30 frames and a shorter last one.

    Fewer images than two full tracks per class give shorter tracks, so that every class can still be validated.

    Raises:
        UserError: fewer images than classes.
    """
    if num_images < NUM_CLASSES:
        raise UserError(f"num_images {num_images} is too few; give at least {NUM_CLASSES}, one per class")
    if num_images >= 2 * NUM_CLASSES * FRAMES_PER_TRACK:
        full, rest = divmod(num_images, FRAMES_PER_TRACK)
        return [FRAMES_PER_TRACK] * full + [rest] * (rest > 0)
    num_tracks = 2 * NUM_CLASSES if num_images >= 2 * NUM_CLASSES else NUM_CLASSES
    return [num_images // num_tracks + (track < num_images % num_tracks) for track in range(num_tracks)]


def _spread_light(classes: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """By track, a rank of brightness in 0..1, evenly spread within each class.

    Rare classes have two tracks: left to chance, both would often be in the dark.
    """
    lights = np.empty(len(classes))
    for class_id in range(NUM_CLASSES):
        tracks = np.flatnonzero(classes == class_id)
        ranks = generator.permutation(len(tracks)) + generator.uniform(size=len(tracks))
        lights[tracks] = ranks / len(tracks)
    return lights


def generate(num_images: int, seed: int = 0, progress: Callable[[str], None] = lambda line: None) -> Synthetic:
    """Render `num_images` images; the same number and seed always give the same bytes on one kind of CPU.

    Args:
        progress: called with a line of text now and then.

    Raises:
        UserError: fewer images than classes, or a negative seed.
    """
    from lib.signs.renderer import TrackPlan, render_tracks  # torch, only when images are made

    if seed < 0:
        raise UserError(f"seed {seed} is negative; give 0 or more")
    lengths = frames_per_track(num_images)
    classes = np.repeat(np.arange(NUM_CLASSES), tracks_per_class(len(lengths)))
    np.random.default_rng((seed, 0)).shuffle(classes)  # else the shorter last track always is of the last class
    seeds = np.random.SeedSequence((seed, 1)).generate_state(len(lengths), np.uint64) >> 1  # torch takes 63 bits
    lights = _spread_light(classes, np.random.default_rng((seed, 2)))
    plans = [
        TrackPlan(int(class_id), int(track_seed), length, float(light))
        for class_id, track_seed, length, light in zip(classes, seeds, lengths, lights, strict=True)
    ]

    def report(num_done: int) -> None:
        if num_done % 100 == 0 or num_done == len(plans):
            progress(f"rendered {num_done} of {len(plans)} tracks")

    tracks = render_tracks(plans, report)
    return Synthetic(
        images=np.concatenate([images for images, _ in tracks]),
        labels=np.repeat(classes, lengths).astype(np.int64),
        track_ids=np.repeat(np.arange(len(plans)), lengths).astype(np.int64),
        sizes=np.concatenate([sizes for _, sizes in tracks]),
    )
