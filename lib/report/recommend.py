"""Recommendations with what only the registry knows: the packages of a backend, and whether a default run has it."""

from __future__ import annotations

from collections.abc import Sequence

from lib.analysis.recommendation import Needs, recommend
from lib.backends import backend_names, get_backend
from lib.records.schema import BenchmarkRecord, Recommendation


def needs_of_backends() -> dict[str, Needs]:
    """By name, for all backends of the registry."""
    backends = {name: get_backend(name) for name in backend_names()}
    return {name: Needs(backend.packages, backend.extra, backend.default) for name, backend in backends.items()}


def recommendations(records: Sequence[BenchmarkRecord]) -> list[Recommendation]:
    """By the rules of `lib.analysis.recommendation`; empty for smoke records."""
    return recommend(records, needs_of_backends())
