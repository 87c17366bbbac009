"""The notebooks themselves: form, budget, what a run of the series leaves, and runs as a user would start them."""

from __future__ import annotations

import ast
import json
import math
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup

from lib.bench.plan import SessionPlan
from lib.cli import main
from lib.data import load_data, num_images_for
from lib.files import PROJECT_ROOT
from lib.html.frame import PAGE_LIMIT
from lib.html.page import render_page
from lib.records.schema import BenchmarkRecord, CompareRecord, ExploreRecord, ReleaseRecord, TrainRecord, read_record
from lib.release import verify
from lib.series import launcher
from lib.series.jobs import plan_jobs
from lib.series.parameters import NOTEBOOK_DIR, load_schema, notebook_names
from lib.signs import NUM_CLASSES
from tests.gtsrb_layout import TEST_FOLDER, TRAIN_FOLDER, write_layout
from tests.made_release import add_measured

NAMES = notebook_names()
MAX_LINES = 15


def cells(name: str) -> list[Any]:
    return list(nbformat.read(NOTEBOOK_DIR / f"{name}.ipynb", as_version=4).cells)


def code(name: str) -> list[Any]:
    return [cell for cell in cells(name) if cell.cell_type == "code"]


def test_series_has_its_five_notebooks() -> None:
    assert {"01_explore", "02_train", "03_benchmark", "04_compare", "05_release"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
class TestForm:
    def test_holds_no_outputs_counts_or_volatile_metadata(self, name: str) -> None:
        notebook = json.loads((NOTEBOOK_DIR / f"{name}.ipynb").read_text())
        for cell in notebook["cells"]:
            assert not cell.get("outputs") and cell.get("execution_count") is None
            assert set(cell["metadata"]) <= {"tags"}
        assert set(notebook["metadata"]) <= {"kernelspec", "language_info"}
        assert notebook["metadata"]["kernelspec"]["name"] == "python3"
        assert set(notebook["metadata"]["language_info"]) == {"name"}

    def test_begins_with_one_title_and_what_a_reader_gets(self, name: str) -> None:
        first = cells(name)[0].source
        assert re.match(r"# [A-Z][a-z]+ ", first), "a verb"
        assert all(part in first for part in ("What you'll do:", "What you'll learn:", "What you'll need:"))
        assert sum(line.startswith("# ") for cell in cells(name) for line in cell.source.splitlines()
                   if cell.cell_type == "markdown") == 1  # fmt: skip

    def test_begins_with_parameters_and_their_check_and_ends_with_the_record(self, name: str) -> None:
        assert code(name)[0].metadata.tags == ["parameters"] and "run_dir" in load_schema(name)
        assert f'start("{name}", globals())' in code(name)[1].source
        assert re.search(r"^(write_\w+\(run, |run\.write\()", code(name)[-1].source, re.MULTILINE)

    def test_cells_hold_no_logic(self, name: str) -> None:
        forbidden = (ast.ClassDef, ast.Try, ast.While, ast.FunctionDef, ast.With)
        for cell in code(name):
            assert not re.search(r"^[%!]", cell.source, re.MULTILINE), cell.source
            lines = [line for line in cell.source.splitlines() if line and not line.startswith(("import ", "from "))]
            is_table = "parameters" in cell.metadata.get("tags", [])
            assert is_table or len(lines) <= MAX_LINES, cell.source
            found = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, forbidden)]
            assert not found, cell.source

    def test_every_text_cell_has_one_idea(self, name: str) -> None:
        for cell in cells(name)[1:]:
            if cell.cell_type == "markdown" and not cell.source.startswith("<details>"):
                assert len(cell.source) < 700 and cell.source.count("\n#") == 0

    def test_ends_with_two_commands_that_a_launch_takes(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        commands = re.findall(r"^    python -m lib (.*)$", cells(name)[-1].source, re.MULTILINE)
        assert len(commands) == 2
        planned: list[Any] = []

        def plan(notebooks: list[str], given: dict[str, str], backends: list[str], *_: Any, **limits: Any) -> int:
            planned.append(plan_jobs(notebooks, given, backends))
            return 0

        monkeypatch.setattr(launcher, "launch", plan)
        for command in commands:
            assert main(shlex.split(command, comments=True)) == 0, command
        assert all(planned)

    def test_plain_papermill_sees_every_parameter(self, name: str) -> None:
        from papermill.inspection import inspect_notebook

        seen = inspect_notebook(str(NOTEBOOK_DIR / f"{name}.ipynb"))
        for parameter in load_schema(name).values():
            assert seen[parameter.name]["inferred_type_name"] == parameter.type
            assert parameter.help in seen[parameter.name]["help"]


def test_at_most_a_third_of_the_cells_is_a_single_call() -> None:
    bodies = [ast.parse(cell.source).body for name in NAMES for cell in code(name)[1:]]
    single = [body for body in bodies if len(body) == 1 and isinstance(getattr(body[0], "value", None), ast.Call)]
    assert 3 * len(single) <= len(bodies)


def test_a_term_means_the_same_in_every_glossary_and_pages_fold_it(tmp_path: Path) -> None:
    meanings: dict[str, set[str]] = {}
    for name in NAMES:
        render_page(NOTEBOOK_DIR / f"{name}.ipynb", tmp_path / "page.html", title=name)
        page = BeautifulSoup((tmp_path / "page.html").read_text(), "html.parser")
        glossary = page.find("summary", string="Glossary")
        assert glossary and glossary.parent and glossary.parent.name == "details"
        for item in glossary.parent.find_all("li"):
            term, meaning = item.get_text().split(": ", 1)
            meanings.setdefault(term, set()).add(meaning)
    assert len(meanings) > 10 and all(len(found) == 1 for found in meanings.values()), meanings


def test_series_leaves_pages_records_and_an_index(finished: Path) -> None:
    backends = {"03_benchmark": ["03_benchmark.null", "03_benchmark.torch-blas"]}
    labels = [label for name in NAMES for label in backends.get(name, [name])]
    assert sorted(path.stem for path in (finished / "pages").iterdir()) == labels
    assert sorted(path.stem for path in (finished / "results").glob("*.json")) == labels
    tables = [path.name for path in (finished / "results").glob("*.csv")]
    assert sorted(tables) == ["compare_layers.csv", "compare_scenarios.csv"]
    index = (finished / "index.html").read_text()
    assert all(f"pages/{label}.html" in index for label in labels)


def test_one_network_goes_through_the_whole_series(finished: Path) -> None:
    trained = read_record(finished / "results/02_train.json", TrainRecord)
    measured = benchmark(finished, "torch-blas")
    compared = read_record(finished / "results/04_compare.json", CompareRecord)
    assert trained.checkpoint_sha256 == measured.checkpoint_sha256 == compared.checkpoint_sha256 is not None
    assert trained.data is not None and measured.data is not None
    assert trained.data.manifest_hash == measured.data.manifest_hash
    low, high = measured.accuracy["val"].top1_interval or (0, 0)
    assert low <= trained.accuracy["val"].top1 <= high, "the benchmark's is of a sample of the same images"
    assert not (finished / "training").exists(), "nothing is left to resume"


def benchmark(run_dir: Path, backend: str) -> BenchmarkRecord:
    return read_record(run_dir / f"results/03_benchmark.{backend}.json", BenchmarkRecord)


def test_backend_and_reference_are_measured_in_the_same_rounds(finished: Path) -> None:
    record = benchmark(finished, "torch-blas")
    assert record.status == "ok", record.error
    assert record.parity is not None and record.parity.agreement > 0.999
    assert record.proof is not None and record.proof.passed
    for scenario, plan in zip(record.scenarios, SessionPlan("smoke").scenarios(), strict=True):
        sides = (scenario.latencies_s, scenario.reference_latencies_s, scenario.control_latencies_s)
        assert [len(latencies) for latencies in sides] == [plan.num_rounds] * 3
    assert [table.scenario for table in record.layers] == ["single_stream", "offline"]
    conv = record.layers[1].layers[0]
    assert conv.name == "conv1" and conv.kernels != conv.reference_kernels
    assert conv.num_inputs == 3 * 32 * 32 and conv.num_weights == 3 * 32 * 9 + 32
    assert record.cold_start is not None and (record.cold_start.peak_memory_bytes or 0) > 1e7
    assert (record.backend, record.reference, record.storage) == ("torch-blas", "torch-onednn", "fp32")
    assert record.environment.versions["torch"]


def test_null_measures_the_harness_and_has_no_accuracy(finished: Path) -> None:
    record = benchmark(finished, "null")
    assert record.status == "ok" and record.parity is None and record.accuracy == {} and record.layers == []
    assert [scenario.name for scenario in record.scenarios] == ["single_stream", "offline"]
    for scenario in record.scenarios:
        calls, reference_calls = np.concatenate(scenario.latencies_s), np.concatenate(scenario.reference_latencies_s)
        assert np.median(calls) < 0.02 * np.median(reference_calls), scenario.name


def test_smoke_records_are_marked_and_every_page_says_so(finished: Path) -> None:
    assert read_record(finished / "results/04_compare.json", CompareRecord).profile == "smoke"
    for page in [*(finished / "pages").iterdir(), finished / "index.html"]:
        assert "This is a smoke run" in page.read_text(), page.name


def test_smoke_training_learns(finished: Path) -> None:
    trained = read_record(finished / "results/02_train.json", TrainRecord)
    assert trained.history[-1].train_loss < 0.8 * math.log(NUM_CLASSES), "guessing costs the logarithm"
    low, high = trained.accuracy["val"].top1_interval or (0, 0)
    assert low <= trained.accuracy["val"].top1 <= high and high > 3 / NUM_CLASSES, "few tracks: a wide interval"


def test_compare_names_the_known_answer(finished: Path) -> None:
    compared = read_record(finished / "results/04_compare.json", CompareRecord)
    assert compared.layers.startswith("From torch-blas to torch-onednn at batch 256, ")
    assert "layers run another kernel" in compared.layers
    assert compared.headline.startswith("Single stream: ") and " Offline: " in compared.headline
    assert compared.missing == []


def test_run_without_onnx_runtime_has_no_release_and_a_page_that_says_so(finished: Path) -> None:
    record = read_record(finished / "results/05_release.json", ReleaseRecord)
    assert record.reason == "onnxruntime was not measured in this run" and not (finished / "release").exists()
    assert f"Nothing is released: {record.reason}." in (finished / "pages/05_release.html").read_text()


@pytest.mark.slow
def test_run_with_onnx_runtime_is_released_and_judged_against_a_champion(finished: Path, tmp_path: Path) -> None:
    run_dir = Path(shutil.copytree(finished, tmp_path / "run"))
    given = read_record(run_dir / "results/02_train.json", TrainRecord).params
    num_images = int(given["num_images"]) or num_images_for("smoke", "synthetic")
    data = load_data("synthetic", num_images=num_images, seed=int(given["seed"]))
    add_measured(run_dir, "onnxruntime", data, profile="smoke")
    status, last = papermill(tmp_path, "05_release", "-p", "run_dir", str(run_dir))
    assert status == 0, last
    record = read_record(run_dir / "results/05_release.json", ReleaseRecord)
    assert record.digest == verify(run_dir)[0].digest and len(record.links) == 10
    assert record.promotion is None and "Nothing is compared" in (tmp_path / "out.ipynb").read_text()
    assert "there is no signature" in record.notes[-1]
    champion = shutil.copytree(run_dir / record.place, tmp_path / "champion")
    (run_dir / record.place / "model.sig").write_text("{}")
    status, last = papermill(tmp_path, "05_release", "-p", "run_dir", str(run_dir), "-p", "champion", str(champion))
    assert status == 0, last
    again = read_record(run_dir / "results/05_release.json", ReleaseRecord)
    judged = again.promotion
    assert again.notes[-1].startswith("consistent; its signature was not checked")
    assert judged is not None and judged.champion_digest == record.digest and judged.verdict == "investigate"
    assert [rule.loss for rule in judged.rules[:3]] == [0, 0, 0] and "smoke run" in judged.doubts[0]
    times = judged.times
    assert len(times.latencies_s) == len(times.reference_latencies_s) == len(times.control_latencies_s) > 0
    assert main(["ci", "release", str(run_dir)]) == 0
    shutil.rmtree(run_dir / record.place)
    assert main(["ci", "release", str(run_dir)]) == 2


def test_pages_are_small_self_contained_and_without_widgets(finished: Path) -> None:
    for page in (finished / "pages").iterdir():
        html = page.read_text()
        assert len(html.encode()) <= PAGE_LIMIT
        assert not re.findall(r"<(?!a )[^>]*(?:src|href)=[\"']?(?:https?:)?//", html), page.name  # links are no loads
        assert "widget" not in (finished / "notebooks" / f"{page.stem}.ipynb").read_text()


def papermill(tmp_path: Path, name: str, *arguments: str) -> tuple[int, str]:
    """Plain papermill, from another folder, as a user has it."""
    command = [sys.executable, "-m", "papermill", str(NOTEBOOK_DIR / f"{name}.ipynb"), "out.ipynb", "--no-progress-bar"]
    ran = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    return ran.returncode, ran.stderr.strip().splitlines()[-1]


@pytest.mark.slow
def test_first_notebook_somebody_opens_may_be_compare(tmp_path: Path) -> None:
    status, last = papermill(tmp_path, "04_compare", "-p", "run_dir", str(tmp_path / "run"))
    assert status == 0, last
    assert "python -m lib run" in (tmp_path / "out.ipynb").read_text()


@pytest.mark.slow
def test_first_notebook_somebody_opens_may_be_benchmark(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    few = ["-p", "profile", "smoke", "-p", "num_images", "1000", "-p", "num_threads", "1"]
    arguments = ["-p", "run_dir", str(run_dir), "-p", "backend", "null", *few]
    status, last = papermill(tmp_path, "03_benchmark", *arguments)
    assert status == 0, last
    assert "a small network was trained just now" in (tmp_path / "out.ipynb").read_text()
    assert read_record(run_dir / "results/03_benchmark.null.json", BenchmarkRecord).status == "ok"


def test_bad_parameter_under_plain_papermill_ends_in_our_line_and_status_1(tmp_path: Path) -> None:
    status, last = papermill(tmp_path, "02_train", "-p", "num_epoch", "3", "-p", "run_dir", str(tmp_path))
    assert status == 1 and "unknown parameter 'num_epoch'; did you mean 'num_epochs'? allowed: " in last


@pytest.mark.slow
@pytest.mark.parametrize(("num_shared", "status"), [(1, 0), (2, 1)])
def test_test_images_that_training_has_too_are_shown_and_end_01_only_beyond_a_thousandth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_shared: int, status: int
) -> None:
    monkeypatch.setenv("GTSRB_CACHE", str(tmp_path / "cache"))
    base = write_layout(tmp_path / "data", test_images=1000)
    for frame in range(num_shared):
        shutil.copyfile(base / TRAIN_FOLDER / f"00014/00001_{frame:05d}.ppm", base / TEST_FOLDER / f"0057{frame}.ppm")
    arguments = ["-p", "dataset", "gtsrb", "-p", "data_root", str(tmp_path / "data"), "-p", "run_dir", str(tmp_path)]
    ended, last = papermill(tmp_path, "01_explore", *arguments)
    assert ended == status, last
    shown = (tmp_path / "out.ipynb").read_text()
    assert "Images that are there twice" in shown and "00014/00001_00000.ppm" in shown and "00570.ppm" in shown
    if status:
        assert "training or validation too, pixel for pixel: 2 of 1,000; more than 0.1 %" in last
        return
    (places,) = read_record(tmp_path / "results/01_explore.json", ExploreRecord).duplicates
    assert [place.rpartition("/")[2] for place in places] == ["00001_00000.ppm", "00570.ppm"]


def test_paths_do_not_depend_on_the_working_directory() -> None:
    code_text = "from lib.files import project_path; print(project_path('runs'))"
    ran = subprocess.run([sys.executable, "-c", code_text], cwd="/", capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == str(PROJECT_ROOT / "runs")
