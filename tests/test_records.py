"""Records: written whole or not at all, checked on reading, compared only where that is fair."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydantic
import pytest

from lib.analysis.comparison import Comparison, load_comparison
from lib.errors import UserError
from lib.files import PROJECT_ROOT, replacing, write_atomic
from lib.machine import PATIENCE_VARIABLE, collect_environment, git_commit, is_emulated, loaded_blas
from lib.records.schema import (
    KINDS,
    OLDEST_VERSION,
    SCHEMA_VERSION,
    BenchmarkRecord,
    Layer,
    TrainRecord,
    read_record,
    record_path,
    write_record,
)
from lib.report.compare import answer
from lib.report.headline import comparison_headline, kernel_change_words
from tests.made_records import made_benchmark, made_train
from tests.new_python import printed_by

SCHEMA = (8, "7cd00b5b24fc")  # the version, and the hash of all fields and types that it has


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = record_path(tmp_path, "03_benchmark", "torch-blas")
    write_record(made_benchmark("torch-blas"), path)
    return path


def test_record_reads_back_equal(path: Path) -> None:
    assert path.name == "03_benchmark.torch-blas.json"
    assert read_record(path, BenchmarkRecord) == made_benchmark("torch-blas")


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"schema_version": OLDEST_VERSION - 1}, f"{OLDEST_VERSION - 1}, this version reads {OLDEST_VERSION} to"),
        ({"status": "fine"}, "status"),
        ({"scenarios": [{"name": "offline"}]}, "scenarios"),
        ({"extra": 1}, "extra"),
        ({"kind": "train"}, "damaged at"),
    ],
)
def test_older_or_damaged_record_is_refused_at_its_place(path: Path, fields: dict[str, object], complaint: str) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    with pytest.raises(UserError, match=complaint):
        read_record(path, BenchmarkRecord)


def test_record_from_before_what_came_since_is_read(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": OLDEST_VERSION}))
    assert read_record(path, BenchmarkRecord).schema_version == OLDEST_VERSION < SCHEMA_VERSION


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": 1}'])
def test_file_that_is_not_a_record_or_one_of_another_kind_is_refused(path: Path, content: str) -> None:
    with pytest.raises(UserError, match="kind 'benchmark', expected 'train'"):
        read_record(path, TrainRecord)
    path.write_text(content)
    with pytest.raises(UserError, match="record"):
        read_record(path, BenchmarkRecord)


def test_schema_version_rises_with_the_schema() -> None:
    """Old records of another schema would else be read as damaged, or worse, as right."""
    schemas = {name: pydantic.TypeAdapter(kind).json_schema() for name, kind in KINDS.items()}

    def without_words(found: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in found.items() if name not in ("title", "description")}

    fields = json.loads(json.dumps(schemas), object_hook=without_words)
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]
    assert (SCHEMA_VERSION, digest) == SCHEMA, "raise SCHEMA_VERSION, and write down the new pair here"


def test_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    write_atomic(target, "old")
    with pytest.raises(UserError, match="No space left"), replacing(target) as temporary:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")
    assert target.read_text() == "old" and [file.name for file in tmp_path.iterdir()] == ["a.json"]
    with pytest.raises(UserError, match="cannot write"):
        write_atomic(target / "b.json", "a folder is needed where a file is")


def write_all(run_dir: Path, *records: BenchmarkRecord) -> None:
    for record in records:
        write_record(record, record_path(run_dir, "03_benchmark", record.backend))


def test_comparison_names_missing_backends_and_keeps_the_order_asked_for(tmp_path: Path) -> None:
    write_all(tmp_path, made_benchmark("torch-onednn"), made_benchmark("torch-blas"))
    comparison = load_comparison(tmp_path, ["torch-blas", "torch-nnpack", "torch-onednn"])
    assert comparison.missing == ["torch-nnpack"]
    assert [record.backend for record in comparison.records] == ["torch-blas", "torch-onednn"]


def test_headline_names_the_best_backends_where_plain_blas_was_not_measured() -> None:
    headline = comparison_headline(Comparison([made_benchmark("torch-onednn"), made_benchmark("onnxruntime-int8")]))
    best = r"onnxruntime-int8, \d\.\d\dx faster \[.{4}, .{4}\] than torch-onednn, for 0\.20 \[.*\] points of top-1\."
    assert re.fullmatch(f"Single stream: {best} Offline: {best}", headline)


def test_no_records_are_no_error(tmp_path: Path) -> None:
    comparison = load_comparison(tmp_path, ["torch-blas"])
    assert comparison.measured == [] and comparison.missing == ["torch-blas"]
    assert comparison_headline(comparison) == "No backend of a network was measured."


def test_records_of_other_networks_or_data_are_refused_by_name(tmp_path: Path) -> None:
    other, another = made_benchmark("torch-onednn"), "ee" * 32
    assert other.data is not None
    write_all(tmp_path, made_benchmark("torch-blas"))
    of_other_data = replace(other, data=replace(other.data, manifest_hash=another))
    for what, record in (("checkpoint", replace(other, checkpoint_sha256=another)), ("data", of_other_data)):
        write_all(tmp_path, record)
        with pytest.raises(UserError, match=rf"different {what} hashes.*eeeeeeeeeeee: 03_benchmark.torch-onednn"):
            load_comparison(tmp_path, [])
    write_all(tmp_path, other)
    write_record(made_train(checkpoint_sha256="ee" * 32), record_path(tmp_path, "02_train"))
    with pytest.raises(UserError, match="02_train"):
        load_comparison(tmp_path, [])


def layers_of(record: BenchmarkRecord) -> list[Layer]:
    table = record.layer_table("offline")
    assert table is not None
    return table.layers


def times(factor: float, sides: list[list[float]]) -> list[list[float]]:
    return [[factor * call for call in calls] for calls in sides]


def test_headline_says_what_the_other_kernels_save_and_cost() -> None:
    record = made_benchmark("torch-blas")
    layers = layers_of(record)
    first, second = layers[:2]
    for layer, factor in ((first, 3), (second, 0.5)):
        layer.control_latencies_s, layer.kernels = layer.reference_latencies_s, ["blas"]
        layer.latencies_s = times(factor, layer.reference_latencies_s)
    layers[2:] = [replace(first, name="same", kernels=["relu"], reference_kernels=["relu"])]
    assert kernel_change_words(Comparison([record])) == (
        "From torch-blas to torch-onednn at batch 256, 2 of 3 layers run another kernel: "
        f"1 runs faster, by 3.00x, with most time saved in {first.name}; "
        f"1 runs slower, by 2.00x, with most time lost in {second.name}. The other 1 runs the same kernel."
    )


def test_what_the_reference_shows_against_itself_is_no_difference_in_the_headline() -> None:
    record = made_benchmark("torch-blas")
    for layer in layers_of(record):
        layer.latencies_s = times(1.2, layer.reference_latencies_s)
    assert "show no difference" not in kernel_change_words(Comparison([record]))
    for layer in layers_of(record):
        layer.control_latencies_s = times(1.3, layer.reference_latencies_s)
    assert "another kernel: 8 show no difference. The" in kernel_change_words(Comparison([record]))


def test_environment_names_blas_and_onednn_of_the_loaded_torch() -> None:
    import torch  # noqa: F401

    environment = collect_environment(2)
    assert environment.blas and environment.onednn and environment.cpu_capability
    assert environment.num_threads == 2 and environment.versions["torch"]


MACHINE = """
import json, sys
from lib.machine import collect_environment
found = collect_environment(1)
print(json.dumps([found.machine_id, found.cpu_model, found.emulated]))
assert "torch" not in sys.modules and found.blas is None and found.num_cores >= 1 and found.architecture
"""
LSCPU = """#!/bin/sh
model="Model name" architecture=Architecture
if [ "$LC_ALL" != C ]; then model=Modellname architecture=Architektur; fi
echo "$architecture:    %s"
echo "CPU(s):          2"
echo "  $model:    Made CPU"
echo "  $model:    Small CPU"
"""


def test_machine_is_the_same_in_every_language_and_without_tools_and_imports_no_torch(tmp_path: Path) -> None:
    def told(lscpu: str, **variables: str) -> Any:
        tool = tmp_path / "lscpu"
        tool.write_text(lscpu)
        tool.chmod(0o755)
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        environ = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT), "PATH": path, **variables}
        ran = subprocess.run([sys.executable, "-c", MACHINE], env=environ, capture_output=True, check=True)
        return json.loads(ran.stdout)

    speaks = LSCPU % platform.machine()
    english, german = told(speaks, LC_ALL="C.UTF-8"), told(speaks, LC_ALL="de_DE.UTF-8", LANGUAGE="de")
    assert english == german and german[1:] == ["Made CPU", False]
    assert told("#!/bin/false\n")[0] == german[0]
    boot_id = Path("/proc/sys/kernel/random/boot_id")
    assert not boot_id.exists() or boot_id.read_text().strip()[:8] not in german[0], "it does not say the boot id"


def committed(folder: Path) -> str:
    """Everything in a folder, in a repository of its own unless it has one; the commit."""
    if not (folder / ".git").exists():
        subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    git = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["add", "--all"], ["commit", "--quiet", "--message", "x"]):
        subprocess.run([*git, *command], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


def test_commit_is_that_of_the_project_and_not_of_what_surrounds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs.txt").touch()
    theirs, project = committed(tmp_path), tmp_path / "project"
    project.mkdir()
    (project / "ours.txt").touch()
    assert git_commit(project) is None, "an unpacked archive within a repository of something else"
    ours = committed(project)
    (tmp_path / "theirs.txt").write_text("changed")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    assert git_commit(project) == ours != theirs
    (project / "ours.txt").write_text("changed")
    assert git_commit(project) == f"{ours}+"


def test_commit_of_a_project_that_is_a_folder_of_a_repository_is_the_repositorys(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    for name in ("project/ours.txt", "theirs.txt"):
        (tmp_path / name).touch()
    commit = committed(tmp_path)
    (tmp_path / "theirs.txt").write_text("changed")
    assert git_commit(tmp_path / "project") == commit


def test_damaged_and_copied_records_are_named_and_the_others_are_compared(tmp_path: Path) -> None:
    write_all(tmp_path, made_benchmark("torch-blas"), made_benchmark("openvino"))
    copied = record_path(tmp_path, "03_benchmark", "torch-blas-Copy1")
    copied.write_bytes(record_path(tmp_path, "03_benchmark", "torch-blas").read_bytes())
    for damaged in (record_path(tmp_path, "03_benchmark", "openvino"), record_path(tmp_path, "02_train")):
        damaged.write_text("<<<<<<< HEAD\n{}")
    comparison = load_comparison(tmp_path, ["torch-blas", "openvino"])
    assert [record.backend for record in comparison.records] == ["torch-blas"] and comparison.missing == ["openvino"]
    for reason, name in zip(comparison.left_out, ("openvino", "torch-blas-Copy1", "02_train"), strict=True):
        assert f"{name}.json" in reason and reason in str(answer.caveats(comparison))


def test_the_blas_in_the_record_is_the_one_that_torch_loaded() -> None:
    def mapped(*paths: str) -> str:
        return "".join(
            f"{'7f0000000000-7f0000001000 r-xp 00000000 08:01 123':<73}{path}\n" for path in (*paths, "[heap]")
        )

    site = "/x/lib/python3.11/site-packages"
    numpys = f"{site}/numpy.libs/libscipy_openblas64_-ff6.so"
    torchs = f"{site}/torch/lib/libopenblas.so.0"
    assert loaded_blas(mapped(numpys, torchs, torchs)) == ("openblas", "libopenblas.so.0")
    assert loaded_blas(mapped(numpys, f"{site}/nvpl/lib/libnvpl_blas_lp64_gomp.so.0")) == (
        "nvpl",
        "libnvpl_blas_lp64_gomp.so.0",
    )
    assert loaded_blas(mapped(numpys, f"{site}/torch/lib/libtorch_cpu.so")) is None, "MKL is part of torch there"
    assert loaded_blas(mapped(torchs, "/usr/lib/libblis.so.4")) is None, "nobody can tell which one is called"


@pytest.mark.parametrize(("factor", "printed"), [("3", "6.0"), ("", "100.0" if is_emulated() else "2.0")])
def test_time_limits_grow_by_one_factor_which_emulation_sets_by_itself(factor: str, printed: str) -> None:
    assert printed_by("from lib.machine import patient; print(patient(2))", **{PATIENCE_VARIABLE: factor}) == printed
