"""Which network 03 measures: the checkpoint of the run, or a classifier of torchvision with random weights."""

from __future__ import annotations

from typing import Any

from lib.data import IMAGE_SIZE, Data
from lib.data.images import WHOLE
from lib.errors import UserError
from lib.files import CHECKPOINT_NAME
from lib.model import Checkpoint, load_checkpoint, random_checkpoint
from lib.model.networks import TORCHVISION, check_architecture
from lib.progress import Progress, silent
from lib.series.notebook import Run
from lib.training.loop import ensure_checkpoint


def check_network(model: str, image_size: int) -> None:
    """What can be checked before any data are loaded.

    Raises:
        UserError: an unknown classifier, or a size of the input without a classifier that it could be for.
    """
    if model:
        check_architecture(TORCHVISION + model)
    elif image_size:
        raise UserError(
            "'image_size' is the input of a torchvision classifier, and the checkpoint of a run has its own; add "
            "-p model NAME, e.g. mobilenet_v3_small, or leave it out"
        )


def shown_to(run: Run, model: str) -> dict[str, Any]:
    """Arguments of `load_data` of 03: as the checkpoint of the run was trained, if it is measured.

    Raises:
        UserError: an unreadable checkpoint.
    """
    path = run.run_dir / CHECKPOINT_NAME
    if model or not path.exists():
        return {"image_size": IMAGE_SIZE, "crop": WHOLE}
    network = load_checkpoint(path).metadata
    return {"image_size": network.preprocessing.image_size, "crop": network.crop}


def network_for(
    run: Run, data: Data, model: str, image_size: int, seed: int, progress: Progress = silent
) -> tuple[Checkpoint, bool]:
    """The network to measure, and whether it was trained just now.

    Args:
        model: as torchvision lists it; empty = the checkpoint of the run, which is trained if there is none.
        image_size: of that model's input, pixels; 0 = that of the images.

    Raises:
        UserError: as `check_network`, or a network that does not take images of this size.
    """
    check_network(model, image_size)
    if not model:
        return ensure_checkpoint(run.run_dir, data, progress=progress)
    progress(f"{model}: random weights, statistics of batch norm from training images")
    path = run.run_dir / "models" / f"{model}-{image_size or data.image_size}px.safetensors"
    return random_checkpoint(model, data, path, image_size=image_size, seed=seed), False
