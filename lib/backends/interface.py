"""What a backend is. It loads, predicts and proves which kernels ran. It never times itself, except for single layers,
which only it can see."""

from __future__ import annotations

import importlib.util
import platform
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple, TypeVar

import numpy as np

from lib.errors import UserError
from lib.machine import BYTES, isa_flags
from lib.records.schema import Proof

# Keys of both are groups: names of the network's own layers, joined by `+` where a runtime fused them into one step
# (`stem.conv+stem.bn+stem.relu`), or RUNTIME for what belongs to no layer, such as reorders and conversions.
Kernels = dict[str, list[str]]  # group -> what ran in it during one forward pass, main operator first
LayerTimes = dict[str, list[float]]  # group -> seconds, one number per pass
RUNTIME = "(runtime)"
Shape = tuple[int, int, int, int]  # of a batch: N, 3, H, W


class Tolerance(NamedTuple):
    """How far a backend may be from the reference and still be the same network."""

    top1_drop: float  # largest loss of top-1, as a share
    sqnr_db: float  # least signal to error of the logits
    agreement: float  # least share of equal predictions


TOLERANCES = {  # by precision
    "fp32": Tolerance(0.0005, 60.0, 0.999),  # in another order it keeps 100 dB and more
    "f16": Tolerance(0.0005, 40.0, 0.995),  # 11 bits
    "bf16": Tolerance(0.0005, 25.0, 0.99),  # 8 bits
    "int8": Tolerance(0.003, 15.0, 0.97),
}


def by_group(passes: Sequence[Sequence[tuple[str, float]]]) -> LayerTimes:
    """Steps of each pass, as group and seconds -> the time of each group, in the order of their first steps."""
    times: LayerTimes = {}
    for number, steps in enumerate(passes):
        for group, seconds in steps:
            times.setdefault(group, [0.0] * len(passes))[number] += seconds
    return times


class Backend(ABC):
    """One runtime with one way of lowering the network. An object lives in a worker process of its own."""

    name: ClassVar[str]  # <runtime>-<precision>, fp32 unmarked
    title: ClassVar[str]  # what it is, in a line
    promise: ClassVar[str]  # which kernels must have run, in words
    order: ClassVar[int] = 100  # place in tables
    precision: ClassVar[str] = "fp32"
    storage: ClassVar[str] = ""  # precision of weights and activations in memory; empty: as it multiplies
    architectures: ClassVar[tuple[str, ...]] = ("x86_64", "aarch64")
    needs_any_flag: ClassVar[tuple[str, ...]] = ()  # at least one of these ISA flags
    packages: ClassVar[tuple[str, ...]] = ()  # that it needs, by the name that they are installed and imported by
    extra: ClassVar[str] = ""  # optional requirements that bring the packages
    default: ClassVar[bool] = False  # part of a run of the series; not inherited
    needs_calibration: ClassVar[bool] = False  # `prepare` gets training images to find the ranges of activations
    is_network: ClassVar[bool] = True  # False for a control that computes nothing and has no accuracy to compare
    tolerance: ClassVar[Tolerance | None] = None  # None: that of its precision
    environ: ClassVar[dict[str, str]] = {}  # set in the worker before anything is imported: many switches are read once

    @classmethod
    def unavailable(cls) -> str:
        """Why this machine cannot run the backend, or an empty string. A missing package does not count."""
        if platform.machine() not in cls.architectures:
            return f"runs on {', '.join(cls.architectures)}; this machine is {platform.machine()}"
        if cls.needs_any_flag and not set(cls.needs_any_flag) & set(isa_flags()):
            return f"needs a CPU with {' or '.join(cls.needs_any_flag)}; this one has {' '.join(isa_flags()) or 'none'}"
        return ""

    @classmethod
    def missing_packages(cls) -> list[str]:
        """Packages of this backend that are not installed."""
        return [package for package in cls.packages if importlib.util.find_spec(package) is None]

    @classmethod
    def not_installed(cls) -> str:
        """Which packages are missing and what to do about it, or an empty string."""
        if not (missing := cls.missing_packages()):
            return ""
        how = f"`make EXTRAS={cls.extra} .venv` installs them"
        if not cls.extra:
            how = "`make .venv` installs those of the project, docs/extending.md says how to add those of a new backend"
        return f"`packages` of {cls.name} are missing: {', '.join(missing)}; {how}"

    def prepare(self, checkpoint: Path, calibration: np.ndarray, folder: Path) -> None:
        """One-off work that a build machine would do: export, quantize, compile ahead of time.

        Runs in a process of its own that ends afterwards, so that neither its time nor its memory counts as the
        runtime's. What it writes is what `load` reads.

        Args:
            calibration: normalized float32 (N, 3, H, W) of training images; empty unless `needs_calibration`.
            folder: exists and is empty.
        """
        return  # nothing, unless a backend says otherwise

    def import_runtime(self) -> None:
        """Import what the backend runs on; timed apart as part of the cold start."""
        return  # nothing, unless a backend says otherwise

    @abstractmethod
    def load(self, checkpoint: Path, folder: Path, num_threads: int) -> None:
        """Read the weights of a checkpoint, or what `prepare` wrote into `folder`."""

    def compile(self, shape: Shape) -> None:
        """Make ready for one shape of batches. Called once per shape, before its first `predict`; timed apart."""
        return  # nothing, unless a backend says otherwise

    @abstractmethod
    def predict(self, images: np.ndarray) -> np.ndarray:
        """Normalized float32 (N, 3, H, W), contiguous -> float32 logits (N, classes). Never alters its input."""

    def layer_times(self, images: np.ndarray, num_passes: int) -> LayerTimes:
        """Seconds per layer of the network in each of `num_passes` forward passes; empty if unknown."""
        return {}

    def trace(self, images: np.ndarray) -> Kernels:
        """Which kernels one forward pass runs, by layer of the network; empty if unknown."""
        return {}

    def prove(self, kernels: Kernels) -> Proof:
        """Judge by the kernels of a pass in the offline scenario whether the backend keeps its promise."""
        found: dict[str, int] = {}
        for names in kernels.values():
            for name in names:
                found[name] = found.get(name, 0) + 1
        unseen = self.is_network and not found
        reason = "nothing shows which kernels ran" if unseen else self.broken_promise(kernels)
        return Proof(
            self.promise, found, passed=not reason, reason=reason, investigate=self.doubts(kernels), kernels=kernels
        )

    @abstractmethod
    def broken_promise(self, kernels: Kernels) -> str:
        """What is wrong with the kernels that ran, or an empty string. Not called if a network ran and no kernel was
        seen: that proves nothing."""

    def doubts(self, kernels: Kernels) -> str:
        """What keeps the promise and still deserves a look, or an empty string."""
        return ""


_REGISTRY: dict[str, type[Backend]] = {}
_BackendType = TypeVar("_BackendType", bound=type[Backend])


def register(backend: _BackendType) -> _BackendType:
    """Class decorator: make a backend known by its name.

    Raises:
        UserError: another class has the name already: which of the two would be measured?
        ValueError: the name cannot be part of a file name, or the backend does not say what it is.
    """
    for attribute in ("name", "title", "promise"):
        if not getattr(backend, attribute, ""):
            raise ValueError(f"the backend {backend.__qualname__} has no {attribute}; pages and records need one")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", backend.name):
        raise ValueError(f"a backend is named {backend.name!r}; use letters, digits, - and _ only: files have its name")
    for attribute, known_ones in (("precision", TOLERANCES), ("storage", BYTES)):
        if (value := getattr(backend, attribute) or backend.precision) not in known_ones:
            raise ValueError(f"{attribute} of the backend {backend.name} is {value!r}; use {', '.join(known_ones)}")
    known = _REGISTRY.get(backend.name)
    if known is not None and (known.__module__, known.__qualname__) != (backend.__module__, backend.__qualname__):
        raise UserError(
            f"two backends are named {backend.name!r}: {known.__module__} and {backend.__module__}; rename one"
        )
    if "default" not in vars(backend):
        backend.default = False  # each variant of a default backend would lengthen every run
    _REGISTRY[backend.name] = backend
    return backend


def registered() -> dict[str, type[Backend]]:
    """The registry itself."""
    return _REGISTRY
