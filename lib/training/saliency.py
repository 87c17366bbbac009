"""Where an image must not be covered, and whether that depends on what the network learned."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import nn

from lib.analysis.calibration import probabilities
from lib.data import Split
from lib.data.preprocessing import Preprocessing
from lib.model import Checkpoint, build_network
from lib.training.evaluation import Evaluation, predict_logits

NUM_SHOWN = 8  # images
PATCHES = 9  # by row and by column
COVERED = 0.25  # side of the grey patch over that of the image


@dataclass(frozen=True)
class Saliency:
    """By how much the logarithm of the answer's probability falls where a grey patch covers an image (Zeiler and Fergus
    2014, arXiv 1311.2901)."""

    images: np.ndarray  # uint8 (N, 3, H, W)
    maps: np.ndarray  # float (N, PATCHES, PATCHES)
    random_maps: np.ndarray  # the same of random weights

    @property
    def correlation(self) -> float:
        """Spearman's of both, on average over images: near 0 if the maps depend on what was learned (Adebayo et al.
        2018, arXiv 1810.03292)."""
        sides = (maps.reshape(len(maps), -1).argsort().argsort() for maps in (self.maps, self.random_maps))
        return float(np.mean([np.corrcoef(*pair)[0, 1] for pair in zip(*sides, strict=True)]))


def saliency(checkpoint: Checkpoint, evaluation: Evaluation, split: Split) -> Saliency:
    """Of images that are read right, one of each of up to `NUM_SHOWN` classes.

    Raises:
        ValueError: no image is read right.
    """
    right = np.flatnonzero(evaluation.preds == evaluation.labels)
    first = right[np.unique(evaluation.labels[right], return_index=True)[1]]
    chosen = first[np.linspace(0, len(first) - 1, min(NUM_SHOWN, len(first))).round().astype(int)]
    images, labels = np.asarray(split.images[chosen]), evaluation.labels[chosen]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        random = build_network(checkpoint.metadata.architecture, len(checkpoint.metadata.classes))
    return Saliency(
        images, *(_maps(model, checkpoint.preprocessing, images, labels) for model in (checkpoint.model, random))
    )


def _maps(model: nn.Module, preprocessing: Preprocessing, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    size = images.shape[-1]
    side = round(COVERED * size)
    starts = np.linspace(0, size - side, PATCHES).round().astype(int)
    given = np.repeat(images[:, None], 1 + PATCHES**2, axis=1)  # the first of each stays as it is
    for place, (top, left) in enumerate(product(starts, starts), 1):
        given[:, place, :, top : top + side, left : left + side] = 128
    shares = probabilities(predict_logits(model, preprocessing, given.reshape(-1, *images.shape[1:])))
    logs = np.log(shares.reshape(*given.shape[:2], -1)[np.arange(len(images)), :, labels] + 1e-12)
    falls: np.ndarray = (logs[:, :1] - logs[:, 1:]).reshape(-1, PATCHES, PATCHES)
    return falls
