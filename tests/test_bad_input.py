"""Kernels that flood, hang or fight each other: a run ends in bounded time and size, and its page says so."""

# ruff: noqa: F811  # the fixture `write`

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_output

from lib.executor import output_limit as outputs
from lib.executor.output_limit import Kept
from lib.html.frame import PAGE_LIMIT
from tests.made_series import Write, page, run, run_past_limit, started, write  # noqa: F401  # a fixture
from tests.waiting import HANG_S

FLOOD = """import sys
print('the first line')
for _ in range(10):
    print('x' * 999_999)
print('the last line', flush=True)
print('a warning', file=sys.stderr)"""
PROGRESS = "for step in range(10_000):\n    print(f'step {step}')"
VALUE = "'z' * 3_000_000"
UNINTERRUPTIBLE_S = 1200


def stream_text(cell: Any) -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def test_flood_of_output_leaves_a_small_notebook_and_page_that_say_what_is_missing(
    write: Write, tmp_path: Path
) -> None:
    write("01_first", FLOOD, PROGRESS, VALUE, "get_ipython().kernel.parent.transport")
    (result,) = run(tmp_path / "run")
    assert result.status == "ok", result.reason
    executed = tmp_path / "run/notebooks/01_first.ipynb"
    assert executed.stat().st_size < 3 * outputs.CELL_LIMIT
    cells = [cell for cell in nbformat.read(executed, as_version=4).cells if cell.cell_type == "code"]
    flood, steps, value, transport = cells[2:6]
    printed = stream_text(flood)
    assert printed.startswith("the first line\nx") and "x\nthe last line\na warning\n[" in printed
    assert "of 10,000,039 printed characters were left out" in printed and len(printed) < outputs.CELL_LIMIT
    assert "step 0\n" in stream_text(steps) and "step 9999" in stream_text(steps)
    assert len(steps.outputs) == 1, "pieces of one stream are one output"
    assert "3.0 MB left out here" in value.outputs[0].data["text/plain"]
    assert transport.outputs[0].data["text/plain"] == "'ipc'", "two launches could be given the same ports"
    html = page(tmp_path / "run", "01_first")
    assert len(html.encode()) <= PAGE_LIMIT and "printed characters were left out" in html


def test_cell_that_cannot_be_interrupted_ends_at_its_limit_and_leaves_no_kernel(write: Write, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    write("01_first", f"import os, ctypes\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\n"
          f"ctypes.PyDLL(None).sleep({UNINTERRUPTIBLE_S})  # holds the interpreter's lock")  # fmt: skip
    begun = time.monotonic()
    result, limit_s = run_past_limit(tmp_path / "run", pid, "cell")
    assert time.monotonic() - begun < UNINTERRUPTIBLE_S, "the run waited for the end of the cell"
    reason = f"time limit of {limit_s} s for the cell reached"
    assert result.status == "failed" and reason in result.reason
    assert not Path(f"/proc/{pid.read_text()}").exists()
    assert reason in page(tmp_path / "run", "01_first")


def test_two_launches_at_once_into_two_folders_both_end_well(write: Write, tmp_path: Path) -> None:
    write("01_first", f"""import time
from pathlib import Path
Path(run_dir, "begun").touch()
for _ in range(10_000):
    if all(Path({str(tmp_path)!r}, name, "begun").exists() for name in ("one", "two")):
        break
    time.sleep(0.05)
else:
    raise TimeoutError("the other launch did not come this far")
print(run_dir)""")  # fmt: skip
    names = ["one", "two"]
    piped = {"stderr": subprocess.STDOUT, "stdout": subprocess.PIPE}
    launches = [started(tmp_path / "notebooks", "run", "--out", tmp_path / name, **piped) for name in names]
    printed = [launch.communicate(timeout=HANG_S)[0] for launch in launches]
    assert [launch.returncode for launch in launches] == [0, 0], printed
    for name in names:
        assert str(tmp_path / name) in page(tmp_path / name, "01_first")


def message(kind: str, **content: Any) -> dict[str, Any]:
    return {"msg_type": kind, "content": content}


def test_cell_that_clears_its_outputs_while_it_prints_shows_the_newest() -> None:
    kept, cell = Kept(), list[Any]()
    kept.print(cell, "stdout", "x" * (outputs.END + 10))
    cell.clear()
    kept.print(cell, "stdout", "after")
    kept.end(cell)
    assert cell[0].text.endswith("after")


def test_figures_beyond_the_limit_of_a_cell_become_lines_and_then_a_number_but_the_error_is_kept() -> None:
    kept, cell = Kept(), list[Any]()
    for num_characters in [400_000, 500_000, 600_000, *[10] * 1000]:
        figure = message("display_data", data={"image/png": "x" * num_characters}, metadata={})
        kept.shorten(figure)
        if kept.takes(figure):
            cell.append(new_output("display_data", data=figure["content"]["data"]))
    error = message("error", ename="E", evalue="q" * 10**6, traceback=["t" * 10**6, "short"])
    kept.shorten(error)
    assert kept.takes(error)
    cell.append(new_output("error", **error["content"]))
    kept.end(cell)
    assert [set(output.data) for output in cell[:4]] == [{"image/png"}, {"image/png"}, {"text/plain"}, {"image/png"}]
    assert "0.6 MB left out here" in cell[2].data["text/plain"]
    assert len(cell) == 2 + 100 + 2 and cell[-2].text.startswith("[901 outputs were left out")
    assert len(cell[-1].evalue) < 21_000 and cell[-1].traceback[1] == "short", "an endless message is cut"


def test_a_figure_that_replaces_itself_counts_once() -> None:
    kept = Kept()
    for _ in range(20):
        update = message("update_display_data", data={"image/png": "x" * 200_000}, metadata={})
        kept.shorten(update)
        assert set(update["content"]["data"]) == {"image/png"}
