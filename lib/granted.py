"""The cores and the memory that this process was granted: by its affinity, by cgroups of both versions, by Slurm."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from lib.files import text_of

CORES_VARIABLE = "GTSRB_CORES"  # in the environment of a process that measures: cores to run on, such as 0,1,2,3
SHARE_VARIABLE = "GTSRB_SHARE"  # in the environment of one of several that share this machine: how many cores it has
ROOT = Path("/")


def _affinity() -> frozenset[int]:
    """Cores that any thread of this process may run on.

    OpenMP binds the thread that loads it to one core where OMP_PROC_BIND or GOMP_CPU_AFFINITY say so, and every child
    of that thread inherits the one core. Threads that were there before keep what was granted.
    """
    with suppress(OSError, ValueError):
        if given := os.environ.get(CORES_VARIABLE):
            os.sched_setaffinity(0, {int(core) for core in given.split(",")})
    cores: set[int] = set()
    for thread in Path("/proc/self/task").glob("*"):
        with suppress(OSError):  # it has just ended
            cores |= os.sched_getaffinity(int(thread.name))
    return frozenset(cores)


CORES = _affinity()  # read when `lib` is imported, which is before it loads torch


def num_cores(root: Path = ROOT) -> int:
    """Cores that this process was granted, at least one: the least of its affinity, which cpusets narrow, of the quotas
    of its cgroups, of Slurm's, and of its share where a sweep runs several combinations side by side.

    A fraction is rounded down: with one thread more, all of them would be stopped for a part of every period.
    """
    granted = [float(len(CORES)), cgroup_limits(root)[0]]
    for name in ("SLURM_CPUS_PER_TASK", SHARE_VARIABLE):
        if (share := os.environ.get(name, "")).isdecimal():
            granted.append(int(share))
    return max(1, math.floor(min(granted)))


def memory_bytes(root: Path = ROOT) -> int | None:
    """Memory of the machine, or of the cgroups of this process where that is less; None where nothing is known."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", text_of(root / "proc/meminfo"), re.MULTILINE)
    least = min(int(found[1]) * 1024 if found else math.inf, cgroup_limits(root)[1])
    return None if least == math.inf else int(least)


def cgroup_limits(root: Path = ROOT) -> tuple[float, float]:
    """Cores, with a fraction, and bytes of memory that the cgroups of this process allow; infinite without a limit.

    Args:
        root: folder that holds `proc` and the mounted cgroups.
    """
    cores = memory = math.inf
    for group in _cgroups(root):
        quota = text_of(group / "cpu.max") or " ".join(
            text_of(group / name) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        )
        # no limit is "max" in version 2, and -1 in version 1
        if found := re.fullmatch(r"(\d+)\s+([1-9]\d*)\s*", quota):
            cores = min(cores, int(found[1]) / int(found[2]))
        limit = (text_of(group / "memory.max") or text_of(group / "memory.limit_in_bytes")).strip()
        if limit.isdecimal():
            memory = min(memory, int(limit))
    return cores, memory


def _cgroups(root: Path) -> Iterator[Path]:
    """Folders of the cgroups that this process is in, each with those above it as far as they are mounted."""
    paths: dict[str, PurePosixPath] = {}  # by controller; version 2 has one hierarchy for all, without a name
    for names, group in re.findall(r"^\d+:([^:\n]*):(.+)$", text_of(root / "proc/self/cgroup"), re.MULTILINE):
        paths.update(dict.fromkeys(names.split(","), PurePosixPath(group)))
    mounts = text_of(root / "proc/self/mountinfo")
    for mounted, where, kind, options in re.findall(
        r"^(?:\S+ ){3}(\S+) (\S+) .* - (cgroup2?) \S* (\S+)$", mounts, re.MULTILINE
    ):
        controllers = {""} if kind == "cgroup2" else {"cpu", "memory"}.intersection(options.split(","))
        for path in {paths[name] for name in controllers & paths.keys()}:
            visible = path.is_relative_to(mounted) and ".." not in path.parts
            inside = path.relative_to(mounted) if visible else PurePosixPath()
            yield from (root / where.lstrip("/") / part for part in (inside, *inside.parents))
