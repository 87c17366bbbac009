"""Drives a real JupyterLab in headless Chromium: a server of its own, and one browser window.

Nothing of the user's configuration is read, and the notebooks that are run are copies.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat

from lib.files import PROJECT_ROOT
from lib.series.parameters import NOTEBOOK_DIR
from tests.browser import CHROMIUM, FLAGS

SETTINGS = {
    # All cells in the page: by default those out of sight are taken out, and a screenshot would have holes.
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
}
START_S = 60


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
            yield _address(process, private)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _address(process: subprocess.Popen[bytes], private: Path) -> str:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        for path in (private / "runtime").glob("jpserver-*.json"):
            try:
                info = json.loads(path.read_text())
            except ValueError:
                continue  # half written
            return f"{info['url']}lab/tree/{{}}?token={info['token']}&reset"
        time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start: {(private / 'server.log').read_text()[-2000:]}")


class Lab:
    """One JupyterLab in one browser page."""

    def __init__(self, page: Any, address: str, root: Path) -> None:
        self.page, self.address, self.root = page, address, root
        self.problems: list[str] = []  # what the browser's console calls an error
        page.on("console", lambda told: self.problems.append(told.text) if told.type == "error" else None)

    def open(self, name: str) -> None:
        """Open a notebook by its name and wait for its kernel."""
        self.page.goto(self.address.format(f"{name}.ipynb"))
        self.page.wait_for_function(
            "() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
            timeout=START_S * 1000,
        )
        if self.page.evaluate("() => !window.jupyterapp.shell.leftCollapsed"):
            self.command("application:toggle-left-area")

    def run_all(self, limit_s: float) -> None:
        """Choose `Run All Cells` in the menu and wait until the kernel has nothing left to do."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_text("Run All Cells", exact=True).click()
        self.wait(limit_s)

    def command(self, name: str, **arguments: Any) -> None:
        """Execute a command of JupyterLab."""
        self.page.evaluate("([name, args]) => window.jupyterapp.commands.execute(name, args)", [name, arguments])

    def start(self, name: str, **arguments: Any) -> None:
        """Execute a command of JupyterLab that takes long, and do not wait for it."""
        self.page.evaluate("([name, args]) => { window.jupyterapp.commands.execute(name, args); }", [name, arguments])

    def wait(self, limit_s: float) -> None:
        """Wait until no cell runs or waits."""
        self.page.wait_for_timeout(300)
        self.page.wait_for_function(
            """() => {
              const widget = window.jupyterapp.shell.currentWidget;
              const prompts = [...document.querySelectorAll('.jp-InputArea-prompt')].map(e => e.textContent);
              return widget.sessionContext.session?.kernel?.status === 'idle' && !prompts.some(t => t.includes('*'));
            }""",
            timeout=limit_s * 1000,
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
        height = self.page.evaluate(
            "() => Math.max(...[...document.querySelectorAll('.jp-WindowedPanel-inner, .jp-Notebook')]"
            ".map(element => element.scrollHeight))"
        )
        self.page.set_viewport_size({"width": 1280, "height": min(12_000, int(height) + 160)})
        self.page.evaluate(
            "() => document.querySelectorAll('.jp-WindowedPanel-outer').forEach(element => { element.scrollTop = 0; })"
        )
        self.page.wait_for_timeout(500)
        self.page.screenshot(path=str(path))
        self.page.set_viewport_size({"width": 1280, "height": 900})


@contextmanager
def lab(root: Path, private: Path) -> Iterator[Lab]:
    """A server for `root` and a browser on it."""
    from playwright.sync_api import sync_playwright

    with server(root, private) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            yield Lab(page, address, root)
        finally:
            browser.close()
