"""Augmentation, the training loop and evaluation, on images that anyone can tell apart."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lib.analysis.calibration import fit_temperature, probabilities
from lib.data import Data, Split
from lib.errors import UserError
from lib.files import sha256_file
from lib.model import load_checkpoint
from lib.onednn import parse_report
from lib.records.schema import Epoch
from lib.report.train import accuracy, seeds_table
from lib.signs import CLASS_NAMES, NUM_CLASSES, mirror_map
from lib.training.augmentation import augment_batch
from lib.training.estimate import Estimate, Estimator
from lib.training.evaluation import evaluate, evaluate_splits, predict_logits
from lib.training.kernels import step_kernels
from lib.training.loop import Trained, ensure_checkpoint, train
from lib.training.recipes import RECIPES, Augmentation, choose_recipe
from lib.training.seeds import accuracy_by_seed, train_seeds
from tests.made_data import made_data, made_split
from tests.untrained import save_untrained

STILL = Augmentation(
    rotation_deg=0, scale=0, aspect=0, shear=0, shift=0, perspective=0, log_gamma=0, log_contrast=0, log_brightness=0,
    colour_cast=0, mirror=False,
)  # fmt: skip


def make_split(name: str, num_images: int, seed: int) -> Split:
    """Two classes: dark and bright noise, in tracks of ten."""
    generator = np.random.default_rng(seed)
    labels = np.arange(num_images) // 10 % 2
    images = (generator.integers(0, 60, (num_images, 3, 32, 32)) + labels[:, None, None, None] * 150).astype(np.uint8)
    return made_split(name, images, labels, np.arange(num_images) // 10)


@pytest.fixture(scope="module")
def data() -> Data:
    return made_data(make_split("train", 320, 0), make_split("val", 80, 1))


def quick(data: Data, **arguments: object) -> np.ndarray:
    trained = train("learning_path", data, profile="smoke", num_epochs=2, **arguments)  # type: ignore[arg-type]
    return predict_logits(trained.model, trained.metadata.preprocessing, data.val.images)


def test_training_learns_and_reports_each_epoch(data: Data) -> None:
    seen: list[tuple[Epoch, int]] = []
    trained = train("learning_path", data, profile="smoke", num_epochs=3, on_epoch=lambda *line: seen.append(line))
    assert [epoch.epoch for epoch, _ in seen] == [1, 2, 3] and seen[0][1] == 3
    assert trained.history[-1].train_loss < trained.history[0].train_loss
    assert trained.history[-1].val_top1 == 1.0


@pytest.mark.parametrize("recipe", ["minute", pytest.param("record", marks=pytest.mark.slow), "learning_path"])
def test_same_seed_gives_an_identical_checkpoint_file(data: Data, tmp_path: Path, recipe: str) -> None:
    first, second = (train(recipe, data, profile="smoke", num_epochs=1).save(tmp_path / name) for name in "ab")
    assert first == second


def test_another_seed_gives_other_weights(data: Data) -> None:
    networks = [train("learning_path", data, profile="smoke", num_epochs=1, seed=seed).model for seed in (1, 2)]
    weights = zip(*(model.parameters() for model in networks), strict=True)
    assert all(not torch.equal(one, other) for one, other in weights if one.ndim > 1)


@pytest.mark.parametrize("profile", ["smoke", "fast", "full"])
def test_every_profile_trains_the_network_that_the_recipe_names(profile: str) -> None:
    for name, recipe in RECIPES.items():
        assert choose_recipe(name, profile) == recipe
    assert choose_recipe("auto", profile).name == {"full": "record"}.get(profile, "minute")


@pytest.mark.parametrize(("recipe", "damaged"), [("minute", True), ("learning_path", False)])
def test_training_that_was_stopped_ends_with_the_same_checkpoint_file(
    data: Data, tmp_path: Path, recipe: str, damaged: bool
) -> None:
    def begun(folder: str, stop_after: int = 0, **arguments: Any) -> Trained:
        def on_epoch(epoch: Epoch, _total: int) -> None:
            if epoch.epoch == stop_after:
                raise KeyboardInterrupt

        return train(recipe, data, num_epochs=4, run_dir=tmp_path / folder, on_epoch=on_epoch, **arguments)

    whole = begun("whole")
    whole.save(tmp_path / "whole" / "checkpoint")
    with pytest.raises(KeyboardInterrupt):
        begun("stopped", stop_after=3)
    states = sorted((tmp_path / "stopped" / "training").iterdir())
    assert len(states) == 2, "the newest, and one to fall back to"
    if damaged:
        states[-1].write_bytes(states[-1].read_bytes()[:-1] + b"?")
    resumed = begun("stopped", resume=True)
    assert resumed.num_resumed == (2 if damaged else 3) and len(resumed.history) == 4
    resumed.save(tmp_path / "stopped" / "checkpoint")
    assert (tmp_path / "stopped" / "checkpoint").read_bytes() == (tmp_path / "whole" / "checkpoint").read_bytes()
    assert resumed.kernels.found == whole.kernels.found, "of the first step, before the stop"


@pytest.mark.parametrize("ended", [True, False])
def test_training_of_another_number_of_threads_or_device_is_taken_if_it_has_ended(
    data: Data, tmp_path: Path, ended: bool
) -> None:
    def on_epoch(epoch: Epoch, _total: int) -> None:
        if epoch.epoch == 2 and not ended:
            raise KeyboardInterrupt

    threads = torch.get_num_threads()
    try:
        with nullcontext() if ended else pytest.raises(KeyboardInterrupt):
            train("learning_path", data, num_epochs=3, run_dir=tmp_path, num_threads=1, on_epoch=on_epoch)
        path = sorted((tmp_path / "training").iterdir())[-1]
        state = torch.load(path) | {"generator": torch.zeros(16, dtype=torch.uint8)}  # as on a CUDA device
        torch.save(state, path)
        path.rename(path.with_name(f"{path.stem.rsplit('-', 1)[0]}-{sha256_file(path)[:16]}.pt"))
        taken = train("learning_path", data, num_epochs=3, run_dir=tmp_path, num_threads=2, resume=True)
    finally:
        torch.set_num_threads(threads)
    assert taken.num_resumed == (3 if ended else 0) and len(taken.history) == 3


def test_several_seeds_give_several_networks_and_the_first_is_the_usual_one(data: Data, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"seeds": 3, "seed": 5, "seconds_left": None, "run_dir": tmp_path, "num_epochs": 1}
    networks = train_seeds("learning_path", data, **arguments)
    again = train_seeds("learning_path", data, resume=True, **arguments)
    assert [each.num_resumed for each in again] == [1, 1, 1], "all were done"
    usual = train("learning_path", data, seed=5, num_epochs=1).save(tmp_path / "usual")
    assert networks[0].save(tmp_path / "first") == usual
    by_seed = accuracy_by_seed(networks, data)["val"]
    assert list(by_seed.top1) == [5, 6, 7] and by_seed.interval is not None
    assert by_seed.interval[0] <= np.mean(list(by_seed.top1.values())) <= by_seed.interval[1]
    shown = str(seeds_table({"val": by_seed}))
    assert "seed 7" in shown and "not the best one" in shown
    assert accuracy_by_seed(networks[:1], data) == {} and "-p seeds 5" in str(seeds_table({}))


@pytest.mark.parametrize("changed", [{"seed": 1}, {"num_epochs": 2}, {"recipe": "tiny"}, {"resume": False}])
def test_state_of_another_training_is_not_resumed(data: Data, tmp_path: Path, changed: dict[str, Any]) -> None:
    train("learning_path", data, num_epochs=1, run_dir=tmp_path)
    arguments: dict[str, Any] = {"recipe": "learning_path", "num_epochs": 1, "resume": True} | changed
    assert train(arguments.pop("recipe"), data, run_dir=tmp_path, **arguments).num_resumed == 0


def test_seed_also_decides_order_and_augmentation(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    seed_weights = torch.manual_seed
    monkeypatch.setattr(torch, "manual_seed", lambda seed: seed_weights(0))  # equal weights to begin with
    losses = [train("minute", data, profile="smoke", num_epochs=1, seed=seed).history[0].train_loss for seed in (1, 2)]
    assert losses[0] != losses[1]


Step = tuple[float, dict[float, list[torch.nn.Parameter]]]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """Of every step of an optimizer: its learning rate, and the parameters by their weight decay."""
    seen: list[Step] = []

    def noting(optimizer: torch.optim.Optimizer, step: Callable[..., Any]) -> Any:
        (lr,) = {group["lr"] for group in optimizer.param_groups}
        seen.append((lr, {group["weight_decay"]: group["params"] for group in optimizer.param_groups}))
        return step(optimizer)

    for kind in (torch.optim.SGD, torch.optim.Adam):
        monkeypatch.setattr(kind, "step", partialmethod(noting, kind.step))
    return seen


def test_one_cycle_warms_up_for_its_share_and_falls_to_nearly_nothing(
    data: Data, steps: list[Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = replace(RECIPES["minute"], architecture="learning_path", optimizer="sgd", warm_up=0.25)  # a quick one
    monkeypatch.setitem(RECIPES, "minute", short)
    trained = train("minute", data, profile="smoke", num_epochs=8)
    rates = [lr / RECIPES["minute"].lr for lr, _ in steps]
    assert len(rates) == 16  # two batches of 128 images an epoch
    assert rates[:5] == pytest.approx([0.1, 0.325, 0.55, 0.775, 1.0]), "linear"
    assert rates[4:] == sorted(rates[4:], reverse=True) and rates[10] == pytest.approx(0.5, abs=0.001)
    assert rates[-1] < 0.02
    assert [epoch.lr for epoch in trained.history] == [lr for lr, _ in steps[1::2]], "of its last step"


def test_constant_schedule_keeps_its_rate(data: Data, steps: list[Step]) -> None:
    train("learning_path", data, profile="smoke", num_epochs=1)
    assert [lr for lr, _ in steps] == [RECIPES["learning_path"].lr] * 5


def test_weight_decay_spares_biases_and_batch_norm(
    data: Data, steps: list[Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RECIPES, "minute", replace(RECIPES["minute"], optimizer="sgd"))
    model = train("minute", data, profile="smoke", num_epochs=1).model
    _, by_decay = steps[0]
    assert set(by_decay) == {RECIPES["minute"].weight_decay, 0.0} and RECIPES["minute"].weight_decay > 0
    assert {weight.ndim for weight in by_decay[0.0]} == {1}
    assert {weight.ndim for weight in by_decay[RECIPES["minute"].weight_decay]} == {2, 4}
    assert sum(len(weights) for weights in by_decay.values()) == len(list(model.parameters()))


def test_checkpoint_has_the_temperature_and_the_threshold_that_validation_gives(data: Data) -> None:
    trained = train("minute", data, profile="smoke", num_epochs=1)
    known = trained.metadata
    logits = predict_logits(trained.model, known.preprocessing, data.val.images)
    assert known.temperature == pytest.approx(fit_temperature(logits, data.val.labels), abs=1e-4) != 1
    confidence = probabilities(logits, known.temperature).max(axis=1)
    assert (confidence >= known.least_confidence).mean() > 0.98 and known.least_confidence > 0


def test_first_step_is_traced_forward_and_backward(data: Data) -> None:
    kernels = train("minute", data, profile="smoke", num_epochs=1).kernels
    convolutions = {
        direction: sum(times for kernel, times in found.items() if kernel.startswith("onednn convolution"))
        for direction, found in kernels.found.items()
    }
    # 10 convolutions, the first of which has no gradient to pass on
    assert convolutions == {"forward_training": 10, "backward_data": 9, "backward_weights": 10}
    assert kernels.investigate == ""


def test_tracing_changes_no_weight_and_swallows_nothing_that_is_printed_later(
    data: Data, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    traced = quick(data, on_step=lambda step, _: os.write(1, b"%d " % step))
    assert capfd.readouterr().out == "".join(f"{step} " for step in range(1, 11))
    monkeypatch.setattr(sys.modules["lib.training.loop"], "onednn_report", lambda: nullcontext([]))
    np.testing.assert_array_equal(quick(data), traced)


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        (("avx2", "avx512_bf16"), "bf16"),
        (("avx2", "amx_bf16"), "bf16"),
        (("avx2",), "fp32"),
        (("asimd", "bf16", "sve", "svebf16"), "fp32"),
    ],
)
def test_trains_in_bf16_only_where_onednn_has_it_backward_too(
    data: Data, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], precision: str
) -> None:
    monkeypatch.setattr("lib.machine.isa_flags", lambda: flags)
    short = replace(RECIPES["minute"], architecture="learning_path", optimizer="sgd", smoke_steps=1)
    monkeypatch.setitem(RECIPES, "minute", short)
    assert train("minute", data, profile="smoke").precision == precision


def executed(*convolutions: tuple[str, str]) -> str:
    """oneDNN's lines for convolutions: implementation and direction."""
    return "".join(
        f"onednn_verbose,v1,primitive,exec,cpu,convolution,{implementation},{direction},src:bf16:a:blocked:acdb::f0 "
        "wei:bf16:a:blocked:Acdb8a::f0,attr-scratchpad:user,alg:convolution_direct,mb8_ic3oc16_ih8oh8kh3,1.5\n"
        for implementation, direction in convolutions
    )


def test_reference_code_in_a_convolution_is_to_be_investigated() -> None:
    forward = ("indirect_gemm:acl", "forward_training")
    on_arm = step_kernels(
        parse_report(executed(forward, ("ref:any", "backward_data"), ("ref:any", "backward_weights")))
    )
    assert "2 of 3 convolutions" in on_arm.investigate and "backward_data in bf16" in on_arm.investigate
    assert on_arm.found["backward_weights"] == {"onednn convolution ref:any bf16": 1}
    assert not step_kernels(parse_report(executed(forward, ("gemm:ref", "backward_weights")))).investigate
    assert "no convolution" in step_kernels([]).investigate


def estimated(steps_s: list[float], num_steps: int, seconds_left: float | None = None) -> list[Estimate]:
    estimator = Estimator(num_steps, num_validation_batches=30, seconds_left=seconds_left)
    return [estimate for step_s in steps_s if (estimate := estimator.add(step_s)) is not None]


def test_estimate_comes_once_and_leaves_the_slow_first_steps_out() -> None:
    (estimate,) = estimated([60.0, 10.0, *[2.0] * 20], num_steps=100)
    assert estimate.num_steps == 3 and not estimate.too_long  # 6 s of steps after the warm-up
    assert estimate.seconds == 60 + 10 + 98 * 2 + 10 * 2  # validation: thirty batches forward are ten steps
    assert estimated([0.01] * 100, num_steps=100) == [], "it ends within seconds"


def test_estimate_says_that_a_limit_comes_first_after_few_steps_of_a_slow_training() -> None:
    (late,) = estimated([100.0] * 4, num_steps=100, seconds_left=3600)
    assert late.too_long and late.num_steps == 2
    (early,) = estimated([100.0] * 4, num_steps=100, seconds_left=36_000)
    assert not early.too_long


def test_smoke_profile_takes_its_own_number_of_steps(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    short = replace(RECIPES["learning_path"], num_epochs=1, smoke_steps=7)
    monkeypatch.setitem(RECIPES, "learning_path", short)
    assert train("learning_path", data, profile="smoke").metadata.num_epochs == 2  # five steps an epoch


@pytest.mark.parametrize(("argument", "value"), [("recipe", "minut"), ("profile", "slow")])
def test_unknown_name_lists_what_is_allowed(data: Data, argument: str, value: str) -> None:
    arguments = {"recipe": "minute", "profile": "smoke"} | {argument: value}
    with pytest.raises(UserError, match=rf"unknown {argument} '{value}'.*(minute|fast)"):
        train(arguments["recipe"], data, profile=arguments["profile"])


def test_loss_that_is_not_finite_ends_training(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "learning_path", replace(RECIPES["learning_path"], lr=float("inf")))
    with pytest.raises(UserError, match="diverged in epoch"):
        train("learning_path", data, profile="smoke", num_epochs=2)


def test_missing_checkpoint_is_trained_once_and_then_read(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RECIPES, "minute", replace(RECIPES["minute"], smoke_steps=3))
    train("learning_path", data, num_epochs=1, run_dir=tmp_path)  # stopped before its checkpoint
    first, trained_now = ensure_checkpoint(tmp_path, data)
    assert train("learning_path", data, num_epochs=1, run_dir=tmp_path, resume=True).num_resumed == 1, "is still there"
    again, trained_again = ensure_checkpoint(tmp_path, data)
    assert trained_now and not trained_again
    assert first.sha256 == again.sha256 == load_checkpoint(tmp_path / "checkpoint.safetensors").sha256


def test_augmentation_keeps_shape_range_and_inputs() -> None:
    images = torch.randint(0, 255, (16, 3, 32, 32), dtype=torch.uint8)
    before = images.clone()
    unit, labels = augment_batch(
        images, torch.arange(16), torch.Generator().manual_seed(0), Augmentation(erase=0.5), CLASS_NAMES
    )
    assert unit.shape == (16, 3, 32, 32) and unit.dtype == torch.float32 and labels.shape == (16,)
    assert unit.min() >= 0 and unit.max() <= 1
    assert torch.equal(images, before)


def test_augmentation_of_zero_width_returns_the_images() -> None:
    images = torch.randint(1, 255, (4, 3, 32, 32), dtype=torch.uint8)
    unit, _ = augment_batch(images, torch.zeros(4, dtype=torch.int64), torch.Generator(), STILL, CLASS_NAMES)
    torch.testing.assert_close(unit, images / 255, rtol=0, atol=1e-4)


def test_flip_changes_a_label_only_as_the_mirror_map_says() -> None:
    labels = torch.arange(NUM_CLASSES).repeat(40)
    images = torch.zeros(len(labels), 3, 32, 32, dtype=torch.uint8)
    images[..., :16] = 255  # the left half is bright, so that a flip can be seen
    flips_only = replace(STILL, mirror=True)
    unit, after = augment_batch(images, labels, torch.Generator().manual_seed(0), flips_only, CLASS_NAMES)
    flipped = unit[:, 0, 16, 31] > 0.5
    for class_id, mirrored in enumerate(mirror_map()):
        of_class = labels == class_id
        assert flipped[of_class].any() == (mirrored is not None)
        assert (after[of_class & ~flipped] == class_id).all()
        assert (after[of_class & flipped] == (mirrored if mirrored is not None else -1)).all()


def test_evaluation_counts_right_and_wrong_by_class() -> None:
    split = make_split("val", 40, 0)
    logits = np.zeros((40, NUM_CLASSES), np.float32)
    logits[np.arange(40), split.labels] = 5
    logits[0] = 0
    logits[0, 7] = 9  # a class-0 image called 7, with confidence
    result = evaluate(logits, split)
    assert result.accuracy.top1 == 39 / 40
    assert result.accuracy.worst_class == 0 and result.accuracy.worst_class_recall == 19 / 20
    assert result.confusion[0][7] == 1 and result.per_class_recall[5] is None
    assert result.confident_errors(5).tolist() == [0]
    np.testing.assert_allclose(result.probs.sum(1), 1, rtol=1e-5)
    with pytest.raises(ValueError, match="3 rows of logits for 40 images"):
        evaluate(logits[:3], split)
    low, high = result.accuracy.top1_interval or (1, 0)
    assert low <= 39 / 40 <= high


def test_accuracy_is_given_without_the_test_images_that_training_has_too(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test, shared = make_split("test", 40, 2), [0, 1, 2, 30]
    digests = test.digests.copy()
    digests[shared] = data.train.digests[:4]
    data = replace(data, test=replace(test, digests=digests))
    wrong = [0, 1, 7]
    logits = {split.num_images: np.eye(NUM_CLASSES, dtype=np.float32)[split.labels] for split in data.splits.values()}
    logits[40][wrong] = np.eye(NUM_CLASSES, dtype=np.float32)[20]
    monkeypatch.setattr("lib.training.evaluation.predict_logits", lambda _, __, images: logits[len(images)])
    found = evaluate_splits(load_checkpoint(save_untrained(tmp_path)), data)
    assert found["val"].without_duplicates is None and found["val"].accuracy.top1 == 1
    fewer = found["test"].without_duplicates
    assert fewer is not None and fewer.num_images == 36 and fewer.top1 == 35 / 36
    assert found["test"].accuracy.num_images == 40 and found["test"].accuracy.top1 == 37 / 40
    text = str(accuracy(found))
    assert re.search(r"test, without duplicates \(4\) +97\.22 %", text) and "01_explore shows them" in text
    assert "duplicates" not in str(accuracy({"val": found["val"]}))
