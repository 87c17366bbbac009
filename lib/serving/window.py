"""The last answers of a server, without their images: what `python -m lib drift` compares with a release."""

from __future__ import annotations

import hashlib
from collections import deque

import numpy as np

from lib.records.network_outputs import UNKNOWN, Outputs, log_softmax
from lib.release import Release
from lib.serving.engine import Answer

SEQUENCE = "x-sequence"  # header of a request: names images that came from one place at one time
BLOCK = 30  # answers without that header that count as one sequence: as many as a track of GTSRB has frames
MAX_ANSWERS = 10_000  # 4 MB of memory


class Window:
    """Of the release that answers: with another one it starts anew. Not thread-safe: the event loop alone uses it."""

    def __init__(self, size: int) -> None:
        self._answers = deque[tuple[np.ndarray, int]](maxlen=min(size, MAX_ANSWERS))
        self._digest = ""
        self._unnamed = 0

    def add(self, answer: Answer, sequence: str, served: Release) -> None:
        """Keep the outputs of a request, and of its sequence's name a hash; not those of a release that has gone."""
        if answer.release.digest != served.digest:
            return
        if self._digest != served.digest:
            self._answers.clear()
            self._digest = served.digest
        named = int.from_bytes(hashlib.sha256(sequence.encode()).digest()[:8], "big", signed=True)
        for row in log_softmax(answer.logits):
            self._answers.append((row, named if sequence else self._unnamed // BLOCK))
            self._unnamed += not sequence

    def outputs(self, served: Release) -> Outputs:
        """What it has of the release that answers now."""
        answers = self._answers if self._digest == served.digest else []
        rows = np.array([row for row, _ in answers], np.float16).reshape(-1, len(served.labels))
        sequences = np.array([sequence for _, sequence in answers], np.int64)
        return Outputs(rows, sequences, np.full(len(rows), UNKNOWN), served.digest)
