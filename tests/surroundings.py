"""What tests see of the world around them: the same on every machine, for every user, on GitHub and off it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

CLOSED = "http://127.0.0.1:9"  # nothing listens there: whatever asks the world outside is refused at once
OFFLINE = {
    **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), CLOSED),
    **dict.fromkeys(("no_proxy", "NO_PROXY"), "localhost,127.0.0.1"),
}

_PREFIXES = (
    "GITHUB_", "RUNNER_", "ACTIONS_", "INPUT_",  # a job of GitHub: a verdict that a test invents is not for its summary
    "GIT_",  # a git hook sets GIT_DIR, and every command of git works in that repository then
    "JUPYTER", "IPYTHON", "XDG_CONFIG_", "XDG_DATA_", "LC_",  # a user's own settings
)  # fmt: skip
_NAMES = (
    "CI", "ImageOS", "ImageVersion", "ARCH", "RUN_NOTE", "PAGES_ENABLED",  # and what the workflow passes
    "GTSRB_BASE_URL", "GTSRB_CACHE", "GTSRB_SERIES", "GTSRB_STORE",  # this project's own
    "MPLBACKEND", "MPLCONFIGDIR", "LANGUAGE", "NO_COLOR", "FORCE_COLOR", "PYTHONWARNINGS",
)  # fmt: skip


def unwanted(names: Iterable[str]) -> list[str]:
    """The names of variables that no test may see unless it sets them itself."""
    return [name for name in names if name.startswith(_PREFIXES) or name in _NAMES]


def fixed(home: Path) -> dict[str, str]:
    """Variables that have the same value everywhere.

    Args:
        home: an empty folder, so that no settings of a user are found.
    """
    return {
        **OFFLINE,
        "HOME": str(home),
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache"),  # Matplotlib's list of fonts
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "COLUMNS": "80",
        "LINES": "24",
        # Neither the user's nor the machine's settings of git, but for the one that a checkout of another user needs.
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
    }
