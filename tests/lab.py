"""Drives a real JupyterLab in headless Chromium: a server of its own, and one browser window.

Nothing of the user's configuration is read, and the notebooks that are run are copies.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nbformat

from lib.files import PROJECT_ROOT
from lib.series.parameters import NOTEBOOK_DIR
from tests.browser import Opened, browser
from tests.waiting import HANG_S, until

SETTINGS = {
    # All cells in the page: by default those out of sight are taken out, and a screenshot would have holes.
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
}


def copy_notebook(name: str, folder: Path, **defaults: Any) -> Path:
    """A copy with other defaults in its parameters cell, as a person would type them there before `Run All`."""
    notebook = nbformat.read(NOTEBOOK_DIR / f"{name}.ipynb", as_version=4)
    cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    for parameter, value in defaults.items():
        line = re.compile(rf"^({parameter}: \w+ = ).*?(  #.*)$", re.MULTILINE)
        match = line.search(cell.source)
        assert match, f"{name} has no parameter {parameter}"
        cell.source = f"{cell.source[: match.start()]}{match[1]}{value!r}{match[2]}{cell.source[match.end() :]}"
    path = folder / f"{name}.ipynb"
    nbformat.write(notebook, path)
    return path


@contextmanager
def server(root: Path, private: Path) -> Iterator[str]:
    """A JupyterLab that serves `root`; yields its address with the token.

    Args:
        private: folder for its configuration and run-time files.
    """
    for name, content in SETTINGS.items():
        path = private / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    environ = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(private / "config"),
        "JUPYTER_DATA_DIR": str(private / "data"),
        "JUPYTER_RUNTIME_DIR": str(private / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(private / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(private / "workspaces"),
        "IPYTHONDIR": str(private / "ipython"),
    }
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ServerApp.port=0"]
    command += [f"--ServerApp.root_dir={root}", "--LabApp.expose_app_in_browser=True"]
    with (private / "server.log").open("w+") as log:
        process = subprocess.Popen(command, env=environ, cwd=PROJECT_ROOT, stdout=log, stderr=log)
        try:
            until(lambda: process.poll() is not None or any(_running(private)), "JupyterLab had started or ended")
            (info,) = _running(private)
            yield f"{info['url']}lab/tree/{{}}?token={info['token']}&reset"
        finally:
            process.terminate()
            process.wait(HANG_S)


def _running(private: Path) -> Iterator[dict[str, Any]]:
    """What servers write about themselves; one may be half written."""
    for path in (private / "runtime").glob("jpserver-*.json"):
        with suppress(ValueError):
            yield json.loads(path.read_text())


class Lab:
    """One JupyterLab in one browser page."""

    def __init__(self, opened: Opened, address: str, root: Path) -> None:
        self.page, self.complaints, self.address, self.root = opened.page, opened.complaints, address, root

    def open(self, name: str) -> None:
        """Open a notebook by its name and wait for its kernel."""
        self.page.goto(self.address.format(f"{name}.ipynb"))
        self.page.wait_for_function(
            "() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
        )
        if self.page.evaluate("() => !window.jupyterapp.shell.leftCollapsed"):
            self.command("application:toggle-left-area")

    def run_all(self) -> None:
        """Choose `Run All Cells` in the menu and wait until the kernel has nothing left to do."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_text("Run All Cells", exact=True).click()
        self.wait()

    def command(self, name: str, *, wait: bool = True) -> None:
        """Execute a command of JupyterLab."""
        execute = "window.jupyterapp.commands.execute(name)"
        self.page.evaluate(f"name => {execute}" if wait else f"name => {{ {execute}; }}", name)

    def wait(self) -> None:
        """Wait until no cell runs or waits."""
        self.page.wait_for_timeout(300)
        self.page.wait_for_function(
            """() => {
              const widget = window.jupyterapp.shell.currentWidget;
              const prompts = [...document.querySelectorAll('.jp-InputArea-prompt')].map(e => e.textContent);
              return widget.sessionContext.session?.kernel?.status === 'idle' && !prompts.some(t => t.includes('*'));
            }"""
        )

    def select(self, text: str) -> None:
        """Make the code cell that contains a text the active one."""
        found = self.page.evaluate(
            """text => {
              const notebook = window.jupyterapp.shell.currentWidget.content;
              const index = notebook.widgets.findIndex(
                cell => cell.model.type === 'code' && cell.model.sharedModel.getSource().includes(text));
              notebook.activeCellIndex = index;
              notebook.deselectAll();
              return index;
            }""",
            text,
        )
        assert found >= 0, text

    def saved(self, name: str) -> Any:
        """Save the notebook and read it from the disk."""
        self.command("docmanager:save")
        return nbformat.read(self.root / f"{name}.ipynb", as_version=4)

    def screenshot(self, path: Path) -> None:
        """The whole notebook, however long, in one picture."""
        height = self.page.evaluate("""() => {
          document.querySelectorAll('.jp-WindowedPanel-outer').forEach(element => { element.scrollTop = 0; });
          return Math.max(...[...document.querySelectorAll('.jp-WindowedPanel-inner, .jp-Notebook')]
            .map(element => element.scrollHeight));
        }""")
        self.page.set_viewport_size({"width": 1280, "height": min(12_000, int(height) + 160)})
        self.page.wait_for_timeout(500)
        self.page.screenshot(path=str(path))
        self.page.set_viewport_size({"width": 1280, "height": 900})


@contextmanager
def lab(root: Path, private: Path) -> Iterator[Lab]:
    """A server for `root` and a browser on it."""
    with server(root, private) as address, browser() as chromium, chromium.open("about:blank") as opened:
        yield Lab(opened, address, root)
