"""Choosing class and track in JupyterLab; a plain figure where nobody is there to choose."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from lib.data import Data, Split
from lib.report import SERIES_VARIABLE
from lib.report.figures import show
from lib.report.plots import plot_track
from lib.signs import SIGNS


def is_live(history: Sequence[str] | None = None) -> bool:
    """True where a person can move a slider: a kernel that neither our launcher nor plain papermill drives.

    Args:
        history: sources of the cells that ran (IPython's `In`); read from the running kernel by default.
    """
    if os.environ.get(SERIES_VARIABLE):
        return False
    shell = _shell()
    if history is None:
        if shell is None or not hasattr(shell, "kernel"):
            return False  # no kernel, no front end
        history = shell.user_ns.get("In", [])
        if not getattr(shell.kernel, "_allow_stdin", True):
            return False  # nbclient, and so papermill and nbconvert, tell the kernel that nobody can be asked
    return not any(source.startswith("# Parameters\n") for source in history)  # papermill's injected cell


def _shell() -> Any:
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None


def tracks_of(split: Split, class_id: int) -> list[int]:
    """Track ids of one class, the longest track first."""
    ids, counts = np.unique(np.asarray(split.track_ids)[np.asarray(split.labels) == class_id], return_counts=True)
    return [int(track_id) for track_id in ids[np.argsort(-counts, kind="stable")]]


def show_track(split: Split, track_id: int) -> None:
    """Display the frames of one track."""
    frames = np.flatnonzero(np.asarray(split.track_ids) == track_id)
    class_id = int(split.labels[frames[0]])
    heights = np.asarray(split.sizes)[frames].max(1)
    name = split.track_name(int(frames[0]))
    title = f"{SIGNS[class_id].name}, track {name}, {len(frames)} frames, {heights[0]} to {heights[-1]} pixels"
    show(plot_track(np.asarray(split.images[frames]), title))


def track_browser(data: Data, class_id: int = 14) -> None:
    """Show one track of the training images; in a live notebook with a choice of class and track.

    Args:
        class_id: where to begin (14: stop); the first class with images where it has none.
    """
    split = data.train
    present = [int(label) for label in np.unique(split.labels)]
    class_id = class_id if class_id in present else present[0]
    if not is_live():
        show_track(split, tracks_of(split, class_id)[0])
        return
    import ipywidgets as widgets
    from IPython.display import display

    options = [(f"{label} {SIGNS[label].name}", label) for label in present]
    chooser = widgets.Dropdown(options=options, value=class_id, description="class")
    slider = widgets.IntSlider(min=1, max=len(tracks_of(split, class_id)), value=1, description="track")

    def set_range(change: dict[str, Any]) -> None:
        slider.value = 1
        slider.max = len(tracks_of(split, change["new"]))

    chooser.observe(set_range, names="value")

    def draw(label: int, number: int) -> None:
        ids = tracks_of(split, label)
        show_track(split, ids[min(number, len(ids)) - 1])

    picture = widgets.interactive_output(draw, {"label": chooser, "number": slider})
    display(widgets.VBox([widgets.HBox([chooser, slider]), picture]))  # type: ignore[no-untyped-call]
