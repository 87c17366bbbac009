"""Drawn images in the shape of GTSRB: same classes, frequencies, tracks and sizes, by `lib.signs.renderer`."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lib.data.cache import Splits, cached
from lib.data.dataset import Data, DataSet, Split, register
from lib.data.images import digest_images, resize_images
from lib.data.splitting import choose_val
from lib.files import PROJECT_ROOT, sha256_file
from lib.progress import Progress, silent
from lib.signs import CLASS_NAMES, NUM_CLASSES

if TYPE_CHECKING:
    from lib.signs.renderer import Fitted

DEFAULT_IMAGES = 10_000  # train and val, where no number is given
TEST_SHARE = 12_630 / 39_209  # test images per train and val image, as in the official set
DRAWN_SIZE = 32  # pixels of a drawn image

FRAMES_PER_TRACK = 30  # as in GTSRB

# Of drawn images beside real ones, as they were tried: docs/training
FRAMES_BESIDE = 6
POWER_BESIDE = 0.75
SEED_BESIDE = 1_000_003

# images per class of GTSRB's training set: the synthetic classes are as unequal
GTSRB_COUNTS = (
    *(210, 2220, 2250, 1410, 1980, 1860, 420, 1440, 1410, 1470, 2010, 1320, 2100, 2160, 780, 630, 420, 1110, 1200),
    *(210, 360, 330, 390, 510, 270, 1500, 600, 240, 540, 270, 450, 780, 240, 689, 420, 1200, 390, 210, 2070, 300),
    *(360, 240, 240),
)


def tracks_per_class(num_tracks: int, power: float = 1.0) -> list[int]:
    """`num_tracks` shared out in proportion to a power of GTSRB's counts, with one to four per class at the least.

    A class needs a track to validate on and others to train on; proportion alone would give the rarest classes two
    tracks of 10,000 images.

    Args:
        num_tracks: at least one per class.
        power: below 1, the classes are less unequal than GTSRB's.
    """
    weights = [count**power for count in GTSRB_COUNTS]
    least = 1 + min(3, num_tracks // (2 * NUM_CLASSES))
    counts = [least] * NUM_CLASSES
    for _ in range(num_tracks - least * NUM_CLASSES):  # Sainte-Lague: the next track where it is missed most
        counts[max(range(NUM_CLASSES), key=lambda c: weights[c] / (2 * counts[c] + 1))] += 1
    return counts


def frames_per_track(num_images: int, frames: int = FRAMES_PER_TRACK) -> list[int]:
    """The lengths of all tracks: `frames` each and a shorter last one.

    Fewer images than two full tracks per class give shorter tracks, so that every class can still be validated.

    Args:
        num_images: at least one per class.
    """
    if num_images >= 2 * NUM_CLASSES * frames:
        full, rest = divmod(num_images, frames)
        return [frames] * full + [rest] * (rest > 0)
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


def generate(
    num_images: int,
    seed: int = 0,
    progress: Progress = silent,
    *,
    frames: int = FRAMES_PER_TRACK,
    power: float = 1.0,
    fitted: Fitted | None = None,
) -> Split:
    """Render `num_images` images of 32 x 32 pixels, in the order of their tracks, whose ids begin at 0.

    The same number and seed always give the same bytes on one kind of CPU.

    Args:
        num_images: at least one per class.
        seed: not negative.
        frames: of a track.
        power: see `tracks_per_class`.
        fitted: the renderer's constants; None = its own.
    """
    from lib.signs.renderer import FITTED, TrackPlan, render_tracks  # torch, only when images are made

    lengths = frames_per_track(num_images, frames)
    classes = np.repeat(np.arange(NUM_CLASSES), tracks_per_class(len(lengths), power))
    np.random.default_rng((seed, 0)).shuffle(classes)  # else the shorter last track always is of the last class
    seeds = np.random.SeedSequence((seed, 1)).generate_state(len(lengths), np.uint64) >> 1  # torch takes 63 bits
    lights = _spread_light(classes, np.random.default_rng((seed, 2)))
    plans = [
        TrackPlan(int(class_id), int(track_seed), length, float(light), fitted or FITTED)
        for class_id, track_seed, length, light in zip(classes, seeds, lengths, lights, strict=True)
    ]

    def report(num_done: int) -> None:
        if num_done % 100 == 0 or num_done == len(plans):
            progress(f"rendered {num_done} of {len(plans)} tracks")

    tracks = render_tracks(plans, report)
    images = np.concatenate([images for images, _ in tracks])
    return Split(
        name="drawn",
        images=images,
        labels=np.repeat(classes, lengths).astype(np.int64),
        track_ids=np.repeat(np.arange(len(plans)), lengths).astype(np.int64),
        sizes=np.concatenate([sizes for _, sizes in tracks]),
        sources=np.full(len(images), ""),
        digests=digest_images(images),
    )


def _generator_hash() -> str:
    """SHA-256 over the sources that make synthetic images."""
    files = [path for path in (PROJECT_ROOT / "lib" / "signs").rglob("[!.]*") if path.suffix in (".py", ".svg")]
    files.append(PROJECT_ROOT / "lib" / "data" / "sets" / "synthetic.py")
    names = {path.relative_to(PROJECT_ROOT).as_posix(): path for path in files}
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(f"{name}\0{sha256_file(names[name])}\n".encode())
    return digest.hexdigest()


def _made(num_images: int, seed: int, image_size: int, progress: Progress) -> Splits:
    trained = generate(num_images, seed, progress)
    is_val = choose_val(trained.labels, trained.track_ids)
    # A stream of its own: no seed of training images gives these.
    test_seed = int.from_bytes(hashlib.sha256(f"test images {seed}".encode()).digest()[:4]) | 1 << 32
    tested = generate(max(NUM_CLASSES, round(num_images * TEST_SHARE)), test_seed, progress)
    parts = {
        "train": trained.take(~is_val),
        "val": trained.take(is_val),
        "test": replace(tested, track_ids=tested.track_ids + trained.track_ids.max() + 1),
    }
    return {name: replace(part, name=name, images=resize_images(part.images, image_size))
            for name, part in parts.items()}  # fmt: skip


def _drawn_by() -> str:
    """The same sources may draw slightly other pixels elsewhere; the cache must not carry them over."""
    versions = [f"{name} {version(name)}" for name in ("torch", "numpy", "pillow", "resvg-py")]
    return f"{platform.machine()} {' '.join(versions)}"


def drawn_beside(num_images: int, image_size: int, progress: Progress = silent) -> tuple[Split, str]:
    """Drawn images to train with beside real ones: many short tracks, classes less unequal than GTSRB's.

    Returns:
        The images, and a hash of what made them. They are kept in the cache.
    """
    made_from = f"{_generator_hash()} {num_images} beside"

    def make() -> Splits:
        drawn = generate(num_images, SEED_BESIDE, progress, frames=FRAMES_BESIDE, power=POWER_BESIDE)
        return {"drawn": replace(drawn, images=resize_images(drawn.images, image_size))}

    splits = cached(f"beside-{num_images}-{image_size}px", f"{made_from} {_drawn_by()}", make)
    return splits["drawn"], hashlib.sha256(made_from.encode()).hexdigest()


@register
class SyntheticSet(DataSet):
    """The drawn images."""

    name = "synthetic"
    title = "signs drawn by this project"
    classes = CLASS_NAMES
    order = 0
    num_images: ClassVar = {"smoke": 4_000, "fast": 15_000, "full": 40_000}  # full: as many as GTSRB has

    def load(self, data_root: Path, num_images: int, seed: int, image_size: int, progress: Progress) -> Data:
        """See `DataSet`. Test images are a third of the others, as in the official set."""
        num_images = num_images or DEFAULT_IMAGES
        recipe = {"num_images": num_images, "seed": seed, "generator": _generator_hash()}
        manifest_hash = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
        splits = cached(
            f"{self.name}-{num_images}-{seed}-{image_size}px",
            f"{manifest_hash} {_drawn_by()}",
            lambda: _made(num_images, seed, image_size, progress),
        )
        notes = ["synthetic images drawn by this project: accuracy on them says little about photographs"]
        if image_size != DRAWN_SIZE:
            notes.append(f"drawn at {DRAWN_SIZE} x {DRAWN_SIZE} pixels and resized: larger ones show no more detail")
        return Data(self.name, manifest_hash, self.classes, splits["train"], splits["val"], splits["test"], notes)
