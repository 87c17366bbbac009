"""The smaller training set that torchvision downloads under the name GTSRB: other images of the same signs."""

from __future__ import annotations

from pathlib import PurePosixPath

from lib.data.dataset import Archive, register
from lib.data.sets.gtsrb import TEST_ARCHIVES, OfficialLayout

_FOLDER = PurePosixPath("GTSRB/Training")


@register
class GtsrbTorchvision(OfficialLayout):
    name = "gtsrb-torchvision"
    title = "torchvision GTSRB training split"
    order = 20
    folder = _FOLDER
    expected = f"gtsrb/{_FOLDER}"
    num_official = 26_640
    archives = (
        Archive(
            "GTSRB-Training_fixed.zip",
            187_490_228,
            "df4144942083645bd60b594de348aa6930126c3e0e5de09e39611630abf8455a",
            "training",
            _FOLDER,
        ),
        *TEST_ARCHIVES,
    )
