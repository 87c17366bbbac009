"""What tests share: the rehearsed workflow; and `--all-backends`, for those outside of the default set: minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rehearsal.results import Walk
from tests.rehearsal.runner import Runner
from tests.rehearsal.scenarios import NATIVE, dispatch, run_files


SHARE_THE_WALK = ("tests/test_rehearsal.py", "tests/test_notebooks.py")  # over a minute: no two processes need it


@pytest.fixture(scope="session")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """The whole workflow in `smoke`, with one backend and the control, as if somebody had pressed *Run workflow*."""
    event = dispatch("torch-blas,null", dataset="gtsrb")  # whose host cannot be reached in a rehearsal
    source, out = Path(__file__).parent.parent, tmp_path_factory.mktemp("rehearsal") / "out"
    return Runner(source, out, event, parallel=2).run(NATIVE)


@pytest.fixture(scope="session")
def finished(rehearsed: Walk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder that the workflow leaves: the whole series, merged from the parts of its jobs."""
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    for name, content in run_files(rehearsed).items():
        (run_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (run_dir / name).write_bytes(content)
    return run_dir


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-backends", action="store_true", help="also test the backends outside of the default set")
    parser.addoption("--lab", action="store_true", help="also run all notebooks in JupyterLab")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "all_backends: needs --all-backends")
    config.addinivalue_line("markers", "lab: needs --lab")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:  # tests of a file share its fixtures, so one process runs them all
        module = item.nodeid.split("::")[0]
        item.add_marker(pytest.mark.xdist_group("rehearsal" if module in SHARE_THE_WALK else module))
    for option, marker in (("--all-backends", "all_backends"), ("--lab", "lab")):
        for item in items:
            if item.get_closest_marker(marker) and not config.getoption(option):
                item.add_marker(pytest.mark.skip(reason=f"takes minutes: pytest {option}"))
