"""Cores and memory are those that were granted, in made-up cgroups and in real processes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from lib.granted import CORES, cgroup_limits, memory_bytes, num_cores
from tests.new_python import printed_by

V2 = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup rw,nsdelegate"
V1_CPU = "33 25 0:30 {root} /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct"
V1_MEMORY = "34 25 0:31 {root} /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory"
OTHERS = "23 1 8:1 / / rw - ext4 /dev/sda1 rw\n31 25 0:27 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
GB = 10**9


def made_system(folder: Path, groups: str, mounts: str, files: dict[str, str]) -> Path:
    """A root folder with `/proc` as this process would see it, and files below `/sys/fs/cgroup`."""
    content = {"proc/meminfo": "MemTotal: 8000000 kB", "proc/self/mountinfo": OTHERS + mounts}
    content |= {"proc/self/cgroup": groups} if groups else {}
    content |= {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{text}\n")
    return folder


@pytest.mark.parametrize(
    ("groups", "mounts", "files", "expected"),
    [
        pytest.param(
            "0::/", V2.format(root="/"), {"cpu.max": "200000 100000", "memory.max": f"{2 * GB}"},
            (2.0, 2 * GB), id="container",
        ),
        pytest.param(
            "0::/job/step", V2.format(root="/"),
            {"job/cpu.max": "150000 100000", "job/step/cpu.max": "max 100000", "job/memory.max": f"{3 * GB}",
             "job/step/memory.max": f"{GB}", "other/cpu.max": "1000 100000"},
            (1.5, GB), id="nested: the least of all above, and of none beside",
        ),
        pytest.param(
            "0::/docker/ab/inner", V2.format(root="/docker/ab"),
            {"cpu.max": "100000 100000", "inner/cpu.max": "50000 100000", "memory.max": "max"},
            (0.5, math.inf), id="container that sees the host's path of its group",
        ),
        pytest.param(
            "0::/../../user.slice", V2.format(root="/"), {"cpu.max": "300000 100000", "memory.max": f"{GB}"},
            (3.0, GB), id="group outside of what is mounted",
        ),
        pytest.param(
            "7:memory:/slurm/job\n4:cpu,cpuacct:/slurm/job\n2:pids:/\n0::/",
            V1_CPU.format(root="/") + "\n" + V1_MEMORY.format(root="/"),
            {"cpu,cpuacct/slurm/cpu.cfs_quota_us": "250000", "cpu,cpuacct/slurm/cpu.cfs_period_us": "100000",
             "cpu,cpuacct/slurm/job/cpu.cfs_quota_us": "-1", "cpu,cpuacct/slurm/job/cpu.cfs_period_us": "100000",
             "memory/memory.limit_in_bytes": "9223372036854771712", "memory/slurm/job/memory.limit_in_bytes": f"{GB}"},
            (2.5, GB), id="version 1",
        ),
        pytest.param(
            "7:memory:/docker/ab\n0::/docker/ab", V1_MEMORY.format(root="/docker/ab") + "\n" + V2.format(root="/x"),
            {"memory/memory.limit_in_bytes": f"{2 * GB}", "cpu.max": "400000 200000"},
            (2.0, 2 * GB), id="both versions",
        ),
        pytest.param("0::/", V2.format(root="/"), {"cpu.max": "max 100000", "memory.max": "max"},
                     (math.inf, math.inf), id="no limit"),
        pytest.param("", "", {"cpu.max": "100000 100000"}, (math.inf, math.inf), id="no cgroups"),
    ],
)  # fmt: skip
def test_cgroups_grant_what_the_tightest_of_them_allows(
    tmp_path: Path, groups: str, mounts: str, files: dict[str, str], expected: tuple[float, float]
) -> None:
    root = made_system(tmp_path, groups, mounts, files)
    assert cgroup_limits(root) == expected
    cores, memory = expected
    assert num_cores(root) == max(1, min(len(CORES), int(min(cores, 2**20))))
    assert memory_bytes(root) == min(memory, 8_000_000 * 1024)


def test_memory_of_a_system_that_says_nothing_is_unknown(tmp_path: Path) -> None:
    assert memory_bytes(tmp_path) is None and num_cores(tmp_path) == len(CORES)


@pytest.mark.parametrize(("given", "most"), [("1", 1), ("4096", 4096), ("", 4096), ("many", 4096), ("0", 1)])
def test_slurm_grants_no_more_than_it_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, most: int
) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", given)
    assert num_cores(tmp_path) == min(most, len(CORES))


def test_affinity_that_was_narrowed_before_the_start_is_what_is_granted() -> None:
    (core, *_) = CORES
    code = f"import os; os.sched_setaffinity(0, [{core}]); from lib.granted import CORES, num_cores; print(num_cores())"
    assert printed_by(code) == "1"


THREAD = "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"


@pytest.mark.parametrize(
    ("imports", "variable", "value"),
    [
        pytest.param("import lib; import torch", "OMP_PROC_BIND", "close", id="lib first"),
        pytest.param(f"{THREAD}; import torch; import lib", "GOMP_CPU_AFFINITY", f"{min(CORES)}",
                     id="torch first, beside an older thread, as in a kernel"),
    ],
)  # fmt: skip
def test_a_core_to_which_openmp_binds_the_main_thread_is_not_all_that_was_granted(
    imports: str, variable: str, value: str
) -> None:
    code = f"""{imports}
from pathlib import Path
from lib.backends import get_backend
from lib.bench.client import WorkerClient
from lib.granted import CORES
import os
worker = WorkerClient(get_backend("null"), 1)
worker.ask("memory")
print(sorted(CORES) == sorted(os.sched_getaffinity(worker.pid)) == {sorted(CORES)}, len(os.sched_getaffinity(0)))
worker.kill()"""
    granted, bound = printed_by(code, **{variable: value}).split()
    assert granted == "True"
    assert int(bound) == 1, "OpenMP bound nothing here, so this test says nothing"
