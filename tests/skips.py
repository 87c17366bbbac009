"""Which skips are fine where everything is installed that tests can use: the weekly suite fails for any other.

    pytest --slow --no-unlisted-skip

A test that is skipped everywhere proves nothing, and nobody sees it: each skip on this list has its reason.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Skip:
    """Tests that may be skipped for one reason."""

    tests: str  # pattern of their ids
    message: str  # pattern of what they say
    because: str


LISTED = (
    Skip(r"tests/test_backends", r"runs on .*; this machine is", "the suite runs on the other architecture too"),
    Skip(r"tests/test_backends", r"needs a CPU with", "runners are given out by chance, and not all have bf16 or SVE"),
    Skip(r"tests/test_backends\.py", r"computes no network", "the control has nothing to be compared"),
    Skip(r"tests/test_backends_onnxruntime\.py", r"int8 activations are right elsewhere", "a fault of x86-64 alone"),
    Skip(r"tests/test_backends_onnxruntime\.py", r"the switch works on this machine", "its opposite is tested there"),
    Skip(r"tests/test_lab\.py", r"takes long: pytest --lab", "`make test-lab` runs it and makes its pictures"),
)


def is_listed(test: str, message: str) -> bool:
    """True for a skip that is known and fine."""
    return any(re.match(skip.tests, test) and re.search(skip.message, message) for skip in LISTED)


class NoUnlistedSkip:
    """Turns every other skip, of a test or of a whole file, into a failure."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        _fail_unlisted(report)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        _fail_unlisted(report)
        return report


def _fail_unlisted(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    message = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    if not is_listed(report.nodeid, message):
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: {message}. A skip that tests/skips.py does not list fails here."
