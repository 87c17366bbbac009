"""The machine's peaks and the cost of preparing an image: what is measured, and what happens when a library breaks."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.bench import peaks, preprocessing_time
from lib.bench.peaks import Library, Size
from lib.bench.preprocessing_time import measure_preprocessing
from lib.data import Split
from lib.data.preprocessing import Preprocessing
from lib.records.schema import Peak, Peaks
from tests.made_data import noise
from tests.waiting import HANG_S

SMALL: Size = (8, 16, 24)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SIZES": (SMALL, (16, 16, 16)), "SLICE_S": 0.0, "PAUSE_S": 0.0, "NUM_REPEATS": 1,
                        "copy_bytes": lambda: 2**16}.items():  # fmt: skip
        monkeypatch.setattr(peaks, name, value)


def library(title: str) -> Library:
    return next(each for each in peaks.libraries(1) if each.title == title and each.precision in ("fp32", "int8"))


def as_array(product: object) -> np.ndarray:
    if isinstance(product, torch.Tensor):
        product = product.float().numpy()
    assert isinstance(product, np.ndarray)
    return product


@pytest.mark.parametrize("each", [each for each in peaks.libraries(1) if each.precision != "int8"],
                         ids=lambda each: f"{each.precision}-{each.title}")  # fmt: skip
def test_every_library_multiplies_the_same_matrices(each: Library) -> None:
    left, right = peaks.operands(SMALL)
    assert np.allclose(as_array(each.make(SMALL)()), left @ right, atol=1e-5 if each.precision == "fp32" else 0.1)
    assert torch.backends.mkldnn.enabled, "plain BLAS switches it off for its own call only"


@pytest.fixture
def seven_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the range of values: CPUs without VNNI add two products of 8 bits in 16, and cut off what is beyond."""
    whole = peaks.operands(SMALL)
    monkeypatch.setattr(peaks, "operands", lambda size: tuple(matrix / 2 for matrix in whole))


def test_int8_products_are_products_of_the_8_bit_matrices(seven_bits: None) -> None:
    left, right = (np.asarray(matrix, dtype=np.int32) for matrix in peaks.torch_pair(SMALL, "int8"))
    assert np.array_equal(as_array(library("torch._int_mm").make(SMALL)()), left @ right)
    pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    shifted = library("ONNX Runtime MatMulInteger").make(SMALL)()
    assert isinstance(shifted, list)
    assert np.array_equal(shifted[0], (left + 128) @ right)


def test_onednn_multiplies_in_int8(seven_bits: None) -> None:
    left, right = (np.asarray(matrix, dtype=np.int32) for matrix in peaks.torch_pair(SMALL, "int8"))
    product = peaks.onednn_int8(SMALL)()
    assert isinstance(product, torch.Tensor)
    signed = product.dtype == torch.int8
    expected = 1e-4 * ((left if signed else left + 128) @ right)
    assert (
        np.abs(product.numpy() - np.clip(np.round(expected), -128 if signed else 0, 127 if signed else 255)).max() < 2
    )


def test_measuring_finds_copy_and_every_precision_and_says_how(quick: None, capfd: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    try:
        peaks.main(1, 2)
    finally:
        torch.set_num_threads(threads)
    found = peaks.peaks_of(capfd.readouterr().out)
    assert found is not None and {"fp32", "int8"} <= set(found.matmul)
    assert found.copy.per_s > 1e6 and "MiB" in found.copy.how
    assert "16 x 16 x 16" in found.matmul["fp32"].how or "8 x 16 x 24" in found.matmul["fp32"].how


def test_the_best_line_counts_and_other_lines_are_passed_over() -> None:
    output = """a library says hello
{"what": "copy", "per_s": 5e9, "how": "a"}
{"what": "fp32", "per_s": 1e11, "how": "slow"}
{"what": "fp32", "per_s": 2e11, "how": "quick"}
{"what": "fp32", "per_s": 1.5e11, "how": "later"}
{"unknown": 1}
[3]
{"what": "int8", "per_s": 4e1"""
    found = peaks.peaks_of(output)
    assert found is not None
    assert (found.copy.per_s, found.copy.how) == (5e9, "a")
    assert {name: peak.how for name, peak in found.matmul.items()} == {"fp32": "quick"}
    assert peaks.peaks_of('{"what": "fp32", "per_s": 1e11, "how": "x"}') is None, "without a copy"


def test_what_was_printed_before_a_crash_or_a_hang_is_kept() -> None:
    command = [sys.executable, "-S", "-c"]
    crash = "import os; print('kept', flush=True); os.abort()"
    assert peaks.output_of([*command, crash], {}, limit_s=HANG_S).strip() == "kept"
    hang, printed, limit_s = "import time; print('kept', flush=True); time.sleep(100_000)", "", 0.5
    while not printed and limit_s < 100:  # until the process came to its print before the limit
        printed, limit_s = peaks.output_of([*command, hang], {}, limit_s), 2 * limit_s
    assert printed.strip() == "kept"


def test_what_the_shell_says_about_computing_does_not_reach_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, str] = {}

    def output_of(command: list[str], environ: dict[str, str], limit_s: float) -> str:
        asked.update(environ)
        return ""

    monkeypatch.setattr(peaks, "output_of", output_of)
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
    assert peaks.measure_peaks(3) is None
    assert "ONEDNN_DEFAULT_FPMATH_MODE" not in asked
    assert asked["OMP_NUM_THREADS"] == asked["OPENBLAS_NUM_THREADS"] == "3"


def measured(libraries: list[Library]) -> list[tuple[str, str]]:
    told: list[tuple[str, str]] = []
    peaks.measure_matmul(libraries, peaks.SIZES, lambda what, per_s, how: told.append((what, how)))
    return told


def never(size: Size) -> Callable[[], object]:
    raise RuntimeError("could not create a primitive")


def test_a_library_that_breaks_is_left_out_and_none_is_asked_after_the_budget(
    quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries = [Library("bf16", "broken", never), Library("fp32", "sound", lambda size: lambda: None)]
    assert set(measured(libraries)) == {("fp32", "sound, 8 x 16 x 24"), ("fp32", "sound, 16 x 16 x 16")}
    monkeypatch.setattr(peaks, "BUDGET_S", -1.0)
    assert measured(libraries) == []


def test_a_library_that_takes_very_long_is_asked_once_and_not_for_more(
    quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peaks, "LONGEST_CALL_S", 0.01)
    calls: list[Size] = []

    def slow(size: Size) -> Callable[[], object]:
        def call() -> None:
            calls.append(size)
            time.sleep(0.02)

        return call

    monkeypatch.setattr(peaks, "NUM_REPEATS", 0)
    measured([Library("int8", "slow", slow)])
    assert calls == [SMALL]


def test_copied_memory_exceeds_the_last_level_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks, "memory_bytes", lambda: 2**35)
    monkeypatch.setattr(peaks, "largest_cache_bytes", lambda: 260 * 2**20)
    assert 2 * peaks.copy_bytes() >= 2 * 260 * 2**20
    monkeypatch.setattr(peaks, "memory_bytes", lambda: 2**30)
    assert peaks.copy_bytes() == 2**26, "a small machine is not filled"


def images_of(side: int = 64) -> Split:
    split = noise("val", 12)
    return replace(split, sizes=np.full_like(split.sizes, side))


PREPROCESSING = Preprocessing((0.3, 0.3, 0.3), (0.2, 0.2, 0.2))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NUM_IMAGES": 5, "NUM_ROUNDS": 3, "BUDGET_S": HANG_S}.items():
        monkeypatch.setattr(preprocessing_time, name, value)


def test_preprocessing_has_a_number_for_every_part_and_round(few: None) -> None:
    found = measure_preprocessing(images_of(), PREPROCESSING)
    assert [len(part) for part in (found.decode_s, found.resize_s, found.normalize_s)] == [3, 3, 3]
    assert min(found.decode_s + found.resize_s + found.normalize_s) > 0
    assert (found.num_images, found.file_format) == (5, "PPM")


def test_preprocessing_works_on_images_of_their_original_size(few: None) -> None:
    small, large = (min(measure_preprocessing(images_of(side=side), PREPROCESSING).decode_s) for side in (32, 640))
    assert large > 2 * small


def test_preprocessing_uses_one_thread_and_gives_the_others_back(few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    normalize = Preprocessing.normalize

    def noting(self: Preprocessing, images: np.ndarray) -> np.ndarray:
        seen.append(torch.get_num_threads())
        return normalize(self, images)

    monkeypatch.setattr(Preprocessing, "normalize", noting)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        measure_preprocessing(images_of(), PREPROCESSING)
        assert set(seen) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_preprocessing_begins_no_round_after_its_budget(few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocessing_time, "BUDGET_S", 0.0)
    assert len(measure_preprocessing(images_of(), PREPROCESSING).decode_s) == 1


def test_peaks_are_measured_once_in_a_run_and_again_where_they_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, bool]] = []

    def measure(num_threads: int, *, quick: bool) -> Peaks:
        calls.append((num_threads, quick))
        return found

    found = Peaks({"fp32": Peak(1e11, "a library")}, Peak(1e10, "copy"))
    monkeypatch.setattr(peaks, "measure_peaks", measure)
    assert peaks.peaks_of_run(tmp_path, 2) == peaks.peaks_of_run(tmp_path, 2) == found
    assert calls == [(2, False)]
    for file in (tmp_path / "peaks").iterdir():
        file.write_text("{ cut off")
    assert peaks.peaks_of_run(tmp_path, 2) == found and calls == [(2, False)] * 2
    assert peaks.peaks_of_run(None, 2) == found and calls == [(2, False)] * 3, "without a run nothing is kept"
    assert peaks.peaks_of_run(tmp_path, 2, quick=True) == found and calls[-1] == (2, True), (
        "what is quick is kept apart"
    )
