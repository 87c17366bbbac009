"""The images of a run: the real ones, or synthetic ones with a note on every page while their host is down."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lib.data.download import HostDownError, fetch
from lib.data.sets import get_dataset

SYNTHETIC = "synthetic"


def fetch_images(
    dataset: str, *, restored: bool = False, data_root: str | Path = "", progress: Callable[[str], None] = print
) -> dict[str, str]:
    """Bring a data set, or say why the run goes on without it.

    Only a host that cannot be reached is a reason to go on. Archives that are not the official ones, a full disk or
    a damaged set are faults, and a green run on other images would hide them.

    Args:
        restored: the images came out of the cache, which need not save them again.

    Returns:
        dataset: what the notebooks get; note: a sentence for the pages where that is not what was asked for, else "";
        save: `true` where the cache should keep the images.

    Raises:
        UserError: an unknown data set, or one of those faults.
    """
    if not get_dataset(dataset).reads_files:
        return {"dataset": dataset, "note": "", "save": "false"}
    try:
        fetch(dataset, data_root, progress=progress)
    except HostDownError as error:
        note = (
            f"The real images ({dataset}) could not be fetched, so this run used synthetic ones: its figures say "
            f"nothing about real signs. Reason: {error}"
        )
        return {"dataset": SYNTHETIC, "note": " ".join(note.split()), "save": "false"}
    return {"dataset": dataset, "note": "", "save": str(not restored).lower()}
