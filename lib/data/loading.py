"""`load_data`: from a name to splits."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from lib.data.dataset import Data, DataSet, check_data
from lib.data.images import IMAGE_SIZE, WHOLE, crop_margin
from lib.data.sets import get_dataset
from lib.data.splitting import NUM_FOLDS, refold
from lib.errors import UserError
from lib.files import project_path
from lib.machine import keep_freed_memory
from lib.progress import Progress, silent

DEFAULT_ROOT = "data"  # data_root where none is given, below the project root


def check_num_images(dataset: str, num_images: int) -> None:
    """Refuse what is too few to train and validate on.

    Raises:
        UserError: fewer than two per class, and not 0; or an unknown data set.
    """
    num_classes = len(get_dataset(dataset).classes)
    if num_images < 0 or 0 < num_images < 2 * num_classes:
        raise UserError(
            f"num_images is {num_images}; give 0 for all or at least {2 * num_classes}: "
            f"a training and a validation image of each of the {num_classes} classes"
        )


def choose_dataset(dataset: str, crop: str) -> DataSet:
    """A data set, cropped.

    Raises:
        UserError: an unknown name or crop, or boxes that are not known.
    """
    chosen = get_dataset(dataset)
    return chosen if crop_margin(crop) is None else chosen.cropped(crop)


def load_data(
    dataset: str,
    *,
    data_root: str | Path = "",
    download: bool = False,
    num_images: int = 0,
    seed: int = 0,
    image_size: int = IMAGE_SIZE,
    crop: str = WHOLE,
    fold: int = 0,
    progress: Progress = silent,
) -> Data:
    """Load a data set, decoded and cut into train, val and test.

    Val is cut from the training images by track, from the data alone: every run of a fold validates on the same images.

    Args:
        dataset: One of `lib.data.sets`.
        data_root: Folder of the real images, at any level of their layout; empty for `data/` in the project. Not used
            for synthetic data.
        download: Fetch what is missing first.
        num_images: Number of train and val images together; 0 for all (synthetic: the generator's own number). Real
            test images are thinned in the same proportion.
        seed: Of the synthetic images. Real images do not depend on it.
        image_size: Height and width that the images are resized to, pixels.
        crop: What of each image is resized: `whole`, `box` (of the sign), or `box+10` (and a margin of 10 % of its
            sides). Like the size, it leaves the manifest hash as it is.
        fold: Which images validate. 0: the fixed split; 1 to 5: one of five parts with as many tracks each. A fold has
            a manifest hash of its own, as a network that was trained on it must not be judged on another.
        progress: Called with a line now and then while something takes long.

    Raises:
        UserError: an unknown name, too few images asked for, boxes that are not known, or data that are missing,
            incomplete or damaged.
    """
    check_num_images(dataset, num_images)
    root = project_path(data_root or DEFAULT_ROOT)
    keep_freed_memory()  # images are drawn, or decoded, through blocks of megabytes
    chosen = choose_dataset(dataset, crop)
    if download and chosen.reads_files:
        from lib.data.download import fetch

        fetch(dataset, root, progress=progress)
    data = chosen.load(root, num_images, seed, image_size, progress)
    check_data(data, chosen, image_size)
    if not fold:
        return data
    train, val = refold(data.train, data.val, fold)
    hashed = hashlib.sha256(f"{data.manifest_hash} fold {fold}".encode()).hexdigest()
    notes = [*data.notes, f"fold {fold} of {NUM_FOLDS}: other tracks validate than usual"]
    return replace(data, train=train, val=val, manifest_hash=hashed, notes=notes)


def num_images_for(profile: str, dataset: str) -> int:
    """Training and validation images together that a profile takes; 0 = all there are."""
    return get_dataset(dataset).num_images[profile]
