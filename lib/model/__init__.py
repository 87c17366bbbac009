"""Networks, the one preprocessing definition, and checkpoints."""

from lib.model.checkpoint import Checkpoint, CheckpointMetadata, load_checkpoint, save_checkpoint
from lib.model.networks import ARCHITECTURES, IMAGE_SHAPE, LayerInfo, build_network, leaf_layers, num_weights
from lib.model.preprocessing import Preprocessing, fit_preprocessing

__all__ = [
    "ARCHITECTURES",
    "IMAGE_SHAPE",
    "Checkpoint",
    "CheckpointMetadata",
    "LayerInfo",
    "Preprocessing",
    "build_network",
    "fit_preprocessing",
    "leaf_layers",
    "load_checkpoint",
    "num_weights",
    "save_checkpoint",
]
