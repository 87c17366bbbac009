"""Which layers of the network are in a step of a runtime that keeps no names, found by order, kind and weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lib.backends.interface import RUNTIME

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Leaf:
    """A layer of the network, in the order of a forward pass."""

    name: str
    kind: str  # class of the module
    num_weights: int  # of the weight alone, without the bias; 0 where there is none


@dataclass(frozen=True)
class Step:
    """Something that a runtime executes and times."""

    kinds: tuple[str, ...]  # classes of modules that it may be; none: it belongs to no layer
    num_weights: int = 0  # 0 = the runtime does not report it


def write_leaves(path: Path, model: nn.Module, image_size: int) -> None:
    """Write the layers of a network, for a process that has no torch."""
    from lib.model import leaf_layers

    leaves = []
    for layer in leaf_layers(model, (3, image_size, image_size)):
        weight = getattr(model.get_submodule(layer.name.split("#")[0]), "weight", None)
        leaves.append(Leaf(layer.name, layer.kind, 0 if weight is None else weight.numel()))
    path.write_text(json.dumps([asdict(leaf) for leaf in leaves]), encoding="utf-8")


def read_leaves(path: Path) -> list[Leaf]:
    """Read what `write_leaves` wrote."""
    return [Leaf(**fields) for fields in json.loads(path.read_bytes())]


_WEIGHTED = ("Conv2d", "ConvTranspose2d", "Linear")  # never folded into another step, so they hold the order together


def align(steps: list[Step], leaves: list[Leaf]) -> list[str]:
    """The group of every step: the layer it is, joined by `+` with those behind it that have no step of their own.

    Convolutions and linear layers are found by kind and number of weights. Anything else is the next layer of its kind,
    unless a convolution without a step is in between: then its layer is unknown, and the step gets RUNTIME.
    """
    owner: dict[int, int] = {}  # leaf -> step
    cursor = -1
    for number, step in enumerate(steps):
        for index, leaf in enumerate(leaves):
            weighted = leaf.kind in _WEIGHTED
            if index in owner or (index <= cursor and not weighted):
                continue
            if leaf.kind in step.kinds and (not step.num_weights or step.num_weights == leaf.num_weights):
                owner[index] = number
                cursor = index
                break
            if weighted and not set(step.kinds) & set(_WEIGHTED):
                break
    groups: dict[int, list[str]] = {}
    last = None
    for index, leaf in enumerate(leaves):
        last = owner.get(index, last)
        if last is not None:
            groups.setdefault(last, []).append(leaf.name)
    return ["+".join(groups[number]) if number in groups else RUNTIME for number in range(len(steps))]
