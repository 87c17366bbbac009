"""Papermill without our launcher: parameter files, YAML on the command line, the notebook on standard output."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from lib.errors import UserError
from lib.records.schema import CompareRecord, read_record, record_path, write_record
from lib.series.parameters import NOTEBOOK_DIR, load_schema
from tests.made_records import made_benchmark


def papermill(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "papermill", str(NOTEBOOK_DIR / "04_compare.ipynb"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_parameters_of_file_yaml_and_command_line_meet_and_the_notebook_comes_on_standard_output(
    tmp_path: Path,
) -> None:
    """Of 04, which has records and earlier runs to compare with."""
    for name in ("run", *(f"earlier/{number}" for number in range(3))):
        write_record(made_benchmark("torch-blas"), record_path(tmp_path / name, "03_benchmark", "torch-blas"))
    earlier = tmp_path / "earlier"
    (tmp_path / "params.yml").write_text(f"run_dir: {tmp_path / 'run'}\nbackends: openvino\n")
    ways = ["-f", "params.yml", "-y", "backends: torch-blas,null", "-p", "history", str(earlier)]
    ran = papermill(tmp_path, "-", *ways, "--no-progress-bar")
    assert ran.returncode == 0, ran.stderr[-2000:]
    executed = nbformat.reads(ran.stdout, as_version=4)
    (injected,) = [cell.source for cell in executed.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    assert (
        'backends = "torch-blas,null"' in injected and f'history = "{earlier}"' in injected and "run_dir = " in injected
    )
    assert "application/vnd.jupyter.widget" not in ran.stdout
    assert not list(tmp_path.glob("*.ipynb"))
    compared = read_record(record_path(tmp_path / "run", "04_compare"), CompareRecord)
    assert compared.history == {"torch-blas": {"single_stream": "no change", "offline": "no change"}}
    assert (compared.backends, compared.missing) == (["torch-blas"], ["null"])
    assert "3 earlier runs are comparable." in ran.stdout


def test_value_of_a_wrong_type_in_yaml_is_refused() -> None:
    with pytest.raises(UserError, match=r"'backends' must be str: got \['torch-blas'\]"):
        load_schema("04_compare").resolve({"backends": ["torch-blas"]})
