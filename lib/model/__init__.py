"""Networks, the one preprocessing definition, and checkpoints."""

from lib.model.checkpoint import Checkpoint, CheckpointMetadata, load_checkpoint, save_checkpoint
from lib.model.foreign import random_checkpoint
from lib.model.networks import (
    ARCHITECTURES,
    LayerInfo,
    build_network,
    call_name,
    leaf_layers,
    num_weights,
)
from lib.model.preprocessing import Preprocessing, fit_preprocessing

__all__ = [
    "ARCHITECTURES",
    "Checkpoint",
    "CheckpointMetadata",
    "LayerInfo",
    "Preprocessing",
    "build_network",
    "call_name",
    "fit_preprocessing",
    "leaf_layers",
    "load_checkpoint",
    "num_weights",
    "random_checkpoint",
    "save_checkpoint",
]
