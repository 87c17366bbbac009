"""Inference backends: one file each, found by being here. Importing this package imports no runtime, not even torch.

To add a backend, add a module with a class marked `@register`. The registry, the command line, the parameter choices,
the workflow matrix, the tests and the colours in plots follow from it.
"""

from __future__ import annotations

from functools import cache

from lib.backends.interface import Backend, Kernels, LayerTimes, register, registered
from lib.errors import unknown
from lib.files import import_modules

REFERENCE = "torch-onednn"  # against which error and speed are taken


@cache
def _discover() -> None:
    import_modules(__name__, __path__)


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
