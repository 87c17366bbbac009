"""What the backends on PyTorch's compiler Inductor share: compiling, timing and tracing.

Inductor turns the whole network into a list of steps: calls into oneDNN with batch norm folded in, and C++ loops that
it wrote itself. Activation and residual sum are post-operations of the calls on x86-64, and loops of their own where
oneDNN uses the Arm Compute Library. The names of these loops and the compiler's own notes on where a step comes from
prove nothing: a loop that only converts the input's memory layout is called `cpp_fused_relu_0`, and the notes of torch
2.14 gave a convolution to a layer of another block. So steps are assigned to layers by what ran: convolutions and
linear layers by oneDNN's own description of the problem, fused layers by its post-operations, and loops by their names
between two such steps.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lib.backends._torch_eager import ran
from lib.backends.interface import RUNTIME, Backend, Kernels, LayerTimes, Shape, by_group
from lib.errors import UserError
from lib.onednn import Primitive, onednn_report
from lib.variables import with_variable

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lib.model import LayerInfo

Network = Callable[["torch.Tensor"], "torch.Tensor"]

# Named ranges of the C++ loops let the profiler see them. They stay in the code whose speed is measured, so that the
# times of layers are of that code; without a profiler a range costs some nanoseconds.
INDUCTOR: dict[str, Any] = {"freezing": True, "cpp.enable_kernel_profile": True}


class TorchCompiled(Backend):
    """A network compiled by Inductor for each shape of batches, weights frozen into the code."""

    # Not part of a default run: a cold compile takes about half a minute of CPU time for each shape.
    packages: ClassVar[tuple[str, ...]] = ("torch",)

    def __init__(self) -> None:
        self._compiled: dict[tuple[int, ...], Network] = {}
        self._checkpoint = Path()

    def import_runtime(self) -> None:
        import torch  # noqa: F401

    def compile(self, shape: Shape) -> None:
        self._compiled[tuple(shape)] = self._make(shape)

    @abstractmethod
    def _make(self, shape: Shape) -> Network:
        """Compiled code for one shape."""

    def predict(self, images: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            logits: np.ndarray = self._compiled[images.shape](torch.from_numpy(images)).numpy()
        return logits

    def layer_times(self, images: np.ndarray, num_passes: int) -> LayerTimes:
        """Times of the compiled steps from torch's profiler, summed up by the layers that they compute."""
        self.predict(images)
        passes = self._profile(images, num_passes + 1)[1:]  # the profiler starts its own clock in the first one
        names = [name for name, _ in passes[0]]
        groups = assign(names, self._primitives(images), self._layers(images))
        if groups is None or any([name for name, _ in steps] != names for steps in passes):
            return {}
        return by_group([list(zip(groups, (took for _, took in steps), strict=True)) for steps in passes])

    def trace(self, images: np.ndarray) -> Kernels:
        """By layers: the steps of the compiled code, then what oneDNN ran in them."""
        names = [name for name, _ in self._profile(images, 1)[0]]
        primitives = self._primitives(images)
        groups = assign(names, primitives, self._layers(images))
        if groups is None:  # which layer it was is unknown, what ran is not
            return {RUNTIME: list(dict.fromkeys(names + [primitive.text for primitive in primitives]))}
        kernels: Kernels = {group: [] for group in groups}
        for group, name, found in zip(groups, names, shared_out(names, primitives), strict=True):
            kernels[group] += [text for text in (name, *(p.text for p in found)) if text not in kernels[group]]
        return kernels

    def broken_promise(self, kernels: Kernels) -> str:
        if not ran(kernels, "onednn convolution"):
            return "no convolution ran on oneDNN"
        if not ran(kernels, "cpp_fused"):
            return "no step ran in code that Inductor wrote: the network was not compiled"
        return ""

    def doubts(self, kernels: Kernels) -> str:
        layers = [
            layer
            for layer, names in kernels.items()
            if any("onednn convolution" in name for name in names) and any("onednn reorder" in name for name in names)
        ]
        return f"oneDNN reorders memory in every call in {layers[0]}: weights are not prepacked" if layers else ""

    def _layers(self, images: np.ndarray) -> list[LayerInfo]:
        from lib.model import leaf_layers, load_checkpoint

        _, channels, height, width = images.shape
        return leaf_layers(load_checkpoint(self._checkpoint).model, (channels, height, width))

    def _profile(self, images: np.ndarray, num_passes: int) -> list[list[tuple[str, float]]]:
        """Steps of each pass in the order in which they ran: name and seconds."""
        from torch.profiler import ProfilerActivity, profile, record_function

        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            for _ in range(num_passes):
                with record_function(_WHOLE):
                    self.predict(images)
        events = sorted(profiler.events(), key=lambda event: float(event.time_range.start))
        passes: list[list[tuple[str, float]]] = []
        for event in events:
            if event.name == _WHOLE:
                passes.append([])
            elif passes and not _is_frame(event.name) and _only_frames_above(event):
                passes[-1].append((str(event.name), float(event.time_range.elapsed_us()) / 1e6))
        return passes

    def _primitives(self, images: np.ndarray) -> list[Primitive]:
        with onednn_report() as primitives:
            self.predict(images)
        return primitives


class TorchAhead(TorchCompiled):
    """Compiled ahead of time: `prepare` writes a package of machine code and weights for each usual size of batches.

    One package for all sizes would do, but with a dynamic batch Inductor does not prepack weights, and oneDNN reorders
    them in every call; that took half as long again for single images. Other sizes are compiled where they turn up.
    """

    prepared_sizes: tuple[int, ...] = (1, 256)  # batches of the two scenarios

    def prepare(self, checkpoint: Path, calibration: np.ndarray, folder: Path) -> None:
        import torch

        from lib.model import load_checkpoint

        require_compiler()
        stored = load_checkpoint(checkpoint)
        size = stored.preprocessing.image_size
        program = self._program(stored.model, calibration, (2, 3, size, size))
        torch.export.save(program, folder / _PROGRAM)
        for batch_size in self.prepared_sizes:
            self._package(program.module(), (batch_size, 3, size, size), folder)

    def _program(self, model: nn.Module, calibration: np.ndarray, shape: Shape) -> torch.export.ExportedProgram:
        """What is compiled: the network, exported for batches of any size."""
        import torch

        return torch.export.export(model, (torch.zeros(shape),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))

    def load(self, checkpoint: Path, folder: Path, num_threads: int) -> None:
        import torch

        torch.set_num_threads(num_threads)
        self._checkpoint, self._folder = checkpoint, folder
        self._own = tempfile.TemporaryDirectory(prefix="packages-")

    def _make(self, shape: Shape) -> Network:
        import torch

        name = _package_name(shape)
        package = self._folder / name
        if not package.is_file():
            import torch._inductor.decomposition  # knows the operators of a quantized program

            require_compiler()
            package = Path(self._own.name) / name
            self._package(torch.export.load(self._folder / _PROGRAM).module(), shape, package.parent)
        # single-threaded means one call at a time; the threads inside of a call are another matter
        loader = torch._inductor.aoti_load_package(str(package), run_single_threaded=True).loader

        def run(images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = loader.boxed_run([images])[0]
            return logits

        return run

    def _package(self, program: nn.Module, shape: Shape, folder: Path) -> None:
        import torch

        with torch.no_grad(), tempfile.TemporaryDirectory() as cache, own_cache(Path(cache)):
            fixed = torch.export.export(program, (torch.zeros(shape),))
            torch._inductor.aoti_compile_and_package(
                fixed,
                package_path=str(folder / _package_name(shape)),
                # the number of threads is that of the machine that runs it, not of the one that compiles it
                inductor_configs={**INDUCTOR, "cpp.dynamic_threads": True},
            )


class TorchJit(TorchCompiled):
    """Compiled in the process that runs it."""

    def import_runtime(self) -> None:
        import torch._dynamo  # noqa: F401
        import torch._inductor  # noqa: F401

        import lib.model  # noqa: F401  # so that loading is loading alone

    def load(self, checkpoint: Path, folder: Path, num_threads: int) -> None:
        import torch

        from lib.model import load_checkpoint

        require_compiler()
        torch.set_num_threads(num_threads)
        self._checkpoint = checkpoint
        self._cache = tempfile.TemporaryDirectory(prefix="inductor-")
        model = load_checkpoint(checkpoint).model

        def forward(images: torch.Tensor) -> torch.Tensor:
            with self.autocast():
                logits: torch.Tensor = model(images)
            return logits.float()

        # a graph break would leave part of the network to eager mode: full graph or error
        self._network = torch.compile(forward, fullgraph=True, dynamic=False)

    def autocast(self) -> AbstractContextManager[Any]:
        """Around the network; becomes part of the graph."""
        return nullcontext()

    def _make(self, shape: Shape) -> Network:
        import torch
        from torch._inductor.async_compile import shutdown_compile_workers

        # the compiler counts every shape as a recompilation, and gives up at its limit
        limits = torch._dynamo.config.patch(recompile_limit=10_000, accumulated_recompile_limit=10_000)
        # not by `options=`: the front end looks at freezing before they are in force, and nothing is frozen then
        settings = torch._inductor.config.patch(INDUCTOR)
        with own_cache(Path(self._cache.name)), limits, settings, torch.inference_mode():
            self._network(torch.zeros(shape))
        shutdown_compile_workers()
        return self._network


def require_compiler() -> None:
    """Raises:
    UserError: there is no C++ compiler.
    """
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise UserError(
            f"Inductor writes C++ and found no compiler {compiler!r}; install one (Debian, Ubuntu: "
            "`apt-get install g++`) or name it in the variable CXX"
        )


def own_cache(folder: Path) -> AbstractContextManager[None]:
    """Let Inductor keep its files in `folder`.

    By default they are in the machine's temporary folder, where a second run finds those of the first: which of the two
    was measured would be chance. In a folder of its own every compile is cold.
    """
    return with_variable("TORCHINDUCTOR_CACHE_DIR", str(folder))


# --- what ran, and for which layer ---

_PROGRAM = "program.pt2"
_WHOLE = "forward pass"
# ranges that stand around the steps of a pass
_FRAMES = (_WHOLE, "Torch-Compiled Region", "## Call CompiledFxGraph")
_ELTWISE = {"relu6": "clip", "hardtanh": "clip", "silu": "swish", "leakyrelu": "relu"}  # oneDNN's words, if others


def is_convolution(step: str) -> bool:
    """Whether a step of compiled code is a call that computes a convolution."""
    return "cpp_fused" not in step and "conv" in step.lower()


def is_linear(step: str) -> bool:
    """Whether a step of compiled code is a call that computes a linear layer."""
    return "cpp_fused" not in step and bool(re.search(r"linear|addmm|(^|[:_])mm(_|$)|inner_product", step))


def shared_out(steps: list[str], primitives: list[Primitive]) -> list[list[Primitive]]:
    """Which primitives ran in each step, by their order; reorders go with the computation that they precede.

    If the numbers of steps and primitives differ, the match is unknown, and all lists are empty.
    """
    found: list[list[Primitive]] = [[] for _ in steps]
    for wanted, kinds in ((is_convolution, ("convolution",)), (is_linear, ("inner_product", "matmul"))):
        places = [index for index, step in enumerate(steps) if wanted(step)]
        runs: list[list[Primitive]] = []
        waiting: list[Primitive] = []
        for primitive in primitives:
            if primitive.kind == "reorder":
                waiting.append(primitive)
                continue
            if primitive.kind in kinds:
                runs.append([primitive, *waiting])
            waiting = []
        if len(runs) == len(places):
            for place, run in zip(places, runs, strict=True):
                found[place] = run
    return found


def assign(steps: list[str], primitives: list[Primitive], layers: list[LayerInfo]) -> list[str] | None:
    """The group of layers that each step computes, or RUNTIME; None where convolutions and layers do not match."""
    found = shared_out(steps, primitives)
    called_for = _called_for(steps, found, layers)
    if called_for is None:
        return None
    owner = {layer: step for step, layer in called_for.items()}  # which step computes a layer, by its number
    norm_is_a_step = any("batch_norm" in name for name in steps)
    for step, layer in called_for.items():
        owner |= dict.fromkeys(_fused_with(layer, found[step], layers, owner, norm_is_a_step), step)
    group_of = {step: step for step in called_for}  # to whose layers a step belongs
    for step, name in enumerate(steps):
        if step not in called_for:
            before, between = _gap(step, called_for, len(layers))
            named = [layer for layer in between if layer not in owner and _names(name, layers[layer])]
            owner |= dict.fromkeys(named, step)
            if named:
                group_of[step] = step
            elif before is not None and _names(name, layers[before]):
                group_of[step] = owner[before]  # the bias of the layer before, for instance
    if not owner:
        return None
    members: dict[int, list[str]] = {}
    latest = owner[min(owner)]
    for number, layer_info in enumerate(layers):
        # What has no step computes nothing of its own: a reshape, a dropout, an activation that a conversion does.
        latest = owner.get(number, latest)
        members.setdefault(latest, []).append(layer_info.name)
    return ["+".join(members[group_of[step]]) if step in group_of else RUNTIME for step in range(len(steps))]


def _called_for(steps: list[str], found: list[list[Primitive]], layers: list[LayerInfo]) -> dict[int, int] | None:
    """By step, the number of the convolution or linear layer that it computes; None where they do not match.

    They come in order; the problem distinguishes branches that ran in another order.
    """
    left = {number: layer for number, layer in enumerate(layers) if layer.kind in ("Conv2d", "Linear")}
    places: dict[int, int] = {}
    for step, name in enumerate(steps):
        kind = "Conv2d" if is_convolution(name) else "Linear" if is_linear(name) else ""
        if not kind:
            continue
        problem = next((primitive for primitive in found[step] if primitive.kind != "reorder"), None)
        fitting = (
            number
            for number, layer in left.items()
            if layer.kind == kind and (problem is None or problem.computes(layer))
        )
        place = next(fitting, None)
        if place is None:
            return None
        places[step] = place
        del left[place]
    return None if left else places


def _fused_with(
    first: int, primitives: list[Primitive], layers: list[LayerInfo], owner: dict[int, int], norm_is_a_step: bool
) -> Iterator[int]:
    """Numbers of the layers behind a convolution that oneDNN computes with it: folded batch norm, post-operations."""
    post_ops = [op for primitive in primitives for op in primitive.post_ops]
    for number in range(first + 1, len(layers)):
        kind = layers[number].kind.lower()
        operations = ("sum", "binary_add") if kind == "add" else (f"eltwise_{_ELTWISE.get(kind, kind)}",)
        if norm_is_a_step or not kind.startswith("batchnorm"):
            fused = next((op for op in post_ops if op.startswith(operations)), None)
            if fused is None:
                return
            post_ops.remove(fused)
        if number in owner:
            return
        yield number


def _gap(step: int, called_for: dict[int, int], num_layers: int) -> tuple[int | None, range]:
    """The layer that was called last before a step, and the numbers of those between it and the next one."""
    before = max((layer for other, layer in called_for.items() if other < step), default=-1)
    after = min((layer for other, layer in called_for.items() if other > step and layer > before), default=num_layers)
    return None if before < 0 else before, range(before + 1, after)


def _names(step: str, layer: LayerInfo) -> bool:
    """Whether the name of a step says that it computes a layer."""
    return bool(re.search(_keyword(layer.kind), step))


def _keyword(kind: str) -> str:
    """Pattern of a layer's operator in the name of a step, e.g. `cpp_fused_max_pool2d_with_indices_1`."""
    words = {
        "Add": "add",
        "AvgPool2d": "avg_pool2d|mean",
        "AdaptiveAvgPool2d": "_?adaptive_avg_pool2d|mean",
        "BatchNorm2d": "_?native_batch_norm[a-z_]*?",
        "Conv2d": "convolution|qconv[a-z0-9_]*?",
        "Linear": "addmm|mm|linear|qlinear[a-z_]*?",
        "MaxPool2d": "_?(low_memory_)?max_pool2d[a-z_]*?",
        "ReLU6": "hardtanh|clamp|relu6",
    }
    return rf"(?:cpp_fused_(?:\w*_)?|::|aoti_torch_cpu_+)(?:{words.get(kind, kind.lower())})(?:_|$)"


def _package_name(shape: Shape) -> str:
    return "x".join(str(size) for size in shape) + ".pt2"


def _is_frame(name: str) -> bool:
    return name.startswith(_FRAMES)


def _only_frames_above(event: torch.autograd.profiler_util.FunctionEvent) -> bool:
    parent: torch.autograd.profiler_util.FunctionEvent | None = event.cpu_parent
    while parent is not None:
        if not _is_frame(parent.name):
            return False
        parent = parent.cpu_parent
    return True
