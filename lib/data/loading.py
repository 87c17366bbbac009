"""`load_data`: from a name to splits, through the cache."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import PIL

from lib.data import cache, layout
from lib.data.cache import Stored
from lib.data.images import IMAGE_SIZE, MAX_SIGN_BYTES, decode_sign, digest_images
from lib.data.layout import Entry
from lib.data.sets import DATASETS, Data, Split
from lib.data.splitting import choose_val, thin
from lib.errors import UserError, unknown
from lib.files import PROJECT_ROOT, project_path
from lib.signs import NUM_CLASSES

Progress = Callable[[str], None]
MIN_IMAGES = 2 * NUM_CLASSES  # one training and one validation image of each class
SYNTHETIC_IMAGES = 10_000  # train and val, unless told otherwise
SYNTHETIC_TEST_SHARE = 12_630 / 39_209  # test images per train and val image, as in the official set
_REPORT_EVERY = 10_000  # images


def _silent(line: str) -> None:
    """Progress that nobody reads."""


def check_num_images(num_images: int) -> None:
    """Refuse what is too few to train and validate on.

    Raises:
        UserError: fewer than two per class, and not 0.
    """
    if num_images < 0 or 0 < num_images < MIN_IMAGES:
        raise UserError(
            f"num_images is {num_images}; give 0 for all or at least {MIN_IMAGES}: "
            f"a training and a validation image of each of the {NUM_CLASSES} classes"
        )


def load_data(
    dataset: str,
    *,
    data_root: str | Path = "",
    download: bool = False,
    num_images: int = 0,
    seed: int = 0,
    progress: Progress = _silent,
) -> Data:
    """Load a data set, decoded and cut into train, val and test.

    Val is cut from the training images by track, from the data alone: every run validates on the same images.

    Args:
        dataset: One of `DATASETS`.
        data_root: Folder of the real images, at any level of the official layout; empty for `data/` in the project.
            Not used for synthetic data.
        download: Fetch what is missing first.
        num_images: Number of train and val images together; 0 for all (synthetic: the generator's own number). Real
            test images are thinned in the same proportion.
        seed: Of the synthetic images. Real images do not depend on it.
        progress: Called with a line now and then while something takes long.

    Raises:
        UserError: an unknown name, too few images asked for, or data that are missing, incomplete or damaged.
    """
    if dataset not in DATASETS:
        raise unknown("data set", dataset, DATASETS)
    check_num_images(num_images)
    if dataset == "synthetic":
        return _load_synthetic(num_images or SYNTHETIC_IMAGES, seed, progress)
    root = project_path(data_root or layout.DEFAULT_ROOT)
    if download:
        from lib.data.download import download_gtsrb

        download_gtsrb(root, dataset=dataset, progress=progress)
    return _load_gtsrb(dataset, root, num_images, progress)


def hash_manifest(paths: list[str], digests: np.ndarray, labels: np.ndarray) -> str:
    """SHA-256 over the sorted (path, digest, label) of all images: equal on every machine with the same images.

    Args:
        paths: Relative to data_root/gtsrb, with slashes.
        digests: uint8 (N, 32), `pixel_digest` of each image.
        labels: int (N,).
    """
    lines = sorted(
        f"{path}\0{digest.tobytes().hex()}\0{label}\n"
        for path, digest, label in zip(paths, digests, labels.tolist(), strict=True)
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _decode(entries: list[Entry], num_val: int, progress: Progress) -> Stored:
    """Read and decode every file. One thread: with tiny files more threads only wait for each other."""
    images = np.empty((len(entries), 3, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    sizes = np.empty((len(entries), 2), np.int32)
    digests = np.empty((len(entries), 32), np.uint8)
    for index, entry in enumerate(entries):
        if index % _REPORT_EVERY == 0:
            progress(f"decoding images: {index:,} of {len(entries):,}")
        path = Path(entry.file)
        try:
            with open(path, "rb") as file:
                content = file.read(MAX_SIGN_BYTES + 1)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from None
        images[index], sizes[index], digest = decode_sign(content, path)
        digests[index] = np.frombuffer(digest, np.uint8)
    labels = np.array([entry.label for entry in entries], np.int64)
    track_ids = np.array([entry.track_id for entry in entries], np.int64)
    return Stored(images, labels, track_ids, sizes, digests, [entry.path for entry in entries], num_val)


def _order_by_split(entries: list[Entry]) -> tuple[list[Entry], int]:
    """Training images first, so that both splits are slices of one memory-mapped array; and how many validate."""
    labels = np.array([entry.label for entry in entries])
    is_val = choose_val(labels, np.array([entry.track_id for entry in entries]))
    ordered = [entries[index] for index in np.argsort(is_val, kind="stable")]
    return ordered, int(is_val.sum())


def _through_cache(fingerprint: str, index: Callable[[], tuple[list[Entry], int]], progress: Progress) -> Stored:
    """Images of the files with this fingerprint: from the cache, or checked, decoded and put there."""
    pillow = PIL.__version__.replace(".", "-")  # another Pillow may decode or resize to other pixels
    note = f"{fingerprint}-{pillow}"
    known = cache.recall(note)
    if known is not None:
        return known
    entries, num_val = index()
    stored = _decode(entries, num_val, progress)
    manifest_hash = hash_manifest(stored.paths, stored.digests, stored.labels)
    key = f"{manifest_hash}-{pillow}"
    stored = cache.store(key, lambda: stored)
    cache.remember(note, key)
    return stored


def _take(stored: Stored, kept: np.ndarray) -> Stored:
    """Some of the images; `kept` ascends, so that the validation images stay the last ones."""
    return Stored(
        images=stored.images[kept],
        labels=stored.labels[kept],
        track_ids=stored.track_ids[kept],
        sizes=stored.sizes[kept],
        digests=stored.digests[kept],
        paths=[stored.paths[index] for index in kept.tolist()],
        num_val=int((kept >= len(stored.labels) - stored.num_val).sum()),
    )


def _thinned(stored: Stored, num_images: int) -> Stored:
    """At most `num_images` images."""
    total = len(stored.labels)
    if num_images >= total:
        return stored
    is_val = np.arange(total) >= total - stored.num_val
    return _take(stored, thin(stored.labels, stored.track_ids, is_val, num_images))


def _split(name: str, stored: Stored, rows: slice) -> Split:
    return Split(
        name=name,
        images=stored.images[rows],
        labels=stored.labels[rows],
        track_ids=stored.track_ids[rows],
        sizes=stored.sizes[rows],
        sources=stored.paths[rows],
        digests=stored.digests[rows],
    )


def _data(source: str, manifest_hash: str, trained: Stored, tested: Stored | None, notes: list[str]) -> Data:
    border = len(trained.labels) - trained.num_val
    return Data(
        source=source,
        manifest_hash=manifest_hash,
        image_size=IMAGE_SIZE,
        train=_split("train", trained, slice(0, border)),
        val=_split("val", trained, slice(border, None)),
        test=None if tested is None else _split("test", tested, slice(None)),
        notes=notes,
    )


def _describe(dataset: str, trained: Stored, tested: Stored | None) -> list[str]:
    """Which set this is. Only equal pixels make it the official one: other images may come in the same number."""
    known = layout.TRAINING_SETS[dataset]
    counted = f"{len(trained.labels):,} images in {len(np.unique(trained.track_ids)):,} tracks"
    if not known.manifest_hash:
        notes = [f"{known.title}: {counted}; not verified, as no hash of the original images is known"]
    elif hash_manifest(trained.paths, trained.digests, trained.labels) == known.manifest_hash:
        notes = [f"official {known.title}, verified by its pixels: {counted}"]
    else:
        same_number = len(trained.labels) == known.num_images
        how = ", some of them with other pixels, labels or names" if same_number else ""
        notes = [f"not the official {known.title} ({known.num_images:,} images): {counted}{how}"]
    tests = "no test images: evaluated on validation" if tested is None else f"{len(tested.labels):,} test images"
    return [*notes, tests]


def _load_gtsrb(dataset: str, root: Path, num_images: int, progress: Progress) -> Data:
    try:
        places = layout.locate(dataset, root)
        classes = layout.scan_training(dataset, places.training)
        test_files = layout.scan_test(places)
    except OSError as error:
        raise UserError(f"cannot read {error.filename or root}: {error.strerror or error}") from error
    train_files = [file for files in classes for file in files]
    trained = _through_cache(
        layout.fingerprint(train_files),
        lambda: _order_by_split(layout.index_training(dataset, places.training, classes)),
        progress,
    )
    tested = None
    if places.test or places.labels:
        tested = _through_cache(
            layout.fingerprint(test_files), lambda: (layout.index_test(places, test_files), 0), progress
        )
    notes = _describe(dataset, trained, tested)
    total = len(trained.labels)
    if 0 < num_images < total:
        notes.append(f"a part of it: {num_images:,} of {total:,} images for training and validation")
        trained = _thinned(trained, num_images)
        if tested is not None:
            tested = _thinned(tested, max(1, round(len(tested.labels) * num_images / total)))
    elif num_images > total:
        notes.append(f"{num_images:,} images were asked for; there are {total:,}")
    parts = [part for part in (trained, tested) if part is not None]
    manifest_hash = hash_manifest(
        [path for part in parts for path in part.paths],
        np.concatenate([part.digests for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )
    return _data(dataset, manifest_hash, trained, tested, notes)


def _generator_hash() -> str:
    """SHA-256 over the sources that make synthetic images."""
    files = [path for path in (PROJECT_ROOT / "lib" / "signs").rglob("[!.]*") if path.suffix in (".py", ".svg")]
    files.append(PROJECT_ROOT / "lib" / "data" / "synthetic.py")
    names = {path.relative_to(PROJECT_ROOT).as_posix(): path for path in files}
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(f"{name}\0{hashlib.sha256(names[name].read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _generated(num_images: int, seed: int, with_val: bool, progress: Progress) -> Stored:
    from lib.data.synthetic import generate  # imports torch

    images, labels, track_ids, sizes = generate(num_images, seed, progress)
    is_val = choose_val(labels, track_ids) if with_val else np.zeros(len(labels), bool)
    stored = Stored(images, labels, track_ids, sizes, digest_images(images), [""] * len(labels))
    return replace(_take(stored, np.argsort(is_val, kind="stable")), num_val=int(is_val.sum()))


def _load_synthetic(num_images: int, seed: int, progress: Progress) -> Data:
    if seed < 0:
        raise UserError(f"seed is {seed}; give 0 or more")
    recipe = {"num_images": num_images, "seed": seed, "generator": _generator_hash()}
    manifest_hash = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
    # The same sources may draw slightly other pixels elsewhere; the cache must not carry them over.
    renderers = [f"{name}{version(name)}" for name in ("torch", "numpy", "pillow", "resvg-py")]
    place = hashlib.sha256(" ".join([platform.machine(), *renderers]).encode()).hexdigest()[:8]
    trained = cache.store(f"{manifest_hash}-{place}-train", lambda: _generated(num_images, seed, True, progress))
    # A stream of its own: no seed of training images gives these.
    test_seed = int.from_bytes(hashlib.sha256(f"test images {seed}".encode()).digest()[:4]) | 1 << 32
    num_test = max(NUM_CLASSES, round(num_images * SYNTHETIC_TEST_SHARE))
    tested = cache.store(f"{manifest_hash}-{place}-test", lambda: _generated(num_test, test_seed, False, progress))
    tested = replace(tested, track_ids=tested.track_ids + trained.track_ids.max() + 1)
    notes = ["synthetic images drawn by this project: accuracy on them says little about photographs"]
    return _data("synthetic", manifest_hash, trained, tested, notes)
