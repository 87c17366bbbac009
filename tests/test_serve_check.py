"""The measurement of the server in small: all its phases, and that it judges; not how fast this machine is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="serving is not installed: make EXTRAS=serve .venv")

from lib.release import Release
from tests.serve_check import Figures, measure, measure_plain, table
from tests.served import made_release


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    release = Release.load(made_release(tmp_path_factory.mktemp("run")))
    found = measure(release, num_threads=1, seconds=1.0, soak_s=3)
    measure_plain(found, Path(release.path, "model.safetensors"), 1, seconds=1.0)
    return found


def test_server_under_load_answers_or_refuses_every_request_and_loses_only_what_was_in_flight(
    figures: Figures,
) -> None:
    assert figures.wrong_statuses == {}
    assert figures.killed_lost == 0
    assert figures.overload_offered > 0
    assert figures.soak_images > 0 and figures.mean_batch > 1, "32 clients at once are answered in batches"
    assert figures.soak_end_bytes < figures.soak_start_bytes + 50_000_000
    assert min(figures.capacity, figures.overload_goodput, figures.plain_capacity) > 0


@pytest.mark.parametrize(
    ("row", "worse"),
    [
        (0, {"per_cpu_second": 69.0, "bare_per_cpu_second": 100.0}),
        (1, {"half_load_p99_s": 0.011, "bare_single_s": 0.001}),
        (2, {"overload_goodput": 89.0, "overload_offered": 200.0, "capacity": 100.0}),
        (2, {"overload_goodput": 95.0, "overload_offered": 180.0, "capacity": 100.0}),
        (3, {"soak_end_bytes": 106, "soak_start_bytes": 100}),
        (4, {"killed_lost": 1}),
        (5, {"wrong_statuses": {500: 1}}),
    ],
)
def test_figure_worse_than_asked_is_not_met(figures: Figures, row: int, worse: dict[str, object]) -> None:
    changed = replace(figures, **worse)  # type: ignore[arg-type]
    assert not changed.checks[row][-1] and "**not met**" in table(changed).splitlines()[4 + row]
