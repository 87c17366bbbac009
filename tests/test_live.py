"""Progress in cells: a bar of its own for each live cell, plain lines where nobody watches."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from lib.records.schema import Epoch
from lib.report import live
from lib.report.live import UPDATE_S, Bar, Progress
from lib.training.estimate import Estimate

EPOCH = Epoch(epoch=1, lr=0.1, train_loss=2.5, train_top1=0.5, val_loss=2.0, val_top1=0.25, seconds=3.0)


class Shell:
    """As much of IPython's shell as a progress reads."""

    def __init__(self) -> None:
        self.execution_count = 1
        self.ended: list[Any] = []
        self.events = SimpleNamespace(register=lambda _, function: self.ended.append(function))

    def end_cell(self, success: bool) -> None:
        self.execution_count += 1
        for function in self.ended:
            function(SimpleNamespace(success=success))


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Shell:
    made = Shell()
    monkeypatch.setattr("IPython.get_ipython", lambda: made)
    return made


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Widgets that were displayed, the bar of each first and its line second."""
    widgets: list[Any] = []
    monkeypatch.setattr("IPython.display.display", widgets.append)
    return widgets


def test_lines_are_printed_where_nobody_watches(
    shell: Shell, shown: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live, "is_live", lambda: False)
    progress = Progress()
    progress("rendered 20 of 80 tracks")
    progress.epoch(EPOCH, 6)
    progress.step(3, 80)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "rendered 20 of 80 tracks" and second.startswith("epoch 1/6: loss 2.500") and shown == []


@pytest.mark.parametrize("seconds_left", [None, 8000.0, 2700.0])
def test_a_training_that_a_limit_will_end_is_told_at_once_and_on_the_page(
    seconds_left: float | None,
    shell: Shell,
    shown: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(live, "is_live", lambda: False)
    Progress().estimate(Estimate(seconds=7200.0, num_steps=2, seconds_left=seconds_left))
    assert "training will take about 2 h 00 min" in capsys.readouterr().out
    assert len(shown) == (seconds_left == 2700.0)
    assert all("45 min 00 s after its start" in str(banner) and "--cell-limit" in str(banner) for banner in shown)


def test_each_live_cell_has_one_bar_that_ends_green_or_red(
    shell: Shell, shown: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live, "is_live", lambda: True)
    monkeypatch.setattr(live, "UPDATE_S", 0)
    progress = Progress()
    progress("rendered 1,020 of 4,080 tracks")
    progress("<b>a</b>")
    assert len(shown) == 1 and capsys.readouterr().out == ""
    bar, label = shown[0].children
    assert (bar.value, bar.max, label.value) == (1020, 4080, "<b>a</b>")
    shell.end_cell(success=True)
    assert (bar.value, bar.bar_style) == (4080, "success")
    progress.step(3, 80)
    progress.epoch(EPOCH, 6)
    assert len(shown) == 2 and shown[1].children[0].value == 3 and shown[1].children[1].value.startswith("epoch 1/6")
    shell.end_cell(success=False)
    assert (shown[1].children[0].value, shown[1].children[0].bar_style) == (3, "danger")
    assert len(shell.ended) == 1, "told once how a cell ended, however many cells there are"


def test_bar_is_redrawn_seldom_and_always_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = (UPDATE_S / 100 * tick for tick in itertools.count(10**6))
    monkeypatch.setattr("lib.report.live.time", SimpleNamespace(monotonic=lambda: next(ticks)))
    bar = Bar()
    drawn: list[int] = []
    bar._bar.observe(lambda change: drawn.append(change["new"]), names="value")
    for step in range(1, 1001):
        bar.count(step, 1000)
    assert 8 <= len(drawn) <= 12 and drawn[0] == 1 and drawn[-1] == 1000  # a hundred steps between two updates


def test_line_without_a_count_shows_no_bar_and_percents_move_it() -> None:
    bar = Bar()
    bar.line("single_stream: 40 rounds, batch 1")
    assert bar._bar.layout.display == "none"
    bar.line("gtsrb.zip: 30 % of 365.1 MB")
    assert (bar._bar.layout.display, bar._bar.value, bar._bar.max) == ("", 30, 100)
