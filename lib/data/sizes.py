"""How many images a profile takes."""

from __future__ import annotations

_SYNTHETIC = {"smoke": 4_000, "fast": 15_000, "full": 40_000}  # full: as many as GTSRB has
_REAL = {"smoke": 4_000, "fast": 0, "full": 0}  # 0 = all: decoded once, they cost no more


def num_images_for(profile: str, dataset: str) -> int:
    """Training and validation images together; 0 = all there are."""
    return (_SYNTHETIC if dataset == "synthetic" else _REAL)[profile]
