"""One network by several processes: the same file as by one, also after one of them was killed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
import torch

from lib.cli import main
from lib.files import CHECKPOINT_NAME, PROJECT_ROOT
from lib.model import load_checkpoint
from tests.waiting import HANG_S

GIVEN = {"recipe": "tiny", "num_images": "1100", "num_epochs": "10", "num_threads": "1", "device": "cpu"}  # 20 steps


def arguments(folder: Path, *options: str, **changes: str) -> list[str]:
    pairs = [part for name, value in (GIVEN | changes).items() for part in ("-p", name, value)]
    return ["train", *pairs, "--out", str(folder), *options]


def begun(folder: Path, *options: str, **changes: str) -> subprocess.Popen[str]:
    """A training in a process of its own that has written its second state."""
    command = [sys.executable, "-m", "lib", *arguments(folder, *options, **changes)]
    process = subprocess.Popen(command, cwd=PROJECT_ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + HANG_S
    while not list(folder.glob("training/epoch-0002*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    return process


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty steps of four shards by one process."""
    folder = tmp_path_factory.mktemp("alone")
    assert main(arguments(folder, shards="4")) == 0
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / CHECKPOINT_NAME).model.state_dict()


@pytest.mark.slow
def test_two_processes_train_the_network_of_one(alone: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(tmp_path, "--nproc", "2", shards="4")) == 0
    assert "2 processes, gloo over lo; threads of each process: 1" in capfd.readouterr().out
    one, two = weights(alone), weights(tmp_path)
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_two_processes_turn_filters_by_muon_as_one_does(tmp_path: Path) -> None:
    given = {"recipe": "minute", "num_epochs": "3", "shards": "4"}  # 24 steps
    assert main(arguments(tmp_path / "one", **given)) == 0
    assert main(arguments(tmp_path / "two", "--nproc", "2", **given)) == 0
    for name, weight in weights(tmp_path / "one").items():
        torch.testing.assert_close(weights(tmp_path / "two")[name], weight, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_lost_process_ends_in_one_error_and_one_process_goes_on_to_the_same_file(alone: Path, tmp_path: Path) -> None:
    process = begun(tmp_path, "--nproc", "2", shards="4")
    torchrun = psutil.Process(process.pid).children()[0]
    torchrun.children()[1].kill()
    (error,) = process.communicate(timeout=HANG_S)[1].splitlines()
    assert process.returncode == 1 and "a process was lost" in error and "-p resume true" in error
    assert not (tmp_path / CHECKPOINT_NAME).exists()
    assert main(arguments(tmp_path, shards="4", resume="true")) == 0
    assert (tmp_path / CHECKPOINT_NAME).read_bytes() == (alone / CHECKPOINT_NAME).read_bytes()


@pytest.mark.slow
def test_training_that_was_killed_ends_with_the_same_file(
    alone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = begun(tmp_path, shards="4")
    process.kill()
    process.communicate()
    assert main(arguments(tmp_path, shards="4", resume="true")) == 0
    assert "epoch 1/10" not in capsys.readouterr().out
    assert (tmp_path / CHECKPOINT_NAME).read_bytes() == (alone / CHECKPOINT_NAME).read_bytes()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--nproc", "2"], "shards: 1, images of a batch: 256, processes: 2"),
        (["--nproc", "2", "-p", "shards", "3"], "shards must be a power of two"),
        (["-p", "shards", "64", "-p", "num_images", "100"], "with two images each"),
        (["-p", "seeds", "3"], "sweep 02 -p seed 0,1,2"),
        (["-p", "crop", "box"], "'synthetic' has no boxes of its signs"),
        (["-p", "crop", "boxed"], "whole for the whole image"),
        (["-p", "run_dir", "x"], "with --out"),
        (["-p", "backend", "null"], "belongs to 03_benchmark"),
    ],
)
def test_what_cannot_be_trained_together_is_refused(
    options: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "-p", "recipe", "tiny", *options, "--out", str(tmp_path)]) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / CHECKPOINT_NAME).exists()


def test_shards_that_do_not_fit_are_refused_before_a_notebook_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "02", "-p", "shards", "3", "--out", str(tmp_path)]) == 2
    assert "shards must be a power of two" in capsys.readouterr().err and not any(tmp_path.rglob("*.*"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
@pytest.mark.parametrize("command", [["train"], ["run", "02"]])
def test_cuda_that_is_not_there_is_refused_before_anything_starts(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "-p", "device", "cuda", "--out", str(tmp_path)]) == 2
    assert "finds no CUDA device here" in capsys.readouterr().err
    assert not any(tmp_path.rglob("*.*"))
