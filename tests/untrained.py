"""A checkpoint with weights that nothing has trained, for tests of what runs it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lib.data.preprocessing import Preprocessing
from lib.model import CheckpointMetadata, build_network, save_checkpoint
from lib.signs import CLASS_NAMES, NUM_CLASSES


def untrained(architecture: str, **changes: Any) -> CheckpointMetadata:
    """What a checkpoint says about itself."""
    preprocessing = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    known = CheckpointMetadata(architecture, "minute", "smoke", 1, 0, "synthetic", "0" * 64, CLASS_NAMES, preprocessing)
    return replace(known, **changes)


def save_untrained(
    folder: Path, architecture: str = "signnet_small", network: nn.Module | None = None, **changes: Any
) -> Path:
    """The file, `<folder>/<architecture>.safetensors`: of `network`, else of fresh weights that are always the same.

    Args:
        changes: of what the checkpoint says about itself.
    """
    if network is None:
        torch.manual_seed(0)
        network = build_network(architecture, NUM_CLASSES)
    path = folder / f"{architecture}.safetensors"
    save_checkpoint(path, network, untrained(architecture, **changes))
    return path
