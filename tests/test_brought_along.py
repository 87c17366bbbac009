"""What users bring along: settings, folders, files, terminals. It changes nothing, or is refused before a cell runs."""

# ruff: noqa: F811  # the fixture `write`

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from lib.cli import main
from lib.errors import UserError
from lib.files import PROJECT_ROOT, locked, project_path
from lib.series import parameters, rundir
from lib.series.launcher import launch
from tests.made_series import OF_A_BACKEND, PARAMETERS, SERIES, Write, page, run, started, write  # noqa: F401  # a fixture
from tests.waiting import HANG_S, until

FIGURE = """from matplotlib.figure import Figure
from lib.report.figures import show, styled
@styled
def draw():
    axes = Figure().subplots()
    axes.set_title("a title")
    return axes
show(draw(), alt="what it shows")"""
FULL = "error: cannot write to standard output: No space left on device"
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
NO_UTF8 = b"r\xff".decode(errors="surrogateescape")
Refused = Callable[..., str]


def python(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8", "cwd": PROJECT_ROOT}
    return subprocess.run(command, check=False, timeout=HANG_S, **{**piped, **options})  # type: ignore[call-overload,no-any-return]


class TestSettings:
    def test_of_a_user_reach_neither_kernel_nor_page(
        self, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spec = json.dumps({"argv": ["/bin/false"], "display_name": "Mine", "language": "python"})
        files = {
            ".local/share/jupyter/kernels/python3/kernel.json": spec,
            "more/kernels/python3/kernel.json": spec,
            ".ipython/profile_default/startup/00.py": "from_startup = 1",
            "matplotlibrc": "text.usetex: True\nno such setting\n",
            "startup.py": "from_startup = 2",
        }
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        own = {"HOME": "", "JUPYTER_PATH": "more", "PYTHONSTARTUP": "startup.py", "MATPLOTLIBRC": "matplotlibrc"}
        for name, value in own.items():
            monkeypatch.setenv(name, str(tmp_path / value))
        monkeypatch.setenv("MPLBACKEND", "no such backend")
        seen = f"import sys\nassert sys.executable == {sys.executable!r} and 'from_startup' not in globals()"
        write("01_first", seen, FIGURE)
        (result,) = run(tmp_path / "run")
        assert result.status == "ok", result.reason
        text = page(tmp_path / "run", "01_first")
        assert "what it shows" in text and "no such setting" not in text, "Matplotlib complains on the page"


class TestFolders:
    def test_may_have_any_name_a_path_longer_than_the_address_of_a_socket_and_a_home_that_cannot_be_written(
        self, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write("01_first", "print('grün →')", FIGURE)
        odd, temporary = tmp_path / "{x} {profile} %s #ü", tmp_path / ("t" * 100)
        temporary.mkdir()
        monkeypatch.setattr(parameters, "NOTEBOOK_DIR", (tmp_path / "notebooks").rename(odd))
        monkeypatch.setenv("TMPDIR", str(temporary))
        monkeypatch.setenv("HOME", "/proc/none")
        monkeypatch.delenv("XDG_CACHE_HOME")
        (result,) = run(odd / "run")
        assert result.status == "ok", result.reason
        shown = page(odd / "run", "01_first")
        assert "grün →" in shown and "/proc/none" not in shown, "a library complains on the page"
        assert list(temporary.iterdir()) == []

    @pytest.mark.parametrize(
        "argv",
        [
            ("run", "--out", "s3://bucket/run"),
            ("run", "-p", "run_dir", "gs://bucket/run"),
            ("sweep", "02", "-p", "num_epochs", "1", "--out", "abs://x/y"),
            ("run", "01", "-p", "dataset", "gtsrb", "-p", "data_root", "s3://bucket"),
            ("run", "04", "-p", "history", "https://host/runs", "--out", "FOLDER"),
            ("render", "s3://bucket/run"),
            ("data", "get", "--data-root", "s3://bucket"),
            ("prove", "--out", "s3://bucket/proof.json"),
        ],
        ids=lambda argv: " ".join(argv),
    )
    def test_that_are_addresses_are_refused(self, argv: tuple[str, ...], tmp_path: Path, refused: Refused) -> None:
        before = sorted(PROJECT_ROOT.iterdir())
        told = refused(*(tmp_path if argument == "FOLDER" else argument for argument in argv))
        assert "is an address; give a folder" in told
        assert sorted(PROJECT_ROOT.iterdir()) == before

    @pytest.mark.parametrize("argv", [("--out", NO_UTF8), ("-p", "run_dir", NO_UTF8), ("-p", "data_root", NO_UTF8)])
    def test_whose_names_are_not_utf8_are_refused(self, argv: tuple[str, ...], refused: Refused) -> None:
        assert r"r\udcff" in (told := refused("run", "01", *argv)) and "UTF-8" in told

    def test_of_somebody_without_a_home_are_refused(self) -> None:
        with pytest.raises(UserError, match="no home folder is known for '~nobody-has-this-name/data'"):
            project_path("~nobody-has-this-name/data")

    def test_for_temporary_files_that_are_full_are_found_before_anything_runs(
        self, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=6_000_000))
        argv = ("run", "03", "-p", "model", "squeezenet1_1", "-p", "image_size", "64", "--out", tmp_path / "run")
        told = refused(*argv)
        assert "has 6 MB left, and 03_benchmark writes 49 MB and more there; free space or set TMPDIR" in told
        assert list((tmp_path / "run").iterdir()) == []


class TestLatest:
    def test_that_is_a_folder_takes_single_notebooks_and_no_new_run(
        self, write: Write, refused: Refused, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write("01_first", "1")
        rundir.LATEST.mkdir(parents=True)
        assert "latest is a folder" in refused("run")
        assert list(rundir.RUNS.iterdir()) == [rundir.LATEST]
        assert main(["run", "01"]) == 0, capsys.readouterr().err
        assert (rundir.LATEST / "index.html").is_file() and list(rundir.RUNS.iterdir()) == [rundir.LATEST]

    def test_that_cannot_be_a_link_is_found_before_anything_runs(
        self, write: Write, refused: Refused, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def symlink(*_: object, **__: object) -> None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "symlink", symlink)
        write("01_first", "1")
        assert "cannot make the link" in (told := refused("run")) and "--out" in told
        assert list(rundir.RUNS.iterdir()) == []


class TestLocks:
    @pytest.fixture(params=["as on a local disk", "as on NFS", "as where there are none"])
    def there_are_locks(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
        real, kind = fcntl.flock, request.param

        def flock(descriptor: int, operation: int) -> None:
            flags = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
            if kind == "as where there are none":
                raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
            if kind == "as on NFS" and operation & fcntl.LOCK_EX and flags == os.O_RDONLY:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            real(descriptor, operation)

        monkeypatch.setattr(fcntl, "flock", flock)
        return bool(kind != "as where there are none")

    def test_keep_a_second_launch_out_where_there_are_any_and_leave_nothing(
        self, there_are_locks: bool, tmp_path: Path
    ) -> None:
        second = 0
        with rundir.claimed(tmp_path):
            try:
                with rundir.claimed(tmp_path):
                    second += 1
            except UserError as error:
                assert "another launch is at work" in str(error)
        assert second == (not there_are_locks)
        with rundir.claimed(tmp_path):
            pass
        assert list(tmp_path.iterdir()) == []

    def test_that_were_waited_for_are_held_by_one_at_a_time(self, tmp_path: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from lib.files import locked\n"
            "folder = Path(sys.argv[1])\n"
            "for _ in range(200):\n"
            "    with locked(folder / '.lock'):\n"
            "        (folder / 'inside').touch(exist_ok=False)\n"
            "        (folder / 'inside').unlink()\n"
        )
        with locked(tmp_path / ".lock"):
            waiting = [subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=PROJECT_ROOT) for _ in range(2)]
        assert [process.wait(HANG_S) for process in waiting] == [0, 0]
        assert list(tmp_path.iterdir()) == []


SPOILT: dict[str, Callable[[str], bytes]] = {  # what people and tools do to a notebook
    "tag removed": lambda text: text.replace('"parameters"', '"paramters"').encode(),
    "default out of range": lambda text: text.replace("num_epochs: int = 0", "num_epochs: int = 501").encode(),
    "conflict markers": lambda text: f"<<<<<<< HEAD\n{text}".encode(),
    "byte order mark": lambda text: text.encode("utf-8-sig"),
    "not UTF-8": lambda text: text.replace("epochs", "\xfc").encode("latin-1"),
    "no JSON of a notebook": lambda _: b"[]",
}


def spoilt(path: Path, how: str) -> None:
    if how in SPOILT:
        path.write_bytes(SPOILT[how](path.read_text()))
    else:
        path.unlink()
        path.symlink_to("nowhere")


class TestNotebooksFolder:
    @pytest.mark.parametrize("how", [*SPOILT, "dangling link"])
    def test_one_bad_file_is_named_and_the_others_are_read(
        self, how: str, write: Write, refused: Refused, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write("01_first", "1")
        write("02_second", "1", cell=f"num_epochs: int = 0  # training epochs [0..500]\n{PARAMETERS}")
        spoilt(parameters.NOTEBOOK_DIR / "02_second.ipynb", how)
        assert "02_second.ipynb" in refused("params", "02")
        assert "02_second.ipynb" in refused("run", "02")
        assert not rundir.RUNS.exists()
        assert main(["params"]) == 2
        told = capsys.readouterr()
        assert "01_first" in told.out and "02_second.ipynb" in told.err and len(told.err.splitlines()) == 1

    def test_damaged_training_fails_what_builds_on_it_and_not_the_rest(
        self, write: Write, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write("01_first", "1")
        write("02_train", "1")
        write("03_benchmark", "1", cell=OF_A_BACKEND)
        write("05_mine", "1")
        spoilt(parameters.NOTEBOOK_DIR / "02_train.ipynb", "conflict markers")
        assert launch([], {}, ["null"], "") == 1
        listed = json.loads((rundir.LATEST / "series.json").read_text())["notebooks"]
        assert [(job["notebook"], job["status"]) for job in listed] == [
            ("01_first", "ok"),
            ("02_train", "failed"),
            ("03_benchmark", "skipped"),
            ("05_mine", "skipped"),
        ]
        assert "02_train.ipynb is not a readable notebook" in listed[1]["reason"]
        assert "02_train.ipynb is not a readable notebook" in (rundir.LATEST / "index.html").read_text()
        assert capsys.readouterr().err.splitlines()[-1] == "FAILED: 02_train, 03_benchmark.null, 05_mine"

    def test_copies_are_not_part_of_the_series_and_do_not_write_the_record_of_the_original(
        self, write: Write, tmp_path: Path
    ) -> None:
        for name in ("02_train-Copy1", "02_train (copy)", "02_train copy", "02_train.bak", "train"):
            write(name, "1")
        write("02_train_mine", "from lib.series.notebook import start\nstart('02_train', globals())")
        (result,) = run(tmp_path / "run")
        assert result.status == "failed"
        assert "this is 02_train_mine, and it would write the record of 02_train" in result.reason

    def test_pages_are_made_again_beside_a_notebook_that_cannot_be_read(
        self, write: Write, tmp_path: Path, refused: Refused, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write("01_first", "1", cell="")
        write("02_second", "1")
        assert main(["params"]) == 0 and capsys.readouterr().out.startswith("01_first\n"), "it has no parameters"
        run(tmp_path / "run")
        spoilt(tmp_path / "run/notebooks/01_first.ipynb", "conflict markers")
        shutil.rmtree(tmp_path / "run/pages")
        capsys.readouterr()
        assert "01_first.ipynb is not a readable notebook" in refused("render", tmp_path / "run")
        assert [path.name for path in (tmp_path / "run/pages").iterdir()] == ["02_second.html"]


def with_backends(folder: Path, files: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`backends` where these files are among those of lib/backends/."""
    for name, text in files.items():
        (folder / name).write_text(text)
    code = (
        "import sys, lib.backends; lib.backends.__path__.append(sys.argv[1]);"
        "from lib.cli import main; sys.exit(main(['backends']))"
    )
    return python("-c", code, folder)


def test_backend_files_that_are_broken_are_named_and_the_others_are_listed(tmp_path: Path) -> None:
    mine = "from lib.backends.null import Null\nfrom lib.backends import register\n@register\nclass Mine(Null):\n"
    files = {
        "missing.py": "import missing_package",
        "marked.py": "<<<<<<< HEAD\n",
        "slash.py": f"{mine}    name = 'mine/fast'\n",
        "untitled.py": f"{mine}    name, title = 'untitled', ''\n",
        "nameless.py": f"{mine}    name = None\n",
        "mine-Copy1.py": "raise SystemExit('a copy was imported')",
        "mine.py": f"{mine}    name = 'mine'\n",
    }
    ran = with_backends(tmp_path, files)
    assert ran.returncode == 0, ran.stderr
    listed = {line[2:].split()[0] for line in ran.stdout.splitlines() if line[:2] in ("* ", "  ") and line[2:3] != " "}
    assert {"mine", "null", "torch-blas"} <= listed
    told = sorted(ran.stderr.splitlines())
    broken = ("marked.py", "missing.py", "nameless.py", "slash.py", "untitled.py")
    assert [line.split(" is left out")[0] for line in told] == [f"lib/backends/{name}" for name in broken]
    assert "No module named 'missing_package'" in told[1] and "'mine/fast'" in told[3] and "has no title" in told[4]
    ran = with_backends(tmp_path, {"twin.py": f"{mine}    name = 'null'\n"})
    told = ran.stderr.splitlines()[-1:]
    assert (ran.returncode, ran.stdout) == (2, "")
    assert told == ["error: lib/backends/twin.py: two backends are named 'null': lib.backends.null and "
                    "lib.backends.twin; rename one"]  # fmt: skip


class TestTerminals:
    def test_that_hang_up_or_know_no_utf8_end_nothing_that_was_started_with_nohup_and_change_no_page(
        self, write: Write, tmp_path: Path
    ) -> None:
        begun, go_on = tmp_path / "begun", tmp_path / "go on"
        write("01_first", f"print('grün →')\nimport time\nfrom pathlib import Path\nPath({str(begun)!r}).touch()\n"
              f"while not Path({str(go_on)!r}).exists():\n    time.sleep(0.05)")  # fmt: skip
        ignoring = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN), "env": {**os.environ, **ASCII}}
        process = started(tmp_path / "notebooks", "run", "--out", tmp_path / "run", **ignoring)
        until(lambda: begun.exists() or process.poll() is not None, "the notebook began")
        process.send_signal(signal.SIGHUP)
        go_on.touch()
        told = process.communicate(timeout=HANG_S)[1]
        assert process.returncode == 0, told
        assert "grün →" in page(tmp_path / "run", "01_first")
        ran = python("-m", "lib", "params", env={**os.environ, **ASCII})
        assert ran.returncode == 0 and "01_explore" in ran.stdout, ran.stderr

    @pytest.mark.parametrize(
        ("command", "status", "told"),
        [
            ("$lib params 04 >/dev/full", 2, FULL),
            ("PYTHONUNBUFFERED=1 $lib params 04 >/dev/full", 2, FULL),
            ("$lib params 04 >&-", 0, ""),
            ("$lib params 04 2>&-", 0, ""),
            ("$lib params 99 2>/dev/full", 2, ""),
            ("$lib params 99 2>&-", 2, ""),
            ("$lib params | head -1 >/dev/null; exit ${PIPESTATUS[0]}", 0, ""),
        ],
    )
    def test_that_take_nothing_leave_one_line_at_most(self, command: str, status: int, told: str) -> None:
        environ = {**os.environ, "PYTHONUNBUFFERED": "", "lib": f"{sys.executable} -m lib"}
        piped = {"capture_output": True, "text": True, "check": False, "timeout": HANG_S}
        ran = subprocess.run(["bash", "-c", command], cwd=PROJECT_ROOT, env=environ, **piped)  # type: ignore[call-overload]
        assert (ran.returncode, ran.stderr.strip()) == (status, told)


ELSEWHERE = {
    "command line": "import runpy, sys; sys.platform = 'darwin'; runpy.run_module('lib', run_name='__main__')",
    "notebook": "import IPython, sys; shell = IPython.InteractiveShell(); sys.platform = 'darwin';"
    "shell.run_cell('from lib.series.notebook import start')",
}


class TestOtherSystems:
    @pytest.mark.parametrize("where", ELSEWHERE)
    def test_get_one_line(self, where: str) -> None:
        ran = python("-c", ELSEWHERE[where])
        told = (ran.stdout or ran.stderr).strip()
        assert "rror: Linux (x86-64 or Arm) is needed, this is darwin;" in told and len(told.splitlines()) == 1
        assert ran.returncode == (where == "command line")

    def test_get_one_line_from_make_before_anything_is_installed(self, tmp_path: Path) -> None:
        uname, ready = tmp_path / "uname", tmp_path / "ready"
        uname.write_text("#!/bin/sh\necho Darwin\n")
        uname.chmod(0o755)
        environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        command = ["make", f"READY={ready}", str(ready)]
        ran = subprocess.run(command, cwd=PROJECT_ROOT, env=environ, capture_output=True, text=True, check=False)
        assert ran.returncode == 2 and not ready.exists()
        assert ran.stderr.startswith("error: Linux (x86-64 or Arm) is needed, this is Darwin;")
