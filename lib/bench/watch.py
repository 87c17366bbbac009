"""Measuring beside others: seen while it happens, and repeated after they have ended."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from lib.analysis.judgement import disturbance, is_busy
from lib.bench.neighbours import Neighbours, Use, Waited, use_over, wait_for_quiet
from lib.bench.plan import MAX_ATTEMPTS, PATIENCE_S
from lib.bench.rounds import Sides
from lib.bench.workers import Workers
from lib.progress import Progress
from lib.records.schema import Conditions, LayerTable, Profile, Scenario

Measured = TypeVar("Measured", Scenario, LayerTable)


class Watch:
    """Keeps what was not disturbed, as long as there is patience left; that belongs to the whole session."""

    def __init__(self, workers: Workers, profile: Profile, progress: Progress) -> None:
        self.workers, self.progress = workers, progress
        self._profile = profile
        self._patience_s = PATIENCE_S[profile]

    def over(self, sides: Sides, measure: Callable[[], Measured]) -> Measured:
        """What was measured, with who else used the CPU meanwhile. Smoke is not watched: its times mean nothing."""
        neighbours = Neighbours(side.pid for side in sides.values())
        measured = measure()
        if self._profile != "smoke" and (use := neighbours.use()) is not None:
            measured.conditions = _conditions(use, max(side.num_threads for side in sides.values()))
        return measured

    def undisturbed(self, what: str, measure: Callable[[], Measured]) -> Measured:
        """Measured again after others have ended; of all attempts the least disturbed one, which says how many there
        were and how long it was waited.

        Args:
            what: is measured, in words.
        """
        attempts, waited_s = [measure()], 0.0
        while disturbance(attempts[-1]) is not None and len(attempts) < MAX_ATTEMPTS:
            waited = self._wait_for_quiet(what)
            waited_s += waited.seconds
            if not waited.quiet:
                break
            self.progress(f"{what}: once more")
            attempts.append(measure())
        kept = min(attempts, key=lambda attempt: (disturbance(attempt) is not None, _others_cores(attempt)))
        if kept.conditions is not None:
            kept.conditions = replace(kept.conditions, num_measured=len(attempts), waited_s=waited_s)
        return kept

    def _wait_for_quiet(self, what: str) -> Waited:
        """Until others use no more than they may, with what patience is left."""
        self.progress(f"{what}: disturbed; waiting for quiet, at most {self._patience_s:.0f} s")
        pids = [side.pid for side in self.workers.running.values()]
        waited = wait_for_quiet(
            self._patience_s,
            lambda use: not is_busy(_conditions(use, self.workers.num_threads)),
            lambda seconds: use_over(pids, seconds),
        )
        self._patience_s -= waited.seconds
        self.progress(f"{what}: {'quiet' if waited.quiet else 'still not quiet'} after {waited.seconds:.0f} s")
        return waited


def _conditions(use: Use, num_threads: int) -> Conditions:
    spare_cores = max(0, (os.cpu_count() or 1) - num_threads)
    return Conditions(use.others, use.stolen, use.waited, spare_cores)


def _others_cores(measured: Scenario | LayerTable) -> float:
    return measured.conditions.others_cores if measured.conditions is not None else 0.0
