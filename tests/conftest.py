"""Tests of backends outside of the default set compile and export for minutes: they run with `--all-backends` only."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-backends", action="store_true", help="also test the backends outside of the default set")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "all_backends: needs --all-backends")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--all-backends"):
        for item in items:
            if item.get_closest_marker("all_backends"):
                item.add_marker(pytest.mark.skip(reason="takes minutes: pytest --all-backends"))
