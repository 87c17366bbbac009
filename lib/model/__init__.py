"""Networks and checkpoints."""

from lib.header import CheckpointMetadata
from lib.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from lib.model.foreign import random_checkpoint
from lib.model.networks import ARCHITECTURES, LayerInfo, build_network, call_name, leaf_layers, num_weights
