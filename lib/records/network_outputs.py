"""What a network answered, as a file without images: of the validation images in a release, of a server's window."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import safetensors
from safetensors.numpy import save

from lib.errors import UserError

UNKNOWN = -1  # label of an image without a label
_TENSORS = {"log_probabilities": (np.float16, 2), "sequences": (np.int64, 1), "labels": (np.int64, 1)}


@dataclass(frozen=True)
class Outputs:
    """Answers to N images, in their order.

    Attributes:
        log_probabilities: float16 (N, classes). A logarithm keeps what a half loses of a probability near 1.
        sequences: int64 (N,): equal for images that came from one place at one time, as the frames of a track do.
        labels: int64 (N,), `UNKNOWN` where there is none.
        digest: of the release that answered; empty where the release itself has the file.
    """

    log_probabilities: np.ndarray
    sequences: np.ndarray
    labels: np.ndarray
    digest: str = ""

    @classmethod
    def of(cls, logits: np.ndarray, sequences: np.ndarray, labels: np.ndarray | None = None, digest: str = "") -> Self:
        """Args: logits: float32 (N, classes)."""
        known = np.full(len(logits), UNKNOWN) if labels is None else labels
        return cls(log_softmax(logits), np.asarray(sequences, np.int64), np.asarray(known, np.int64), digest)

    @property
    def confidence(self) -> np.ndarray:
        """Logarithm of the probability of each answer, float32 (N,)."""
        best: np.ndarray = self.log_probabilities.max(axis=1).astype(np.float32)
        return best

    @property
    def right(self) -> np.ndarray:
        """Whether each answer is that of the label, bool (N,)."""
        found: np.ndarray = self.log_probabilities.argmax(axis=1) == self.labels
        return found

    def taken(self, rows: np.ndarray) -> Self:
        """Some of the images. Args: rows: bool (N,), or their places in the order that is wanted."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _TENSORS})

    def to_bytes(self) -> bytes:
        """The content of the file."""
        tensors = {name: np.ascontiguousarray(getattr(self, name)) for name in _TENSORS}
        return bytes(save(tensors, {"release": self.digest}))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read such a file.

        Raises:
            UserError: it is missing, cut off, empty, or something else.
        """
        try:
            with safetensors.safe_open(path, framework="np") as file:
                digest = (file.metadata() or {})["release"]
                tensors = {name: file.get_tensor(name) for name in _TENSORS}
        except (OSError, LookupError, safetensors.SafetensorError) as error:
            raise UserError(
                f"{path} cannot be read as outputs of a network ({error}); it is missing, cut off or another kind of "
                "file: get it again, as by `curl -o FILE http://SERVER/window`"
            ) from None
        wanted = {name: (np.dtype(dtype), rank) for name, (dtype, rank) in _TENSORS.items()}
        lengths = {len(tensor) for tensor in tensors.values() if tensor.ndim}
        outputs = cls(**tensors, digest=digest)
        if {name: (each.dtype, each.ndim) for name, each in tensors.items()} != wanted or len(lengths) != 1:
            raise UserError(f"{path} has other tensors than outputs of a network; get it again")
        if lengths == {0}:
            raise UserError(f"{path} is empty: no image has been answered yet; ask for the window again later")
        if not np.isfinite(outputs.log_probabilities).all():
            raise UserError(f"{path} has outputs that are not finite; get it again")
        return outputs


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithm of the softmax over the last axis, float16. Args: logits: float32 (..., classes)."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    found: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    kept: np.ndarray = np.maximum(found, np.finfo(np.float16).min).astype(np.float16)
    return kept
