"""The rules: what answers and times say about each of them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pydantic

from lib.analysis.calibration import calibration_error, probabilities
from lib.analysis.judgement import disturbance
from lib.analysis.statistics import median_latency, noise_floor, scenario_ratio, track_interval
from lib.data import Split
from lib.errors import UserError
from lib.machine import is_emulated
from lib.records.schema import Rule, RuleResult, Scenario, Verdict

LIMITS = Path(__file__).parent / "limits.toml"
_Share = Annotated[float, pydantic.Field(ge=0, le=1)]


@dataclass(frozen=True)
class Limits:
    """The content of `limits.toml`, which says what each means."""

    top1_loss: _Share
    worst_class_loss: _Share
    calibration_loss: _Share
    p50_ratio: Annotated[float, pydantic.Field(ge=1)]
    least_tracks: Annotated[int, pydantic.Field(ge=2)]


def read_limits(path: Path = LIMITS) -> Limits:
    """The limits of the rules.

    Raises:
        UserError: not TOML, or a limit that is missing, unknown or out of range.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        return pydantic.TypeAdapter(Limits).validate_python(content, extra="forbid")
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{path}: {first['loc'][0]}: {first['msg']}; `git checkout` restores the file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not readable ({error}); `git checkout` restores it") from None


@dataclass(frozen=True)
class Answers:
    """What a network says about labelled images."""

    labels: np.ndarray  # int64 (N,)
    right: np.ndarray  # bool (N,)
    confidence: np.ndarray  # float (N,), probability of the answer

    @classmethod
    def of(cls, logits: np.ndarray, labels: np.ndarray) -> Answers:
        """Args: logits: float32 (N, classes), divided by the temperature of the network."""
        return cls(labels, logits.argmax(1) == labels, probabilities(logits).max(axis=1))


Measure = Callable[[Answers, np.ndarray], float]  # of how often each image counts, int (N,)


def top1(answers: Answers, times: np.ndarray) -> float:
    """Share of images that are read right."""
    return float(np.average(answers.right, weights=times))


def worst_recall(answers: Answers, times: np.ndarray) -> float:
    """Lowest recall of the classes that have images."""
    num_images = np.bincount(answers.labels, weights=times)
    num_right = np.bincount(answers.labels, weights=times * answers.right)
    return float((num_right[num_images > 0] / num_images[num_images > 0]).min())


def miscalibration(answers: Answers, times: np.ndarray) -> float:
    """Expected calibration error."""
    return calibration_error(answers.confidence, answers.right, times)


def quality_rules(challenger: np.ndarray, champion: np.ndarray, judges: Split, limits: Limits) -> list[Rule]:
    """What both networks answer for the same images.

    Args:
        challenger, champion: float32 logits (N, classes), each divided by its temperature.
        judges: the N images.
    """
    sides = [Answers.of(logits, np.asarray(judges.labels)) for logits in (challenger, champion)]
    tracks = np.asarray(judges.track_ids)
    return [
        _paired("top-1", top1, True, sides, tracks, limits.top1_loss),
        _paired("worst class", worst_recall, True, sides, tracks, limits.worst_class_loss),
        _paired("calibration error", miscalibration, False, sides, tracks, limits.calibration_loss),
    ]


def _paired(
    name: str, measure: Measure, more_is_better: bool, sides: Sequence[Answers], track_ids: np.ndarray, limit: float
) -> Rule:
    def loss(times: np.ndarray) -> float:
        challenger, champion = (measure(side, times) for side in sides)
        return champion - challenger if more_is_better else challenger - champion

    once = np.ones(len(track_ids), np.int64)
    found, interval = loss(once), track_interval(loss, track_ids)
    if interval is not None:  # that of a minimum or of an absolute value may leave it out
        interval = min(interval[0], found), max(interval[1], found)
    challenger, champion = (measure(side, once) for side in sides)
    return Rule(name, challenger, champion, found, interval, limit, _result(interval, limit))


def speed_rule(times: Scenario, limits: Limits) -> Rule:
    """Args: times: of single images, the challenger as backend, the champion as reference and as control."""
    speedup, differ = scenario_ratio(times), 1 + noise_floor(times)
    interval = 1 / speedup.high / differ, differ / speedup.low
    reason = "disturbed" if disturbance(times) is not None else "emulated CPU" if is_emulated() else ""
    return Rule(
        "p50",
        median_latency(times.latencies_s),
        median_latency(times.reference_latencies_s),
        1 / speedup.value,
        interval,
        limits.p50_ratio,
        "undecided" if reason else _result(interval, limits.p50_ratio),
        reason,
    )


def _result(interval: tuple[float, float] | None, limit: float) -> RuleResult:
    if interval is None or interval[0] <= limit < interval[1]:
        return "undecided"
    return "holds" if interval[1] <= limit else "broken"


def verdict_of(rules: Sequence[Rule], doubts: Sequence[str]) -> Verdict:
    """What follows from all rules, and from what casts doubt on all of them."""
    results = {rule.result for rule in rules}
    if not doubts and "broken" in results:
        return "keep"
    return "promote" if not doubts and results == {"holds"} else "investigate"
