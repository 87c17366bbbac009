"""Running notebooks: what counts as done, what a failure leaves behind, what is refused before anything starts."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from lib.cli import main
from lib.errors import UserError
from lib.executor.outcome import judge
from lib.files import PROJECT_ROOT
from lib.records.run import load_run
from lib.report import LIMITS_VARIABLE
from lib.series import launcher, parameters, rundir
from lib.series.joblist import add_jobs, forget_network
from lib.series.jobs import plan_jobs
from lib.series.launcher import JobResult, Series, choose_run_dir, run_jobs
from lib.series.notebook import seconds_left
from lib.variables import KEEP_VARIABLE
from tests.waiting import HANG_S, until

PARAMETERS = 'profile: str = "fast"  # size [smoke|fast]\nrun_dir: str = "runs/latest"  # where'
BenchParameters = 'backend: str = "null"  # which [a backend]\n' + PARAMETERS
RECORD = """from pathlib import Path
from lib.records.schema import record_path, write_record
from tests.made_records import made_benchmark, made_explore
write_record({kind}, record_path(Path(run_dir), "{name}"{backend}))"""
Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write small notebooks that stand in for the series, and keep runs out of the project."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setattr(parameters, "NOTEBOOK_DIR", folder)
    monkeypatch.setattr(rundir, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(rundir, "LATEST", tmp_path / "runs" / "latest")
    monkeypatch.setattr(launcher, "LATEST", tmp_path / "runs" / "latest")

    def write_notebook(name: str, *sources: str, cell: str = PARAMETERS, record: bool = True) -> None:
        notebook = nbformat.v4.new_notebook()
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook.cells = [nbformat.v4.new_markdown_cell(f"# {name}"), nbformat.v4.new_code_cell(cell)]
        notebook.cells[1].metadata["tags"] = ["parameters"]
        notebook.cells += [nbformat.v4.new_code_cell(source) for source in sources]
        if record:
            kind = "made_benchmark(backend)" if "backend:" in cell else "made_explore()"
            backend = ", backend" if "backend:" in cell else ""
            notebook.cells.append(nbformat.v4.new_code_cell(RECORD.format(kind=kind, name=name, backend=backend)))
        nbformat.write(notebook, folder / f"{name}.ipynb")

    return write_notebook


def run(run_dir: Path, *notebooks: str, **limits: int) -> Series:
    run_dir.mkdir(exist_ok=True)
    return run_jobs(plan_jobs(notebooks, {}, []), run_dir, out=io.StringIO(), **limits)


def page(run_dir: Path, name: str) -> str:
    return (run_dir / "pages" / f"{name}.html").read_text()


def test_notebook_whose_cells_all_ran_is_ok_and_leaves_notebook_page_and_index(write: Write, tmp_path: Path) -> None:
    write("01_first", "print(profile, run_dir)", "1 + 1", "")
    series = run(tmp_path / "run")
    (result,) = series.results
    assert result.status == "ok" and result.reason == "" and not series.failed
    text = page(tmp_path / "run", "01_first")
    assert f"fast {tmp_path / 'run'}" in text and 'id="failure"' not in text
    assert "01_first" in (tmp_path / "run" / "index.html").read_text()
    listed = json.loads((tmp_path / "run" / "series.json").read_text())["notebooks"]
    assert [(job["notebook"], job["status"]) for job in listed] == [("01_first", "ok")]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "index.html",
        "notebooks",
        "pages",
        "results",
        "series.json",
    ]


@pytest.mark.parametrize(
    ("limits", "least", "most"),
    [({"cell_limit_s": 300}, 290, 300), ({"notebook_limit_s": 400}, 1, 400)],
    ids=["cell limit", "notebook limit"],
)
def test_notebook_knows_when_its_limits_end_a_cell(
    write: Write, tmp_path: Path, limits: dict[str, int], least: int, most: int
) -> None:
    asked = f"from lib.series.notebook import seconds_left\nassert {least} < seconds_left() <= {most}, seconds_left()"
    write("01_first", asked)
    (result,) = run(tmp_path / "run", **limits).results
    assert result.status == "ok", result.reason


def test_what_the_shell_says_about_computing_is_told_in_a_line_and_reaches_no_notebook(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write("01_first", "import os", "assert 'OMP_PROC_BIND' not in os.environ and os.environ['OTHER'] == 'x'")
    monkeypatch.setenv("OMP_PROC_BIND", "close")
    monkeypatch.setenv("OTHER", "x")
    assert main(["run", "--out", str(tmp_path / "run")]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "OMP_PROC_BIND=close" in line]
    assert len(told) == 1 and told[0].startswith("note: ignored") and KEEP_VARIABLE in told[0]


def test_notebook_outside_of_the_launcher_knows_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LIMITS_VARIABLE, raising=False)
    assert seconds_left() is None


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ValueError('no such sign')", "ValueError: no such sign"),
        ("from lib.errors import UserError\nraise UserError('unknown sign 44')", "unknown sign 44"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "the kernel died"),
        ("import sys\nsys.exit()", "SystemExit|did not run"),
        ("import os\nos._exit(0)", "the kernel died"),
    ],
    ids=["exception", "user error", "killed kernel", "early exit", "hard exit"],
)
def test_notebook_that_did_not_run_all_cells_has_failed_and_its_page_says_where_and_why(
    write: Write, tmp_path: Path, source: str, reason: str
) -> None:
    write("01_first", "before = 1", source, "after = 1")
    (result,) = run(tmp_path / "run").results
    assert_failed_in_its_fourth_cell(result, tmp_path / "run", reason)


@pytest.mark.parametrize("whose", ["cell", "notebook"])
def test_notebook_that_ran_past_a_time_limit_has_failed_and_its_page_says_where_and_why(
    write: Write, tmp_path: Path, whose: str
) -> None:
    begun = tmp_path / "begun"
    write("01_first", "before = 1", f"import time\nopen({str(begun)!r}, 'w').close()\ntime.sleep(600)", "after = 1")
    result, limit_s = run_past_limit(tmp_path / "run", begun, whose)
    assert_failed_in_its_fourth_cell(result, tmp_path / "run", f"time limit of {limit_s} s for the {whose} reached")


def run_past_limit(run_dir: Path, begun: Path, whose: str) -> tuple[JobResult, int]:
    """Run with a time limit that grows until the cell that writes the file `begun` has begun: a kernel on a busy
    machine may take more than the least limit to come that far. Returns the limit in seconds too."""
    for limit_s in (3 * 2**number for number in range(8)):
        (result,) = run(run_dir, **{f"{whose}_limit_s": limit_s}).results
        if begun.exists():
            return result, limit_s
    pytest.fail(f"no cell wrote {begun.name} within {limit_s} s: {result.reason}")


def assert_failed_in_its_fourth_cell(result: JobResult, run_dir: Path, reason: str) -> None:
    assert result.status == "failed"
    assert re.search(reason, result.reason), result.reason
    assert "cell 4 of 6" in result.reason  # the injected parameters count as a cell
    text = page(run_dir, "01_first")
    assert 'id="failure"' in text and re.search(reason, text)
    assert "after = 1" in json.dumps(nbformat.read(run_dir / "notebooks/01_first.ipynb", as_version=4))


def test_user_error_is_one_line_in_the_page_and_no_traceback(write: Write, tmp_path: Path) -> None:
    write("01_first", "from lib.errors import UserError\nraise UserError('unknown sign 44; allowed: 0 to 42')")
    run(tmp_path / "run")
    assert "Traceback" not in page(tmp_path / "run", "01_first")


def test_failed_training_skips_what_would_measure_another_network(write: Write, tmp_path: Path) -> None:
    write("01_explore", "1")
    write("02_train", "raise ValueError('x')")
    write("03_benchmark", "1", cell=BenchParameters)
    write("04_compare", "1")
    jobs = plan_jobs([], {}, ["null"])
    (tmp_path / "run").mkdir()
    series = run_jobs(jobs, tmp_path / "run", out=io.StringIO())
    assert [result.status for result in series.results] == ["ok", "failed", "skipped", "skipped"]


def test_failed_backend_stops_neither_the_others_nor_the_comparison(write: Write, tmp_path: Path) -> None:
    write("03_benchmark", "if backend == 'null':\n    raise ValueError('x')", cell=BenchParameters)
    write("04_compare", "1")
    (tmp_path / "run").mkdir()
    series = run_jobs(plan_jobs([], {}, ["null", "torch-blas"]), tmp_path / "run", out=io.StringIO())
    assert [(result.backend, result.status) for result in series.results] == [
        ("null", "failed"),
        ("torch-blas", "ok"),
        ("", "ok"),
    ]


def test_record_of_an_earlier_launch_does_not_stand_in_for_a_failed_one(write: Write, tmp_path: Path) -> None:
    write("01_first", "raise ValueError('x')")
    old = tmp_path / "run" / "results" / "01_first.json"
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    (result,) = run(tmp_path / "run").results
    assert result.record is None and not old.exists()


def test_second_launch_adds_to_the_list_of_the_run(write: Write, tmp_path: Path) -> None:
    write("01_first", "1")
    write("02_second", "1")
    run(tmp_path / "run", "01")
    run(tmp_path / "run", "02")
    listed = json.loads((tmp_path / "run" / "series.json").read_text())["notebooks"]
    assert [job["notebook"] for job in listed] == ["01_first", "02_second"]
    assert all(job["started"] for job in listed)


def listed_job(notebook: str, backend: str, started: str) -> dict[str, Any]:
    """An entry of the list, and the files that it names."""
    label = f"{notebook}.{backend}" if backend else notebook
    files = {"page": f"pages/{label}.html", "executed": f"notebooks/{label}.ipynb"}
    return {"notebook": notebook, "backend": backend, "status": "ok", "seconds": 5.0, "started": started, **files}


def test_run_has_begun_with_the_earliest_job_that_stays_and_took_as_long_as_all_of_them(tmp_path: Path) -> None:
    day = "2026-11-24T{}:00:00+00:00"
    add_jobs(tmp_path, [listed_job("01_first", "", day.format(10)), listed_job("02_second", "", day.format(11))])
    add_jobs(tmp_path, [listed_job("03_third", "", day.format(12))])
    run = load_run(tmp_path)
    assert (run.started, run.duration_s) == (day.format(10), 15.0)
    add_jobs(tmp_path, [listed_job("01_first", "", day.format(13))])
    run = load_run(tmp_path)
    assert (run.started, run.duration_s) == (day.format(11), 15.0)


def test_list_of_an_earlier_version_keeps_the_time_of_its_run(tmp_path: Path) -> None:
    job = {"notebook": "01_first", "backend": "", "status": "ok", "seconds": 5.0}
    (tmp_path / "series.json").write_text(json.dumps({"started": "2026-11-24", "notebooks": [job, "x"]}))
    add_jobs(tmp_path, [listed_job("02_second", "", "2026-11-25")])
    run = load_run(tmp_path)
    assert run.started == "2026-11-24" and [job.label for job in run.jobs] == ["01_first", "02_second"]


def test_note_of_a_run_stays_while_its_jobs_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUN_NOTE", "synthetic images instead")
    add_jobs(tmp_path, [listed_job("01_first", "", "")])
    monkeypatch.delenv("RUN_NOTE")
    add_jobs(tmp_path, [listed_job("02_second", "", "")])
    assert load_run(tmp_path).note == "synthetic images instead"
    add_jobs(tmp_path, [listed_job("01_first", "", ""), listed_job("02_second", "", "")])
    assert load_run(tmp_path).note == ""


def test_training_again_takes_pages_notebooks_and_places_in_the_list_along(tmp_path: Path) -> None:
    jobs = [listed_job(*names, "2026") for names in (("01_explore", ""), ("03_benchmark", "null"), ("04_compare", ""))]
    for path in [job[kind] for job in jobs for kind in ("page", "executed")] + ["results/compare_layers.csv"]:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("{}")
    add_jobs(tmp_path, jobs)
    assert "03_benchmark" in (tmp_path / "index.html").read_text()
    forget_network(tmp_path)
    assert [job.label for job in load_run(tmp_path).jobs] == ["01_explore"]
    assert "03_benchmark" not in (tmp_path / "index.html").read_text()
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*")) == [
        "notebooks/01_explore.ipynb",
        "pages/01_explore.html",
    ]


def test_progress_has_one_line_per_cell_where_nobody_watches(write: Write, tmp_path: Path) -> None:
    write("01_first", "print('hello')", "2")
    (tmp_path / "run").mkdir()
    out = io.StringIO()
    run_jobs(plan_jobs([], {}, []), tmp_path / "run", out=out)
    lines = out.getvalue().splitlines()
    assert sum("cell " in line for line in lines) == 5 and "cell 5/5" in out.getvalue()
    assert re.fullmatch(r"\[1/1\] 01_first: ok after 0:\d\d", lines[-1]) and "\r" not in out.getvalue()


def test_index_of_an_unexecuted_notebook_is_a_failure(tmp_path: Path) -> None:
    failure = judge(tmp_path / "none.ipynb", stopped="the process ended with signal 9")
    assert failure is not None and failure.reason == "the process ended with signal 9"


def test_notebook_that_writes_no_record_has_failed(write: Write, tmp_path: Path) -> None:
    write("01_first", "1", record=False)
    (result,) = run(tmp_path / "run").results
    assert result.status == "failed" and result.reason == "it wrote no record"


def test_half_written_notebook_is_a_failure_with_a_page_and_stops_nothing(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("01_first", "1")
    write("02_second", "1")
    real = launcher._execute

    def cut_off(spec: dict[str, Any], *arguments: Any) -> str:
        stopped = real(spec, *arguments)
        output = Path(spec["output"])
        if output.stem == "01_first":
            output.write_text(output.read_text()[:100])
        return stopped

    monkeypatch.setattr(launcher, "_execute", cut_off)
    first, second = run(tmp_path / "run").results
    assert (first.status, second.status) == ("failed", "ok")
    assert 'id="failure"' in page(tmp_path / "run", "01_first")


def test_training_again_removes_records_of_the_network_before(write: Write, tmp_path: Path) -> None:
    write("02_train", "1")
    results = tmp_path / "run" / "results"
    results.mkdir(parents=True)
    for name in ("03_benchmark.null.json", "04_compare.json", "01_explore.json"):
        (results / name).write_text("{}")
    run(tmp_path / "run")
    assert sorted(path.name for path in results.iterdir()) == ["01_explore.json", "02_train.json"]


def test_full_disk_ends_in_one_line_and_status_2(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write("01_first", "1")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lib.series.launcher.os.replace", full)
    assert main(["run"]) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("error: cannot ") and "No space left on device" in told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_launcher_that_is_ended_leaves_no_notebook_running(write: Write, tmp_path: Path, number: int) -> None:
    begun = tmp_path / "begun"
    write("01_first", f"import time\nopen({str(begun)!r}, 'w').close()\ntime.sleep(1000)")
    code = (
        "import sys; from pathlib import Path; from lib.series import parameters;"
        f"parameters.NOTEBOOK_DIR = Path({str(tmp_path / 'notebooks')!r});"
        "from lib.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "run", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, cwd=PROJECT_ROOT, stderr=subprocess.PIPE, text=True)
    until(lambda: begun.exists() or process.poll() is not None, "the notebook began")
    process.send_signal(number)
    told = process.communicate(timeout=HANG_S)[1]
    if number == signal.SIGTERM:
        assert process.returncode == 130 and told.strip().splitlines()[-1].startswith("interrupted")
    until(lambda: running_in(tmp_path / "run") == [], "no process had a file of the run open")


def running_in(run_dir: Path) -> list[str]:
    """Command lines of processes that run a notebook into a folder, found by their open files."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            files = [os.readlink(file) for file in (process / "fd").iterdir()]
            if any(file.startswith(str(run_dir)) for file in files):
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found


@pytest.fixture
def series(write: Write) -> None:
    write("02_train", "1")
    write("03_benchmark", "1", cell=BenchParameters + "\nnum_epochs: int = 0  # epochs [0..500]")
    write("04_compare", "1", cell='backends: str = ""  # expected\n' + PARAMETERS)


def test_value_goes_to_each_notebook_that_declares_the_name(series: None) -> None:
    jobs = {job.label: job.parameters for job in plan_jobs([], {"num_epochs": "3", "profile": "smoke"}, ["null"])}
    assert jobs["02_train"] == {"profile": "smoke"}
    assert jobs["03_benchmark.null"] == {"profile": "smoke", "num_epochs": 3, "backend": "null"}
    assert jobs["04_compare"] == {"profile": "smoke", "backends": "null"}


def test_name_that_no_selected_notebook_declares_is_refused(series: None) -> None:
    with pytest.raises(UserError, match="unknown parameter 'num_epochs'"):
        plan_jobs(["02"], {"num_epochs": "3"}, [])


@pytest.mark.parametrize(
    ("notebooks", "given", "backends", "complaint"),
    [
        (["05"], {}, [], "unknown notebook '05'"),
        ([], {"num_epoch": "3"}, [], "did you mean 'num_epochs'"),
        ([], {"profile": "fats"}, [], "did you mean 'fast'"),
        ([], {"backend": "ort"}, [], "unknown backend 'ort'"),
        ([], {}, ["ort"], "unknown backend 'ort'"),
        (["02"], {}, ["null"], "--backends is for 03_benchmark"),
        ([], {"backend": "null"}, ["null"], "not both"),
        ([], {"profile\nimport os": "smoke"}, [], "unknown parameter"),
    ],
)
def test_bad_input_is_refused_before_anything_starts(
    series: None, notebooks: list[str], given: dict[str, str], backends: list[str], complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        plan_jobs(notebooks, given, backends)


def test_whole_series_begins_a_run_and_single_notebooks_add_to_the_latest(series: None, tmp_path: Path) -> None:
    first = choose_run_dir([], "")
    rundir.point_latest_to(first)
    assert choose_run_dir(["03", "04"], "") == first
    assert choose_run_dir(["02"], "") != first, "all that the latest run holds measured another network"
    assert choose_run_dir([], "") != first
    assert choose_run_dir(["03"], str(tmp_path / "mine")) == tmp_path / "mine"


def test_latest_is_swapped_by_rename(series: None) -> None:
    first, second = rundir.new_run_dir(), rundir.new_run_dir()
    assert first != second
    rundir.point_latest_to(first)
    rundir.point_latest_to(second)
    assert rundir.LATEST.resolve() == second and not list(rundir.RUNS.glob(".latest*"))


def test_run_folder_that_cannot_be_written_is_told(series: None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the run folder"):
        choose_run_dir([], str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["run", "05"], "unknown notebook '05'"),
        (["run", "-p", "num_epoch", "3"], "did you mean 'num_epochs'"),
        (["run", "-p", "profile", "fast", "-p", "profile", "smoke"], "given twice"),
        (["run", "--backends", "ort"], "unknown backend 'ort'"),
        (["run", "--cell-limit", "0"], "cell-limit"),
        (["params", "05"], "unknown notebook"),
        (["render", "no/such/run"], "holds no executed notebooks"),
        (["data", "get", "--dataset", "synthetic"], "unknown data set"),
        (["dance"], "dance"),
        ([], "COMMAND"),
    ],
)
def test_bad_command_line_ends_in_one_line_and_status_2(
    argv: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("error: ") and "\n" not in told and complaint in told


def test_launch_of_a_failing_notebook_ends_with_status_1_and_names_it(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write("01_first", "raise ValueError('x')")
    assert main(["run"]) == 1
    told = capsys.readouterr()
    assert told.err.strip().splitlines()[-1] == "FAILED: 01_first"
    assert len(told.out.strip().splitlines()) == 5 and "index.html" in told.out.strip().splitlines()[-1]


def test_pages_can_be_rendered_again_and_the_note_stays(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("01_first", "raise ValueError('x')")
    monkeypatch.setenv("RUN_NOTE", "synthetic images instead")
    run(tmp_path / "run")
    monkeypatch.delenv("RUN_NOTE")
    (tmp_path / "run/pages/01_first.html").unlink()
    (tmp_path / "run/index.html").unlink()
    (tmp_path / "run/notebooks/._01_first.ipynb").write_bytes(b"\0\5\26\7")  # of macOS
    assert main(["render", str(tmp_path / "run")]) == 0
    assert "synthetic images instead" in (tmp_path / "run/index.html").read_text()
    assert 'id="failure"' in page(tmp_path / "run", "01_first")
    assert capsys.readouterr().out.strip().endswith("index.html")


@pytest.fixture
def broken_run(tmp_path: Path) -> Path:
    """A run folder of the real series with a checkpoint and a record that nobody can use."""
    run_dir = tmp_path / "run"
    (run_dir / "results").mkdir(parents=True)
    (run_dir / "checkpoint.safetensors").write_bytes(b"PK not weights")
    (run_dir / "results" / "03_benchmark.null.json").write_text('{"schema_version": 0}')
    return run_dir


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["03", "-p", "backend", "null"], "not a readable checkpoint"),
        (["04"], "schema 0"),
        (["01", "-p", "num_images", "3"], "num_images is 3"),
        (["01", "-p", "dataset", "gtsrb", "-p", "data_root", "nowhere"], "data get"),
        (["01", "-p", "dataset", "gtsrb", "-p", "data_root", "."], "holds no GTSRB"),
    ],
    ids=["checkpoint", "record", "too few images", "no data", "other folder"],
)
def test_bad_data_checkpoint_or_record_is_refused_before_anything_is_written(
    broken_run: Path, argv: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(broken_run.rglob("*"))
    assert main(["run", *argv, "--out", str(broken_run)]) == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("error: ") and complaint in told and "\n" not in told
    assert sorted(broken_run.rglob("*")) == before
