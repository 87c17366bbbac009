"""Running notebooks: what counts as done, what a failure leaves behind, what is refused before anything starts."""

# ruff: noqa: F811  # the fixture `write`

from __future__ import annotations

import io
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import nbformat
import pytest

from lib.backends import get_backend
from lib.cli import main
from lib.errors import UserError
from lib.executor.outcome import judge
from lib.records.run import Job, load_run
from lib.report import LIMITS_VARIABLE
from lib.series import rundir
from lib.series.joblist import add_jobs
from lib.series.jobs import plan_jobs
from lib.series.launcher import choose_run_dir
from lib.series.notebook import seconds_left
from lib.series.preflight import check_installed
from lib.variables import KEEP_VARIABLE
from tests.conftest import Refused
from tests.made_records import listed_job, made_benchmark, made_explore, write_run_files
from tests.made_series import OF_A_BACKEND, PARAMETERS, RECORD, Write, page, run, run_past_limit, started, write  # noqa: F401
from tests.waiting import HANG_S, until

DAMAGE = """import os, signal
from pathlib import Path
(written,) = Path(run_dir).glob(".executing-*/*.ipynb")
runner = os.getppid()
os.kill(runner, signal.SIGSTOP)
written.write_text(written.read_text()[:100])
os.kill(runner, signal.SIGKILL)
"""
USER_ERROR = "from lib.errors import UserError\nraise UserError('unknown sign 44; allowed: 0 to 42')"


def test_notebook_whose_cells_all_ran_is_ok_and_leaves_notebook_page_and_index(write: Write, tmp_path: Path) -> None:
    write("01_first", "print(profile, run_dir)", "1 + 1", "")
    out = io.StringIO()
    (job,) = run(tmp_path / "run", out=out)
    assert job.status == "ok" and job.reason == ""
    text = page(tmp_path / "run", "01_first")
    assert f"fast {tmp_path / 'run'}" in text and 'id="failure"' not in text
    assert "MiB of memory" in text and 'href="../index.html"' in text
    assert "01_first" in (tmp_path / "run" / "index.html").read_text()
    (listed,) = json.loads((tmp_path / "run" / "series.json").read_text())["notebooks"]
    assert (listed["notebook"], listed["status"]) == ("01_first", "ok") and "values" not in listed
    left = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert left == ["index.html", "notebooks", "pages", "results", "series.json"]
    lines = out.getvalue().splitlines()
    assert sum("cell " in line for line in lines) == 6 and "cell 6/6" in out.getvalue(), "one line a cell in a file"
    assert re.fullmatch(r"\[1/1\] 01_first: ok after 0:\d\d", lines[-1]) and "\r" not in out.getvalue()


@pytest.mark.parametrize(
    ("limits", "least", "most"),
    [({"cell_limit_s": 300}, 290, 300), ({"notebook_limit_s": 400}, 1, 400)],
)
def test_notebook_knows_when_its_limits_end_a_cell(
    write: Write, tmp_path: Path, limits: dict[str, Any], least: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = f"from lib.series.notebook import seconds_left\nassert {least} < seconds_left() <= {most}, seconds_left()"
    write("01_first", asked)
    (job,) = run(tmp_path / "run", **limits)
    assert job.status == "ok", job.reason
    monkeypatch.delenv(LIMITS_VARIABLE, raising=False)
    assert seconds_left() is None, "outside of the launcher there is no limit"


def test_variables_of_the_shell_that_change_computing_are_named_and_reach_no_notebook(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write("01_first", "import os", "assert 'OMP_PROC_BIND' not in os.environ and os.environ['OTHER'] == 'x'")
    monkeypatch.setenv("OMP_PROC_BIND", "close")
    monkeypatch.setenv("OTHER", "x")
    assert main(["run", "--out", str(tmp_path / "run")]) == 0
    (note,) = [line for line in capsys.readouterr().err.splitlines() if "OMP_PROC_BIND=close" in line]
    assert note.startswith("note: ignored") and KEEP_VARIABLE in note


def test_notebooks_of_a_launch_share_what_they_import_and_nothing_else(write: Write, tmp_path: Path) -> None:
    before = "import sys\nassert 'numpy' in sys.modules and not hasattr(sys, 'mine')"
    draw = "import numpy.random\nsys.mine = 1\nopen(f'{run_dir}/draws', 'a').write(f'{numpy.random.random()} ')"
    for name in ("01_first", "02_second"):
        write(name, before, draw)
    assert [job.reason for job in run(tmp_path / "run")] == ["", ""]
    assert len({*(tmp_path / "run/draws").read_text().split()}) == 2, "what is not seeded is drawn anew"


# --------------------------------------------------------------------------------------------------- failures


def test_import_that_fails_is_the_failure_of_its_notebook_alone(write: Write, tmp_path: Path) -> None:
    write("01_first", "import lib.not_there")
    write("02_second", "import lib.errors")
    first, second = run(tmp_path / "run")
    assert "No module named 'lib.not_there'" in first.reason and second.status == "ok"


def test_notebook_that_kills_all_that_started_it_but_the_launcher_stops_no_other(write: Write, tmp_path: Path) -> None:
    parent = "def parent(pid): return int(open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[1])"
    write(
        "01_first", f"import os, signal, time\n{parent}\nos.kill(parent(os.getppid()), signal.SIGKILL)\ntime.sleep(60)"
    )
    write("02_second", "1")
    first, second = run(tmp_path / "run")
    assert first.status == "failed" and "signal 9" in first.reason and second.status == "ok"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ValueError('no such sign')", "ValueError: no such sign"),
        (USER_ERROR, "unknown sign 44; allowed: 0 to 42"),
        ("import os\nos._exit(0)", "the kernel died"),
        ("import sys\nsys.exit()", "SystemExit|did not run"),
    ],
    ids=["exception", "user error", "killed kernel", "early exit"],
)
def test_notebook_that_did_not_run_all_cells_has_failed_and_its_page_says_where_and_why(
    write: Write, tmp_path: Path, source: str, reason: str
) -> None:
    write("01_first", "before = 1", source, "after = 1")
    (job,) = run(tmp_path / "run")
    assert_failed_in_its_fourth_cell(job, tmp_path / "run", reason)
    assert source != USER_ERROR or "Traceback" not in page(tmp_path / "run", "01_first")


@pytest.mark.parametrize("whose", ["cell", "notebook"])
def test_notebook_that_ran_past_a_time_limit_has_failed_and_its_page_says_where_and_why(
    write: Write, tmp_path: Path, whose: str
) -> None:
    begun = tmp_path / "begun"
    write("01_first", "before = 1", f"import time\nopen({str(begun)!r}, 'w').close()\ntime.sleep(600)", "after = 1")
    job, limit_s = run_past_limit(tmp_path / "run", begun, whose)
    assert_failed_in_its_fourth_cell(job, tmp_path / "run", f"time limit of {limit_s} s for the {whose} reached")


def assert_failed_in_its_fourth_cell(job: Job, run_dir: Path, reason: str) -> None:
    assert job.status == "failed"
    assert re.search(reason, job.reason), job.reason
    assert "cell 4 of 6" in job.reason  # the injected parameters count as a cell
    text = page(run_dir, "01_first")
    assert 'id="failure"' in text and re.search(reason, text)
    assert "after = 1" in json.dumps(nbformat.read(run_dir / "notebooks/01_first.ipynb", as_version=4))


def test_failed_training_skips_what_would_measure_another_network(write: Write, tmp_path: Path) -> None:
    write("01_explore", "1")
    write("02_train", "raise ValueError('x')")
    write("03_benchmark", "1", cell=OF_A_BACKEND)
    write("04_compare", "1")
    jobs = run(tmp_path / "run", backends=("null",))
    assert [job.status for job in jobs] == ["ok", "failed", "skipped", "skipped"]


def test_failed_backend_stops_neither_the_others_nor_the_comparison(write: Write, tmp_path: Path) -> None:
    write("03_benchmark", "if backend == 'null':\n    raise ValueError('x')", cell=OF_A_BACKEND)
    write("04_compare", "1")
    jobs = run(tmp_path / "run", backends=("null", "torch-blas"))
    assert [(job.backend, job.status) for job in jobs] == [("null", "failed"), ("torch-blas", "ok"), ("", "ok")]


def test_notebook_without_a_record_has_failed_whatever_an_earlier_launch_left(write: Write, tmp_path: Path) -> None:
    write("01_first", "1", record=False)
    old = tmp_path / "run" / "results" / "01_first.json"
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    (job,) = run(tmp_path / "run")
    assert (job.status, job.reason, job.record) == ("failed", "it wrote no record", None) and not old.exists()


def test_run_without_anything_to_release_says_why(write: Write, tmp_path: Path) -> None:
    source = RECORD.replace("made_explore", "made_released")
    kind = "made_released(digest='', reason='no training')"
    write("05_release", source.format(kind=kind, name="05_release", backend=""), record=False)
    out = io.StringIO()
    (job,) = run(tmp_path / "run", out=out)
    assert (job.status, job.reason) == ("ok", "nothing is released: no training")
    assert out.getvalue().splitlines()[-1].endswith(" - nothing is released: no training")


def test_notebook_that_damages_its_own_file_fails_with_a_page_and_stops_nothing(write: Write, tmp_path: Path) -> None:
    write("01_first", DAMAGE)
    write("02_second", "1")
    first, second = run(tmp_path / "run")
    assert (first.status, second.status) == ("failed", "ok")
    assert "signal 9" in first.reason and 'id="failure"' in page(tmp_path / "run", "01_first")


def test_notebook_that_left_no_file_has_the_reason_of_its_runner(tmp_path: Path) -> None:
    failure = judge(tmp_path / "none.ipynb", stopped="the process ended with signal 9")
    assert failure is not None and failure.reason == "the process ended with signal 9"


def test_full_disk_ends_in_one_line_and_status_2(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write("01_first", "1")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lib.series.launcher.os.replace", full)
    assert main(["run"]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: cannot ") and "No space left on device" in last


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_launcher_that_is_ended_leaves_no_notebook_running(write: Write, tmp_path: Path, number: int) -> None:
    begun = tmp_path / "begun"
    write("01_first", f"import time\nopen({str(begun)!r}, 'w').close()\ntime.sleep(1000)")
    process = started(tmp_path / "notebooks", "run", "--out", tmp_path / "run")
    until(lambda: begun.exists() or process.poll() is not None, "the notebook began")
    process.send_signal(number)
    errors = process.communicate(timeout=HANG_S)[1]
    if number == signal.SIGTERM:
        assert process.returncode == 130 and errors.strip().splitlines()[-1].startswith("interrupted")
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


def test_launch_of_a_failing_notebook_ends_with_status_1_and_names_it(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write("01_first", "raise ValueError('x')")
    assert main(["run"]) == 1
    printed = capsys.readouterr()
    assert printed.err.strip().splitlines()[-1] == "FAILED: 01_first"
    assert len(printed.out.strip().splitlines()) == 4 and "index.html" in printed.out.strip().splitlines()[-1]


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


# ------------------------------------------------------------------------------------------ the list of a run


def test_run_has_begun_with_the_earliest_job_that_stays_and_took_as_long_as_all_of_them(tmp_path: Path) -> None:
    hours = ["2026-11-24T10:00:00+00:00", "2026-11-24T11:00:00+00:00", "2026-11-24T13:00:00+00:00"]
    jobs = [listed_job(tmp_path, f"0{n}_x", seconds=5.0, started=hour) for n, hour in enumerate(hours, start=1)]
    add_jobs(tmp_path, jobs[:2])
    add_jobs(tmp_path, jobs[2:])
    run = load_run(tmp_path)
    assert [job.label for job in run.jobs] == ["01_x", "02_x", "03_x"], "a second launch adds to the list"
    assert (run.started, run.duration_s) == (hours[0], 15.0)
    add_jobs(tmp_path, [listed_job(tmp_path, "01_x", seconds=5.0, started=hours[2])])
    run = load_run(tmp_path)
    assert (run.started, run.duration_s) == (hours[1], 15.0)


def test_note_of_a_run_stays_while_its_jobs_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = listed_job(tmp_path, "01_first"), listed_job(tmp_path, "02_second")
    monkeypatch.setenv("RUN_NOTE", "synthetic images instead")
    add_jobs(tmp_path, [first])
    monkeypatch.delenv("RUN_NOTE")
    add_jobs(tmp_path, [second])
    assert load_run(tmp_path).note == "synthetic images instead"
    add_jobs(tmp_path, [first, second])
    assert load_run(tmp_path).note == ""


def test_launch_that_trains_removes_all_that_measured_the_network_before(write: Write, tmp_path: Path) -> None:
    write("02_train", "1")
    run_dir = tmp_path / "run"
    write_run_files(run_dir, {"01_explore": made_explore(), "03_benchmark.null": made_benchmark("null")})
    (run_dir / "results" / "compare_layers.csv").touch()
    assert [job.status for job in run(run_dir)] == ["ok"]
    assert [job.label for job in load_run(run_dir).jobs] == ["01_explore", "02_train"]
    assert "03_benchmark" not in (run_dir / "index.html").read_text()
    assert {path.stem for path in run_dir.glob("*/*")} == {"01_explore", "02_train"}


# ------------------------------------------------------------------------------------------- plans and folders


@pytest.fixture
def series(write: Write) -> None:
    write("02_train", "1")
    write("03_benchmark", "1", cell=OF_A_BACKEND + "\nnum_epochs: int = 0  # epochs [0..500]")
    write("04_compare", "1", cell='backends: str = ""  # expected\n' + PARAMETERS)


def test_value_goes_to_each_notebook_that_declares_the_name(series: None) -> None:
    jobs = {job.label: job for job in plan_jobs([], {"num_epochs": "3", "profile": "smoke"}, ["null"])}
    assert jobs["02_train"].parameters == {"profile": "smoke"}
    assert jobs["02_train"].values == {"profile": "smoke", "run_dir": "runs/latest"}
    assert jobs["03_benchmark.null"].parameters == {"profile": "smoke", "num_epochs": 3, "backend": "null"}
    assert jobs["04_compare"].parameters == {"profile": "smoke", "backends": "null"}


def test_whole_series_begins_a_run_and_single_notebooks_add_to_the_latest(series: None, tmp_path: Path) -> None:
    first = choose_run_dir([], "")
    rundir.point_latest_to(first)
    assert choose_run_dir(["03", "04"], "") == first
    assert choose_run_dir(["02"], "") != first, "all that the latest run holds measured another network"
    second = choose_run_dir([], "")
    assert second != first
    rundir.point_latest_to(second)
    assert rundir.LATEST.resolve() == second and not list(rundir.RUNS.glob(".latest*"))
    assert choose_run_dir(["03"], str(tmp_path / "mine")) == tmp_path / "mine"
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the run folder"):
        choose_run_dir([], str(tmp_path / "file"))


def test_prune_removes_old_runs_but_the_latest_those_at_work_and_what_people_named(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    stamps = [f"2026-11-2{day}_120000" for day in range(1, 7)]
    names = [*stamps, f"{stamps[-1]}_2", f"{stamps[-1]}_10", "sweep", "2026-mine"]
    for name in names:
        (rundir.RUNS / name / "pages").mkdir(parents=True)
        (rundir.RUNS / name / "pages" / "x.html").write_text("x" * 250_000)
    rundir.point_latest_to(rundir.RUNS / stamps[0])
    with rundir.claimed(rundir.RUNS / stamps[1]):
        assert main(["runs", "prune", "--keep", "3"]) == 0
    kept = [stamps[0], stamps[1], stamps[-1], f"{stamps[-1]}_10", f"{stamps[-1]}_2", "2026-mine", "latest", "sweep"]
    assert sorted(path.name for path in rundir.RUNS.iterdir()) == sorted(kept)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"removed {stamps[4]}: 0.3 MB") and "another launch is at work" in lines[-2]
    assert lines[-1].startswith("0.8 MB freed in ")


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["run", "06"], "unknown notebook '06'; available: 01_explore"),
        (["run", "02", "-p", "backend", "null"], "parameter 'backend' belongs to 03_benchmark, and only 02_train"),
        (["run", "03", "-p", "recipe", "small"], "parameter 'recipe' belongs to 02_train, and only 03_benchmark would"),
        (["run", "03", "-p", "speed", "9"], "unknown parameter 'speed'"),
        (["run", "-p", "num_epoch", "3"], "did you mean 'num_epochs'"),
        (["run", "-p", "profile", "fats"], "did you mean 'fast'"),
        (["run", "-p", "profile", "fast", "-p", "profile", "smoke"], "given twice"),
        (["run", "-p", "backend", "ort"], "unknown backend 'ort'"),
        (["run", "--backends", "ort"], "unknown backend 'ort'"),
        (["run", "02", "--backends", "null"], "--backends is for 03_benchmark"),
        (["run", "-p", "backend", "null", "--backends", "null"], "not both"),
        (["run", "--cell-limit", "0"], "cell-limit"),
        (["params", "06"], "unknown notebook"),
        (["render", "no/such/run"], "holds no executed notebooks"),
        (["data", "get", "--dataset", "synthetic"], "unknown data set"),
        (["runs", "prune", "--keep", "0"], "--keep"),
        (["dance"], "dance"),
        ([], "COMMAND"),
    ],
)
def test_bad_command_line_ends_in_one_line_and_status_2(argv: list[str], complaint: str, refused: Refused) -> None:
    assert complaint in refused(*argv)


@pytest.mark.parametrize(
    "argv", ["run 03 --backends null", "run -p backend null", "sweep 03 --backends null", "sweep 03 -p backend null"]
)
def test_named_backend_without_its_packages_is_refused_before_anything_runs(
    argv: str, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_backend("null"), "packages", ("no_such_runtime",))
    line = refused(*argv.split(), "--out", tmp_path / "run")
    assert "`packages` of null are missing: no_such_runtime; `make .venv` installs" in line and "extending.md" in line
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(get_backend("null"), "extra", "mine")
    assert "`make EXTRAS=mine .venv` installs them" in refused(*argv.split(), "--out", tmp_path / "run")
    monkeypatch.setattr(get_backend("null"), "architectures", ("vax",))
    check_installed(plan_jobs(["03"], {}, ["null"]))  # its job reports that this CPU cannot run it


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["03", "-p", "backend", "null"], "not a readable checkpoint"),
        (["04"], "schema 0"),
        (["01", "-p", "num_images", "3"], "num_images is 3"),
        (["01", "-p", "dataset", "gtsrb", "-p", "data_root", "nowhere"], "data get"),
        (["01", "-p", "dataset", "gtsrb", "-p", "data_root", "."], "holds no GTSRB"),
    ],
)
def test_bad_data_checkpoint_or_record_is_refused_before_anything_is_written(
    tmp_path: Path, argv: list[str], complaint: str, refused: Refused
) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "checkpoint.safetensors").write_bytes(b"PK not weights")
    (tmp_path / "results" / "03_benchmark.null.json").write_text('{"schema_version": 0}')
    before = sorted(tmp_path.rglob("*"))
    assert complaint in refused("run", *argv, "--out", tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
