"""Which network 03 measures, and what is refused before anything is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib.errors import UserError
from lib.files import CHECKPOINT_NAME
from lib.series.jobs import plan_jobs
from lib.series.networks import check_network
from lib.series.preflight import check_inputs


def test_image_size_without_a_model_is_refused() -> None:
    with pytest.raises(UserError, match="add -p model NAME"):
        check_network("", 64)
    check_network("", 0)


@pytest.mark.parametrize("model", ["mobilenet_v3_smal", "../../etc/passwd", "signnet"])
def test_unknown_model_is_refused_before_anything_is_measured(model: str, tmp_path: Path) -> None:
    jobs = plan_jobs(["03_benchmark"], {"model": model}, [])
    with pytest.raises(UserError, match="unknown torchvision classifier"):
        check_inputs(jobs, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_model_of_torchvision_needs_no_checkpoint_that_fits_the_data(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT_NAME).write_bytes(b"damaged")
    check_inputs(plan_jobs(["03_benchmark"], {"model": "mobilenet_v3_small"}, []), tmp_path)
