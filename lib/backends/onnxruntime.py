"""ONNX Runtime on its CPU provider, fp32: kernels of MLAS.

On x86-64 convolutions run in a blocked layout (`nchwc.Conv`). MLAS has none for Arm: there they run in the network's
own layout, with the activation and the sum of a residual block fused in (`microsoft.FusedConv`).
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lib.backends._onnx import BATCH, INPUT, OUTPUT, export_onnx, node_groups
from lib.backends.interface import Backend, Kernels, LayerTimes, Shape, by_group, register

EXPORTED = "exported.onnx"
PROVIDER = "CPUExecutionProvider"
CONVOLUTIONS = ("Conv", "FusedConv", "NhwcFusedConv")
PRODUCTS = ("Gemm", "FusedGemm", "MatMul", "FusedMatMul")
_NUM_WARMUP = 2  # passes of a profiled session that are not counted: they allocate
_KERNEL = "_kernel_time"  # ends the name of a node's event in a profile


@dataclass
class Step:
    """One node of the optimized graph in one pass."""

    group: str
    kernel: str  # operator, type of its first input, provider: as the profile reports them
    seconds: float
    node: Any  # NodeProto
    output_shapes: list[list[int]]


@register
class OnnxRuntime(Backend):
    """One session per shape of batches, of a file with a free batch size.

    A session that keeps the batch size free is as fast for a plain CNN: `signnet_small` on one thread took 0.99 to 1.00
    times as long at batches of 1, 8 and 256, within the noise, in fp32 and in int8. But networks that compute with
    shapes keep all these steps: 954 nodes instead of 428 in `vit_b_16`.
    """

    name = "onnxruntime"
    title = "ONNX Runtime, fp32"
    promise = "layers run in fp32 on ONNX Runtime's CPU provider"
    order = 100
    default = True
    packages = ("onnxruntime", "onnx")
    model_file: ClassVar[str] = EXPORTED
    session_entries: ClassVar[dict[str, str]] = {}  # beyond those that all sessions get

    def prepare(self, checkpoint: Path, calibration: np.ndarray, folder: Path) -> None:
        export_onnx(checkpoint, folder / EXPORTED)

    def import_runtime(self) -> None:
        import onnxruntime  # noqa: F401

    def load(self, checkpoint: Path, folder: Path, num_threads: int) -> None:
        self.folder = folder
        self.num_threads = num_threads
        self._sessions: dict[tuple[int, ...], Any] = {}

    def compile(self, shape: Shape) -> None:
        self._sessions[shape] = self._session(self._options(shape[0]))

    def predict(self, images: np.ndarray) -> np.ndarray:
        logits: np.ndarray = self._sessions[images.shape].run([OUTPUT], {INPUT: images})[0]
        return logits

    def layer_times(self, images: np.ndarray, num_passes: int) -> LayerTimes:
        """From the runtime's own profile, which counts in whole microseconds."""
        passes, _ = self.profile(images, num_passes)
        return by_group([[(step.group, step.seconds) for step in steps] for steps in passes])

    def trace(self, images: np.ndarray) -> Kernels:
        """By group the operators that ran, the longest first, as `nchwc.Conv float CPUExecutionProvider`."""
        passes, _ = self.profile(images, 1)
        return kernels_of(passes[0])

    def broken_promise(self, kernels: Kernels) -> str:
        if groups_with(kernels, ("DequantizeLinear",)):
            return "the model is quantized"
        if not groups_with(kernels, CONVOLUTIONS + PRODUCTS, f" float {PROVIDER}"):
            return f"no convolution and no matrix product ran in fp32 on {PROVIDER}"
        return ""

    def profile(self, images: np.ndarray, num_passes: int) -> tuple[list[list[Step]], Any]:
        """Steps of each of some passes after the warm-up, and the optimized graph (a ModelProto) that was run.

        In a session of its own: profiling slows a session down and cannot be switched off again.
        """
        import onnx

        with tempfile.TemporaryDirectory() as scratch:
            options = self._options(len(images))
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(scratch, "profile"))
            options.optimized_model_filepath = str(Path(scratch, "optimized.onnx"))
            session = self._session(options)
            for _ in range(_NUM_WARMUP + num_passes):
                session.run([OUTPUT], {INPUT: images})
            events = json.loads(Path(session.end_profiling()).read_bytes())
            optimized = onnx.load(options.optimized_model_filepath)
        groups = node_groups(onnx.load(self.folder / EXPORTED), optimized)
        passes = _passes(events)[_NUM_WARMUP:]
        return [_steps(events, list(optimized.graph.node), groups) for events in passes], optimized

    def _options(self, batch_size: int) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.num_threads
        options.inter_op_num_threads = 1  # the nodes run one after another
        # Threads may spin between two nodes, and between two images within a quantized convolution: being woken from
        # sleep each time costs as much as they help. They stop when the run ends, so that an idle worker takes nothing
        # from the one that is measured.
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.add_free_dimension_override_by_name(BATCH, batch_size)
        options.log_severity_level = 3  # errors: it warns that an optimized graph fits this machine only, as is meant
        for key, value in self.session_entries.items():
            options.add_session_config_entry(key, value)
        return options

    def _session(self, options: Any) -> Any:
        import onnxruntime

        return onnxruntime.InferenceSession(str(self.folder / self.model_file), options, providers=[PROVIDER])


def _passes(events: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Events of a profile -> for each run of the model its nodes' events in order."""
    runs = [event for event in events if event["name"] == "model_run"]
    nodes = [event for event in events if event["cat"] == "Node" and event["name"].endswith(_KERNEL)]
    return [[node for node in nodes if run["ts"] <= node["ts"] <= run["ts"] + run["dur"]] for run in runs]


def _steps(events: list[dict[str, Any]], nodes: list[Any], groups: list[str]) -> list[Step]:
    """Node events of one pass, each with its node of the optimized graph."""
    positions = {node.name: position for position, node in enumerate(nodes) if node.name}
    unnamed: dict[str, list[int]] = {}
    for position, node in enumerate(nodes):
        if not node.name:  # its event is named `Mul_17`, by a number that the stored graph has not; the order is equal
            unnamed.setdefault(node.op_type, []).append(position)
    steps = []
    for event in events:
        arguments = event["args"]
        name, operator = event["name"].removesuffix(_KERNEL), arguments["op_name"]
        position = positions[name] if name in positions else unnamed[operator].pop(0)
        node = nodes[position]
        domain = node.domain.rpartition(".")[2]  # com.microsoft.nchwc -> nchwc
        inputs, outputs = arguments["input_type_shape"], arguments["output_type_shape"]
        kernel = f"{domain}.{operator}" if domain else operator
        steps.append(
            Step(
                group=groups[position],
                kernel=f"{kernel} {next(iter(inputs[0]), '') if inputs else ''} {arguments['provider']}",
                seconds=event["dur"] / 1e6,
                node=node,
                output_shapes=[next(iter(output.values())) for output in outputs],
            )
        )
    return steps


def kernels_of(steps: list[Step]) -> Kernels:
    """Groups in network order with what ran in them, the longest first."""
    kernels: Kernels = {step.group: [] for step in steps}
    for step in sorted(steps, key=lambda step: -step.seconds):
        if step.kernel not in kernels[step.group]:
            kernels[step.group].append(step.kernel)
    return kernels


def operator_of(kernel: str) -> str:
    """`nchwc.Conv float CPUExecutionProvider` -> `Conv`."""
    return kernel.partition(" ")[0].rpartition(".")[2]


def groups_with(kernels: Kernels, operators: tuple[str, ...], ending: str = "") -> list[str]:
    """Groups in which one of the operators ran, with a description that ends in a certain way."""
    return [
        group
        for group, names in kernels.items()
        if any(operator_of(name) in operators and name.endswith(ending) for name in names)
    ]
