"""Checkpoints: weights as safetensors (no pickle), with all that is needed to use them in the file's metadata."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from lib.data.preprocessing import Preprocessing
from lib.errors import UserError
from lib.files import replacing, sha256_file
from lib.header import FORMAT, CheckpointMetadata, parse_header, written_header
from lib.model.networks import build_network, check_architecture

_FOREIGN = (  # how files begin that people take for a checkpoint
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself; fetch that with `git lfs pull`"),
    (b"<", "a web page or XML; download the file itself, on GitHub with *Raw*"),
    (b"PK\x03\x04", "a ZIP archive, as torch.save writes it (.pt, .pth) and CI keeps artifacts; unpack the artifact"),
    (b"\x1f\x8b", "compressed with gzip; unpack it"),
    (b"\x89HDF", "an HDF5 file, as Keras writes it"),
    (b"\x80", "a pickle (.pt, .pth, .pkl), which could run code and is never loaded"),
)


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
    content = safetensors.torch.save(weights, {FORMAT: written_header(metadata)})
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return sha256_file(path)


def _foreign(path: Path) -> str:
    """What a file is that cannot be a checkpoint, in words; empty where it may be one."""
    with path.open("rb") as file:
        head = file.read(64)
    if head[8:9] == b"{":  # the header of safetensors, behind its length
        return ""
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return next((kind for beginning, kind in _FOREIGN if head.startswith(beginning)), "" if head else "empty")


def load_checkpoint(path: Path) -> Checkpoint:
    """Read, check and build.

    Raises:
        UserError: missing, unreadable, not ours, metadata that are incomplete or out of range, or weights that do not
            fit the architecture in name, shape and type or are not finite.
    """
    remedy = "to make a checkpoint, run `python -m lib run 02_train`"
    if not path.is_file():
        raise UserError(f"{path} is a folder; {remedy}" if path.is_dir() else f"no checkpoint {path}; {remedy}")
    try:
        sha256 = sha256_file(path)
        if foreign := _foreign(path):
            raise UserError(f"{path} is {foreign}; {remedy}")
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = parse_header(path, file.metadata() or {}, remedy)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not iterable itself
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} is not a readable checkpoint ({error}); {remedy}") from None
    try:
        check_architecture(metadata.architecture)
    except UserError as error:
        raise UserError(f"{path} holds an {error}; {remedy}") from None
    model = build_network(metadata.architecture, len(metadata.classes))
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise UserError(
            f"{path} does not fit {metadata.architecture}: {str(error).splitlines()[-1].strip()}; {remedy}"
        ) from None
    for name, tensor in model.state_dict().items():
        if weights[name].dtype != tensor.dtype:  # loading would cast it
            found = f"{name} is {weights[name].dtype}, not {tensor.dtype}"
            raise UserError(f"{path} does not fit {metadata.architecture}: {found}; {remedy}")
    broken = [name for name, tensor in weights.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if broken:
        raise UserError(f"{path} has weights that are not finite ({', '.join(broken[:3])}); {remedy}")
    return Checkpoint(model.eval(), metadata, sha256, path)
