"""How long a training will take, from its first steps."""

from __future__ import annotations

from dataclasses import dataclass

WARM_UP_STEPS = 2  # the first one makes oneDNN's kernels, and both fill memory pools
LEAST_STEPS = 2
LEAST_S = 5.0  # of steps after the warm-up: a training that ends sooner needs no estimate
VALIDATION_SHARE = 1 / 3  # of a step: a forward pass of as many images, as backward takes twice as long as forward


@dataclass(frozen=True)
class Estimate:
    """What is known after a few steps."""

    seconds: float  # of the whole training
    num_steps: int  # that it rests on
    seconds_left: float | None  # from the beginning of the training until a time limit ends it; None: there is none

    @property
    def too_long(self) -> bool:
        """Whether the limit will come first."""
        return self.seconds_left is not None and self.seconds > self.seconds_left


class Estimator:
    """Takes the time of each step and gives one estimate, as soon as there is enough to go by."""

    def __init__(self, num_steps: int, num_validation_batches: float, seconds_left: float | None) -> None:
        """
        Args:
            num_validation_batches: of all epochs together, in batches of the training's size.
        """
        self._num_steps, self._seconds_left = num_steps, seconds_left
        self._validation_steps = num_validation_batches * VALIDATION_SHARE
        self._steps_s: list[float] = []
        self.estimate: Estimate | None = None

    def add(self, step_s: float) -> Estimate | None:
        """Count a step of so many seconds; returns the estimate after the step that makes it possible."""
        self._steps_s.append(step_s)
        timed = self._steps_s[WARM_UP_STEPS:]
        if self.estimate is not None or len(timed) < LEAST_STEPS or sum(timed) < LEAST_S:
            return None
        steps_left = self._num_steps - len(self._steps_s) + self._validation_steps
        seconds = sum(self._steps_s) + steps_left * sum(timed) / len(timed)
        self.estimate = Estimate(seconds, len(timed), self._seconds_left)
        return self.estimate
