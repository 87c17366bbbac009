"""ncnn: same logits, every layer in one group, a proof that can fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.backends import get_backend
from lib.backends._aligned import Leaf, Step, align
from lib.backends.interface import RUNTIME
from lib.model import build_network, leaf_layers
from lib.signs import NUM_CLASSES
from tests.new_python import printed_by
from tests.ready_backend import expected, images, loaded, prepared
from tests.untrained import save_untrained

pytest.importorskip("ncnn")
pytest.importorskip("pnnx")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_untrained(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(get_backend("ncnn"), checkpoint, tmp_path_factory.mktemp("prepared"))


def test_prepared_files_are_what_load_reads_and_no_more(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"model.ncnn.param", "model.ncnn.bin", "layers.json"}


def test_threads_that_share_a_batch_give_the_logits_of_torch_and_time_every_layer(
    checkpoint: Path, folder: Path
) -> None:
    backend = loaded(get_backend("ncnn"), checkpoint, folder, 1, 8, 70, num_threads=2)
    for num_images in (1, 70):
        batch = images(num_images)
        assert np.allclose(backend.predict(batch), expected(checkpoint, batch), atol=1e-3)
    times, kernels = backend.layer_times(images(8), 3), backend.trace(images(8))
    members = [member for group in times if group != RUNTIME for member in group.split("+")]
    assert members == [layer.name for layer in leaf_layers(build_network("signnet_small", NUM_CLASSES))]
    assert set(times) == set(kernels) and all(len(passes) == 3 for passes in times.values())
    assert kernels["stem.conv+stem.bn+stem.relu"][0].startswith("Convolution fp32 pack")


def test_runs_without_torch(checkpoint: Path, folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import numpy as np; from lib.backends import get_backend\n"
        "backend = get_backend('ncnn')(); backend.import_runtime()\n"
        f"backend.load(Path({str(checkpoint)!r}), Path({str(folder)!r}), 1); backend.compile((2, 3, 32, 32))\n"
        "backend.predict(np.zeros((2, 3, 32, 32), np.float32))\n"
        "backend.layer_times(np.zeros((2, 3, 32, 32), np.float32), 1)\n"
        "print('torch' in sys.modules)\n"
    )
    assert printed_by(code).splitlines()[-1] == "False"


def test_proof_fails_without_packed_channels(checkpoint: Path, folder: Path) -> None:
    class Plain(get_backend("ncnn")):  # type: ignore[misc]
        def options(self, option: Any) -> None:
            super().options(option)
            option.use_packing_layout = False

    backend = loaded(Plain, checkpoint, folder)
    assert backend.prove(backend.trace(images(2))).reason == "no convolution packs its channels"


def test_proof_fails_in_half_precision(checkpoint: Path, folder: Path) -> None:
    class Half(get_backend("ncnn")):  # type: ignore[misc]
        def options(self, option: Any) -> None:
            super().options(option)
            option.use_bf16_packed = option.use_bf16_storage = True

    backend = loaded(Half, checkpoint, folder)
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
