"""What the 43 classes are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Shape = Literal["circle", "triangle", "inverted triangle", "octagon", "diamond"]
Colour = Literal["red", "blue", "yellow", "white"]


@dataclass(frozen=True)
class Sign:
    """One class of GTSRB."""

    class_id: int
    name: str
    shape: Shape
    colour: Colour  # the colour that is seen first
    mirror: int | None = None  # the class that a horizontal flip makes of it; None where that is not a sign


SIGNS: tuple[Sign, ...] = (
    Sign(0, "speed limit 20 km/h", "circle", "red"),
    Sign(1, "speed limit 30 km/h", "circle", "red"),
    Sign(2, "speed limit 50 km/h", "circle", "red"),
    Sign(3, "speed limit 60 km/h", "circle", "red"),
    Sign(4, "speed limit 70 km/h", "circle", "red"),
    Sign(5, "speed limit 80 km/h", "circle", "red"),
    Sign(6, "end of speed limit 80 km/h", "circle", "white"),
    Sign(7, "speed limit 100 km/h", "circle", "red"),
    Sign(8, "speed limit 120 km/h", "circle", "red"),
    Sign(9, "no overtaking", "circle", "red"),
    Sign(10, "no overtaking by trucks", "circle", "red"),
    Sign(11, "priority at the next intersection", "triangle", "red", 11),
    Sign(12, "priority road", "diamond", "yellow", 12),
    Sign(13, "yield", "inverted triangle", "red", 13),
    Sign(14, "stop", "octagon", "red"),
    Sign(15, "no vehicles", "circle", "red", 15),
    Sign(16, "no trucks", "circle", "red"),
    Sign(17, "no entry", "circle", "red", 17),
    Sign(18, "danger", "triangle", "red", 18),
    Sign(19, "curve to the left", "triangle", "red", 20),
    Sign(20, "curve to the right", "triangle", "red", 19),
    Sign(21, "double curve, first to the left", "triangle", "red"),
    Sign(22, "bumpy road", "triangle", "red", 22),
    Sign(23, "slippery road", "triangle", "red"),
    Sign(24, "road narrows on the right", "triangle", "red"),
    Sign(25, "road works", "triangle", "red"),
    Sign(26, "traffic lights", "triangle", "red", 26),
    Sign(27, "pedestrians", "triangle", "red"),
    Sign(28, "children", "triangle", "red"),
    Sign(29, "bicycles", "triangle", "red"),
    Sign(30, "ice or snow", "triangle", "red", 30),
    Sign(31, "wild animals", "triangle", "red"),
    Sign(32, "end of all limits", "circle", "white"),
    Sign(33, "turn right ahead", "circle", "blue", 34),
    Sign(34, "turn left ahead", "circle", "blue", 33),
    Sign(35, "ahead only", "circle", "blue", 35),
    Sign(36, "ahead or right", "circle", "blue", 37),
    Sign(37, "ahead or left", "circle", "blue", 36),
    Sign(38, "keep right", "circle", "blue", 39),
    Sign(39, "keep left", "circle", "blue", 38),
    Sign(40, "roundabout", "circle", "blue"),
    Sign(41, "end of no overtaking", "circle", "white"),
    Sign(42, "end of no overtaking by trucks", "circle", "white"),
)


NUM_CLASSES = len(SIGNS)
CLASS_NAMES = tuple(sign.name for sign in SIGNS)
_BY_NAME = {sign.name: sign for sign in SIGNS}


def sign_named(name: str) -> Sign | None:
    """The sign with this name, whatever its number in a data set; None where it is not one of GTSRB's."""
    return _BY_NAME.get(name)


def mirror_map(classes: Sequence[str] = CLASS_NAMES) -> tuple[int | None, ...]:
    """By class: the class that a horizontal flip makes of it (itself where it is symmetric), or None.

    Args:
        classes: names of the classes of a data set, by its class ids. What is not a sign of GTSRB is not flipped.
    """
    ids = {name: class_id for class_id, name in enumerate(classes)}
    signs = [sign_named(name) for name in classes]
    mirrored = [sign.mirror if sign else None for sign in signs]
    return tuple(None if mirror is None else ids.get(SIGNS[mirror].name) for mirror in mirrored)
