"""What the OpenVINO backends share: export to its own format, one static graph per shape of batches, its own counters.

How the runtime is set, and why:

- One stream whose threads share each layer (the runtime's LATENCY mode), for batches of one and for large ones alike.
  A batch of 256 cut into pieces of 8 to 128 for streams of one thread each (its THROUGHPUT mode) took the same
  processor time within 5 to 10 %, fp32 and int8, and gives no time of a layer.
- Threads are not pinned to cores: two processes whose pinned threads meet on a core wait for each other.
- Idle threads need no switch: TBB's workers sleep soon after the last task.
"""

from __future__ import annotations

import json
import re
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lib.backends._folding import fold_batch_norms
from lib.backends.interface import RUNTIME, Backend, Kernels, LayerTimes, Shape

if TYPE_CHECKING:
    import openvino

# The plugin keeps whole microseconds averaged over all passes of a compiled model, so the time of the n-th pass is
# known to n microseconds only: a model is compiled anew after a few passes.
_WARM_UP_PASSES = 2
_PASSES_PER_MODEL = 6
_MOVES = ("Reshape", "Reorder", "Transpose", "Convert")  # of a layer with another step this one is the lesser
_NO_STEP = ("Input", "Output", "Const")  # nodes of an execution graph that hold data and run nothing


class OpenVino(Backend):
    """The CPU plugin of OpenVINO on a graph with static shapes."""

    packages: ClassVar[tuple[str, ...]] = ("openvino",)
    hint = (
        "f32"  # INFERENCE_PRECISION_HINT: what is not quantized computes in this; alone, some CPUs take a shorter one
    )
    kernel_types: tuple[str, ...] = ("f32",)  # how the plugin names what convolutions must compute in

    model: openvino.Model
    layers: list[str]  # leaf layers of the network in the order of a forward pass

    def __init__(self) -> None:
        self.num_threads = 0
        self.requests: dict[tuple[int, ...], openvino.InferRequest] = {}

    def prepare(self, checkpoint: Path, calibration: np.ndarray, folder: Path) -> None:
        import torch

        from lib.model import leaf_layers, load_checkpoint

        _without_telemetry()
        import openvino

        loaded = load_checkpoint(checkpoint)
        image_shape = (3, loaded.preprocessing.image_size, loaded.preprocessing.image_size)
        layers = list(dict.fromkeys(layer.name for layer in leaf_layers(loaded.model, image_shape)))
        fold_batch_norms(loaded.model)  # the exporter does it too, but gives the result a name without the layer's
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch deprecates tracing, by which OpenVINO keeps the names of modules
            exported = openvino.convert_model(
                loaded.model, input=[(-1, *image_shape)], example_input=torch.zeros(2, *image_shape)
            )
        exported = self.lower(exported, calibration)
        openvino.save_model(exported, folder / "model.xml", compress_to_fp16=False)
        (folder / "layers.json").write_text(json.dumps(layers), encoding="utf-8")

    def lower(self, exported: openvino.Model, calibration: np.ndarray) -> openvino.Model:
        """Change the exported graph before it is saved."""
        return exported

    def import_runtime(self) -> None:
        _without_telemetry()
        import openvino  # noqa: F401

    def load(self, checkpoint: Path, folder: Path, num_threads: int) -> None:
        import openvino

        self.num_threads = num_threads
        self.model = openvino.Core().read_model(folder / "model.xml")
        self.layers = json.loads((folder / "layers.json").read_bytes())
        self.requests = {}

    def compile(self, shape: Shape) -> None:
        self.requests[tuple(shape)] = self._compiled(shape).create_infer_request()

    def predict(self, images: np.ndarray) -> np.ndarray:
        import openvino

        request = self.requests[images.shape]
        # the runtime reads the array itself; of one that is not writeable it only takes a copy
        request.set_input_tensor(openvino.Tensor(images, shared_memory=images.flags.writeable))
        request.infer(share_outputs=True)
        logits: np.ndarray = request.get_output_tensor().data.copy()  # the next call writes to the same place
        return logits

    def layer_times(self, images: np.ndarray, num_passes: int) -> LayerTimes:
        """The plugin's own counters of each step of its graph, in a second model so that they slow no other call."""
        import openvino

        passes: list[dict[str, float]] = []
        while len(passes) < num_passes:
            compiled = self._compiled(images.shape, counters=True)
            groups = self._groups(compiled)
            request = compiled.create_infer_request()
            request.set_input_tensor(openvino.Tensor(images, shared_memory=images.flags.writeable))
            before: dict[str, float] = {}
            for number in range(1, min(_PASSES_PER_MODEL, num_passes - len(passes)) + _WARM_UP_PASSES + 1):
                request.infer(share_outputs=True)
                totals = dict.fromkeys(groups.values(), 0.0)
                for step in request.get_profiling_info():
                    if step.node_name in groups:
                        totals[groups[step.node_name]] += number * step.real_time.total_seconds()
                if number > _WARM_UP_PASSES:
                    passes.append({group: max(0.0, total - before[group]) for group, total in totals.items()})
                before = totals
        return {group: [times[group] for times in passes] for group in passes[0]}

    def trace(self, images: np.ndarray) -> Kernels:
        """The steps of the execution graph behind `predict`: implementation, type it computes in, kind of operation."""
        self.predict(images)  # implementations may be chosen when the graph runs first
        compiled = self.requests[images.shape].get_compiled_model()
        groups, kernels = self._groups(compiled), Kernels()
        for node, facts in _steps(compiled):
            implementation, _, precision = facts["primitiveType"].rpartition("_")
            kernel = f"{implementation} {precision.upper()} {facts['layerType']}"
            names = kernels.setdefault(groups[node], [])
            if kernel not in names:
                names.append(kernel)
        for names in kernels.values():  # the computing step is what the reader looks for
            names.sort(key=lambda kernel: kernel.rsplit(" ", 1)[1] not in ("Convolution", "FullyConnected"))
        return kernels

    def broken_promise(self, kernels: Kernels) -> str:
        found = convolutions(kernels)
        if not found:
            return "no convolution ran"
        others = [kernel for kernel in found if kernel not in self.promised(found)]
        if len(others) > len(found) / 2:
            return (
                f"{len(others)} of {len(found)} convolutions did not run in {self.precision}, but in {_types(others)}"
            )
        return ""

    def doubts(self, kernels: Kernels) -> str:
        found = convolutions(kernels)
        kept = self.promised(found)
        remarks = []
        if len(kept) < len(found):
            remarks.append(
                f"{len(found) - len(kept)} of {len(found)} convolutions ran in {_types(set(found) - set(kept))}"
            )
        if slow := [kernel for kernel in found if kernel.startswith("ref")]:
            remarks.append(f"{len(slow)} convolutions ran on the reference implementation, which is not made for speed")
        if convolutions({RUNTIME: kernels.get(RUNTIME, [])}):
            remarks.append("a convolution has lost the name of its layer")
        return "; ".join(remarks)

    def promised(self, found: list[str]) -> list[str]:
        """Those of these convolutions that ran in the promised type."""
        return [kernel for kernel in found if kernel.split()[1].lower() in self.kernel_types]

    def _compiled(self, shape: tuple[int, ...], counters: bool = False) -> openvino.CompiledModel:
        import openvino

        model = self.model.clone()
        model.reshape(list(shape))
        settings: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": self.num_threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": self.hint,
            "PERF_COUNT": counters,
        }
        return openvino.Core().compile_model(model, "CPU", settings)

    def _groups(self, compiled: openvino.CompiledModel) -> dict[str, str]:
        """Name of a step of the execution graph -> its group of layers."""
        found = sorted(_steps(compiled), key=lambda step: step[1]["layerType"] in _MOVES)
        return group_steps(
            [(node, self._layers_of(facts["originalLayersNames"])) for node, facts in found], self.layers
        )

    def _layers_of(self, original_names: str) -> list[str]:
        """`__module.stem.conv/aten::_convolution/Convolution,__module.stem.relu/...` -> the layers among them."""
        modules = {found.group(1) for found in re.finditer(r"(?:^|,)__module\.([^/,]+)/", original_names)}
        return [layer for layer in self.layers if layer in modules]


def group_steps(steps: list[tuple[str, list[str]]], layers: list[str]) -> dict[str, str]:
    """Give every step of an execution graph to one group, and every layer to one group at most.

    A layer that no step names was folded away and goes with the layer before it, as a batch norm with its convolution.
    A module that is called several times belongs to the step that names it first.

    Args:
        steps: name and layers of each, in the order in which they claim their layers.
        layers: all leaf layers in network order.
    """
    owner: dict[str, str] = {}  # layer -> step that stands for its group
    leader: dict[str, str] = {}  # step -> step that stands for its group; none for what belongs to no layer
    for step, named in steps:
        fresh = [layer for layer in named if layer not in owner]
        if named:
            leader[step] = step if fresh else owner[named[0]]
        owner.update(dict.fromkeys(fresh, step))
    previous = ""
    for layer in layers:
        previous = owner.get(layer, previous)
        if previous:
            owner[layer] = previous
    names = {step: "+".join(layer for layer in layers if owner.get(layer) == step) for step in leader.values()}
    return {step: names[leader[step]] if step in leader else RUNTIME for step, _ in steps}


def _without_telemetry() -> None:
    """Importing openvino reports to Google Analytics unless the user has opted out; without this package it cannot."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # makes its import fail, which is provided for


def _steps(compiled: openvino.CompiledModel) -> list[tuple[str, dict[str, str]]]:
    """Name and facts of what the execution graph runs, in its order. A step without an implementation, such as the
    reshape of a bias, runs nothing."""
    nodes = [
        (node.get_friendly_name(), {key: value.astype(str) for key, value in node.get_rt_info().items()})
        for node in compiled.get_runtime_model().get_ordered_ops()
    ]
    steps = [
        (name, facts)
        for name, facts in nodes
        if facts["layerType"] not in _NO_STEP and not facts["primitiveType"].startswith("unknown")
    ]
    return sorted(steps, key=lambda step: int(step[1]["execOrder"]))


def convolutions(kernels: Kernels) -> list[str]:
    return [kernel for names in kernels.values() for kernel in names if kernel.endswith("Convolution")]


def _types(kernels: list[str] | set[str]) -> str:
    return ", ".join(sorted({kernel.split()[1] for kernel in kernels}))
