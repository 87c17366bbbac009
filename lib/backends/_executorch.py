"""What the ExecuTorch backends share: export, lowering to XNNPACK, running, and reading the runtime's own profile.

XNNPACK reports every operator that it runs to ExecuTorch's event tracer, by name, layout, type and micro-kernel family
(`Convolution (NHWC, QC8) IGEMM`), with a time of its own.

LiteRT is the other runtime with XNNPACK. Its converter (litert-torch 0.10) asks for packages that do not install beside
those of this project, and ExecuTorch exports from the same torch that trains, so it is ExecuTorch here.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lib.backends._aligned import Leaf, Step, align, read_leaves, write_leaves
from lib.backends.interface import Backend, Kernels, LayerTimes, Shape, by_group

if TYPE_CHECKING:
    import torch
    from torch import nn

MAX_BATCH = 512  # the program is exported for 1 to this many images; it runs more in pieces
_PROGRAM, _LEAVES, _INSTRUCTIONS = "model.pte", "layers.json", "instructions.json"
_CONVOLUTION = "XNNPACK Convolution"

# First words of XNNPACK's operators -> modules that they may be. Transpose, Convert, Copy and what is not here belong
# to no layer: NCHW from and to NHWC, quantizing the input, and functions that are not modules.
_KINDS = {
    "Convolution": ("Conv2d",),
    "Deconvolution": ("ConvTranspose2d",),
    "Fully Connected": ("Linear",),
    "Add": ("Add",),
    "Clamp": ("ReLU", "ReLU6", "Hardtanh"),
    "HardSwish": ("Hardswish",),
    "Sigmoid": ("Sigmoid",),
    "Max Pooling": ("MaxPool2d",),
    "Average Pooling": ("AvgPool2d", "AdaptiveAvgPool2d"),
    "Global Average Pooling": ("AdaptiveAvgPool2d",),
    "Mean": ("AdaptiveAvgPool2d",),
    "Static Reshape": ("Flatten",),
    "aten::view_copy": ("Flatten",),
}

_Pass = list[tuple[str, float]]  # operator and seconds, in order


class ExecuTorchXnnpack(Backend):
    """One program for every batch size: on this network it is as fast as a program per size, and loads once."""

    packages = ("executorch", "torchao", "flatbuffers")
    extra = "executorch"

    _folder: Path
    _module: Any
    _profiled: Any = None

    def exported(self, model: nn.Module, calibration: np.ndarray, image_size: int) -> torch.export.ExportedProgram:
        """The network as a graph, for batches of 1 to MAX_BATCH."""
        return export(model, image_size)

    def partitioners(self) -> list[Any]:
        """Who picks the nodes of the graph that XNNPACK computes."""
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

        return [XnnpackPartitioner()]

    def prepare(self, checkpoint: Path, calibration: np.ndarray, folder: Path) -> None:
        from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower
        from executorch.exir.passes import MemoryPlanningPass

        from lib.model import load_checkpoint

        loaded = load_checkpoint(checkpoint)
        image_size = loaded.preprocessing.image_size
        write_leaves(folder / _LEAVES, loaded.model, image_size)
        graph = self.exported(loaded.model, calibration, image_size)
        edge = to_edge_transform_and_lower(graph, partitioner=self.partitioners())
        _restore_bounds(edge.exported_program())
        # without room for the input in its own memory the program reads images where they are, and copies none
        planning = MemoryPlanningPass(alloc_graph_input=False)
        program = edge.to_executorch(ExecutorchBackendConfig(memory_planning_pass=planning))
        (folder / _PROGRAM).write_bytes(program.buffer)
        instructions = _instructions(program.executorch_program)
        (folder / _INSTRUCTIONS).write_text(json.dumps(instructions), encoding="utf-8")

    def import_runtime(self) -> None:
        _runtime()

    def load(self, checkpoint: Path, folder: Path, num_threads: int) -> None:
        runtime = _runtime()
        # One pool for the process. Its threads sleep on a futex soon after a call: over 200 ms after one they take
        # no measurable time. ExecuTorch has no switch for it.
        runtime._unsafe_reset_threadpool(num_threads)
        self._folder = folder
        self._module = runtime._load_for_executorch(str(folder / _PROGRAM))

    def compile(self, shape: Shape) -> None:
        # XNNPACK plans its memory on the first call with another shape than before
        self.predict(np.zeros(shape, np.float32))

    def predict(self, images: np.ndarray) -> np.ndarray:
        return _run(self._module, images)

    def layer_times(self, images: np.ndarray, num_passes: int) -> LayerTimes:
        """XNNPACK's own time per operator. What is left of the whole call belongs to no layer."""
        if len(images) > MAX_BATCH:
            return {}  # runs in pieces, and the profile holds one of them
        passes = self._profile(images, num_passes)
        return by_group([list(zip(self._groups(each), (took for _, took in each), strict=True)) for each in passes])

    def trace(self, images: np.ndarray) -> Kernels:
        """By layer, the operators of XNNPACK and of ExecuTorch itself in the order in which they ran."""
        operators = self._profile(images[:MAX_BATCH], 1)[0]
        kernels: Kernels = {}
        for group, (name, _) in zip(self._groups(operators), operators, strict=True):
            if name:
                kernels.setdefault(group, []).append(name)
        return kernels

    def broken_promise(self, kernels: Kernels) -> str:
        wrong = not_in_xnnpack(kernels)
        if wrong:
            return f"not computed by XNNPACK: {', '.join(wrong)}"
        return "" if convolutions(kernels) else "no convolution ran in XNNPACK"

    def doubts(self, kernels: Kernels) -> str:
        native = {name for names in kernels.values() for name in names if name.startswith("ExecuTorch ")}
        native = {
            name for name in native if not re.search(r"aten::(view_copy|sym_size)|executorch_prim|dim_order", name)
        }
        return f"left to ExecuTorch's own kernels: {', '.join(sorted(native))}" if native else ""

    def _groups(self, operators: _Pass) -> list[str]:
        leaves: list[Leaf] = read_leaves(self._folder / _LEAVES)
        return align([Step(_kinds(name)) for name, _ in operators], leaves)

    def _profile(self, images: np.ndarray, num_passes: int) -> list[_Pass]:
        runtime = _runtime()
        if self._profiled is None:
            self._profiled = runtime._load_for_executorch(str(self._folder / _PROGRAM), enable_etdump=True)
        for _ in range(num_passes + 1):  # one to warm up
            _run(self._profiled, images)
        with tempfile.TemporaryDirectory() as folder:
            dump = Path(folder) / "profile.etdp"
            self._profiled.write_etdump_result_to_file(str(dump))
            runs = _read_profile(dump)[-num_passes:]
        instructions: list[str] = json.loads((self._folder / _INSTRUCTIONS).read_bytes())
        return [_operators(run, instructions) for run in runs]


def export(model: nn.Module, image_size: int) -> torch.export.ExportedProgram:
    """Export with the number of images left open."""
    import torch

    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    return torch.export.export(model, (torch.zeros(2, 3, image_size, image_size),), dynamic_shapes=({0: batch},))


def convolutions(kernels: Kernels) -> list[str]:
    """What XNNPACK said of every convolution that it ran."""
    return [name for names in kernels.values() for name in names if name.startswith(_CONVOLUTION)]


def not_in_xnnpack(kernels: Kernels) -> list[str]:
    """Convolutions and matrix products that ExecuTorch's own, slow, kernels computed."""
    own = re.compile(r"ExecuTorch aten::(convolution|addmm|mm|bmm|linear)")
    return sorted({name for names in kernels.values() for name in names if own.match(name)})


def _runtime() -> Any:
    """The bindings themselves. The public `executorch.runtime` imports the exporter on its way to them, which takes
    several times as long as torch; a program that only runs does without. They need torch for its tensors."""
    import torch  # noqa: F401  # before the bindings, which link to its libraries
    from executorch.extension.pybindings import _C

    return _C


def _run(module: Any, images: np.ndarray) -> np.ndarray:
    import torch

    pieces = [images[start : start + MAX_BATCH] for start in range(0, len(images), MAX_BATCH)]
    logits: list[np.ndarray] = [module.forward([torch.from_numpy(piece)])[0].numpy() for piece in pieces]
    return logits[0] if len(logits) == 1 else np.concatenate(logits)


def _restore_bounds(program: torch.export.ExportedProgram) -> None:
    """Write the bounds of the batch size back where memory planning looks for them.

    Lowering retraces the graph, which leaves the input with an upper bound of 15 images in torch 2.14 while the
    program still states the right one: larger batches would be refused at run time.
    """
    import torch

    for node in program.graph.nodes:
        value = node.meta.get("val")
        sizes = value.shape if isinstance(value, torch.Tensor) else ()
        for size in sizes:
            if isinstance(size, torch.SymInt):
                size.node.shape_env.var_to_range.update(program.range_constraints)


def _instructions(program: Any) -> list[str]:
    """What the program calls, in order: the name of a delegate or of an operator."""
    plan = program.execution_plan[0]
    names = []
    for instruction in plan.chains[0].instructions:
        call = instruction.instr_args
        if hasattr(call, "delegate_index"):
            names.append(plan.delegates[call.delegate_index].id)
        elif hasattr(call, "op_index"):
            names.append(plan.operators[call.op_index].name)
        else:
            names.append(type(call).__name__)
    return names


def _kinds(name: str) -> tuple[str, ...]:
    operator = name.removeprefix("XNNPACK ").removeprefix("ExecuTorch ").split(" (")[0]
    return _KINDS.get(operator, ())


def _read_profile(dump: Path) -> list[list[dict[str, Any]]]:
    """The events of every forward pass, oldest first.

    By the flatbuffer compiler and schema that ExecuTorch brings along: its Inspector needs pandas and half a minute.
    """
    from importlib.util import find_spec

    spec = find_spec("executorch")
    assert spec is not None and spec.submodule_search_locations is not None
    package = Path(next(iter(spec.submodule_search_locations)))
    schema = package / "devtools" / "etdump" / "etdump_schema_flatcc.fbs"
    options = ["--json", "--strict-json", "--defaults-json", "--size-prefixed"]
    command = [str(package / "data" / "bin" / "flatc"), *options, "-o", str(dump.parent), str(schema), "--", str(dump)]
    subprocess.run(command, check=True, capture_output=True)
    runs = json.loads(dump.with_suffix(".json").read_bytes())["run_data"]
    return [
        [event["profile_event"] for event in run["events"] if "profile_event" in event]
        for run in runs
        if run["name"] == "Execute"
    ]


def _operators(events: list[dict[str, Any]], instructions: list[str]) -> _Pass:
    """Events of one pass -> operators with seconds. A nameless one holds what the others leave of the whole call."""
    operators: _Pass = []
    whole = 0.0
    for event in events:
        seconds = (event["end_time"] - event["start_time"]) * 1e-9
        operator = event.get("delegate_debug_id_str")
        if operator is not None:
            operators.append((f"XNNPACK {re.sub(r' #[0-9]+$', '', operator)}", seconds))
        elif event.get("name") == "OPERATOR_CALL":
            operators.append((f"ExecuTorch {instructions[event['instruction_id']].split('.')[0]}", seconds))
        elif event.get("name") == "Method::execute":
            whole = seconds
    return [*operators, ("", whole - sum(seconds for _, seconds in operators))]
