"""A released model on ONNX Runtime, without torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lib.analysis.calibration import probabilities
from lib.data.images import read_image, resize_image
from lib.data.preprocessing import Preprocessing
from lib.errors import UserError
from lib.granted import num_cores
from lib.release.reader import FP32, OUTPUT, UINT8, Release

SHOWN = 3  # answers for an image
BATCH_SIZE = 256


def runtime() -> Any:
    """The module of ONNX Runtime.

    Raises:
        UserError: it is missing.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError("onnxruntime is not installed; install it with `pip install onnxruntime`") from None
    return onnxruntime


class Model:
    """A model file, ready to run.

    Args:
        num_threads: 0 = all cores.

    Raises:
        UserError: ONNX Runtime is missing, or cannot load the file.
    """

    def __init__(self, path: Path, num_threads: int = 0) -> None:
        onnxruntime = runtime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads or num_cores()
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # images come now and then
        options.log_severity_level = 4  # what goes wrong is raised
        self.path = path
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            (self._input,) = [entry.name for entry in self._session.get_inputs()]
        except Exception as error:  # of classes that the runtime does not publish
            raise _refusal(path, error) from None

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Logits, float32 (N, classes).

        Args:
            images: normalized float32 (N, 3, H, W), or uint8 (N, H, W, 3) for the variant that takes pixels.

        Raises:
            UserError: the file does not take them.
        """
        try:
            logits: np.ndarray = self._session.run([OUTPUT], {self._input: images})[0]
        except Exception as error:
            raise _refusal(self.path, error) from None
        return logits


def predict_images(model: Path, preprocessing: Preprocessing, images: np.ndarray) -> np.ndarray:
    """Logits of many images, float32 (N, classes).

    Args:
        images: uint8 (N, 3, H, W), at the size of the network.
    """
    runs = Model(model)
    batches = (images[start : start + BATCH_SIZE] for start in range(0, len(images), BATCH_SIZE))
    return np.concatenate([runs(preprocessing.normalize(batch)) for batch in batches])


def predict_files(release: str, images: Sequence[str], model: str = FP32) -> Iterator[str]:
    """A line for each image file, with the three best answers; the notes of a file that is not plain in brackets.

    Raises:
        UserError: no release, no such model in it, or a file that is not an image.
    """
    chosen = Release.load(release)
    runs = Model(chosen.model(model))
    for name in images:
        image, notes = read_image(Path(name))
        pixels = resize_image(image, chosen.preprocessing.image_size)[None]
        batch = pixels.transpose(0, 2, 3, 1) if model == UINT8 else chosen.preprocessing.normalize(pixels)
        shares = probabilities(runs(np.ascontiguousarray(batch)), chosen.metadata.temperature)[0]
        best = [f"{chosen.labels[index]} {shares[index]:.1%}" for index in np.argsort(-shares)[:SHOWN]]
        unsure = "no sign; if it is one, " if shares.max() < chosen.metadata.least_confidence else ""
        yield f"{name}: {unsure}{', '.join(best)}" + (f" ({'; '.join(notes)})" if notes else "")


def _refusal(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return UserError(f"ONNX Runtime cannot run {path} ({reason[:200]}); get the release again")
