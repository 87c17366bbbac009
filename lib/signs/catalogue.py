"""What the 43 classes are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Shape = Literal["circle", "triangle", "inverted triangle", "octagon", "diamond"]
Colour = Literal["red", "blue", "yellow", "white"]
Mirror = int | Literal["self"] | None


@dataclass(frozen=True)
class Sign:
    """One class of GTSRB."""

    class_id: int
    name: str
    shape: Shape
    colour: Colour  # the colour that is seen first
    mirror: int | None  # the class that a horizontal flip makes of it; None where the flipped sign does not exist


def _sign(class_id: int, name: str, shape: Shape, colour: Colour, mirror: Mirror = None) -> Sign:
    return Sign(class_id, name, shape, colour, class_id if mirror == "self" else mirror)


SIGNS: tuple[Sign, ...] = (
    _sign(0, "speed limit 20 km/h", "circle", "red"),
    _sign(1, "speed limit 30 km/h", "circle", "red"),
    _sign(2, "speed limit 50 km/h", "circle", "red"),
    _sign(3, "speed limit 60 km/h", "circle", "red"),
    _sign(4, "speed limit 70 km/h", "circle", "red"),
    _sign(5, "speed limit 80 km/h", "circle", "red"),
    _sign(6, "end of speed limit 80 km/h", "circle", "white"),
    _sign(7, "speed limit 100 km/h", "circle", "red"),
    _sign(8, "speed limit 120 km/h", "circle", "red"),
    _sign(9, "no overtaking", "circle", "red"),
    _sign(10, "no overtaking by trucks", "circle", "red"),
    _sign(11, "priority at the next intersection", "triangle", "red", "self"),
    _sign(12, "priority road", "diamond", "yellow", "self"),
    _sign(13, "yield", "inverted triangle", "red", "self"),
    _sign(14, "stop", "octagon", "red"),
    _sign(15, "no vehicles", "circle", "red", "self"),
    _sign(16, "no trucks", "circle", "red"),
    _sign(17, "no entry", "circle", "red", "self"),
    _sign(18, "danger", "triangle", "red", "self"),
    _sign(19, "curve to the left", "triangle", "red", 20),
    _sign(20, "curve to the right", "triangle", "red", 19),
    _sign(21, "double curve, first to the left", "triangle", "red"),
    _sign(22, "bumpy road", "triangle", "red", "self"),
    _sign(23, "slippery road", "triangle", "red"),
    _sign(24, "road narrows on the right", "triangle", "red"),
    _sign(25, "road works", "triangle", "red"),
    _sign(26, "traffic lights", "triangle", "red", "self"),
    _sign(27, "pedestrians", "triangle", "red"),
    _sign(28, "children", "triangle", "red"),
    _sign(29, "bicycles", "triangle", "red"),
    _sign(30, "ice or snow", "triangle", "red", "self"),
    _sign(31, "wild animals", "triangle", "red"),
    _sign(32, "end of all limits", "circle", "white"),
    _sign(33, "turn right ahead", "circle", "blue", 34),
    _sign(34, "turn left ahead", "circle", "blue", 33),
    _sign(35, "ahead only", "circle", "blue", "self"),
    _sign(36, "ahead or right", "circle", "blue", 37),
    _sign(37, "ahead or left", "circle", "blue", 36),
    _sign(38, "keep right", "circle", "blue", 39),
    _sign(39, "keep left", "circle", "blue", 38),
    _sign(40, "roundabout", "circle", "blue"),
    _sign(41, "end of no overtaking", "circle", "white"),
    _sign(42, "end of no overtaking by trucks", "circle", "white"),
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
