"""What the machine can do at most: matrix multiplications by precision, and copying memory.

Measured in a process of its own, with the number of threads that everything else gets. The best call over several
libraries and sizes counts: a peak that is too low flatters every layer that is held against it. A peak found here is
still only the best that a kernel reached, not what the data sheet says.

`python -m lib.bench.peaks THREADS SIZES` prints one JSON line for every measurement, so that a library that takes the
process down, or hangs, takes only itself along.
"""

from __future__ import annotations

import contextlib
import json
import math
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import torch

from lib.bench.client import worker_command, worker_environ
from lib.files import write_atomic
from lib.granted import memory_bytes
from lib.machine import flags_for, has_any, machine_id, patient
from lib.progress import Progress, silent
from lib.records.schema import Peak, Peaks

LIMIT_S = 60.0  # of the process, import of the libraries included
BUDGET_S = 12.0  # of measuring; on a quiet machine a third of it is enough
SLICE_S = 0.03  # of one library with one size
LEAST_CALLS = 3  # on a busy machine one call in a slice is soon one that had to wait
PAUSE_S = 0.01  # threads of the library before spin for some milliseconds
LONGEST_CALL_S = 0.25  # a library that needs longer (reference kernels do) is not the one that sets the peak
NUM_REPEATS = 3  # of the best of each precision, spread over time, against what else was running
# rows, inner, columns; the first is small and finds out who is slow, two are those of convolutions as matrix products
SIZES = ((256, 256, 256), (512, 512, 512), (16384, 576, 64), (8192, 1152, 128), (1024, 1024, 1024))
NUM_QUICK_SIZES = 2
LEAST_COPY_BYTES = 128 * 2**20

Size = tuple[int, int, int]
Call = Callable[[], object]


def peaks_of_run(
    run_dir: Path | None, num_threads: int, progress: Progress = silent, *, quick: bool = False
) -> Peaks | None:
    """The peaks of this machine, from an earlier job of the same run or measured now and kept for later ones.

    Args:
        run_dir: None: they are measured and kept nowhere.
        quick: see `measure_peaks`.

    Returns:
        None where they could not be measured.
    """
    progress("the machine's peaks")
    if run_dir is None:
        return measure_peaks(num_threads, quick=quick)
    path = run_dir / "peaks" / f"{machine_id()}.{num_threads}{'.quick' * quick}.json"
    if path.exists():
        try:
            return pydantic.TypeAdapter(Peaks).validate_json(path.read_bytes())
        except pydantic.ValidationError:  # cut off or of another version: measured again
            pass
    peaks = measure_peaks(num_threads, quick=quick)
    if peaks is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(asdict(peaks)) + "\n")
    return peaks


def measure_peaks(num_threads: int, *, quick: bool = False) -> Peaks | None:
    """The best that several libraries reach on this machine with so many threads.

    Args:
        quick: with small matrices alone, which may miss the peak: for what means nothing anyway.

    Returns:
        None where not even copying could be measured. A precision that failed everywhere is left out.
    """
    num_sizes = NUM_QUICK_SIZES if quick else len(SIZES)
    command = worker_command("lib.bench.peaks", str(num_threads), str(num_sizes))
    return peaks_of(output_of(command, worker_environ(num_threads), patient(LIMIT_S)))


def output_of(command: list[str], environ: dict[str, str], limit_s: float) -> str:
    """What a process printed, up to its end, its death or the time limit."""
    try:
        ended = subprocess.run(command, env=environ, capture_output=True, timeout=limit_s, check=False)
        return ended.stdout.decode(errors="replace")
    except subprocess.TimeoutExpired as error:
        return (error.stdout or b"").decode(errors="replace")


def peaks_of(output: str) -> Peaks | None:
    """The best of the printed measurements; lines that libraries printed, or that were cut off, are passed over."""
    best: dict[str, Peak] = {}  # by precision, and "copy"
    for line in output.splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            found = json.loads(line)
            peak = Peak(float(found["per_s"]), str(found["how"]))
            best[found["what"]] = max(best.get(found["what"], peak), peak, key=lambda each: each.per_s)
    copy = best.pop("copy", None)
    return Peaks(best, copy) if copy else None


def best_call(call: Call, slice_s: float) -> float:
    """Seconds of the quickest call within a slice of time. The first is a warm-up, unless it takes very long."""
    begun = time.perf_counter()
    call()
    if (first := time.perf_counter() - begun) > LONGEST_CALL_S:
        return first
    seconds: list[float] = []
    begun = time.perf_counter()
    while len(seconds) < LEAST_CALLS or time.perf_counter() - begun < slice_s:
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


@cache
def operands(size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Random fp32 matrices in -1..1: zeros would be quicker on some CPUs, and denormals slower."""
    rows, inner, columns = size
    generator = np.random.default_rng(0)
    shapes = ((rows, inner), (inner, columns))
    left, right = (generator.random(shape, dtype=np.float32) * 2 - 1 for shape in shapes)
    return left, right


# Each takes a size and gives the call to be timed; all that can be done once is done before.


def _numpy(size: Size) -> Call:
    left, right = operands(size)
    out = np.empty((size[0], size[2]), np.float32)
    return partial(np.matmul, left, right, out=out)


def torch_pair(size: Size, precision: str) -> tuple[Any, Any]:
    left, right = (torch.from_numpy(matrix) for matrix in operands(size))
    if precision == "int8":
        return (left * 127).to(torch.int8), (right * 127).to(torch.int8)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[precision]
    return left.to(dtype), right.to(dtype)


def _torch_mm(size: Size, precision: str) -> Call:
    return partial(torch._int_mm if precision == "int8" else torch.mm, *torch_pair(size, precision))


def torch_blas(size: Size) -> Call:
    left, right = torch_pair(size, "fp32")

    def call() -> Any:
        torch.backends.mkldnn.enabled = False  # type: ignore[assignment]  # `flags` resets precisions and warns
        try:
            return torch.mm(left, right)
        finally:
            torch.backends.mkldnn.enabled = True  # type: ignore[assignment]

    return call


def _onednn_linear(size: Size, precision: str) -> Call:
    left, right = torch_pair(size, precision)
    packed = torch.ops.mkldnn._reorder_linear_weight(right.t().contiguous(), size[0])
    return partial(torch.ops.mkldnn._linear_pointwise, left, packed, None, "none", [], "")


def onednn_int8(size: Size) -> Call:
    """Products with 8-bit results, as between two quantized layers. Inputs are unsigned on x86-64, whose instructions
    want that, and signed on Arm; oneDNN has only slow reference code for the other sign."""
    left, right = torch_pair(size, "int8")
    if platform.machine() == "x86_64":
        left = (left.to(torch.int16) + 128).to(torch.uint8)
    packed = torch.ops.onednn.qlinear_prepack(right.t().contiguous(), list(left.shape))
    scales, zeros = torch.full((size[2],), 0.01), torch.zeros(size[2], dtype=torch.int64)
    return partial(torch.ops.onednn.qlinear_pointwise,
                   left, 0.01, 0, packed, scales, zeros, None, 1.0, 0, left.dtype, "none", [], "")  # fmt: skip


def _onnxruntime_int8(size: Size, num_threads: int) -> Call:
    import onnx
    import onnxruntime  # type: ignore[import-untyped, unused-ignore]
    from onnx import TensorProto, helper, numpy_helper

    left, right = (np.asarray(matrix) for matrix in torch_pair(size, "int8"))
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["left", "right"], ["out"])],
        "matmul",
        [helper.make_tensor_value_info("left", TensorProto.UINT8, left.shape)],
        [helper.make_tensor_value_info("out", TensorProto.INT32, [size[0], size[2]])],
        [numpy_helper.from_array(right, "right")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return partial(session.run, None, {"left": (left.astype(np.int16) + 128).astype(np.uint8)})


@dataclass(frozen=True)
class Library:
    """Somebody's matrix multiplication in one precision."""

    precision: str
    title: str
    make: Callable[[Size], Call]


def libraries(num_threads: int) -> list[Library]:
    """All that may be tried on this CPU, those that are least likely to break first."""
    found = [
        Library("fp32", "torch.mm", partial(_torch_mm, precision="fp32")),
        Library("fp32", "torch.mm without oneDNN", torch_blas),
        Library("fp32", "oneDNN linear with packed weights", partial(_onednn_linear, precision="fp32")),
        Library("fp32", "NumPy", _numpy),
    ]
    for precision in ("bf16", "f16"):
        if has_any(flags_for(precision)):
            found += [
                Library(precision, "torch.mm", partial(_torch_mm, precision=precision)),
                Library(precision, "oneDNN linear with packed weights", partial(_onednn_linear, precision=precision)),
            ]
    return [
        *found,
        Library("int8", "torch._int_mm", partial(_torch_mm, precision="int8")),
        Library("int8", "oneDNN linear with packed weights", onednn_int8),
        Library("int8", "ONNX Runtime MatMulInteger", partial(_onnxruntime_int8, num_threads=num_threads)),
    ]


def largest_cache_bytes() -> int:
    """Size of the last-level cache as the kernel reports it, 0 if it does not. Other tenants may share it."""
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    sizes = [0]
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            text = file.read_text(encoding="utf-8").strip()
            sizes.append(int(text[:-1]) * units[text[-1]])
    return max(sizes)


def copy_bytes() -> int:
    """Size of the source: with the target, at least twice the last-level cache, and little of the memory."""
    return min(max(LEAST_COPY_BYTES, largest_cache_bytes()), (memory_bytes() or 2**33) // 16)


Tell = Callable[[str, float, str], None]  # what, per second, how


def _measure_copy(num_threads: int, tell: Tell) -> None:
    """Bytes read and bytes written. What the CPU reads besides, to own the lines it writes, is not counted."""
    size = copy_bytes()
    source, target = torch.ones(size, dtype=torch.uint8), torch.ones(size, dtype=torch.uint8)
    parts = list(zip(*(np.array_split(tensor.numpy(), num_threads) for tensor in (target, source)), strict=True))
    cache_mb = largest_cache_bytes() / 2**20
    how = f"{size / 2**20:.0f} MiB" + (f", last-level cache {cache_mb:.0f} MiB" if cache_mb else "")
    with ThreadPoolExecutor(num_threads) as pool:
        for title, call in (
            ("torch copy_", partial(target.copy_, source)),
            ("memcpy in threads", lambda: list(pool.map(lambda part: np.copyto(*part), parts))),
        ):
            time.sleep(PAUSE_S)
            tell("copy", 2 * size / best_call(call, 0.25), f"{title}, {how}")


def measure_matmul(found: list[Library], sizes: Sequence[Size], tell: Tell) -> None:
    """Every library with every size, then the best of each precision again and again."""
    begun, winners = time.perf_counter(), dict[str, tuple[float, Library, Size]]()

    def probe(library: Library, size: Size) -> float:
        if time.perf_counter() - begun > BUDGET_S:
            raise TimeoutError
        call = library.make(size)
        time.sleep(PAUSE_S)
        seconds = best_call(call, SLICE_S)
        per_s = 2 * math.prod(size) / seconds
        tell(library.precision, per_s, f"{library.title}, {' x '.join(map(str, size))}")
        if library.precision not in winners or per_s > winners[library.precision][0]:
            winners[library.precision] = per_s, library, size
        return seconds

    for library in found:
        with contextlib.suppress(Exception):  # a library that cannot do this is left out
            for size in sizes:
                if probe(library, size) > LONGEST_CALL_S:
                    break
    for _ in range(NUM_REPEATS):
        for _, library, size in list(winners.values()):
            with contextlib.suppress(Exception):
                probe(library, size)


def main(num_threads: int, num_sizes: int) -> None:
    """Measure, and print as it goes."""
    torch.set_num_threads(num_threads)

    def tell(what: str, per_s: float, how: str) -> None:
        print("\n" + json.dumps({"what": what, "per_s": per_s, "how": how}), flush=True)

    _measure_copy(num_threads, tell)
    measure_matmul(libraries(num_threads), SIZES[:num_sizes], tell)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
