"""The weekly suite: what may be skipped there, and that nothing else may."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lib.backends import all_backends
from lib.files import PROJECT_ROOT
from tests.skips import LISTED, is_listed

FILE = """
import pytest

def test_runs(): pass

@pytest.mark.skip(reason="no time")
def test_marked(): pass

def test_inside(): pytest.skip("not today")

@pytest.mark.xfail(reason="known", strict=True)
def test_known(): assert False
"""


def test_a_skip_that_is_not_listed_fails_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(FILE)
    (tmp_path / "test_whole.py").write_text("import pytest\npytest.importorskip('no_such_package')\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider",
               "-c", "/dev/null", "--rootdir", str(tmp_path), "--no-unlisted-skip",
               "--continue-on-collection-errors", str(tmp_path)]  # fmt: skip
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode != 0, done.stdout
    assert "1 passed" in done.stdout and "1 xfailed" in done.stdout, done.stdout
    for told in ("no time", "not today", "no_such_package"):
        assert told in done.stdout and "tests/skips.py" in done.stdout, done.stdout


def test_known_skips_are_listed_and_missing_packages_or_browsers_are_not() -> None:
    assert is_listed("tests/test_backends.py::test_x[onnxruntime-bf16]", "runs on aarch64; this machine is x86_64")
    assert is_listed("tests/test_lab.py::test_x", "Skipped: takes long: pytest --lab")
    assert not is_listed("tests/test_data.py::test_x", "runs on aarch64; this machine is x86_64")
    for message in ("not installed: ncnn", "no Chromium here: apt install chromium", "could not import 'ncnn'",
                    "takes long: pytest --slow"):  # fmt: skip
        assert not is_listed("tests/test_backends.py::test_x", message)


def test_each_listed_skip_has_a_reason_and_stands_for_a_test_that_exists() -> None:
    for skip in LISTED:
        assert skip.because
        files = [path for path in (PROJECT_ROOT / "tests").glob("test_*.py")
                 if skip.tests.replace("\\", "") in f"tests/{path.name}"]  # fmt: skip
        assert files, f"{skip.tests} is the name of no file"


def test_the_weekly_suite_installs_all_that_any_backend_the_server_signing_and_engines_need() -> None:
    workflow = (PROJECT_ROOT / ".github/workflows/weekly.yml").read_text()
    extras = sorted(
        {backend.extra for backend in all_backends() if backend.extra} | {"serve", "serve-test", "sign", "ray", "slurm"}
    )
    assert f"extras: {' '.join(extras)}\n" in workflow
    assert "--slow --no-unlisted-skip" in workflow and "playwright install" in workflow
