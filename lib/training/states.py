"""States of a training on disk, so that one that was stopped goes on and ends with identical weights."""

from __future__ import annotations

import hashlib
import io
import shutil
from pathlib import Path
from typing import Any

import torch

from lib.files import write_atomic

FOLDER = "training"  # in the run folder, until 02 has written its record
_NUM_KEPT = 2


class States:
    """The newest states of one training, each in a file with the epoch and the beginning of its SHA-256 in its name."""

    def __init__(self, run_dir: Path | None, what: str = "", where: str = "") -> None:
        """
        Args:
            run_dir: None = states are not kept.
            what: text that differs where a training would take other steps. Another one's states are not read.
            where: text that differs where the same steps would be computed otherwise. From elsewhere, only the state
                after the last step is read.
        """
        self._folder = run_dir and run_dir / FOLDER
        self._what, self._where = what, where

    def _files(self) -> list[Path]:
        """Oldest first."""
        return sorted(self._folder.glob("epoch-*.pt")) if self._folder is not None else []

    def save(self, epoch: int, state: dict[str, Any]) -> None:
        """Write a state of tensors, numbers, texts, lists and dicts; of earlier ones the newest stays.

        Raises:
            UserError: the folder is not writable or the disk is full.
        """
        if self._folder is None:
            return
        content = io.BytesIO()
        torch.save(state | {"what": self._what, "where": self._where}, content)
        digest = hashlib.sha256(content.getvalue()).hexdigest()[:16]
        write_atomic(self._folder / f"epoch-{epoch:04d}-{digest}.pt", content.getvalue())
        for old in self._files()[:-_NUM_KEPT]:
            old.unlink()

    def newest(self) -> dict[str, Any] | None:
        """The newest state that is whole and of this training; it has `finished` too, whether that has ended."""
        for path in reversed(self._files()):
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest()[:16] != path.stem.rsplit("-", 1)[1]:
                continue  # damaged: the one before does as well
            state: dict[str, Any] = torch.load(io.BytesIO(content), "cpu", weights_only=True)
            if state.get("what") == self._what and (state["finished"] or state["where"] == self._where):
                return state
        return None

    def clear(self) -> None:
        """Remove all states, those of other trainings too."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
