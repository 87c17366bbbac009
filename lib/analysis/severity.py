"""What errors cost: a stop sign that is missed is worse than two mixed-up speed limits.

The costs are this project's judgement, from 1 (an odd reading, and nothing follows) to 10 (it may kill).
docs/method.md has the same table in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lib.signs import sign_named

OTHER = "other sign"  # classes that are none of GTSRB's
GROUPS = {
    "stop, yield, no entry": (13, 14, 15, 17),
    "speed limit": (0, 1, 2, 3, 4, 5, 7, 8),
    "other ban": (9, 10, 16),
    "end of a limit": (6, 32, 41, 42),
    "priority": (11, 12),
    "danger": tuple(range(18, 32)),
    "direction": tuple(range(33, 41)),
    OTHER: (),
}
COSTS = np.array(  # rows = what the sign is, columns = what it is read as, both in the order of GROUPS
    [
        [4, 10, 10, 10, 10, 10, 10, 10],
        [3, 2, 3, 6, 5, 3, 3, 3],
        [3, 3, 2, 6, 5, 3, 3, 3],
        [3, 2, 2, 1, 2, 1, 2, 1],
        [4, 2, 2, 2, 1, 2, 2, 2],
        [3, 3, 3, 5, 4, 2, 3, 3],
        [4, 4, 4, 4, 4, 4, 5, 4],
        [1, 1, 1, 1, 1, 1, 1, 1],
    ]
)


class Costly(NamedTuple):
    """Errors of one kind."""

    group: str  # of the sign
    read_as: str  # group of the answers
    cost: int  # of one error
    num_images: int


def costly_errors(confusion: np.ndarray, classes: Sequence[str]) -> list[Costly]:
    """Errors by pair of groups, what costs most in all first.

    Args:
        confusion: int (classes, classes); rows = true class, columns = predicted.
    """
    names = list(GROUPS)
    group_of = {class_id: index for index, ids in enumerate(GROUPS.values()) for class_id in ids}
    signs = [sign_named(name) for name in classes]
    place = [group_of[sign.class_id] if sign else names.index(OTHER) for sign in signs]
    counts = np.zeros_like(COSTS)
    np.add.at(counts, np.ix_(place, place), confusion - np.diag(np.diag(confusion)))
    found = [
        Costly(names[true], names[read], int(COSTS[true, read]), int(counts[true, read]))
        for true, read in np.argwhere(counts)
    ]
    return sorted(found, key=lambda each: -each.cost * each.num_images)
