"""Checkpoints: weights as safetensors (no pickle), with all that is needed to use them in the file's metadata."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from lib.errors import UserError
from lib.files import replacing, sha256_file
from lib.model.networks import build_network, check_architecture
from lib.model.preprocessing import Preprocessing

FORMAT = "gtsrb-checkpoint-1"


@dataclass(frozen=True)
class CheckpointMetadata:
    """What the file says about its weights."""

    architecture: str
    recipe: str
    profile: str
    num_epochs: int
    seed: int
    data_source: str
    data_hash: str
    preprocessing: Preprocessing

    @property
    def random_weights(self) -> bool:
        """True where nobody trained the network."""
        return self.num_epochs == 0


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: the network in eval mode, fp32, with its metadata and the SHA-256 of the file."""

    model: nn.Module
    metadata: CheckpointMetadata
    sha256: str
    path: Path

    @property
    def preprocessing(self) -> Preprocessing:
        return self.metadata.preprocessing


def save_checkpoint(path: Path, model: nn.Module, metadata: CheckpointMetadata) -> str:
    """Write atomically and return the file's SHA-256. Equal weights and metadata give an equal file.

    Raises:
        UserError: the folder is not writable or the disk is full.
    """
    # clone(): weights trained in channels_last are stored as plain contiguous tensors
    weights = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }
    # one key: safetensors writes several in random order, and equal weights must give an equal hash
    content = safetensors.torch.save(weights, {FORMAT: json.dumps(asdict(metadata))})
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return sha256_file(path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read, check and build.

    Raises:
        UserError: missing, unreadable, not ours, or weights that do not fit the architecture or are not finite.
    """
    remedy = "train one with `python -m lib run 02_train`"
    if not path.is_file():
        raise UserError(f"no checkpoint {path}; {remedy}")
    try:
        sha256 = sha256_file(path)
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if FORMAT not in header:
                raise UserError(f"{path} is not a checkpoint of this project (no {FORMAT} in its metadata); {remedy}")
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not iterable itself
        fields = json.loads(header[FORMAT])
        stored = fields.pop("preprocessing")
        preprocessing = Preprocessing(tuple(stored["mean"]), tuple(stored["std"]), int(stored["image_size"]))
        metadata = CheckpointMetadata(preprocessing=preprocessing, **fields)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} is not a readable checkpoint ({error}); {remedy}") from None
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} has damaged checkpoint metadata ({error!r}); {remedy}") from None
    try:
        check_architecture(metadata.architecture)
    except UserError as error:
        raise UserError(f"{path} holds an {error}; {remedy}") from None
    model = build_network(metadata.architecture)
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise UserError(
            f"{path} does not fit {metadata.architecture}: {str(error).splitlines()[-1].strip()}; {remedy}"
        ) from None
    broken = [name for name, tensor in weights.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if broken:
        raise UserError(f"{path} has weights that are not finite ({', '.join(broken[:3])}); {remedy}")
    return Checkpoint(model.eval(), metadata, sha256, path)
