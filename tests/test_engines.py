"""Engines: what they refuse, how they place combinations, and what travels between machines."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from lib.cli import main
from lib.data import load_data
from lib.data.cache import SENT_VARIABLE, folder_of
from lib.data.store import add
from lib.errors import UserError
from lib.files import PROJECT_ROOT, locked
from lib.records.run import Job
from lib.records.schema import BENCHMARK
from lib.series import combination, sources
from lib.series.combination import Combination, packed, run_combination, unpack
from lib.series.engines import Task, get_engine
from lib.series.engines.ray import cores_of_nodes, on_node
from lib.series.jobs import plan_jobs
from lib.series.preflight import image_caches, image_hashes
from lib.series.sources import code_hash
from tests.conftest import Refused
from tests.gtsrb_layout import write_image, write_layout
from tests.made_series import Write, write  # noqa: F401  # a fixture
from tests.new_python import printed_by

SMALL = ("-p", "profile", "smoke", "-p", "num_images", "86")
SLEEPER = """import json, sys, time
spec = json.load(sys.stdin)
begun = time.time()
time.sleep(0.5)
print(json.dumps([begun, time.time(), __import__('os').environ['GTSRB_SHARE']]))"""


def made(folder: str = "one", **changes: object) -> Combination:
    values = {"notebooks": ["01"], "given": {}, "backends": [], "code": {}, "images": {}, "limits": {}}
    return Combination(folder, **{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_engine_that_is_not_installed_is_refused_before_anything_is_written(
    engine: str, package: str, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    line = refused("sweep", "01", "--engine", engine, "--out", tmp_path / "sweep")
    assert f"{package} is not installed; `make EXTRAS={engine} .venv`" in line and "--engine local" in line
    assert not (tmp_path / "sweep").exists()


def test_second_sweep_into_a_folder_is_refused(refused: Refused, tmp_path: Path) -> None:
    from lib.series.rundir import claimed

    with claimed(tmp_path):
        assert "another launch is at work" in refused("sweep", "01", *SMALL, "--out", tmp_path)


def test_what_measures_runs_alone_after_the_others_which_share_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(combination, "COMMAND", (sys.executable, "-c", SLEEPER))
    monkeypatch.setattr("lib.series.engines.local.num_cores", lambda: 4)

    def ran(*whole: bool) -> Iterator[tuple[float, float, str]]:
        folders = [tmp_path / f"{number}" for number in range(len(whole))]
        for folder in folders:
            folder.mkdir()
        jobs = [[Job(BENCHMARK)] if alone else [] for alone in whole]
        tasks = [Task(made(folder.name), folder, its) for folder, its in zip(folders, jobs, strict=True)]
        events = list(get_engine("local")(2, "").run(tasks))
        assert {event.task.run_dir for event in events if event.reason == ""} == set(folders)
        return (tuple(json.loads((folder / combination.LOG).read_text())) for folder in folders)

    alone, one, other, last = ran(True, False, False, True)
    assert one[0] < other[1] and other[0] < one[1], "side by side"
    assert min(alone[0], last[0]) >= max(one[1], other[1]) and (alone[0] >= last[1] or last[0] >= alone[1])
    assert (one[2], other[2], alone[2], last[2]) == ("2", "2", "4", "4")


def test_share_of_a_combination_is_what_it_takes_for_all_cores() -> None:
    assert printed_by("from lib.granted import num_cores; print(num_cores())", GTSRB_SHARE="1") == "1"


def test_node_with_another_version_of_the_code_does_not_run_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"another version of the code that 01 runs .* check out the same commit"):
        run_combination(made(code={"01": "of another commit"}), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_code_of_a_notebook_is_its_cells_and_whatever_they_import(
    write: Write,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write("01_mine", "def later():\n    from lib.used import name", "%time 1", record=False)
    monkeypatch.setattr(sources, "PROJECT_ROOT", tmp_path)
    files = {"__init__": "", "used": "import lib.found", "found/__init__": "import_modules(__name__, __path__)",
             "found/plugin": "RUNS = 'lib.process'", "process": "x = 1", "other": "x = 1"}  # fmt: skip
    for name, text in files.items():
        (tmp_path / f"lib/{name}.py").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"lib/{name}.py").write_text(text)

    def differs(path: str, old: str, new: str) -> bool:
        before, file = code_hash("01"), tmp_path / path
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))
        return code_hash("01") != before

    assert differs("lib/used.py", "import", "x = 1\nimport")
    assert differs("lib/found/plugin.py", "RUNS", "RUN")
    assert differs("lib/process.py", "1", "2")
    assert not differs("lib/other.py", "1", "2")
    assert not differs("notebooks/01_mine.ipynb", "# 01_mine", "# another text")
    assert differs("notebooks/01_mine.ipynb", "time 1", "time 2")


def test_images_that_were_sent_stand_in_for_files_that_a_node_does_not_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GTSRB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GTSRB_STORE", str(tmp_path / "store"))
    write_layout(tmp_path / "data")
    write_image(tmp_path / "new/14/IMG_1.png", 14, 7000)
    extra, _ = add(tmp_path / "new", load_data("gtsrb", data_root=str(tmp_path / "data")))
    given = {"dataset": "gtsrb", "data_root": str(tmp_path / "data"), "fold": "1", "recipe": "record"}
    jobs = plan_jobs(["02"], {**given, "extra_data": extra.hash}, [])
    (expected,) = image_hashes(jobs, {}).values()
    known: dict[tuple[str, str, int, str], Path] = {}
    caches = image_caches(jobs, tmp_path, known)
    assert sorted(caches) == ["gtsrb-32px", "store"] and expected.endswith(extra.hash)
    for name, cache in caches.items():
        unpack(packed(cache), tmp_path / "sent" / name)
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(UserError, match="no extra data have the hash"):
        image_hashes(jobs, {})
    shutil.rmtree(tmp_path / "data")
    assert image_caches(plan_jobs(["02"], given, []), tmp_path, known) == {"gtsrb-32px": caches["gtsrb-32px"]}
    with pytest.raises(UserError, match="no folder"):
        image_hashes(jobs, {})
    monkeypatch.setenv(SENT_VARIABLE, str(tmp_path / "sent"))
    assert image_hashes(jobs, {}) == {"02_train": expected}
    assert folder_of(load_data("gtsrb").splits).parent == tmp_path / "sent"
    (tmp_path / "sent/gtsrb-32px/train.labels.npy").write_bytes(b"half")
    with pytest.raises(UserError, match="are damaged; remove the folder"):
        image_hashes(jobs, {})


def test_full_disk_leaves_a_run_folder_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new/record").write_text("new")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/record").write_text("old")
    content = packed(tmp_path / "new")
    with monkeypatch.context() as patched, pytest.raises(UserError, match="No space left on device; free space"):
        patched.setattr("tarfile.TarFile.extractall", lambda *_, **__: os.close(full()))
        unpack(content, tmp_path / "run")
    assert (tmp_path / "run/record").read_text() == "old" and {p.name for p in tmp_path.iterdir()} == {"new", "run"}
    unpack(content, tmp_path / "run")
    assert (tmp_path / "run/record").read_text() == "new"


def full() -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(("engine", "package", "at"), [("ray", "ray", ""), ("slurm", "submitit", "local")])
def test_combination_runs_elsewhere_and_any_engine_goes_on_from_there(
    engine: str, package: str, at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if find_spec(package) is None:  # not imported here: Ray reads its environment then, which `connect` sets before
        pytest.skip(f"needs {package}: make EXTRAS={engine} .venv")
    monkeypatch.setenv("PYTHONPATH", str(PROJECT_ROOT))
    argv = ["sweep", "01", *SMALL, "-p", "seed", "0,1", "--only", "profile=smoke,num_images=86,seed=1"]
    argv += ["--out", str(tmp_path / "sweep")]
    assert main([*argv, "--engine", engine, "--at", at]) == 0
    assert main(argv) == 0
    assert "seed 1: done already" in capsys.readouterr().err


@pytest.mark.parametrize(("at", "complaint"), [("colour=red", "colour"), ("slurm_partition=none", "no such partition")])
def test_options_that_slurm_does_not_take_are_refused(
    at: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit", reason="needs submitit: make EXTRAS=slurm .venv")
    for name in ("sbatch", "srun"):
        (tmp_path / name).write_text("#!/bin/sh\necho no such partition >&2\nexit 1")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    engine = get_engine("slurm")(1, at)
    engine.connect()
    with pytest.raises(UserError, match=f"{complaint}.*give options of submitit, such as slurm_partition=NAME"):
        list(engine.run([Task(made(), tmp_path / "one", [])]))


def test_job_of_slurm_has_the_node_to_itself_only_where_it_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit", reason="needs submitit: make EXTRAS=slurm .venv")
    for name, text in {"srun": "", "squeue": "", "sbatch": f'cat "$1" >>{tmp_path}/asked; exit 1'}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def asked(notebook: str) -> list[str]:
        (tmp_path / "asked").unlink(missing_ok=True)
        jobs = plan_jobs([notebook], {"num_threads": "3"}, [])
        with pytest.raises(UserError, match="Slurm takes no job"):
            list(get_engine("slurm")(1, "").run([Task(made(), tmp_path / "one", jobs)]))
        return [line for line in (tmp_path / "asked").read_text().splitlines() if line.startswith("#SBATCH")]

    trains, measures = asked("02"), asked("03")
    assert "#SBATCH --cpus-per-task=3" in trains and not [line for line in trains if "exclusive" in line]
    assert "#SBATCH --exclusive" in measures


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> MagicMock:
    """In place of the package: a cluster in which nothing ends."""
    stub = MagicMock()
    stub.exceptions.RayError = NotImplementedError
    stub.wait.side_effect = lambda answers, timeout: ([], answers)
    stub.get_runtime_context().get_node_id.return_value = "abcdef0"
    monkeypatch.setitem(sys.modules, "ray", stub)
    return stub


def test_combination_fails_once_no_node_with_the_cores_that_it_asked_for_is_left(
    ray: MagicMock, tmp_path: Path
) -> None:
    large, small = ({"Alive": True, "Resources": {"CPU": cores}} for cores in (8.0, 4.0))
    ray.nodes.side_effect = [[large, small], [small, {**large, "Alive": False}]]
    ray.get.side_effect = lambda _, timeout=0: ({}, cores_of_nodes()) if timeout else None
    engine = get_engine("ray")(1, "")
    engine.connect()
    (event,) = (event for event in engine.run([Task(made(), tmp_path, [Job(BENCHMARK)])]) if event.reason is not None)
    assert event.reason == "no node with 8 cores is left in the cluster; start one, and run the sweep again"


def test_run_folder_of_a_worker_that_was_killed_is_removed_by_the_next(
    ray: MagicMock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GTSRB_CACHE", str(tmp_path))
    monkeypatch.setattr(combination, "COMMAND", (sys.executable, "-c", SLEEPER))
    for name in ("sweeps/killed", "sweeps/runs", "new"):
        (tmp_path / name).mkdir(parents=True)
    with locked(tmp_path / "sweeps/runs.lock"):
        node, reason, content = on_node(vars(made()), packed(tmp_path / "new"), {}, 1, ray.remote()()())
    assert node.endswith(" abcdef") and reason == ""
    unpack(content, tmp_path / "back")
    assert (tmp_path / "back" / combination.LOG).exists()
    assert [path.name for path in (tmp_path / "sweeps").iterdir()] == ["runs"]
