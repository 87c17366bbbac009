"""ncnn: same logits, every layer in one group, a proof that can fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lib.backends import get_backend
from lib.backends._aligned import Leaf, Step, align
from lib.backends.interface import RUNTIME, Backend
from lib.model import build_network, leaf_layers, load_checkpoint
from tests.untrained import save_untrained

pytest.importorskip("ncnn")
pytest.importorskip("pnnx")
pytestmark = pytest.mark.all_backends

PROJECT_ROOT = Path(__file__).parents[1]


def images(num_images: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(num_images, 3, 32, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_untrained(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prepared")
    get_backend("ncnn")().prepare(checkpoint, images(0), path)
    return path


def loaded(backend: type[Backend], checkpoint: Path, folder: Path, num_threads: int, *sizes: int) -> Backend:
    instance = backend()
    instance.import_runtime()
    instance.load(checkpoint, folder, num_threads)
    for size in sizes:
        instance.compile((size, 3, 32, 32))
    return instance


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("num_images", [1, 3, 70])
def test_same_logits_as_torch(checkpoint: Path, folder: Path, num_images: int, num_threads: int) -> None:
    batch = images(num_images)
    with torch.inference_mode():
        expected = load_checkpoint(checkpoint).model(torch.from_numpy(batch)).numpy()
    logits = loaded(get_backend("ncnn"), checkpoint, folder, num_threads, num_images).predict(batch)
    assert logits.dtype == np.float32 and (batch == images(num_images)).all()
    assert np.allclose(logits, expected, atol=1e-3)


def test_prepared_files_are_what_load_reads_and_no_more(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"model.ncnn.param", "model.ncnn.bin", "layers.json"}


def test_every_layer_is_timed_also_where_threads_share_a_batch(checkpoint: Path, folder: Path) -> None:
    backend = loaded(get_backend("ncnn"), checkpoint, folder, 2, 8)
    times, kernels = backend.layer_times(images(8), 3), backend.trace(images(8))
    members = [member for group in times if group != RUNTIME for member in group.split("+")]
    assert members == [layer.name for layer in leaf_layers(build_network("signnet_small"))]
    assert set(times) == set(kernels) and all(len(passes) == 3 for passes in times.values())
    assert kernels["stem.conv+stem.bn+stem.relu"][0].startswith("Convolution fp32 pack")


def test_runs_without_torch(checkpoint: Path, folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import numpy as np; from lib.backends import get_backend\n"
        "backend = get_backend('ncnn')(); backend.import_runtime()\n"
        f"backend.load(Path({str(checkpoint)!r}), Path({str(folder)!r}), 1); backend.compile((2, 3, 32, 32))\n"
        "backend.predict(np.zeros((2, 3, 32, 32), np.float32))\n"
        "backend.layer_times(np.zeros((2, 3, 32, 32), np.float32), 1)\n"
        "sys.exit('torch was imported' if 'torch' in sys.modules else 0)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_proof_fails_without_packed_channels(checkpoint: Path, folder: Path) -> None:
    class Plain(get_backend("ncnn")):  # type: ignore[misc]
        def options(self, option: Any) -> None:
            super().options(option)
            option.use_packing_layout = False

    backend = loaded(Plain, checkpoint, folder, 1)
    assert backend.prove(backend.trace(images(2))).reason == "no convolution packs its channels"


def test_proof_fails_in_half_precision(checkpoint: Path, folder: Path) -> None:
    class Half(get_backend("ncnn")):  # type: ignore[misc]
        def options(self, option: Any) -> None:
            super().options(option)
            option.use_bf16_packed = option.use_bf16_storage = True

    backend = loaded(Half, checkpoint, folder, 1)
    assert "did not run in fp32" in backend.prove(backend.trace(images(2))).reason


def test_single_layer_without_packing_is_doubted() -> None:
    backend = get_backend("ncnn")()
    proof = backend.prove({"conv1": ["Convolution fp32 pack1"], "conv2": ["Convolution fp32 pack4"]})
    assert proof.passed and "conv1" in proof.investigate and "conv2" not in proof.investigate


def test_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"cannot read .*model\.ncnn\.param"):
        get_backend("ncnn")().load(tmp_path, tmp_path, 1)


class TestAlign:
    LEAVES = (
        Leaf("conv1", "Conv2d", 27),
        Leaf("bn1", "BatchNorm2d", 3),
        Leaf("relu", "ReLU", 0),
        Leaf("conv2", "Conv2d", 81),
        Leaf("short", "Conv2d", 9),
        Leaf("add", "Add", 0),
        Leaf("relu#2", "ReLU", 0),
    )

    def test_layers_without_a_step_join_the_one_before(self) -> None:
        conv, add = Step(("Conv2d",)), Step(("Add",))
        assert align([conv, Step(()), conv, conv, add], list(self.LEAVES)) == [
            "conv1+bn1+relu",
            RUNTIME,
            "conv2",
            "short",
            "add+relu#2",
        ]

    def test_weights_tell_branches_apart(self) -> None:
        steps = [Step(("Conv2d",), 27), Step(("Conv2d",), 9), Step(("Conv2d",), 81), Step(("Add",)), Step(("ReLU",))]
        assert align(steps, list(self.LEAVES)) == ["conv1+bn1+relu", "short", "conv2", "add", "relu#2"]

    def test_step_behind_a_convolution_that_did_not_run_belongs_to_nobody(self) -> None:
        assert align([Step(("Conv2d",), 27), Step(("Add",))], list(self.LEAVES))[1] == RUNTIME
