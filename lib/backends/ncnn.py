"""ncnn, fp32: no torch at run time, convolutions in layouts that pack several channels into one vector.

One image is computed by all threads; a batch is cut into one part per thread, and every thread computes its part alone,
so that no thread waits for a slower one between two layers. ncnn takes several images in a call since 2026: 32 of them
need 60 % of the CPU time of 32 calls (signnet_small, AVX-512), and larger calls need as much with more memory.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from lib.backends._aligned import Step, align, read_leaves, write_leaves
from lib.backends.interface import Backend, Kernels, LayerTimes, Shape, by_group, register

_PARAM, _BIN, _LEAVES = "model.ncnn.param", "model.ncnn.bin", "layers.json"
_CALL = 32  # images per call
_AS_IT_IS = 1  # third argument of `extract`: give the blob in the layout and type in which the layer left it
_TYPES = {32: "fp32", 16: "16-bit", 8: "int8"}  # by bits
_WEIGHT_SIZE = {"Convolution": 6, "ConvolutionDepthWise": 6, "InnerProduct": 2}  # number of the parameter that holds it

# Types of ncnn's layers -> modules that they may be. Split and Input belong to no layer.
_KINDS = {
    "Convolution": ("Conv2d",),
    "ConvolutionDepthWise": ("Conv2d",),
    "InnerProduct": ("Linear",),
    "BinaryOp": ("Add",),
    "ReLU": ("ReLU",),
    "Clip": ("ReLU6", "Hardtanh"),
    "HardSwish": ("Hardswish",),
    "HardSigmoid": ("Hardsigmoid",),
    "Swish": ("SiLU",),
    "Sigmoid": ("Sigmoid",),
    "Pooling": ("MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d"),
    "BatchNorm": ("BatchNorm2d",),
    "Flatten": ("Flatten",),
    "Reshape": ("Flatten",),
}


@register
class Ncnn(Backend):
    name = "ncnn"
    title = "ncnn, fp32, converted by pnnx"
    promise = "convolutions run in ncnn in fp32 on packed channels"
    order = 180
    packages = ("ncnn", "pnnx")
    extra = "ncnn"

    _folder: Path
    _num_threads: int
    _pool: ThreadPoolExecutor
    _alone: Any = None  # network whose layers use all threads, for one image
    _parts: Any = None  # network whose layers use one thread, for a part of a batch

    def prepare(self, checkpoint: Path, calibration: np.ndarray, folder: Path) -> None:
        import pnnx
        import torch

        from lib.model import load_checkpoint

        loaded = load_checkpoint(checkpoint)
        size = loaded.preprocessing.image_size
        write_leaves(folder / _LEAVES, loaded.model, size)
        torch.jit.save(torch.jit.trace(loaded.model, torch.zeros(1, 3, size, size)), folder / "model.pt")
        # the converter itself: its Python wrapper goes on to run what it has written, with modules that we do not need
        command = [pnnx.EXEC_PATH, "model.pt", f"inputshape=[1,3,{size},{size}]", "fp16=0", "device=cpu"]
        ran = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", check=False)
        if ran.returncode or not (folder / _PARAM).is_file():
            raise RuntimeError(f"pnnx ended with {ran.returncode}: {ran.stderr[-500:]}")
        for path in folder.iterdir():
            if path.name not in (_PARAM, _BIN, _LEAVES):
                path.unlink()

    def import_runtime(self) -> None:
        import ncnn  # noqa: F401

    def load(self, checkpoint: Path, folder: Path, num_threads: int) -> None:
        self._folder = folder
        self._num_threads = num_threads
        self._pool = ThreadPoolExecutor(num_threads)  # its threads wait on a lock, and take no time
        self._alone = self._network(num_threads)

    def compile(self, shape: Shape) -> None:
        # weights are laid out for a number of threads when they are read, so the two networks cannot be one
        if shape[0] > 1 and self._num_threads > 1 and self._parts is None:
            self._parts = self._network(1)

    def predict(self, images: np.ndarray) -> np.ndarray:
        parts = self._split(images)
        if len(parts) == 1:
            return self._forward(self._alone, parts[0])
        return np.concatenate(list(self._pool.map(lambda part: self._forward(self._parts, part), parts)))

    def layer_times(self, images: np.ndarray, num_passes: int) -> LayerTimes:
        """Times of reading the output of one layer after the other: each computes that layer and nothing else.

        The threads of a batch run at the same time, so their times are averaged. What is read is let go at once, as in
        a call for the last output alone, and comes as it is, without a conversion.
        """
        groups, parts = self._groups(), self._split(images)
        self.predict(images)
        passes = []
        for _ in range(num_passes):
            walks = list(self._pool.map(self._walk, parts)) if len(parts) > 1 else [self._walk(parts[0])]
            shares = [[seconds / len(walks) for seconds, _ in walk] for walk in walks]
            passes.append([step for each in shares for step in zip(groups, each, strict=True)])
        return by_group(passes)

    def trace(self, images: np.ndarray) -> Kernels:
        """By layer, its type in the loaded network with the type and packing of what it left behind. ncnn does not
        report which of its kernels computed a convolution."""
        kernels: Kernels = {}
        walk = self._walk(self._split(images)[0])
        for group, (_, kernel) in zip(self._groups(), walk, strict=True):
            kernels.setdefault(group, []).append(kernel)
        return kernels

    def broken_promise(self, kernels: Kernels) -> str:
        convolutions = [name for names in kernels.values() for name in names if name.startswith("Convolution")]
        wrong = sorted({name for name in convolutions if " fp32 " not in name})
        if wrong:
            return f"convolutions did not run in fp32: {', '.join(wrong)}"
        if not convolutions:
            return "no convolution ran in ncnn"
        return "" if any(not name.endswith(" pack1") for name in convolutions) else "no convolution packs its channels"

    def doubts(self, kernels: Kernels) -> str:
        plain = [
            group
            for group, names in kernels.items()
            if any(name.startswith("Convolution") and name.endswith(" pack1") for name in names)
        ]
        return f"channels are not packed in {', '.join(plain)}" if plain else ""

    def options(self, option: Any) -> None:
        """What decides about speed and precision, set for every network before it reads its weights."""
        option.use_vulkan_compute = False
        # on by default, and on Arm they would make it a half-precision network
        option.use_fp16_packed = option.use_fp16_storage = option.use_fp16_arithmetic = False
        option.use_bf16_packed = option.use_bf16_storage = False
        option.use_packing_layout = True

    def _network(self, num_threads: int) -> Any:
        import ncnn

        network = ncnn.Net()
        self.options(network.opt)
        network.opt.num_threads = num_threads
        # Threads of OpenMP (here GNU's) spin for a few milliseconds after a call and then sleep; only variables that
        # also slow down waking during a call could change that.
        for read, name in ((network.load_param, _PARAM), (network.load_model, _BIN)):
            if read(str(self._folder / name)):
                raise RuntimeError(f"ncnn cannot read {self._folder / name}")
        return network

    def _split(self, images: np.ndarray) -> list[np.ndarray]:
        if len(images) == 1 or self._num_threads == 1:
            return [images]
        return np.array_split(images, min(len(images), self._num_threads))

    def _extractors(self, network: Any, images: np.ndarray) -> Iterator[Any]:
        """One for every call of up to 32 images, with its input."""
        import ncnn

        for start in range(0, len(images), _CALL):
            extractor = network.create_extractor()
            extractor.input(network.input_indexes()[0], ncnn.Mat(images[start : start + _CALL], batch_index=0))
            yield extractor

    def _forward(self, network: Any, images: np.ndarray) -> np.ndarray:
        logits = []
        for extractor in self._extractors(network, images):
            failed, output = extractor.extract(network.output_indexes()[0])
            if failed:
                raise RuntimeError(f"ncnn ended with {failed}")
            logits.append(np.array(output.numpy(batch_index=0), dtype=np.float32))  # its memory ends with `output`
        return logits[0] if len(logits) == 1 else np.concatenate(logits)

    def _walk(self, images: np.ndarray) -> list[tuple[float, str]]:
        """Seconds and kernel of every layer, in one pass."""
        network = self._alone if self._parts is None or len(images) == 1 else self._parts
        layers = network.layers()
        seconds, kernels = [0.0] * len(layers), [""] * len(layers)
        for extractor in self._extractors(network, images):
            for number, layer in enumerate(layers):
                top = layer.tops[0]
                started = time.perf_counter()
                _, blob = extractor.extract(top, _AS_IT_IS)
                seconds[number] += time.perf_counter() - started
                kernels[number] = f"{layer.type} {_TYPES.get(blob.elembits(), 'unknown')} pack{blob.elempack}"
                del blob  # a layer that works in place copies a blob that is still referenced
        return list(zip(seconds, kernels, strict=True))

    def _groups(self) -> list[str]:
        """The group of every layer of ncnn."""
        steps = []
        for line in (self._folder / _PARAM).read_text(encoding="utf-8").splitlines()[2:]:
            kind, _, num_inputs, num_outputs, *rest = line.split()
            parameters = dict(pair.split("=", 1) for pair in rest[int(num_inputs) + int(num_outputs) :])
            steps.append(Step(_KINDS.get(kind, ()), int(parameters.get(str(_WEIGHT_SIZE.get(kind)), 0))))
        return align(steps, read_leaves(self._folder / _LEAVES))
