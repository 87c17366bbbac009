"""Which network 03 measures, and what is refused before anything is measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lib.cli import main
from lib.data import load_data
from lib.errors import UserError
from lib.files import CHECKPOINT_NAME
from lib.model import build_network, save_checkpoint
from lib.series.jobs import plan_jobs
from lib.series.network import check_network
from lib.series.preflight import check_inputs
from lib.signs import NUM_CLASSES
from tests.gtsrb_layout import write_kaggle, write_layout
from tests.untrained import save_untrained, untrained


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


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A run folder with a network that was trained on synthetic images."""
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    save_untrained(tmp_path).rename(run_dir / CHECKPOINT_NAME)
    return run_dir


def test_network_is_not_measured_on_another_data_set_than_it_was_trained_on(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GTSRB_CACHE", str(tmp_path / "cache"))
    write_layout(tmp_path)
    given = ["-p", "dataset", "gtsrb", "-p", "data_root", str(tmp_path), "--backends", "null"]
    assert main(["run", "03", *given, "--out", str(trained)]) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert "was trained on 'synthetic', and 03_benchmark would measure it on 'gtsrb'" in told
    assert "add -p dataset synthetic, or choose another run with --out" in told
    assert [path.name for path in trained.iterdir()] == [CHECKPOINT_NAME], "nothing was started"


@pytest.mark.parametrize(
    ("notebooks", "given"),
    [
        (["03_benchmark"], {"dataset": "synthetic"}),
        (["02_train", "03_benchmark"], {"dataset": "gtsrb"}),  # which trains another one first
        (["03_benchmark"], {"dataset": "gtsrb", "model": "mobilenet_v3_small"}),  # which does not use the checkpoint
    ],
)
def test_network_is_measured_where_the_data_set_fits(
    trained: Path, notebooks: list[str], given: dict[str, str]
) -> None:
    check_inputs(plan_jobs(notebooks, given, ["null"]), trained)


def test_network_is_measured_on_the_images_of_its_training_also_under_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GTSRB_CACHE", str(tmp_path / "cache"))
    write_kaggle(tmp_path / "kaggle", write_layout(tmp_path, test_images=4))
    given = {"dataset": "gtsrb-kaggle", "data_root": str(tmp_path / "kaggle")}
    jobs, data_hash = plan_jobs(["03"], given, ["null"]), load_data("gtsrb", data_root=tmp_path).manifest_hash
    network = build_network("learning_path", NUM_CLASSES)
    about = replace(untrained("learning_path"), data_source="gtsrb", data_hash=data_hash)
    save_checkpoint(tmp_path / CHECKPOINT_NAME, network, about)
    check_inputs(jobs, tmp_path)
    save_checkpoint(tmp_path / CHECKPOINT_NAME, network, replace(about, data_hash="0" * 64))
    with pytest.raises(UserError, match="was trained on 'gtsrb'"):
        check_inputs(jobs, tmp_path)
