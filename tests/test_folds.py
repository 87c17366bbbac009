"""Five folds put together: every training track is judged once, by a network that has not seen it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.analysis.folds import folds_lines, load_folds, paired_difference
from lib.cli import main
from lib.data import load_data
from lib.data.splitting import NUM_FOLDS, choose_fold
from lib.errors import UserError
from lib.records.schema import TrackResult, record_path, write_record
from lib.report import explore
from lib.training.evaluation import evaluate, track_results
from tests.made_data import made_split
from tests.made_records import made_train


def test_folds_hold_every_track_once_and_as_many_each() -> None:
    labels = np.repeat(np.arange(7), 60)  # seven classes of six tracks with ten frames
    track_ids = np.arange(len(labels)) // 10
    parts = [set(track_ids[choose_fold(labels, track_ids, fold)].tolist()) for fold in range(1, NUM_FOLDS + 1)]
    assert sorted(len(part) for part in parts) == [8, 8, 8, 9, 9]
    assert sorted(track for part in parts for track in part) == list(range(42))
    for part in parts:
        assert {int(labels[track_ids == track][0]) for track in part} == set(range(7)), "and every class"


def test_a_class_with_one_track_has_no_folds() -> None:
    with pytest.raises(UserError, match="class 1 has 1 track"):
        choose_fold(np.array([0, 0, 1, 1]), np.array([0, 1, 2, 2]), 1)


def test_data_of_a_fold_have_the_same_images_and_another_hash() -> None:
    usual, fold = (load_data("synthetic", num_images=400, fold=fold) for fold in (0, 2))
    assert fold.train.num_images + fold.val.num_images == usual.train.num_images + usual.val.num_images
    assert not set(fold.train.track_ids) & set(fold.val.track_ids)
    assert fold.val.name == "val" and fold.manifest_hash != usual.manifest_hash
    assert any("fold 2 of 5" in note for note in fold.notes)
    digests = [np.concatenate([data.train.digests, data.val.digests]) for data in (usual, fold)]
    assert sorted(map(bytes, digests[0])) == sorted(map(bytes, digests[1]))
    row = int(np.flatnonzero((usual.train.digests == fold.val.digests[0]).all(1))[0])
    assert usual.train.labels[row] == fold.val.labels[0], "labels move with their images"


def test_results_of_tracks_count_right_images_and_name_the_usual_mistake() -> None:
    split = made_split("val", np.zeros((6, 3, 32, 32), np.uint8), np.array([0, 0, 0, 1, 1, 1]), np.arange(6) // 3)
    logits = np.eye(3, dtype=np.float32)[[0, 2, 2, 1, 1, 1]]
    first, second = track_results(evaluate(logits, split), split)
    assert (first.label, first.num_images, first.num_right, first.mistaken_for) == (0, 3, 1, 2)
    assert (second.num_right, second.mistaken_for) == (3, None)


def write_folds(folder: Path, shares: list[float], seeds: tuple[int, ...] = (0,), **changes: Any) -> Path:
    """A sweep of two folds with two tracks each, of which these shares of the images are right."""
    for seed in seeds:
        for fold in (1, 2):
            tracks = [
                TrackResult(f"00001/{number:05d}", 1, 30, round(30 * shares[number]), 1 if shares[number] == 1 else 7)
                for number in (2 * fold - 2, 2 * fold - 1)
            ]
            record = made_train(tracks=tracks, **changes)
            record = replace(record, params={**record.params, "fold": fold, "seed": seed, "num_images": 0})
            path = record_path(folder / f"fold={fold},seed={seed}", "02_train", "")
            path.parent.mkdir(parents=True)
            write_record(record, path)
    return folder


def test_accuracy_is_pooled_over_folds_and_compared_track_by_track(tmp_path: Path) -> None:
    better = load_folds(write_folds(tmp_path / "a", [1.0, 1.0, 0.9, 0.5], seeds=(0, 1)))
    worse = load_folds(write_folds(tmp_path / "b", [1.0, 0.9, 0.8, 0.4], seeds=(1,)))
    found = better.top1(0)
    assert found.value == pytest.approx(0.85) and found.num_tracks == 4
    assert found.interval is not None and found.interval[0] < 0.85 < found.interval[1]
    difference = paired_difference(better, worse)
    assert difference.value == pytest.approx(0.075) and difference.interval is not None
    assert difference.interval[0] >= 0, "it is better or equal on each track"
    assert any(line.startswith("mean of 2 seeds: 85.00%") for line in folds_lines(better, worse))


def test_tracks_that_every_seed_misreads_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folds(tmp_path / "a", [1.0, 0.6, 0.5, 0.1], seeds=(0, 1))
    assert main(["folds", str(folder)]) == 0
    listed = capsys.readouterr().out.splitlines()[-2:]
    assert listed[0].endswith("misreads most images: 1") and "00001/00003" in listed[1] and "3 of 30 right" in listed[1]


def test_what_are_no_folds_of_one_kind_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["folds", str(tmp_path / "empty")]) == 2
    assert "sweep 02 -p fold 1,2,3,4,5" in capsys.readouterr().err
    mixed = write_folds(tmp_path / "mixed", [1.0] * 4)
    write_folds(mixed, [1.0] * 4, seeds=(1,), recipe="other")
    with pytest.raises(UserError, match="of several kinds"):
        load_folds(mixed)
    one, other = (load_folds(write_folds(tmp_path / str(seed), [1.0] * 4, seeds=(seed,))) for seed in (0, 1))
    with pytest.raises(UserError, match="no seed or no fold in common"):
        paired_difference(one, other)


def test_label_audit_shows_the_doubted_tracks_of_these_images_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("IPython.display.display", lambda _data, raw: None)
    data = load_data("synthetic", num_images=400)
    assert "Not audited" in str(explore.label_audit(data, ""))
    with pytest.raises(UserError, match="folds of other images: 4 of their tracks"):
        explore.label_audit(data, str(write_folds(tmp_path / "others", [1.0] * 4)))
    names = {split.track_name(0): int(split.labels[0]) for split in (data.train, data.val)}
    right, wrong = (
        TrackResult(name, label, 5, right, 7) for (name, label), right in zip(names.items(), (5, 1), strict=True)
    )
    record = made_train(tracks=[right, wrong])
    path = record_path(tmp_path / "ours" / "fold=1", "02_train", "")
    path.parent.mkdir(parents=True)
    write_record(replace(record, params={**record.params, "fold": 1, "num_images": 400}), path)
    shown = str(explore.label_audit(data, str(tmp_path / "ours")))
    assert [line.split()[0] for line in shown.splitlines() if line.endswith("1 of 5")] == [wrong.name]
    assert "5 of 5" not in shown
