"""Champion and challenger: which rules hold, what follows from them, and who is refused as a champion."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.data import Data, Split
from lib.errors import UserError
from lib.files import PROJECT_ROOT
from lib.html.top import charts_of
from lib.promotion import contest
from lib.promotion.contest import Champion, check_judges, judge, open_champion, verified_champion
from lib.promotion.rules import LIMITS, quality_rules, read_limits, speed_rule
from lib.records.schema import Conditions, Promotion, ReleaseRecord, Rule, read_record, write_record
from lib.release import Release
from lib.release.predicting import Model
from lib.release.writer import plan_release, write_sums
from lib.report.headline import headline
from lib.report.promotion import rules_table
from tests.conftest import Refused
from tests.made_data import made_data, made_split, noise
from tests.made_records import made_released, made_scenario
from tests.made_release import made_run, release_of, released_data

QUIET, BUSY = Conditions(0.0, 0.0, 0.0, 0), Conditions(0.9, 0.0, 0.0, 0)
ALL = {"top-1", "worst class", "calibration error", "p50"}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a release; tests leave it as it is."""
    run_dir = made_run(tmp_path_factory.mktemp("run"), backends=("onnxruntime",))
    release_of(run_dir)
    return run_dir


@pytest.fixture(scope="module")
def champion(run_dir: Path) -> Release:
    return Release.load(run_dir)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Of a network that answers otherwise."""
    return Release.load(release_of(made_run(tmp_path_factory.mktemp("other"), backends=("onnxruntime",), seed=1)))


@pytest.fixture(scope="module")
def data(champion: Release) -> Data:
    """Every validation image shows what the champion says."""
    data = released_data()
    answers = Model(champion.model())(champion.preprocessing.normalize(data.val.images)).argmax(1)
    return replace(data, val=replace(data.val, labels=answers))


def judged(challenger: Release, champion: Release, data: Data, slower: float = 1.0) -> Promotion:
    times = made_scenario("single_stream", 1 / slower, conditions=QUIET)
    return judge(challenger, Champion(champion, data.val), data, times)


def results(rules: list[Rule]) -> dict[str, str]:
    return {rule.name: rule.result for rule in rules}


# --- verdicts ---------------------------------------------------------------------------------------------------------


def test_equal_challenger_is_promoted(champion: Release, data: Data) -> None:
    found = judged(champion, champion, data)
    assert results(found.rules) == dict.fromkeys(ALL, "holds") and found.verdict == "promote"
    assert headline(made_released(promotion=found)).startswith(
        f"promote it over the champion {champion.name} {champion.version}: "
    )


def test_clearly_worse_challenger_leaves_the_champion_with_the_figures_that_say_why(
    champion: Release, other: Release, data: Data, tmp_path: Path
) -> None:
    found = judged(other, champion, data)
    assert found.verdict == "keep" and results(found.rules)["top-1"] == "broken"
    loss = found.rules[0]
    assert loss.champion == 1.0 and loss.loss == 1.0 - loss.challenger > 0.5
    write_record(made_released(promotion=found), tmp_path / "05.json")
    record = read_record(tmp_path / "05.json", ReleaseRecord)
    assert record.promotion == found, "the record has all of it"
    assert headline(record).startswith(f"keep the champion {champion.name} {champion.version}: top-1 changes by -")
    assert "✗ broken" in charts_of(record)[0] and "-0.20 points" in str(rules_table(found))


def test_slower_challenger_leaves_the_champion(champion: Release, data: Data) -> None:
    found = judged(champion, champion, data, slower=1.3)
    assert found.verdict == "keep" and results(found.rules) == {**dict.fromkeys(ALL, "holds"), "p50": "broken"}


def test_challenger_that_may_be_too_slow_is_neither_promoted_nor_refused(champion: Release, data: Data) -> None:
    found = judged(champion, champion, data, slower=1.09)
    assert found.verdict == "investigate" and results(found.rules)["p50"] == "undecided"
    assert "undecided is p50 changes by 1.09x [" in headline(made_released(promotion=found))


def test_too_few_tracks_decide_nothing_however_clear_it_looks(champion: Release, other: Release, data: Data) -> None:
    few = replace(data, val=data.val.take(np.arange(20)))
    found = judged(other, champion, few)
    assert results(found.rules)["top-1"] == "broken" and found.verdict == "investigate"
    assert found.doubts == ["20 tracks are too few, 30 are needed"]
    assert "20 tracks are too few" in headline(made_released(promotion=found))


def smoke(release: Release) -> Release:
    return replace(release, manifest=replace(release.manifest, profile="smoke"))


@pytest.mark.parametrize(
    ("change", "doubt"),
    [
        (lambda release, data: (smoke(release), data), "the champion is of a smoke run"),
        (lambda release, data: (release, replace(data, manifest_hash="0" * 64)), "the champion was trained and judged"),
    ],
)
def test_smoke_run_or_other_data_decide_nothing(
    champion: Release, data: Data, change: Callable[[Release, Data], tuple[Release, Data]], doubt: str
) -> None:
    release, data = change(champion, data)
    found = judged(champion, release, data)
    assert set(results(found.rules).values()) == {"holds"} and found.verdict == "investigate"
    assert any(text.startswith(doubt) for text in found.doubts)


# --- rules ------------------------------------------------------------------------------------------------------------


def judges_of(labels: np.ndarray, frames: int) -> Split:
    return made_split("val", np.zeros((len(labels), 3, 1, 1), np.uint8), labels, np.arange(len(labels)) // frames)


def logits_of(answers: np.ndarray, height: float = 9.0) -> np.ndarray:
    logits: np.ndarray = height * np.eye(4, dtype=np.float32)[answers]
    return logits


LABELS = np.arange(300) // 5 % 4  # 60 tracks of 5 frames, 4 classes


def answers_of(wrong: np.ndarray) -> np.ndarray:
    return logits_of(np.where(wrong, (LABELS + 1) % 4, LABELS))


def test_one_lost_track_is_undecided_where_its_frames_alone_would_be_five_losses() -> None:
    lost = answers_of(np.arange(300) < 5)
    limits, perfect = read_limits(), logits_of(LABELS)
    assert results(quality_rules(lost, perfect, judges_of(LABELS, 5), limits))["top-1"] == "undecided"
    assert results(quality_rules(lost, perfect, judges_of(LABELS, 1), limits))["top-1"] == "broken"


def test_images_that_both_read_wrong_make_no_interval_wider() -> None:
    wrong = answers_of(np.arange(300) % 50 < 20)
    (top1, *_) = quality_rules(wrong, wrong, judges_of(LABELS, 5), read_limits())
    assert top1.challenger == pytest.approx(0.6)
    assert (top1.interval, top1.result) == ((0.0, 0.0), "holds")


def test_class_that_is_lost_breaks_its_rule_though_others_make_up_for_it() -> None:
    before, after = answers_of((LABELS < 2) & (np.arange(300) // 20 % 2 == 0)), answers_of(LABELS == 1)
    found = {rule.name: rule for rule in quality_rules(after, before, judges_of(LABELS, 5), read_limits())}
    worst = found["worst class"]
    assert (worst.challenger, worst.result) == (0.0, "broken") and 0.4 < worst.champion < 0.6
    assert found["top-1"].loss == pytest.approx(0.0, abs=0.02)


def test_less_confident_answers_break_calibration_alone() -> None:
    sure = answers_of(np.arange(300) % 50 < 5)
    found = quality_rules(sure / 9, sure, judges_of(LABELS, 5), read_limits())
    assert results(found) == {"top-1": "holds", "worst class": "holds", "calibration error": "broken"}
    low, high = found[-1].interval or (0, 0)
    assert low < found[-1].loss < high, "each draw of tracks has its own"


@pytest.mark.parametrize(
    ("slower", "conditions", "result"),
    [(1.0, QUIET, "holds"), (1.09, QUIET, "undecided"), (1.3, QUIET, "broken"), (1.3, BUSY, "undecided")],
)
def test_time_is_judged_by_its_ratio_unless_disturbed(slower: float, conditions: Conditions, result: str) -> None:
    rule = speed_rule(made_scenario("single_stream", 1 / slower, conditions=conditions), read_limits())
    assert rule.loss == pytest.approx(slower, rel=0.01) and rule.result == result
    assert rule.interval is not None and rule.interval[0] < slower < rule.interval[1]
    assert (rule.reason == "disturbed") == (conditions is BUSY)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("p50_ratio = 1.10", "p50_ratio = 0.9", "p50_ratio: Input should be greater than or equal to 1"),
        ("top1_loss", "top_1_loss", "top1_loss: Field required"),
        ("least_tracks = 30", "least_tracks = 30\nmore = 1", "more: Unexpected keyword"),
        ("least_tracks = 30", "least_tracks", "is not readable"),
    ],
)
def test_limits_that_cannot_be_used_are_refused(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    path = tmp_path / "limits.toml"
    path.write_text(LIMITS.read_text().replace(old, new))
    with pytest.raises(UserError, match=complaint):
        read_limits(path)


def test_table_of_the_document_has_the_limits_of_the_file() -> None:
    limits, text = read_limits(), (PROJECT_ROOT / "docs/release.md").read_text()
    top1, worst, calibration = limits.top1_loss, limits.worst_class_loss, limits.calibration_loss
    assert f"| top-1 | {100 * top1:g} points lower" in text and f"| {100 * worst:g} points lower" in text
    assert f"| {100 * calibration:g} point higher" in text and f"| {limits.p50_ratio:.2f} times as long" in text
    assert f"fewer than {limits.least_tracks} tracks" in text


# --- who is refused ---------------------------------------------------------------------------------------------------


def test_champion_and_challenger_that_were_trained_on_their_judges_are_refused(champion: Release) -> None:
    ours, strangers = noise("train", 86), noise("train", 86, seed=7)
    with pytest.raises(UserError, match="the champion was trained on 86 of the 86 validation images"):
        check_judges(champion, made_data(strangers, replace(ours, name="val")))
    with pytest.raises(UserError, match="the challenger was trained on 1 of the 86 validation images"):
        check_judges(champion, made_data(noise("train", 1, seed=7), replace(strangers, name="val")))
    check_judges(champion, released_data())


def test_champion_of_other_classes_is_refused_with_the_first_that_differs(champion: Release, data: Data) -> None:
    with pytest.raises(UserError, match=r"reads other classes: 42 is 'end of .*' there and 'no class' here"):
        check_judges(champion, replace(data, classes=data.classes[:-1]))


def test_champion_that_the_run_would_overwrite_is_refused_before_anything_runs(run_dir: Path, refused: Refused) -> None:
    complaint = "is the release of this run, which is written anew"
    assert complaint in refused("run", "05", "-p", "champion", run_dir, "--out", run_dir)
    with pytest.raises(UserError, match=complaint):
        open_champion(str(run_dir), plan_release(run_dir), None, "")


def test_champion_that_reads_images_of_another_size_gets_them_loaded_at_its_own(
    champion: Release, other: Release, data: Data, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    larger = np.zeros((129, 3, 48, 48), np.uint8)
    at_48 = replace(data, train=replace(data.train, images=larger[:86]), val=replace(data.val, images=larger))
    monkeypatch.setattr(contest, "training_data", lambda plan, data_root, network: data)
    opened = open_champion(str(other.path), plan_release(run_dir), at_48, "")
    assert opened is not None and opened.judges.images.shape[-1] == 32


def newer(folder: Path) -> None:
    manifest = folder / "release.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "schema_version": 99}))


def inconsistent(folder: Path) -> None:
    (folder / "config.json").write_text((folder / "config.json").read_text().replace("stop", "go"))
    write_sums(folder)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (shutil.rmtree, "no folder {}; give the folder of an earlier release"),
        (lambda folder: (folder / "release.json").unlink(), "{} is not a release (it has no release.json)"),
        (newer, "{}/release.json has release schema 99, this version reads 1"),
        (inconsistent, "config.json: id2label.14 does not follow from the checkpoint and the records"),
    ],
)
def test_what_cannot_be_a_champion_is_refused_before_anything_runs(
    run_dir: Path, other: Release, tmp_path: Path, refused: Refused, change: Callable[[Path], Any], complaint: str
) -> None:
    folder = Path(shutil.copytree(other.path, tmp_path / "champion"))
    verified_champion(str(folder), folder.parent / "run")
    change(folder)
    before = sorted(path for path in run_dir.rglob("*") if path.name != ".lock")
    told = refused("run", "05", "-p", "champion", folder, "--out", run_dir)
    assert told.startswith("error: the champion cannot be used: ") and complaint.format(folder) in told
    assert sorted(path for path in run_dir.rglob("*") if path.name != ".lock") == before


def test_champion_is_held_against_the_images_of_a_launch_that_trains(
    other: Release, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = made_data(noise("train", 86, seed=7), replace(noise("train", 86), name="val"))
    monkeypatch.setattr("lib.series.preflight.load_data", lambda *_, **__: seen)
    told = refused("run", "01", "05", "-p", "champion", other.path, "--out", tmp_path / "run")
    assert "the champion was trained on 86 of the 86 validation images" in told
