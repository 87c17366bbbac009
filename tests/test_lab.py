"""The notebooks as somebody sees them in JupyterLab: `Run All`, progress bars and widgets, stop and run again.

`pytest --slow` opens the first notebook only; `make test-lab` all, with a screenshot of each in build/lab/. They are
copies whose parameters cell has the profile `smoke` and few images, so that one takes seconds and not minutes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from PIL import Image

from lib.files import PROJECT_ROOT
from lib.series.parameters import NOTEBOOK_DIR
from lib.signs import render_artwork
from tests.browser import CHROMIUM
from tests.lab import Lab, copy_notebook, lab

pytest.importorskip("playwright", reason="playwright is not installed: make .venv")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")

SHOTS = PROJECT_ROOT / "build" / "lab"
SMALL: dict[str, dict[str, Any]] = {
    "01_explore": {"profile": "smoke", "num_images": 600},
    "02_train": {"profile": "smoke", "num_images": 2000},
    "03_benchmark": {"profile": "smoke", "num_images": 2000},
    "04_compare": {},
    "05_release": {},
}
# What a cell with this source promises a reader in JupyterLab; elsewhere it shows plain lines and a figure.
WIDGETS = {
    "01_explore": ["track_browser(data)"],
    "02_train": ["trained = train("],
    "03_benchmark": ["session.measure()"],
    "04_compare": [],
    "05_release": [],
}
WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    root = tmp_path_factory.mktemp("notebooks")
    for name, defaults in SMALL.items():
        copy_notebook(name, root, run_dir=str(root / "run"), **defaults)
    with lab(root, tmp_path_factory.mktemp("private")) as opened:
        yield opened


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def errors(notebook: Any) -> list[str]:
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return [f"{output.ename}: {output.evalue}" for output in outputs if output.output_type == "error"]


def assert_all_ran(live: Lab, name: str) -> None:
    live.open(name)
    live.run_all()
    SHOTS.mkdir(parents=True, exist_ok=True)
    live.screenshot(SHOTS / f"{name}.png")
    print(f"\nscreenshot: {SHOTS / name}.png")
    notebook = live.saved(name)
    assert errors(notebook) == []
    assert all(cell.execution_count for cell in code_cells(notebook) if cell.source.strip())
    for source in WIDGETS[name]:
        (cell,) = [cell for cell in code_cells(notebook) if source in cell.source]
        assert any(WIDGET in output.get("data", {}) for output in cell.outputs), f"no widget under {source}"
        shown = live.page.locator(".jp-CodeCell", has_text=source).locator(".jupyter-widgets")
        assert shown.count() > 0 and shown.first.is_visible(), f"the widget under {source} is not drawn"
    assert live.page.get_by_text(re.compile("Error displaying widget|Loading widget")).count() == 0
    assert not [line for line in live.complaints if "widget" in line.lower()], live.complaints


@pytest.mark.slow
def test_first_notebook_runs_in_jupyterlab_with_its_widgets(live: Lab) -> None:
    assert_all_ran(live, "01_explore")
    chooser = live.page.locator(".widget-dropdown select")
    before = live.page.locator(".widget-output img").first.get_attribute("src")
    chooser.select_option(label="1 speed limit 30 km/h")
    live.page.wait_for_function("before => document.querySelector('.widget-output img')?.src !== before", arg=before)


@pytest.mark.lab
@pytest.mark.parametrize("name", list(SMALL)[1:])
def test_every_other_notebook_runs_in_jupyterlab(live: Lab, name: str) -> None:
    assert_all_ran(live, name)


@pytest.mark.lab
@pytest.mark.parametrize(
    ("name", "source"),
    [("02_train", "trained = train("), ("03_benchmark", "session.measure()"), ("03_benchmark", "session.start()")],
)
def test_cell_that_was_stopped_runs_when_it_is_run_again(live: Lab, name: str, source: str) -> None:
    root = live.root
    slow = {"num_epochs": 40} if name == "02_train" else {"min_seconds": 4.0}
    copy_notebook(name, root, run_dir=str(root / "run"), **{**SMALL[name], **slow}).rename(root / "stopped.ipynb")
    live.open("stopped")
    live.select(source)
    live.command("notebook:run-all-above")
    live.wait()
    live.select(source)
    live.command("notebook:run-cell", wait=False)
    live.page.wait_for_timeout(2500)
    live.command("notebook:interrupt-kernel")
    live.wait()
    stopped = [error for error in errors(live.saved("stopped")) if error.startswith("KeyboardInterrupt")]
    assert stopped, "the cell had ended before it was stopped"
    live.command("notebook:run-all-below")
    live.wait()
    assert errors(live.saved("stopped")) == []


@pytest.mark.lab
def test_an_image_file_of_ones_own_is_read_in_the_cell_for_it(live: Lab) -> None:
    root = live.root
    Image.fromarray(render_artwork(14, 90)).convert("RGB").save(root / "mine.jpg")
    copied = copy_notebook("02_train", root, run_dir=str(root / "run"), **SMALL["02_train"])
    notebook = nbformat.read(copied, as_version=4)
    (cell,) = [cell for cell in code_cells(notebook) if "predict_file" in cell.source]
    cell.source = cell.source.replace('""', repr(str(root / "mine.jpg")))
    nbformat.write(notebook, root / "own.ipynb")
    live.open("own")
    live.run_all()
    saved = live.saved("own")
    assert errors(saved) == []
    (cell,) = [cell for cell in code_cells(saved) if "predict_file" in cell.source]
    shown = "".join(str(output.get("data", {}).get("text/html", "")) for output in cell.outputs)
    assert "<img" in shown and "%" in shown, "neither the picture nor what the network reads in it"


def test_copy_differs_from_the_series_in_its_defaults_alone(tmp_path: Path) -> None:
    ours = nbformat.read(NOTEBOOK_DIR / "02_train.ipynb", as_version=4).cells
    copied = nbformat.read(copy_notebook("02_train", tmp_path, **SMALL["02_train"]), as_version=4).cells
    changed = [(old.source, new.source) for old, new in zip(ours, copied, strict=True) if old.source != new.source]
    ((old, new),) = changed
    assert len(old.splitlines()) == len(new.splitlines()) and "profile: str = 'smoke'" in new
