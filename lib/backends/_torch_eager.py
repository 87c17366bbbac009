"""What the eager PyTorch backends share: loading, predicting, timing and tracing layer by layer.

Which library computes a layer is chosen inside PyTorch by switches, input sizes and what the wheel was built with, so
every backend sets its switches in `configure` and proves by a trace what came of it.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lib.backends.interface import Backend, Kernels, LayerTimes
from lib.onednn import descriptor_to, parse_report

if TYPE_CHECKING:
    import torch
    from torch import nn


NUM_PROFILED = 3  # passes


class TorchEager(Backend):
    """Eager mode in `eval` and `inference_mode`, contiguous NCHW."""

    model: nn.Module

    def import_runtime(self) -> None:
        import torch  # noqa: F401

        import lib.model  # noqa: F401  # so that loading is loading alone

    def load(self, checkpoint: Path, folder: Path, num_threads: int) -> None:
        import torch

        from lib.model import load_checkpoint

        torch.set_num_threads(num_threads)
        self.configure()
        self.model = load_checkpoint(checkpoint).model

    def configure(self) -> None:
        """Set the process-wide switches of this backend."""

    def predict(self, images: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            logits: np.ndarray = self.forward(torch.from_numpy(images)).numpy()
        return logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits in fp32."""
        logits: torch.Tensor = self.model(images)
        return logits

    def layer_times(self, images: np.ndarray, num_passes: int) -> LayerTimes:
        """Wall time between entering and leaving each leaf module. Eager CPU operators are synchronous, so that is
        the layer's own time plus about a microsecond for the two hooks."""
        started: dict[str, float] = {}
        times: LayerTimes = {}
        clock = time.perf_counter

        def enter(name: str) -> None:
            started[name] = clock()

        def leave(name: str) -> None:
            times.setdefault(name, []).append(clock() - started[name])

        with self._hooks(enter, leave):
            for _ in range(num_passes):
                self.predict(images)
        return times

    def trace(self, images: np.ndarray) -> Kernels:
        """By layer: the operator with the largest own time, then the oneDNN primitives with implementation and type."""
        primitives = self._onednn_primitives(images)
        operators = self._operators(images)
        return {name: operators.get(name, []) + names for name, names in primitives.items()}

    @contextmanager
    def _hooks(self, enter: Callable[[str], None], leave: Callable[[str], None]) -> Iterator[None]:
        """Call `enter` and `leave` with the name of every layer, in each forward pass until the context ends."""
        from lib.model import call_name

        calls: Counter[str] = Counter()

        def before(name: str) -> None:
            calls[name] += 1
            enter(call_name(name, calls[name]))

        def after(name: str) -> None:
            leave(call_name(name, calls[name]))

        handles = [self.model.register_forward_pre_hook(lambda *_: calls.clear())]
        for name, module in self.model.named_modules():
            if not any(True for _ in module.children()):
                handles.append(module.register_forward_pre_hook(lambda *_, name=name: before(name)))
                handles.append(module.register_forward_hook(lambda *_, name=name: after(name)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _operators(self, images: np.ndarray) -> Kernels:
        """The ATen operator that takes most of each layer's time. Its shortest time of several passes counts: in one
        alone, whatever had to wait for a core would look like the slowest."""
        least: dict[str, dict[str, float]] = {}
        for _ in range(NUM_PROFILED):
            for layer, times in self._own_times(images).items():
                before = least.get(layer, times)
                least[layer] = {name: min(time, before.get(name, time)) for name, time in times.items()}
        return {layer: [max(times, key=times.__getitem__)] for layer, times in least.items()}

    def _own_times(self, images: np.ndarray) -> dict[str, dict[str, float]]:
        """By layer and ATen operator: the longest own time of a call in one pass, from autograd's profiler.

        `torch.profiler` reports the same and imports Inductor first, which takes two seconds.
        """
        from torch.autograd.profiler import profile, record_function

        prefix = "layer:"
        ranges: dict[str, Any] = {}

        def enter(name: str) -> None:
            ranges[name] = record_function(prefix + name)
            ranges[name].__enter__()

        def leave(name: str) -> None:
            ranges.pop(name).__exit__(None, None, None)

        with self._hooks(enter, leave), profile() as profiler:
            self.predict(images)
        longest: dict[str, dict[str, float]] = {}
        for event in profiler.function_events:
            layer = _enclosing(event, prefix)
            if layer and not event.name.startswith(prefix):
                times, name = longest.setdefault(layer, {}), event.name.removeprefix("aten::").strip("_")
                times[name] = max(times.get(name, 0.0), float(event.self_cpu_time_total))
        return longest

    def _onednn_primitives(self, images: np.ndarray) -> Kernels:
        """oneDNN's own report of one pass. It prints to file descriptor 1, so where a layer's lines begin and end is
        the length of that file when the layer is entered and left."""
        import torch

        spans: dict[str, tuple[int, int]] = {}
        with tempfile.TemporaryFile() as report, descriptor_to(report.fileno(), 1):

            def length() -> int:
                return os.fstat(report.fileno()).st_size

            def enter(name: str) -> None:
                spans[name] = (length(), 0)

            def leave(name: str) -> None:
                spans[name] = (spans[name][0], length())

            verbose = torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON)
            with verbose, self._hooks(enter, leave):
                self.predict(images)
            report.seek(0)
            text = report.read()
        return {name: _texts(text[begin:end].decode(errors="replace")) for name, (begin, end) in spans.items()}


def _texts(report: str) -> list[str]:
    """What oneDNN executed, each kind once; reorders come first in its report and last here: the computing primitive is
    what the reader looks for."""
    texts = dict.fromkeys(primitive.text for primitive in parse_report(report))
    return sorted(texts, key=lambda text: text.startswith("onednn reorder"))


def _enclosing(event: torch.autograd.profiler_util.FunctionEvent, prefix: str) -> str:
    parent: torch.autograd.profiler_util.FunctionEvent | None = event
    while parent is not None:
        if parent.name.startswith(prefix):
            return str(parent.name.removeprefix(prefix))
        parent = parent.cpu_parent
    return ""


def ran(kernels: Kernels, operator: str) -> list[str]:
    """Layers in which a kernel ran whose description contains `operator`."""
    return [layer for layer, names in kernels.items() if any(operator in name for name in names)]


def in_another_type(kernels: Kernels, types: tuple[str, ...], promised: str) -> str:
    """The first oneDNN convolution that did not run in one of the types, in words; empty where all did."""
    for layer in ran(kernels, "onednn convolution"):
        for name in kernels[layer]:
            if name.startswith("onednn convolution") and name.split()[-1] not in types:
                return f"{layer} ran as {name}, not in {promised}"
    return ""
