"""The machine and software that a record comes from. What is not known stays `None`: nothing is guessed."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from lib.errors import UserError
from lib.files import PROJECT_ROOT, text_of
from lib.granted import memory_bytes, num_cores
from lib.records.schema import Environment
from lib.variables import tuning

# Flags that change the speed of inference, under the names that /proc/cpuinfo gives them, by architecture; and in which
# precision a CPU with this flag multiplies quickly. In any other one, numbers are converted back and forth.
ISA_FLAGS = {
    "x86_64": {
        "sse4_2": "", "avx": "", "avx2": "", "fma": "", "avx512f": "",
        "avx512_vnni": "int8", "avx_vnni": "int8", "avx512_bf16": "bf16", "avx512_fp16": "f16",
        "amx_tile": "", "amx_int8": "int8", "amx_bf16": "bf16",
    },
    "aarch64": {
        "asimd": "", "asimdhp": "f16", "asimddp": "int8", "i8mm": "int8", "bf16": "bf16",
        "sve": "", "sve2": "", "svei8mm": "", "svebf16": "", "sme": "", "sme2": "",
    },
}  # fmt: skip
BYTES = {"fp32": 4, "tf32": 4, "bf16": 2, "f16": 2, "int8": 1}  # of a number, by precision
# Processes that measure, train or draw keep freed memory. By default glibc gives large blocks back to the kernel or
# not, depending on what lies at the end of the heap, and fetching them again page by page takes time. Where this was
# tried, two processes with one code differed by 12 to 25 % in offline, and torch-blas, whose im2col needs large blocks,
# took 1.6 times as long. Servers use allocators that keep memory (jemalloc, tcmalloc, mimalloc).
_MOST_TRIM = 2**31 - 1
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(_MOST_TRIM)}  # in the environment of a new process
PATIENCE_VARIABLE = "GTSRB_PATIENCE"  # in the environment: a factor on all time limits, instead of the one found here
EMULATED_PATIENCE = 50.0  # emulation takes 10 to 50 times as long
_PACKAGES = ("torch", "torchvision", "numpy", "pillow", "papermill", "nbconvert")


def _output_of(*command: str) -> str:
    """What a tool prints, in plain English and about the folder that it is asked for: `GIT_DIR` would name another."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        ran = subprocess.run(command, env={**environ, "LC_ALL": "C"}, capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return ran.stdout.decode(errors="replace")


@cache
def _lscpu() -> dict[str, str]:
    """Fields of `lscpu`, of the first CPU.

    On Arm it knows the model's name, which /proc/cpuinfo does not have there.
    """
    fields = re.findall(r"^[ \t]*([^:\n]+):[ \t]*(.*)$", _output_of("lscpu"), re.MULTILINE)
    return dict(reversed(fields))


@cache
def is_emulated() -> bool:
    """True where this interpreter runs under qemu user-mode emulation: then host tools answer for the host."""
    return _lscpu().get("Architecture", platform.machine()) != platform.machine()


@cache
def _patience() -> float:
    given = os.environ.get(PATIENCE_VARIABLE, "")
    if not given:
        return EMULATED_PATIENCE if is_emulated() else 1.0
    try:
        return float(given)
    except ValueError:
        raise UserError(f"{PATIENCE_VARIABLE} is {given!r}; give a factor on all time limits, such as 20") from None


def patient(seconds: float) -> float:
    """A time limit as this machine needs it: longer where the CPU is emulated, or by the factor in `GTSRB_PATIENCE`.

    Raises:
        UserError: that factor is not a number.
    """
    return seconds * _patience()


@cache
def isa_flags() -> tuple[str, ...]:
    """Instruction-set extensions of this CPU that matter for inference, in a fixed order."""
    # where the CPU is emulated, this file is as well, and `lscpu` would answer for the host
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text_of("/proc/cpuinfo"), re.MULTILINE)
    present = set(found.group(1).split() if found else ())
    return tuple(flag for flags in ISA_FLAGS.values() for flag in flags if flag in present)


def flags_for(precision: str, *architectures: str) -> tuple[str, ...]:
    """Flags of the CPUs that multiply quickly in a precision, of these architectures or of all."""
    tables = [ISA_FLAGS[architecture] for architecture in architectures or ISA_FLAGS]
    return tuple(flag for table in tables for flag, multiplies in table.items() if multiplies == precision)


def has_any(flags: Iterable[str]) -> bool:
    """Whether this CPU has at least one of the flags."""
    return not set(isa_flags()).isdisjoint(flags)


def keep_freed_memory() -> None:
    """Let this process reuse large blocks as far as it still can: a training step takes 10 to 25 % less time, drawing
    signs 10 to 30 %. Does nothing where the C library is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        m_trim_threshold, m_mmap_threshold = -1, -3  # malloc.h
        mallopt(m_mmap_threshold, 32 * 1024 * 1024)  # the largest value that glibc takes
        mallopt(m_trim_threshold, _MOST_TRIM)


def _cpu_model() -> str | None:
    if is_emulated():
        return os.environ.get("QEMU_CPU", "emulated")
    found = re.search(r"^model name\s*: (.+)$", text_of("/proc/cpuinfo"), re.MULTILINE)
    return _lscpu().get("Model name") or (found[1] if found else None)


def machine_id() -> str:
    """Equal for records of one machine in one boot, and for no others. Hashed: the boot id is private."""
    boot_id = text_of("/proc/sys/kernel/random/boot_id").strip() or platform.node()
    cpu = " ".join((platform.machine(), *isa_flags()))  # by the kernel: a name depends on the tools that are installed
    return hashlib.sha256(f"{boot_id} {cpu}".encode()).hexdigest()[:16]


def _blas(build: str) -> str | None:
    """Which BLAS torch was built with, from `torch.__config__.show()`."""
    found = re.search(r"BLAS_INFO=(\w+)", build)
    if not found:
        return None
    return {"open": "openblas"}.get(name := found.group(1).lower(), name)


# Names in the files of shared libraries. NumPy and SciPy bring an OpenBLAS of their own, which torch never calls.
_BLAS_FILES = {
    "openblas": r"libopenblas",
    "nvpl": r"libnvpl_blas",
    "mkl": r"libmkl_",
    "armpl": r"libarmpl",
    "blis": r"libblis",
}
_NOT_TORCHS = re.compile(r"/(numpy|scipy)(\.libs)?/|scipy_openblas")


def loaded_blas(maps: str) -> tuple[str, str] | None:
    """Which BLAS a process has mapped beside its NumPy, and from which file.

    Args:
        maps: text of /proc/self/maps.

    Returns:
        Name and file name; None where there is none (MKL is part of torch on x86-64) or more than one kind.
    """
    found: dict[str, str] = {}
    for path in sorted(set(re.findall(r" (/.*)$", maps, re.MULTILINE))):
        if not _NOT_TORCHS.search(path):
            name = Path(path).name
            found.update({blas: name for blas, pattern in _BLAS_FILES.items() if re.match(pattern, name)})
    return next(iter(found.items())) if len(found) == 1 else None


def git_commit(root: Path = PROJECT_ROOT) -> str | None:
    """Commit of the project, with a trailing '+' where files have changed since.

    Returns:
        None outside a git checkout, also where the project was unpacked within a checkout of something else.
    """
    git = ("git", "-C", str(root), "-c", "safe.directory=*")  # also a checkout of another user's
    if not _output_of(*git, "ls-files", "--", "."):
        return None
    commit = _output_of(*git, "rev-parse", "HEAD").strip()
    return commit + ("+" if _output_of(*git, "status", "--porcelain", "--", ".").strip() else "") if commit else None


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def collect_environment(num_threads: int = 0) -> Environment:
    """Describe this machine. Torch is asked only where it is loaded already.

    Args:
        num_threads: that the work may use; 0 = all cores.
    """
    emulated = is_emulated()
    torch = sys.modules.get("torch")
    build = torch.__config__.show() if torch else ""
    # What is loaded says more than what torch was built for: an interposed library would go unnoticed otherwise.
    blas = loaded_blas(text_of("/proc/self/maps")) if torch else None
    onednn = re.search(r"(?:MKL-DNN|oneDNN) v([\d.]+)", build)
    kept, others = tuning()
    return Environment(
        machine_id=machine_id(),
        cpu_model=_cpu_model(),
        architecture=platform.machine(),
        emulated=emulated,
        isa_flags=list(isa_flags()),
        num_cores=num_cores(),
        num_threads=num_threads or num_cores(),
        memory_bytes=memory_bytes(),
        kernel=platform.release(),
        blas=blas[0] if blas else _blas(build),
        blas_library=blas[1] if blas else None,
        onednn=onednn[1] if onednn else None,
        acl=bool(torch.backends.mkldnn.is_acl_available()) if torch else None,
        cpu_capability=torch.backends.cpu.get_cpu_capability() if torch else None,
        versions=_versions(),
        git_commit=git_commit(),
        load_average=os.getloadavg()[0],
        variables={**kept, **others},
    )
