"""Variables of the user's shell: which of them change how libraries compute, and which reach the measured processes.

`OMP_PROC_BIND` or `ONEDNN_MAX_CPU_ISA`, set once after a tuning guide, would change the reference and so every speedup.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager

KEEP_VARIABLE = "GTSRB_KEEP"  # in the environment: names of more variables for the measured processes, comma-separated

# Without the first, some machines lack a library that they need. The others say which CPU a BLAS shall take this one
# for: they are set where it is mistaken, and computes wrong results or dies.
KEPT = ("LD_PRELOAD", "OPENBLAS_CORETYPE", *(["NVPL_BLAS_DEBUG_CPU_TYPE"] if platform.machine() == "aarch64" else []))

_TUNING = re.compile(
    r"(?!(TORCH_HOME|TORCHINDUCTOR_CACHE_DIR)$)"  # folders; torch sets the second itself
    r"(OMP|GOMP|KMP|MKL|BLIS|GOTO|OPENBLAS|ARMPL|DNNL|ONEDNN|ACL|ARM_COMPUTE|ATEN|PYTORCH|TORCH|"
    r"TORCHINDUCTOR|TORCHDYNAMO|MALLOC|TCMALLOC|MIMALLOC)_"
    r"|(LRU_CACHE_CAPACITY|THP_MEM_ALLOC_ENABLE|GLIBC_TUNABLES|LD_AUDIT|LD_PRELOAD)$"
)
_PASSED_ON = {
    "PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TEMP", "TMP", "LD_LIBRARY_PATH",
    "CXX",  # the compiler that Inductor calls
    "PYTHONHOME", "PYTHONNOUSERSITE", "PYTHONUSERBASE",  # the same packages as here
    *(f"{kind}_proxy" for kind in ("http", "https", "ftp", "all", "no")),
    *(f"{kind}_PROXY" for kind in ("HTTP", "HTTPS", "FTP", "ALL", "NO")),
}  # fmt: skip
_PASSED_ON_PREFIXES = (
    "GTSRB_",  # this project's own
    "QEMU_",  # which CPU is emulated
    "COVERAGE_",  # which lines of ours are executed
)


def tuning(environ: Mapping[str, str] = os.environ) -> tuple[dict[str, str], dict[str, str]]:
    """Variables that change how fast or how exactly libraries compute: those that are kept, and the others."""
    kept = _kept(environ)
    others = {name for name in environ if _TUNING.match(name)} - kept
    kept &= environ.keys()
    return {name: environ[name] for name in sorted(kept)}, {name: environ[name] for name in sorted(others)}


def passed_on(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a process that measures, or prepares a model for it, gets of the shell."""
    names = _PASSED_ON | _kept(environ)
    return {name: value for name, value in environ.items() if name in names or name.startswith(_PASSED_ON_PREFIXES)}


def remove_tuning(environ: MutableMapping[str, str] = os.environ) -> dict[str, str]:
    """Remove the variables that are not kept, before torch is loaded: its libraries read them then, and only once.

    Returns:
        What was removed.
    """
    _, others = tuning(environ)
    for name in others:
        del environ[name]
    return others


@contextmanager
def with_variable(name: str, value: str) -> Iterator[None]:
    """Set a variable of this process, and so of those that it starts, for a while."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


def written(variables: Mapping[str, str]) -> str:
    """`OMP_PROC_BIND=close, MKL_CBWR=COMPATIBLE`."""
    return ", ".join(f"{name}={value}" for name, value in variables.items())


def _kept(environ: Mapping[str, str]) -> set[str]:
    more = environ.get(KEEP_VARIABLE, "").split(",")
    return {*KEPT, *(name.strip() for name in more)}
