"""Networks that see drawn signs alone or beside real ones, and the search for the renderer's constants."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lib.training.loop
from lib.bench.drawn_signs import in_tuning_half, judge, moved
from lib.cli import main
from lib.data.sets.synthetic import drawn_beside, generate
from lib.signs.renderer import FITTED
from lib.training.recipes import RECIPES
from tests.gtsrb_layout import write_layout
from tests.made_data import made_data, made_split

NUM_CONSTANTS = sum(
    len(value) if isinstance(value, tuple) else 1
    for name, value in asdict(FITTED).items()
    if name not in ("growth", "margin")
)


def test_no_step_leaves_the_constants_and_each_step_moves_one() -> None:
    assert moved(FITTED, np.zeros(NUM_CONSTANTS)) == FITTED
    for place in range(NUM_CONSTANTS):
        steps = np.zeros(NUM_CONSTANTS)
        steps[place] = 0.01
        before, after = asdict(FITTED), asdict(moved(FITTED, steps))
        assert sum(before[name] != after[name] for name in before) == 1


def test_constants_that_are_searched_change_what_is_drawn() -> None:
    paler = replace(FITTED, exposure=(0.0, 0.1, 0.1))
    assert generate(43, fitted=paler).images.mean() > 1.2 * generate(43).images.mean()


def test_halves_share_the_tracks_about_equally() -> None:
    share = np.mean([in_tuning_half(f"{label:05d}/{track:05d}") for label in range(43) for track in range(30)])
    assert 0.45 < share < 0.55


def test_judgement_counts_the_most_frequent_confusions() -> None:
    labels = np.array([1, 1, 1, 2, 2])
    logits = np.eye(43)[[1, 2, 2, 2, 3]]
    judged = judge(logits, made_split("real", np.zeros((5, 3, 32, 32), np.uint8), labels, np.arange(5)))
    assert judged.top1 == pytest.approx(2 / 5) and judged.confusions == [(1, 2, 2, 1), (2, 3, 1, 4)]


@pytest.mark.slow
def test_command_judges_both_halves_and_keeps_the_curve_of_a_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lib.bench.drawn_signs._POPULATION", 2)
    write_layout(tmp_path, tracks_per_class=4, frames=1)
    options = "--recipe learning_path --images 860 --num-epochs 1 --generations 1"
    arguments = ["drawn-signs", *options.split()]
    assert main([*arguments, "--data-root", str(tmp_path), "--out", str(tmp_path / "drawn.json")]) == 0
    found = json.loads((tmp_path / "drawn.json").read_text())
    halves = found["by_seed"][0]
    assert halves["tuning"]["num_tracks"] + halves["judging"]["num_tracks"] == 4 * 43
    assert len(found["curve"]) == 1 and found["fitted"] != asdict(FITTED) and found["data_hash"]
    assert "judging half: top-1" in capsys.readouterr().err
    assert Image.open(tmp_path / "drawn.png").width > 1000, "the worst pairs"


def test_too_few_drawn_images_and_missing_real_ones_end_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["drawn-signs", "--images", "100", "--data-root", str(tmp_path)]) == 2
    assert main(["drawn-signs", "--data-root", str(tmp_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "--images 860" in lines[0] and str(tmp_path) in lines[1]


def test_real_images_are_trained_with_a_share_of_drawn_ones_and_drawn_images_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(RECIPES, "minute", replace(RECIPES["minute"], drawn_images=172, batch_size=16))
    labels = np.arange(480) // 6 % 43
    split = made_split("train", np.zeros((480, 3, 32, 32), np.uint8), labels, np.arange(480) // 6)
    val = made_split("val", np.zeros((86, 3, 32, 32), np.uint8), np.arange(86) // 2, 80 + np.arange(86) // 2)
    seen: list[int] = []
    totals: list[int] = []
    for sources in (np.full(480, "gtsrb/x.ppm"), np.full(480, "")):
        lib.training.loop.train(
            "minute", made_data(replace(split, sources=sources), val), num_epochs=1,
            on_step=lambda _done, total: totals.append(total),
        )  # fmt: skip
        seen.append(totals[-1] * 16)
    assert seen == [640, 480], "a quarter of the images of an epoch are drawn"


def test_drawn_images_beside_real_ones_are_the_same_at_every_call() -> None:
    one, digest = drawn_beside(172, 32)
    again, same = drawn_beside(172, 32)
    assert np.array_equal(one.images, again.images) and digest == same
    assert drawn_beside(86, 32)[1] != digest
