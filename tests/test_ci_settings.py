"""What a run of the workflow does: its inputs, defaults of events, changed files, images or their fallback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lib.backends import all_backends, backend_names, get_backend
from lib.ci import official_images as images
from lib.ci.changes import WITHOUT_EFFECT, base_commit, changed_files, must_run, touched_backends
from lib.ci.inputs import call_inputs, dispatch_inputs, inputs_yaml
from lib.ci.settings import settings
from lib.cli import main
from lib.data.download import HostDownError
from lib.data.sets import all_datasets
from lib.errors import UserError
from lib.files import PROJECT_ROOT
from lib.records.schema import TRAIN
from lib.series.parameters import load_schema

# --- settings


@pytest.mark.parametrize(
    ("event", "profile", "dataset"),
    [
        ("pull_request", "smoke", "synthetic"),
        ("merge_group", "smoke", "synthetic"),
        ("push", "fast", "gtsrb"),
        ("schedule", "fast", "gtsrb"),
        ("workflow_dispatch", "fast", "gtsrb"),
    ],
)
def test_what_is_not_merged_yet_runs_synthetic_images_in_smoke_and_the_rest_real_ones(
    event: str, profile: str, dataset: str
) -> None:
    found = settings({"GITHUB_EVENT_NAME": event, "ARCH": "arm64", "INPUT_PROFILE": ""})
    assert (found["profile"], found["dataset"], found["recipe"]) == (profile, dataset, "auto")
    assert bool(found["data_key"]) == (dataset == "gtsrb")


def test_inputs_take_the_place_of_the_defaults_also_on_a_pull_request() -> None:
    given = {
        "INPUT_PROFILE": "full",
        "INPUT_DATASET": "gtsrb-torchvision",
        "INPUT_RECIPE": "learning_path",
        "INPUT_NUM_THREADS": "3",
        "INPUT_BACKENDS": " onnxruntime,torch-blas ,torch-blas",
    }
    found = settings({"GITHUB_EVENT_NAME": "pull_request", "ARCH": "x64", **given})
    assert [found[name] for name in ("profile", "dataset", "recipe", "num_threads")] == [
        "full", "gtsrb-torchvision", "learning_path", "3",
    ]  # fmt: skip
    assert json.loads(found["backends"]) == ["torch-blas", "onnxruntime"], "each once, in the order of tables"
    assert found["backends_csv"] == "torch-blas,onnxruntime"


@pytest.mark.parametrize(
    ("architecture", "machine", "blas", "tested"),
    [
        ("arm64", "aarch64", "openblas", {"arm64": "ubuntu-24.04-arm", "x64": "ubuntu-24.04"}),
        ("x64", "x86_64", "mkl", {"x64": "ubuntu-24.04"}),  # the leg for contrast does not repeat the tests on Arm
    ],
)
def test_the_architecture_decides_default_backends_blas_and_where_tests_run(
    architecture: str, machine: str, blas: str, tested: dict[str, str]
) -> None:
    found = settings({"GITHUB_EVENT_NAME": "push", "ARCH": architecture})
    default = [item.name for item in all_backends() if item.default and machine in item.architectures]
    assert json.loads(found["backends"]) == default and "torch-blas" in default
    assert found["blas"] == blas
    assert {leg["arch"]: leg["runner"] for leg in json.loads(found["tests"])} == tested


def test_extras_name_the_requirements_of_the_chosen_backends_and_exist() -> None:
    assert settings({"ARCH": "x64"})["extras"] == ""
    chosen = [name for name in backend_names() if "x86_64" in get_backend(name).architectures]
    extras = settings({"ARCH": "x64", "INPUT_BACKENDS": ",".join(chosen)})["extras"].split()
    assert "ncnn" in extras
    assert all((PROJECT_ROOT / f"requirements-{extra}.txt").is_file() for extra in extras)


def test_the_cache_key_of_images_holds_their_checksums() -> None:
    keys = set()
    for dataset in all_datasets():
        key = settings({"ARCH": "arm64", "INPUT_DATASET": dataset.name})["data_key"]
        assert all(archive.sha256[:16] in key for archive in dataset.archives) and bool(key) == bool(dataset.archives)
        keys.add(key)
    assert len(keys) == 3, "two of GTSRB, and none for images that are not fetched"


HOSTILE = ['"; rm -rf /', "$(id)", "a\nb=c", "${{ github.token }}", "::error::x", "\x00"]


@pytest.mark.parametrize("name", ["PROFILE", "DATASET", "RECIPE", "NUM_THREADS", "BACKENDS"])
@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_inputs_are_refused_in_one_line(name: str, value: str) -> None:
    with pytest.raises(UserError) as refused:
        settings({"GITHUB_EVENT_NAME": "workflow_dispatch", "ARCH": "arm64", f"INPUT_{name}": value})
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 1200


@pytest.mark.parametrize(
    ("architecture", "backends", "message"),
    [
        ("arm64", "torch-onednm", "torch-onednm"),
        ("arm64", ",", "give names with commas"),
        ("arm64", "torch-onednn,,nope", "nope"),
        ("x64", "onnxruntime-bf16", "onnxruntime-bf16.*aarch64"),
        ("riscv64", "", "riscv64"),
    ],
)
def test_what_cannot_run_is_refused_by_name(architecture: str, backends: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        settings({"ARCH": architecture, "INPUT_BACKENDS": backends})


def test_the_command_writes_outputs_and_no_hostile_input_reaches_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "output"
    for name, value in {"GITHUB_OUTPUT": str(output), "GITHUB_ACTIONS": "true", "ARCH": "arm64"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("INPUT_BACKENDS", "torch-blas")
    assert main(["ci", "settings"]) == 0
    lines = output.read_text().splitlines()
    assert 'backends=["torch-blas"]' in lines and "profile=fast" in lines
    output.unlink()
    monkeypatch.setenv("INPUT_BACKENDS", "x\n::error::owned")
    assert main(["ci", "settings"]) == 2
    assert not output.exists()
    assert capsys.readouterr().out.strip().splitlines()[-1].startswith("::error::unknown backend")


# --- inputs


def test_inputs_are_typed_by_the_schema_and_printed_as_yaml() -> None:
    inputs, schema = dispatch_inputs(), load_schema(TRAIN)
    assert list(inputs) == ["profile", "dataset", "recipe", "backends", "num_threads"]
    for name in ("profile", "dataset", "recipe"):
        assert inputs[name]["type"] == "choice" and set(inputs[name]["options"]) <= set(schema[name].choices)
        assert inputs[name]["default"] in schema[name].choices
    assert (inputs["num_threads"]["type"], inputs["num_threads"]["default"]) == ("number", 0)
    dispatch, call = inputs_yaml().split("# on.workflow_call.inputs\n")
    assert yaml.safe_load(dispatch) == inputs and yaml.safe_load(call) == call_inputs()
    assert {field["type"] for field in call_inputs().values()} == {"string"}, "a form hands numbers on as text"


# --- changes


@pytest.mark.parametrize(
    ("event", "content", "base"),
    [
        ("pull_request", {"pull_request": {"base": {"sha": "aa"}}}, "HEAD^1"),
        ("push", {"before": "aa"}, "aa"),
        ("merge_group", {"merge_group": {"base_sha": "aa"}, "before": "bb"}, "aa"),
        ("merge_group", {"merge_group": None}, ""),
        ("schedule", {"schedule": "0 0 * * 0"}, ""),
        ("workflow_dispatch", {"inputs": {}}, ""),
        ("push", [], ""),
        ("push", {"before": 3}, ""),
    ],
)
def test_each_event_names_the_commit_to_compare_with_or_none(
    tmp_path: Path, event: str, content: object, base: str
) -> None:
    file = tmp_path / "event.json"
    file.write_text(json.dumps(content))
    assert base_commit({"GITHUB_EVENT_NAME": event, "GITHUB_EVENT_PATH": str(file)}) == base
    assert base_commit({"GITHUB_EVENT_NAME": "push", "GITHUB_EVENT_PATH": str(tmp_path / "none")}) == ""


DOCUMENTS = ["README.md", "docs/selfcheck/README.md", "docs/run.png", "LICENSE"]
OTHERS = [
    "lib/cli.py", "notebooks/01_explore.ipynb", "requirements.lock", ".github/workflows/codeql.yml",
    ".github/gate.toml", "tests/test_model.py", "docs.py", "lib/docs/x.py", "LICENSE.py", "something.new",
    '"docs/\\303\\244.png"',
]  # fmt: skip


def test_documents_alone_run_nothing_and_everything_else_runs_the_series_also_among_them() -> None:
    assert not must_run(DOCUMENTS) and not must_run([])
    assert [path for path in OTHERS if not must_run([*DOCUMENTS, path])] == []
    files = [pattern for pattern in WITHOUT_EFFECT if "*" not in pattern and pattern != "CITATION.cff"]
    assert files and all((PROJECT_ROOT / name).is_file() for name in files), "the filter names files that exist"


NCNN, OPENVINO = "lib/backends/ncnn.py", "lib/backends/openvino.py"


@pytest.mark.parametrize(
    ("changed", "touched"),
    [
        ([NCNN], ["ncnn"]),
        ([*DOCUMENTS, NCNN, OPENVINO], ["ncnn", "openvino"]),
        (DOCUMENTS, []),
        ([NCNN, "lib/cli.py"], []),
        (["lib/backends/torch_onednn.py"], []),  # others import it: the reference
        (["lib/backends/_onnx.py"], []),
        (["lib/backends/interface.py"], []),
        ([NCNN, "lib/backends/gone.py"], []),
        (["lib/backends/deeper/ncnn.py"], []),
    ],
)
def test_files_of_backends_alone_are_known_and_anything_else_runs_all(changed: list[str], touched: list[str]) -> None:
    assert touched_backends(changed) == touched


def test_every_file_of_a_backend_is_named_as_the_backend_is() -> None:
    files = {type(get_backend(name)()).__module__.rpartition(".")[2].replace("_", "-") for name in backend_names()}
    assert files == {*backend_names()}


@pytest.mark.parametrize(
    ("given", "alone"),
    [
        ({"CHANGED_BACKENDS": "openvino"}, True),
        ({"CHANGED_BACKENDS": "openvino", "INPUT_BACKENDS": "torch-blas"}, False),
        ({"CHANGED_BACKENDS": "openvino", "GITHUB_EVENT_NAME": "push"}, False),
        ({"CHANGED_BACKENDS": "openvino,renamed"}, False),
        ({"CHANGED_BACKENDS": "onnxruntime-bf16", "ARCH": "x64"}, False),
        ({"CHANGED_BACKENDS": "null"}, False),
        ({}, False),
    ],
)
def test_a_pull_request_measures_the_backend_that_it_touches_and_says_what_it_left_out(
    given: dict[str, str], alone: bool
) -> None:
    found = settings({"GITHUB_EVENT_NAME": "pull_request", "ARCH": "arm64", **given})
    assert (json.loads(found["backends"]) == ["openvino"]) == alone
    assert ("onnxruntime" in found["left_out"] and "onnxruntime" in found["note"]) == alone
    assert "openvino" not in found["left_out"].split(", ")


@pytest.fixture()
def repository(tmp_path: Path) -> Path:
    _git(tmp_path, "init", "--quiet", "--initial-branch=main")
    (tmp_path / "README.md").write_text("one")
    (tmp_path / "code.py").write_text("1")
    _commit(tmp_path)
    (tmp_path / "README.md").write_text("two")
    _commit(tmp_path)
    return tmp_path


def _git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@t.invalid", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _commit(folder: Path) -> None:
    _git(folder, "add", "--all")
    _git(folder, "commit", "--quiet", "--message", "x")


def test_git_knows_what_changed_with_renamed_and_deleted_files(repository: Path) -> None:
    assert changed_files("HEAD^1", repository) == ["README.md"]
    (repository / "code.py").rename(repository / "docs.md")
    _commit(repository)
    assert sorted(changed_files("HEAD^1", repository) or []) == ["code.py", "docs.md"], "one module less"


def test_an_unknown_base_is_not_the_same_as_no_change(repository: Path) -> None:
    for base in ("", " ", "0" * 40, "1" * 40, "no-such-branch", "--output=x", "HEAD; id"):
        assert changed_files(base, repository) is None
    assert changed_files("HEAD", repository.parent) is None, "no checkout"
    assert not (repository / "x").exists()


def test_the_first_job_needs_no_packages() -> None:
    """It runs on the runner's own Python, before anything is installed."""
    code = "import sys; sys.path.insert(0, '.'); from lib.cli import main; main(['ci', 'changes', '--base', ''])"
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, env={})
    assert done.returncode == 0, done.stderr
    assert "everything runs" in done.stdout and "\nrun=true\n" in done.stdout, "the base is unknown"


# --- images


def _failing(error: Exception) -> Any:
    def fail(*_args: object, **_more: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("dataset", "restored", "save"), [("gtsrb", False, "true"), ("gtsrb", True, "false"), ("synthetic", False, "false")]
)
def test_images_that_arrive_are_used_without_a_note_and_kept_where_they_are_new(
    monkeypatch: pytest.MonkeyPatch, dataset: str, restored: bool, save: str
) -> None:
    fetched: list[str] = []
    monkeypatch.setattr(images, "fetch", lambda name, *_, **__: fetched.append(name))
    assert images.fetch_images(dataset, restored=restored) == {"dataset": dataset, "note": "", "save": save}
    assert fetched == (["gtsrb"] if dataset == "gtsrb" else [])


def test_what_is_wrong_with_the_images_is_no_reason_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "fetch", _failing(UserError("is not the official archive")))
    with pytest.raises(UserError, match="official"):
        images.fetch_images("gtsrb")
    with pytest.raises(UserError, match="unknown data set"):
        images.fetch_images("mnist")


def test_the_command_warns_where_it_falls_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(images, "fetch", _failing(HostDownError("cannot download\nit: 50% lost")))
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    assert main(["ci", "data", "--dataset", "gtsrb"]) == 0
    lines = (tmp_path / "output").read_text().splitlines()
    assert lines[0] == "dataset=synthetic" and lines[1].startswith("note=The real images (gtsrb)")
    warning = capsys.readouterr().out.splitlines()[0]
    assert warning.startswith("::warning title=synthetic images::") and "50%25" in warning
