"""Eager PyTorch at its best: images and weights channels last, batch norm folded into the convolutions.

What a careful user of eager mode does. It shows whether other backends are faster than eager mode, or only faster than
eager mode used badly.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lib.backends._folding import fold_batch_norms
from lib.backends.interface import Kernels, LayerTimes, by_group, register
from lib.backends.torch_onednn import TorchOneDnn

if TYPE_CHECKING:
    import torch


@register
class TorchOneDnnTuned(TorchOneDnn):
    name = "torch-onednn-tuned"
    title = "PyTorch eager, oneDNN, channels last, batch norm folded into convolutions"
    order = 32

    def load(self, checkpoint: Path, folder: Path, num_threads: int) -> None:
        import torch

        super().load(checkpoint, folder, num_threads)
        self._convolution_of = fold_batch_norms(self.model)
        self.model = self.model.to(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        import torch

        return super().forward(images.contiguous(memory_format=torch.channels_last))

    def layer_times(self, images: np.ndarray, num_passes: int) -> LayerTimes:
        times = super().layer_times(images, num_passes)
        steps = [
            [(self._group(name), passes[number]) for name, passes in times.items()] for number in range(num_passes)
        ]
        return by_group(steps)

    def trace(self, images: np.ndarray) -> Kernels:
        kernels: Kernels = {}
        for name, names in super().trace(images).items():
            if name not in self._convolution_of:  # what is left of a batch norm runs nothing
                kernels[self._group(name)] = names
        return kernels

    def _group(self, name: str) -> str:
        """A convolution and its batch norm are one step."""
        convolution = self._convolution_of.get(name, name)
        norm = next((norm for norm, folded_into in self._convolution_of.items() if folded_into == convolution), "")
        return f"{convolution}+{norm}" if norm else name
