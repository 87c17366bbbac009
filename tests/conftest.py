"""What tests share: their surroundings and one run of the series; and options for those that take minutes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import coverage
import pytest

import lib.html  # noqa: F401  # before anything imports nbformat: see there
from lib.files import PROJECT_ROOT
from tests.skips import NoUnlistedSkip
from tests.surroundings import fixed, unwanted

FINISHED = "finished"
SHARE_THE_RUN = ("tests/test_rehearsal.py", "tests/test_notebooks.py")  # a minute: no two processes need it


@pytest.fixture(scope="session", autouse=True)
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The same environment for all tests and the processes that they start; pytest's own reports keep the given one."""
    with pytest.MonkeyPatch.context() as patched:
        values = fixed(tmp_path_factory.mktemp("home"))
        for name in unwanted(list(os.environ)):
            patched.delenv(name)
        for name, value in values.items():
            patched.setenv(name, value)
        time.tzset()
        yield
    time.tzset()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the launcher leaves of the whole series in `smoke`, with one backend and the control."""
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    given = "-p profile smoke -p num_threads 1 -p recipe learning_path -p num_epochs 3 -p num_images 2000"
    command = ["-m", "lib", "run", "--backends", "torch-blas,null", *given.split(), "--out", str(run_dir)]
    ran = subprocess.run([sys.executable, *command], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return run_dir


Refused = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """The one line that a bad command line ends in, with status 2."""
    from lib.cli import main

    def refusal(*argv: object) -> str:
        assert main([str(argument) for argument in argv]) == 2
        line = capsys.readouterr().err.strip()
        assert line.startswith("error: ") and "\n" not in line
        return line

    return refusal


def pytest_sessionfinish() -> None:
    """Save what was covered so far: on a busy machine a worker of xdist can be killed before it ends by itself."""
    running = coverage.Coverage.current()
    if running is not None:
        running.save()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also what takes long, and the backends that are not default")
    parser.addoption("--no-unlisted-skip", action="store_true", help="fail for skips that tests/skips.py does not list")
    parser.addoption("--lab", action="store_true", help="also run all notebooks in JupyterLab")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: needs --slow")
    config.addinivalue_line("markers", "lab: needs --lab")
    if config.getoption("--no-unlisted-skip"):
        config.pluginmanager.register(NoUnlistedSkip())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests of a file share its fixtures, so one process runs them all; those of the run count as one file."""
    from xdist.scheduler import LoadFileScheduling

    class BySharedFixtures(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return FINISHED if nodeid.split("::")[0] in SHARE_THE_RUN else str(super()._split_scope(nodeid))

    config.option.loadscopereorder = False  # longest first is what `pytest_collection_modifyitems` sees to
    return BySharedFixtures(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.nodeid.split("::")[0] not in SHARE_THE_RUN)
    for option, marker in (("--slow", "slow"), ("--lab", "lab")):
        for item in items:
            if item.get_closest_marker(marker) and not config.getoption(option):
                item.add_marker(pytest.mark.skip(reason=f"takes long: pytest {option}"))
