"""Opens pages in headless Chromium, with no network, and tells what they did and what axe finds in them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.waiting import HANG_S, until


def _chromium() -> str | None:
    """The browser of the system, or the one that `playwright install chromium` fetched."""
    names = ("chromium", "chromium-browser", "google-chrome")
    fetched = Path.home().glob(".cache/ms-playwright/chromium-*/chrome-linux*/chrome")
    return next((path for name in names if (path := shutil.which(name))), None) or next(map(str, fetched), None)


CHROMIUM = _chromium()
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SERIOUS = ("serious", "critical")


@dataclass
class Opened:
    """A page in the browser, and what it did since it was opened."""

    page: Any
    requests: list[str] = field(default_factory=list)  # addresses, without data: and blob:
    complaints: list[str] = field(default_factory=list)  # of the console: broken policy, errors of scripts
    dialogs: list[str] = field(default_factory=list)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until a condition holds; what the browser tells arrives meanwhile. See `tests.waiting.until`."""
        until(condition, what, pause=lambda: self.page.wait_for_timeout(50))


class Browser:
    """One Chromium for a module of tests."""

    def __init__(self, chromium: Any) -> None:
        self._chromium = chromium

    @contextmanager
    def open(
        self, address: str | Path, *, width: int = 1280, height: int = 900, dark: bool = False, settle_ms: int = 0
    ) -> Iterator[Opened]:
        """A page in a window of its own. A path is opened as a file."""
        context = self._chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
        )
        context.set_default_timeout(1000 * HANG_S)
        opened = Opened(context.new_page())

        def dismiss(dialog: Any) -> None:
            opened.dialogs.append(dialog.message)
            dialog.dismiss()

        opened.page.on("request", lambda request: _note(opened.requests, request.url))
        opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        opened.page.on("console", lambda line: opened.complaints.extend([line.text] * (line.type == "error")))
        opened.page.on("dialog", dismiss)
        try:
            opened.page.goto(address.resolve().as_uri() if isinstance(address, Path) else address)
            if settle_ms:
                opened.page.wait_for_timeout(settle_ms)
            yield opened
        finally:
            context.close()


def _note(requests: list[str], address: str) -> None:
    if not address.startswith(("data:", "blob:")):
        requests.append(address)


@contextmanager
def browser(*flags: str) -> Iterator[Browser]:
    """Chromium as the system has it; nothing is downloaded.

    Args:
        flags: more of Chromium's; without any, every host but this machine is out of reach.
    """
    from playwright.sync_api import sync_playwright

    offline = flags or (
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
        "--no-proxy-server",
    )
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *offline])
        try:
            yield Browser(chromium)
        finally:
            chromium.close()


def findings(opened: Opened, rules: Sequence[str] = ()) -> list[str]:
    """What axe finds in an opened page and calls serious or critical: one line each, with the element.

    Args:
        rules: of axe, the only ones to be checked; all by default.
    """
    from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]

    options = {"resultTypes": ["violations"], **({"runOnly": list(rules)} if rules else {})}
    violations = Axe().run(opened.page, options=options).response["violations"]
    return [
        f"{found['id']} ({found['impact']}): {found['help']}: {node['html'][:160]}"
        for found in violations
        if found["impact"] in SERIOUS
        for node in found["nodes"][:5]
    ]
