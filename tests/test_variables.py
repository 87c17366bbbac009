"""What reaches a measured process: nothing that the user's shell says about how to compute."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lib.backends import get_backend
from lib.bench.client import WorkerClient, worker_environ
from lib.files import PROJECT_ROOT
from lib.machine import ALLOCATOR
from lib.series.notebook import start
from lib.series.parameters import load_schema
from lib.variables import KEEP_VARIABLE, passed_on, remove_tuning, tuning

TUNING = {
    "OMP_PROC_BIND": "close", "OMP_THREAD_LIMIT": "1", "OMP_NUM_THREADS": "7", "GOMP_CPU_AFFINITY": "0",
    "KMP_BLOCKTIME": "0", "MKL_CBWR": "COMPATIBLE", "OPENBLAS_NUM_THREADS": "7", "DNNL_DEFAULT_FPMATH_MODE": "BF16",
    "ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default", "TORCHINDUCTOR_FREEZING": "0",
    "LRU_CACHE_CAPACITY": "1", "MALLOC_ARENA_MAX": "1", "GLIBC_TUNABLES": "glibc.malloc.check=3",
}  # fmt: skip
OTHERS = {
    "OV_NUM_STREAMS": "1", "ORT_LOGGING_LEVEL": "0", "NNCF_DEBUG": "1", "PYTHONOPTIMIZE": "2", "PYTHONSTARTUP": "/x",
    "LANG": "de_DE.UTF-8", "LC_NUMERIC": "de_DE.UTF-8", "LANGUAGE": "de", "GIT_DIR": "/x", "ANYTHING": "else",
}  # fmt: skip
PASSED_ON = {
    "TMPDIR": "/tmp", "LD_LIBRARY_PATH": "/nonexistent", "https_proxy": "http://p", "NO_PROXY": "localhost",
    "GTSRB_CACHE": "/x", "COVERAGE_PROCESS_START": "", "LD_PRELOAD": "libm.so.6", "OPENBLAS_CORETYPE": "Haswell",
}  # fmt: skip


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**TUNING, **OTHERS, **PASSED_ON, KEEP_VARIABLE: "MKL_VERBOSE, X"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MKL_VERBOSE", "0")


Start = Callable[[], WorkerClient]


@pytest.fixture
def worker() -> Iterator[Start]:
    """Starts a worker of the backend that computes nothing."""
    started: list[WorkerClient] = []

    def begin() -> WorkerClient:
        started.append(WorkerClient(get_backend("null"), 3))
        started[-1].ask("memory")  # it answers, so it has imported what it needs
        return started[-1]

    yield begin
    for client in started:
        client.kill()


def test_worker_gets_little_of_the_shell_and_what_the_harness_sets(shell: None, worker: Start) -> None:
    text = Path(f"/proc/{worker().pid}/environ").read_text()
    seen = dict(variable.split("=", 1) for variable in text.split("\0") if variable)
    assert {name: seen.get(name) for name in ALLOCATOR} == ALLOCATOR and len(ALLOCATOR) == 2
    threads = {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"}
    assert {seen.get(name) for name in threads} == {"3"}
    assert not (TUNING.keys() | OTHERS.keys()) - threads & seen.keys()
    assert {name: seen.get(name) for name in PASSED_ON} == PASSED_ON
    assert seen["MKL_VERBOSE"] == "0" and seen["LC_ALL"] == "C.UTF-8"
    assert seen["PATH"] == os.environ["PATH"] and seen["HOME"] == os.environ["HOME"]


def test_worker_runs_the_code_of_its_parent_wherever_it_is_started(
    worker: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/__init__.py").write_text("raise SystemExit('the lib of somebody else')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert worker().ask("memory")["peak_memory_bytes"] > 0
    assert worker_environ(1)["PYTHONPATH"].endswith(f"{os.pathsep}{tmp_path}")  # for packages that come from there


def test_variables_that_change_how_libraries_compute_are_told_from_the_others() -> None:
    kept, others = tuning({**TUNING, **OTHERS, **PASSED_ON, "TORCH_HOME": "/x", "TORCHINDUCTOR_CACHE_DIR": "/x"})
    assert kept == {name: PASSED_ON[name] for name in ("LD_PRELOAD", "OPENBLAS_CORETYPE")} and others == TUNING
    kept, others = tuning({**TUNING, **OTHERS, KEEP_VARIABLE: "OMP_PROC_BIND, OV_NUM_STREAMS"})
    assert kept == {"OMP_PROC_BIND": "close", "OV_NUM_STREAMS": "1"} and "OMP_PROC_BIND" not in others


def test_removing_leaves_what_is_kept_and_what_changes_nothing() -> None:
    environ = {**TUNING, **OTHERS, **PASSED_ON}
    assert remove_tuning(environ) == TUNING
    assert environ == OTHERS | PASSED_ON
    assert passed_on(environ) == PASSED_ON


def namespace(notebook: str, run_dir: Path) -> dict[str, Any]:
    return {**{name: one.default for name, one in load_schema(notebook).items()}, "run_dir": str(run_dir), "In": [""]}


def test_notebook_that_others_start_reports_and_records_what_the_shell_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in tuning()[0] | tuning()[1]:
        monkeypatch.delenv(name)
    clean = start("01_explore", namespace("01_explore", tmp_path))
    assert clean.warnings == [] and clean.environment.variables == {} and "libraries compute" not in clean._repr_html_()
    monkeypatch.setenv("DNNL_DEFAULT_FPMATH_MODE", "<BF16>")
    monkeypatch.setenv("LD_PRELOAD", "libm.so.6")
    run = start("01_explore", namespace("01_explore", tmp_path))
    assert run.environment.variables == {"DNNL_DEFAULT_FPMATH_MODE": "<BF16>", "LD_PRELOAD": "libm.so.6"}
    assert [warning.kind for warning in run.common()["warnings"]] == ["variables"]
    html = run._repr_html_()
    assert html.count("libraries compute") == 1 and "in measured processes: LD_PRELOAD=libm.so.6" in html
    assert "in no measured process: DNNL_DEFAULT_FPMATH_MODE=&lt;BF16&gt;" in html


def test_notebook_computes_with_as_many_threads_as_its_record_says(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.test_variables import namespace, start;"
        "run = start('02_train', {**namespace('02_train', Path(sys.argv[1])), 'num_threads': 3});"
        "import torch; print(run.environment.num_threads, torch.get_num_threads())"
    )
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, str(tmp_path)]
    ran = subprocess.run(command, env=environ, cwd=PROJECT_ROOT, capture_output=True, check=True)
    assert ran.stdout.split() == [b"3", b"3"]
