"""A release: written from a run, read and verified from its files alone, used without torch."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from onnx import numpy_helper
from PIL import Image

from lib.cli import main
from lib.data.images import pixel_digest
from lib.data.preprocessing import Preprocessing
from lib.errors import RefusedError, UserError
from lib.files import sha256_file
from lib.header import CheckpointMetadata, read_header
from lib.records.network_outputs import Outputs
from lib.records.schema import (
    Accuracy,
    BenchmarkRecord,
    ReleasedModel,
    TrainRecord,
    read_record,
    record_path,
    write_record,
)
from lib.release import Release, verify, write_release
from lib.release.bom import bom_of
from lib.release.card import EXAMPLE, card_of
from lib.release.contents import CARD_VERSION
from lib.release.pixels import pixels_variant
from lib.release.predicting import Model
from lib.release.reader import FP32, UINT8, Figures, Manifest, Speed, WeakClass
from lib.release.verifying import broken_link
from lib.release.writer import plan_release, write_sums
from tests.conftest import Refused
from tests.made_release import made_run, release_of, released_data

FP32_RECORD, INT8_RECORD = "records/03_benchmark.onnxruntime.json", "records/03_benchmark.onnxruntime-int8.json"
TRAIN_RECORD = "records/02_train.json"
Change = Callable[[Path, Path], None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release; tests leave it as it is."""
    return release_of(made_run(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of another network."""
    return release_of(made_run(tmp_path_factory.mktemp("other"), seed=1))


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def test_release_of_a_run_holds_every_link_and_is_not_called_authentic(
    whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(whole)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0].split()[-1] for line in lines[:-2]] == [
        "files", "trained", "evaluated", "benchmarked", "exported", "derived", "data", "validation", "samples", "demo"
    ]  # fmt: skip
    assert lines[-1].startswith("consistent, not authentic")


def test_signature_changes_no_digest_is_not_taken_for_checked_and_stays_with_its_content(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = Path(shutil.copytree(whole.parent, tmp_path / "run"))
    digest = Release.load(run_dir).digest
    (run_dir / "release/model.sig").write_text("{}")
    assert main(["verify", str(run_dir)]) == 0 and Release.load(run_dir).digest == digest
    assert capsys.readouterr().out.splitlines()[-1].startswith("consistent; its signature was not checked")
    assert (release_of(run_dir) / "model.sig").exists(), "the same content was written again"


@pytest.mark.parametrize("command", ["sign", "verify"])
def test_a_key_without_the_packages_that_sign_is_refused_with_what_installs_them(
    whole: Path, command: str, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)  # importing it fails
    assert "model_signing is not installed; `make EXTRAS=sign .venv`" in refused(command, whole, "--key", "key.pem")


def test_sums_are_those_of_coreutils(whole: Path) -> None:
    ended = subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=whole, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stdout


def test_bill_of_materials_is_cyclonedx_and_names_model_data_and_files(whole: Path) -> None:
    text = (whole / "sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bom = json.loads(text)
    assert bom["metadata"]["component"]["type"] == "machine-learning-model"
    files = {part["name"] for part in bom["components"] if part["type"] == "file"}
    assert files == {*Release.load(whole).sums} - {"sbom.cdx.json"}


def test_run_folder_stands_for_its_release_and_equal_content_has_an_equal_digest(whole: Path) -> None:
    again, notes = write_release(plan_release(whole.parent), released_data())
    assert again is not None and Release.load(whole.parent).digest == again.digest and notes == []


def test_release_takes_the_place_of_an_earlier_one_and_says_so(tmp_path: Path) -> None:
    earlier = Release.load(release_of(made_run(tmp_path))).digest
    path = record_path(tmp_path, "03_benchmark", "onnxruntime-int8")
    path.unlink()
    written = write_release(plan_release(tmp_path), released_data())
    assert written.notes == [
        "onnxruntime-int8 was not measured in this run",
        f"it replaces release {earlier[:12]}, which had other content",
    ]
    assert not (tmp_path / "release/onnx/model_quantized.onnx").exists() and broken_link(tmp_path) == ""
    assert not list(tmp_path.glob(".release-*"))


# --- what has been tampered with, all sums written anew ---------------------------------------------------------------


def edit(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content, indent=1))


def rehash(folder: Path) -> None:
    """Write every hash that names a file of the folder as somebody would who wants to hide a change."""

    def hashes(manifest: Any) -> None:
        manifest["checkpoint_sha256"] = sha256_file(folder / "model.safetensors")
        manifest["records"] = {label: sha256_file(folder / f"records/{label}.json") for label in manifest["records"]}
        for model in manifest["models"]:
            if model["sha256"] != (sha256 := sha256_file(folder / model["path"])):
                model |= {"sha256": sha256, "num_bytes": (folder / model["path"]).stat().st_size}

    edit(folder / "release.json", hashes)
    write_sums(folder)
    release = Release.load(folder)
    others = {path: sha256 for path, sha256 in release.sums.items() if path != "sbom.cdx.json"}
    trained_on = read_record(folder / TRAIN_RECORD, TrainRecord).environment
    bom = bom_of(release.manifest, release.metadata, trained_on, others)
    (folder / "sbom.cdx.json").write_text(json.dumps(bom))
    write_sums(folder)


def in_outputs(change: Callable[[Outputs], Outputs]) -> Change:
    def changed(folder: Path, _: Path) -> None:
        path = folder / "validation.safetensors"
        path.write_bytes(change(Outputs.load(path)).to_bytes())

    return changed


other_outputs = in_outputs(lambda outputs: replace(outputs, labels=outputs.labels[::-1].copy() % 7))
# all right, where the network guesses
swapped_answers = in_outputs(lambda outputs: Outputs.of(np.eye(43)[outputs.labels], outputs.sequences, outputs.labels))


def other_checkpoint(folder: Path, other: Path) -> None:
    shutil.copy(other / "model.safetensors", folder)


def other_checkpoint_and_records(folder: Path, other: Path) -> None:
    other_checkpoint(folder, other)
    sha256 = sha256_file(folder / "model.safetensors")
    edit_records(folder, lambda record: record.update(checkpoint_sha256=sha256))


def edit_records(folder: Path, change: Callable[[Any], None]) -> None:
    for record in (folder / "records").iterdir():
        edit(record, change)


def other_model(name: str, prepared: str = "") -> Change:
    """Another ONNX file; with the name that `prepare` gave it, in the record too."""

    def change(folder: Path, other: Path) -> None:
        shutil.copy(other / name, folder / name)
        if prepared:
            record = folder / (INT8_RECORD if "quantized" in name else FP32_RECORD)
            edit(record, lambda content: content["preparation"]["files"].update({prepared: sha256_file(folder / name)}))

    return change


def in_file(name: str, old: str, new: str) -> Change:
    def change(folder: Path, _: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


def in_json(name: str, change: Callable[[Any], None]) -> Change:
    return lambda folder, _: edit(folder / name, change)


def better(content: Any) -> None:
    content["accuracy"]["val"]["top1"] = 0.999


def better_figures(content: Any) -> None:
    content["figures"]["accuracy"]["val"]["top1"] = 0.999


def faster(content: Any) -> None:
    content["figures"]["speeds"][0]["speedup"][0] = 9.0


def other_labels(content: Any) -> None:
    content["id2label"]["14"] = "give way to lorries"


def other_mean(content: Any) -> None:
    content["image_mean"] = [0.5, 0.5, 0.5]


def other_logits(folder: Path, _: Path) -> None:
    edit(folder / FP32_RECORD, lambda record: record["samples"][0]["logits"].reverse())
    edit(folder / "samples/samples.json", lambda samples: samples[0]["logits"]["onnx/model.onnx"].reverse())


def other_image(folder: Path, _: Path) -> None:
    Image.new("RGB", (32, 32)).save(folder / "samples/03.png")


def not_utf8(folder: Path, _: Path) -> None:
    (folder / "preprocessor_config.json").write_bytes(b"\xff")


def not_an_image(folder: Path, _: Path) -> None:
    (folder / "samples/03.png").write_bytes(b"none")


def added(folder: Path, _: Path) -> None:
    (folder / "helper.py").write_text("import os")


def truncated(name: str) -> Change:
    def change(folder: Path, _: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:-300_000])

    return change


def training_images(change: Callable[[list[str]], list[str]]) -> Change:
    def changed(folder: Path, _: Path) -> None:
        path = folder / "training-images.sha256"
        path.write_text("".join(change(path.read_text().splitlines(keepends=True))))

    return changed


def removed(name: str) -> Change:
    """Its line in SHA256SUMS goes too."""
    return lambda folder, _: (folder / name).unlink()


def in_models(**changes: Any) -> Change:
    """In the entry of the variant for pixels."""
    return in_json("release.json", lambda content: content["models"][-1].update(changes))


def other_error_max(folder: Path, other: Path) -> None:
    """The card says it too."""
    in_models(error_max=0.5)(folder, other)
    write_sums(folder)
    release = Release.load(folder)
    (folder / "README.md").write_text(card_of(release.manifest, release.metadata))


def in_train(**changes: Any) -> Change:
    return in_json(TRAIN_RECORD, lambda content: content.update(changes))


def fewer_samples(content: Any) -> None:
    del content["samples"][-1]


def worst_class(content: Any) -> None:
    content["accuracy"]["val"]["worst_class_recall"] += 0.1


def in_constant(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Change:
    """In the variant for pixels."""

    def changed(folder: Path, _: Path) -> None:
        model = onnx.load(folder / UINT8)
        (constant,) = [each for each in model.graph.initializer if each.name == name]
        constant.raw_data = change(numpy_helper.to_array(constant)).astype(np.float32).tobytes()
        onnx.save(model, folder / UINT8)

    return changed


def not_a_number(folder: Path, _: Path) -> None:
    """The measured model answers NaN."""
    model = onnx.load(folder / FP32)
    (last,) = [node for node in model.graph.node if "logits" in node.output]
    last.output[:] = ["finite"]
    model.graph.initializer.append(numpy_helper.from_array(np.array(np.nan, np.float32), "nan"))
    model.graph.node.append(onnx.helper.make_node("Add", ["finite", "nan"], ["logits"]))
    onnx.save(model, folder / FP32)
    sha256 = sha256_file(folder / FP32)
    edit(folder / FP32_RECORD, lambda content: content["preparation"]["files"].update({"exported.onnx": sha256}))
    (folder / UINT8).write_bytes(
        pixels_variant(folder / FP32, read_header(folder / "model.safetensors", "").preprocessing)
    )


def other_size(folder: Path, _: Path) -> None:
    """The record names the smaller image too."""
    image = Image.open(folder / "samples/03.png").resize((16, 16))
    image.save(folder / "samples/03.png")
    digest = pixel_digest(image).hex()
    for name in (FP32_RECORD, INT8_RECORD):
        edit(folder / name, lambda content: content["samples"][3].update(digest=digest))
    edit(folder / "samples/samples.json", lambda samples: samples[3].update(pixels_sha256=digest))


def other_data(content: Any) -> None:
    content["data"]["manifest_hash"] = "0" * 64


def failed_parity(content: Any) -> None:
    content["parity"]["outcome"] = "failed"


def half_lost(content: Any) -> None:
    content["parity"]["top1"] += 0.1


@pytest.mark.parametrize(
    ("change", "link"),
    [
        (other_checkpoint, "trained: model.safetensors is not the checkpoint"),
        (other_checkpoint_and_records, "exported: onnx/model.onnx does not hold the weights"),
        (other_model("onnx/model.onnx"), "exported: onnx/model.onnx is not the file that onnxruntime measured"),
        (other_model("onnx/model.onnx", "exported.onnx"), "exported: onnx/model.onnx does not hold the weights"),
        (other_model("onnx/model_quantized.onnx", "quantized.onnx"), "samples: onnx/model_quantized.onnx does not"),
        (other_model("onnx/model_uint8.onnx"), "exported: onnx/model_uint8.onnx is not what follows from onnx/model"),
        (
            in_constant("pixels.mean", lambda mean: mean * 1.00001),
            "exported: onnx/model_uint8.onnx is not what follows",
        ),
        (not_a_number, "samples: the logits of onnx/model.onnx are not finite"),
        (in_json(TRAIN_RECORD, better), "evaluated: top-1 on val is not that of the confusion matrix"),
        (in_json(TRAIN_RECORD, worst_class), "evaluated: the worst class on val is not that of the confusion matrix"),
        (in_train(accuracy={}), "evaluated: the record of the training has no accuracy on val"),
        (in_train(confusion={}), "evaluated: KeyError: 'val'"),
        (in_train(confusion={"val": [[1, 0], [1]]}), "evaluated: ValueError: setting an array element"),
        (in_json("release.json", better_figures), "derived: release.json: figures.accuracy.val.top1 does not follow"),
        (in_json("release.json", faster), "derived: release.json: figures.speeds.0.speedup.0 does not follow"),
        (in_models(num_bytes=1), "derived: release.json: models.2.num_bytes does not follow"),
        (in_models(made_of="onnx/other.onnx"), "derived: release.json: models.2.made_of does not follow"),
        (other_error_max, "samples: the logits of onnx/model_uint8.onnx differ by 0 at most here"),
        (in_json("release.json", lambda content: content.pop("temperature")), "derived: release.json: temperature do"),
        (in_json("release.json", lambda content: content.update(card_version=99)), "derived: README.md has version 99"),
        (in_file("README.md", "Teaching, research", "Driving, research"), "derived: README.md: the card does not say"),
        (in_json("config.json", other_labels), "derived: config.json: id2label.14 does not follow"),
        (in_file("config.json", "}", ""), "derived: JSONDecodeError: "),
        (not_utf8, "derived: UnicodeDecodeError: "),
        (
            in_json("preprocessor_config.json", other_mean),
            "derived: preprocessor_config.json: image_mean.0 does not follow",
        ),
        (other_logits, "samples: onnx/model.onnx does not give the logits"),
        (other_outputs, "validation: validation.safetensors has other images, tracks or labels"),
        (swapped_answers, "validation: validation.safetensors has top-1"),
        (lambda folder, _: (folder / "validation.safetensors").write_bytes(b"x"), "validation: "),
        (other_image, "samples: samples/03.png is not the image that was measured"),
        (other_size, "samples: ValueError: all input arrays must have the same shape"),
        (not_an_image, "samples: "),
        (added, "files: helper.py is not a part of any release"),
        *[
            (removed(name), f"files: {name} is missing, and SHA256SUMS does not name it")
            for name in ("README.md", "config.json", "training-images.sha256", "samples/03.png")
        ],
        *[
            (training_images(change), "data: training-images.sha256 must have the SHA-256 of 86 training images")
            for change in (lambda lines: lines[1:], lambda lines: ["x\n"] * len(lines), lambda lines: lines[::-1])
        ],
        (in_json(FP32_RECORD, other_data), "benchmarked: onnxruntime was measured on other data"),
        (in_json(INT8_RECORD, fewer_samples), "benchmarked: onnxruntime-int8 has other samples than onnxruntime"),
        (in_json(INT8_RECORD, failed_parity), "benchmarked: onnxruntime-int8 has not passed parity"),
        (in_json(INT8_RECORD, half_lost), "benchmarked: the parity figures of onnxruntime-int8 contradict"),
        (in_file(INT8_RECORD, '"params"', '"parameters"'), "records: "),
        (truncated("onnx/model_uint8.onnx"), "exported: DecodeError: "),
        (in_file("demo.html", '["speed limit 20', '["speed limit 90'), "demo: demo.html does not have the network of"),
    ],
)
def test_tampering_with_all_sums_written_anew_is_found(copy: Path, other: Path, change: Change, link: str) -> None:
    change(copy, other)
    rehash(copy)
    assert Release.load(copy), "the sums alone show nothing"
    with pytest.raises(RefusedError) as refused:
        verify(copy)
    assert str(refused.value).startswith(link) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "link"),
    [
        (in_constant("pixels.mean", lambda mean: mean * 1.0000001), ""),
        (in_constant("pixels.mean", lambda mean: mean * 2), "samples: onnx/model_uint8.onnx does not give the logits"),
        (in_constant("pixels.std", lambda std: std * np.nan), "samples: the logits of onnx/model_uint8.onnx are not f"),
        (truncated("onnx/model_uint8.onnx"), "samples: ONNX Runtime cannot run"),
    ],
)
def test_without_onnx_the_variant_for_pixels_is_compared_on_the_samples_only_and_that_is_said(
    copy: Path, other: Path, change: Change, link: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(copy, other)
    rehash(copy)
    monkeypatch.setitem(sys.modules, "onnx", None)  # importing it fails
    assert broken_link(copy).startswith(link)
    if not link:
        assert "on the samples only, as onnx is not installed" in verify(copy)[1][4]


def test_words_of_an_earlier_card_are_not_compared_and_that_is_said(copy: Path, other: Path) -> None:
    in_file("README.md", "Teaching, research", "Driving, research")(copy, other)
    edit(copy / "release.json", lambda content: content.update(card_version=1))
    rehash(copy)
    assert "the words of README.md are of version 1 and were not compared" in verify(copy)[1][5]


def test_release_of_before_there_were_temperatures_still_verifies(tmp_path: Path) -> None:
    earlier = release_of(made_run(tmp_path, ("onnxruntime",), calibration=(1.0, 0.0)))
    edit(earlier / "release.json", lambda content: content.pop("temperature"))
    edit(earlier / "release.json", lambda content: content.pop("least_confidence"))
    rehash(earlier)
    assert verify(earlier)[0].manifest.temperature == 1


def test_words_of_a_page_of_another_version_are_not_compared_and_that_is_said(copy: Path, other: Path) -> None:
    in_file("demo.html", "Drop an image here", "Bring an image here")(copy, other)
    rehash(copy)
    assert "is of another version otherwise, and was not compared" in verify(copy)[1][-1]


def test_missing_runtime_is_not_a_broken_link(whole: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # importing it fails
    assert "onnxruntime is not installed" in refused("verify", whole)


def test_bill_of_materials_that_does_not_fit_the_files_is_found(copy: Path, other: Path) -> None:
    in_file("sbom.cdx.json", '"supervised"', '"unsupervised"')(copy, other)
    write_sums(copy)
    assert broken_link(copy).startswith(
        "derived: sbom.cdx.json: metadata.component.modelCard.modelParameters.approach.type"
    )
    assert main(["verify", str(copy)]) == 1, "found wrong; 2 is for what is not a whole release"


# --- what is not whole ------------------------------------------------------------------------------------------------


def swapped(folder: Path, other: Path) -> None:
    shutil.copy(other / "onnx/model.onnx", folder / "onnx/model.onnx")


def missing(folder: Path, _: Path) -> None:
    (folder / "config.json").unlink()


def linked(folder: Path, _: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("/etc/passwd")


def newer(content: Any) -> None:
    content["schema_version"] = 99


def misfit(content: Any) -> None:
    content["models"] = "none"


def outside(folder: Path, _: Path) -> None:
    sums = folder / "SHA256SUMS"
    sums.write_text(f"{sums.read_text()}{'0' * 64}  ../outside\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swapped, "onnx/model.onnx is not the file that SHA256SUMS names; get the release again"),
        (truncated("onnx/model_quantized.onnx"), "model_quantized.onnx is not the file that SHA256SUMS names"),
        (missing, "config.json is missing, and SHA256SUMS names it"),
        (added, "helper.py is not part of this release"),
        (linked, "config.json is a link, and a release has files only"),
        (outside, "/outside is missing"),
        (in_file("SHA256SUMS", "  config.json", " config.json"), "must have one line for each file"),
        (in_json("release.json", newer), "has release schema 99, this version reads 1 and 2; use the version"),
        (in_json("release.json", misfit), "release.json is damaged at 'models'"),
        (in_file("release.json", "{", "["), "release.json is not readable as a release"),
        (lambda folder, _: (folder / "release.json").unlink(), "is not a release (it has no release.json)"),
        (lambda folder, _: shutil.rmtree(folder), "does not exist; give the folder that 05"),
    ],
)
def test_what_is_not_a_whole_release_is_refused_in_one_line(
    copy: Path, other: Path, change: Change, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(copy, other)
    assert main(["verify", str(copy)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


# --- what has no release ----------------------------------------------------------------------------------------------


def test_run_without_onnx_runtime_gets_no_release_and_the_reason(tmp_path: Path) -> None:
    run_dir = made_run(tmp_path, backends=("onnxruntime-int8",))
    plan = plan_release(run_dir)
    assert plan.reason == "onnxruntime was not measured in this run"
    assert write_release(plan, None).release is None and not (run_dir / "release").exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": "failed", "error": "it broke"}, "failed: it broke"),
        ({"checkpoint_sha256": "0" * 64}, "it measured another network"),
        ({"samples": []}, "its model was not kept"),
    ],
)
def test_measurement_that_cannot_be_released_is_left_out_with_the_reason(
    whole: Path, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    run_dir = Path(shutil.copytree(whole.parent, tmp_path / "run"))
    path = record_path(run_dir, "03_benchmark", "onnxruntime")
    record = read_record(path, BenchmarkRecord)
    for name, value in changes.items():
        setattr(record, name, value)
    write_record(record, path)
    assert reason in plan_release(run_dir).reason


def test_kept_file_that_was_changed_after_the_measurement_is_refused(whole: Path, tmp_path: Path) -> None:
    run_dir = Path(shutil.copytree(whole.parent, tmp_path / "run"))
    (kept,) = run_dir.glob("models/*/quantized.onnx")
    kept.write_bytes(b"another")
    with pytest.raises(UserError, match="is not the file that onnxruntime-int8 measured; run 03_benchmark again"):
        plan_release(run_dir)


def test_words_of_the_card_have_a_version() -> None:
    """`verify` compares the words of cards of this version alone, so other words need another version."""
    network = CheckpointMetadata(
        "signnet",
        "signnet",
        "fast",
        9,
        0,
        "gtsrb",
        "ab",
        ("stop", "yield"),
        Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    )
    models = [ReleasedModel(FP32, "01", 9, "onnxruntime"), ReleasedModel(UINT8, "02", 9, "", FP32, 1e-7)]
    accuracy = {"val": Accuracy(0.9, (0.8, 0.95), 90, 9, 1, 0.5), "test": Accuracy(0.9, None, 90, None, 1, 0.5)}
    speeds = [
        Speed("onnxruntime", "offline", 256, 0.1, 0.2, 2560.0, ratio, "torch-onednn", "CPU", 2)
        for ratio in ((2.0, 1.9, 2.1), None)
    ]
    figures = Figures("gtsrb", "ab", {"val": 90}, {"val": 9}, accuracy, {FP32: 0.9}, [WeakClass("yield", 0.5)], speeds)
    cards = "".join(
        card_of(
            Manifest("n", "v", 1, "cd", "signnet", "signnet", profile, "ef", {"seed": 3}, {}, models, figures, *fitted),
            network,
        )
        for profile, fitted in (("fast", (1.5, 0.25)), ("smoke", ()))
    )
    assert (CARD_VERSION, hashlib.sha256(cards.encode()).hexdigest()[:12]) == (3, "fa59fc22217d")


# --- use --------------------------------------------------------------------------------------------------------------


def test_variant_for_pixels_answers_to_the_bit_as_the_measured_model(whole: Path) -> None:
    release = Release.load(whole)
    images = released_data().val.images[:5]
    expected = Model(release.model())(release.preprocessing.normalize(images))
    found = Model(release.model(UINT8))(np.ascontiguousarray(images.transpose(0, 2, 3, 1)))
    assert np.array_equal(found, expected)


WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; "  # importing it fails


@pytest.mark.parametrize("model", ["onnx/model.onnx", "onnx/model_quantized.onnx", "onnx/model_uint8.onnx"])
def test_predict_and_verify_run_where_importing_torch_fails(whole: Path, model: str) -> None:
    for command in (["predict", str(whole), str(whole / "samples/02.png"), "--model", model], ["verify", str(whole)]):
        code = f"{WITHOUT_TORCH}from lib.cli import main; sys.exit(main({command!r}))"
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr


def test_predict_names_the_class_with_the_largest_logit(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = json.loads((whole / "samples/samples.json").read_text())[4]
    assert main(["predict", str(whole), str(whole / "samples" / sample["file"])]) == 0
    best = int(np.argmax(sample["logits"]["onnx/model.onnx"]))
    assert f"{sample['file']}: {released_data().classes[best]} " in capsys.readouterr().out


def test_predict_rejects_what_the_network_is_too_unsure_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    release = release_of(made_run(tmp_path, ("onnxruntime",), calibration=(1.0, 0.9)))
    assert main(["predict", str(release), str(release / "samples/00.png")]) == 0
    assert "00.png: no sign; if it is one, " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["IMAGE", "--model", "onnx/model_fp8.onnx"],
            "has no onnx/model_fp8.onnx; it has onnx/model.onnx",
        ),
        (["missing.png"], "no file missing.png"),
        (["RELEASE/release.json"], "is not an image of a format that is read here"),
    ],
)
def test_predict_refuses_in_one_line(
    whole: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    places = {"IMAGE": str(whole / "samples/00.png"), "RELEASE/release.json": str(whole / "release.json")}
    assert main(["predict", str(whole), *(places.get(name, name) for name in arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_example_of_the_card_needs_three_packages_and_gives_the_measured_answer(whole: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (whole / "README.md").read_text(), re.DOTALL)
    assert example == EXAMPLE and len(example.splitlines()) == 10
    allowed = "('numpy', 'onnxruntime', 'PIL', *sys.stdlib_module_names)"
    blocked = f"""import sys, importlib.abc
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition('.')[0] not in {allowed}: raise ImportError(name)
sys.meta_path.insert(0, Block())
"""
    for sample in json.loads((whole / "samples/samples.json").read_text())[:3]:
        command = [sys.executable, "-c", blocked + example, f"samples/{sample['file']}"]
        ended = subprocess.run(command, cwd=whole, capture_output=True, text=True, check=False)
        best = released_data().classes[int(np.argmax(sample["logits"]["onnx/model.onnx"]))]
        assert ended.stdout.strip() == best, ended.stderr
