"""Inference backends: one file each, found by being here. Importing this package imports no runtime, not even torch.

To add a backend, add a module with a class marked `@register`. The registry, the command line, the parameter choices,
the workflow matrix, the tests and the colours in plots follow from it.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from functools import cache

from lib.backends.interface import Backend, Kernels, LayerTimes, register, registered
from lib.errors import unknown

REFERENCE = "torch-onednn"  # against which error and speed are taken

__all__ = [
    "REFERENCE",
    "Backend",
    "Kernels",
    "LayerTimes",
    "all_backends",
    "backend_names",
    "default_names",
    "get_backend",
    "register",
    "split_names",
]


@cache
def _discover() -> None:
    """Import every file. A broken one is reported and stops no other; a copy such as `mine-Copy1.py` is left alone."""
    for module in pkgutil.iter_modules(__path__):
        if module.name.startswith("_") or not module.name.isidentifier():
            continue
        try:
            importlib.import_module(f"{__name__}.{module.name}")
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"lib/backends/{module.name}.py is left out ({reason}); repair or remove it", file=sys.stderr)


def all_backends() -> list[type[Backend]]:
    """Every backend, by `order` and name."""
    _discover()
    return sorted(registered().values(), key=lambda backend: (backend.order, backend.name))


def backend_names() -> list[str]:
    """Names of all backends, in the order in which tables show them."""
    return [backend.name for backend in all_backends()]


def default_names() -> list[str]:
    """Names of the backends that a run of the series measures."""
    return [backend.name for backend in all_backends() if backend.default]


def get_backend(name: str) -> type[Backend]:
    """The backend of this name.

    Raises:
        UserError: there is none.
    """
    _discover()
    if name not in registered():
        raise unknown("backend", name, backend_names())
    return registered()[name]


def split_names(text: str) -> list[str]:
    """`a, b` -> names, as people write several backends in one value."""
    return [name.strip() for name in text.split(",") if name.strip()]
