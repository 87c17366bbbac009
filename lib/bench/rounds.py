"""Interleaved measuring: both sides in every round, in an order that drifts and periodic disturbances cannot favour."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lib.backends import Kernels, LayerTimes
from lib.backends.interface import RUNTIME
from lib.bench.client import BackendError, WorkerClient
from lib.bench.plan import MAX_ITERATIONS, ScenarioPlan
from lib.model import LayerInfo
from lib.records.schema import Conditions, Layer, LayerTable, Scenario

PAUSE_S = 0.005  # after a turn: OpenMP threads spin for some milliseconds before they sleep
NUM_FIRST_CALLS = 2  # untimed, of every side before the first round

Sides = Mapping[str, WorkerClient]  # by role: backend, reference, control
Times = dict[str, list[list[float]]]  # by role; one list per round


def turns(
    sides: Sides, max_rounds: int, seed: int = 0, *, num_rounds: int | None = None, seconds: float = 0.0
) -> Iterator[tuple[int, str, WorkerClient]]:
    """Every round asks each side once. The order is drawn for pairs of rounds, forwards and backwards (ABC CBA), so
    that a drift of the machine favours neither side.

    Args:
        num_rounds: least rounds, after which the time decides whether there is one more; default: all rounds.
        seconds: from the first turn on.
    """
    generator = random.Random(seed)
    order = list(sides)
    least = max_rounds if num_rounds is None else num_rounds
    begun = time.monotonic()
    for number in range(max_rounds):
        if number >= least and time.monotonic() - begun >= seconds:
            return
        if number % 2 == 0:
            generator.shuffle(order)
        else:
            order.reverse()
        for role in order:
            yield number, role, sides[role]
            time.sleep(PAUSE_S)


def measure_scenario(sides: Sides, plan: ScenarioPlan, seed: int = 0) -> Scenario:
    """Latencies of whole calls, one list per round and side; before the first round every side runs a few calls.

    Args:
        seed: draws the order of the sides.
    """
    latencies: Times = {role: [] for role in sides}
    compile_s = list[float]()
    for worker in sides.values():
        _measure(worker, plan, 0, num_warmup=NUM_FIRST_CALLS, min_seconds=0.0, min_iterations=1)
    rounds = turns(sides, plan.max_rounds, seed, num_rounds=plan.num_rounds, seconds=plan.seconds)
    for number, role, worker in rounds:
        answer = _measure(worker, plan, number)
        latencies[role].append(answer["latencies_s"])
        if role == "backend":
            compile_s.append(answer["compile_s"])
    return Scenario(
        name=plan.name,
        batch_size=plan.batch_size,
        latencies_s=latencies["backend"],
        reference_latencies_s=latencies["reference"],
        control_latencies_s=latencies.get("control", []),
        num_warmup=plan.num_warmup,
        compile_s=compile_s[0],
    )


def joined(parts: Sequence[Scenario]) -> Scenario:
    """One scenario from parts that were measured in different processes."""
    if len(parts) == 1:
        return parts[0]
    return replace(
        parts[0],
        latencies_s=[rounds for part in parts for rounds in part.latencies_s],
        reference_latencies_s=[rounds for part in parts for rounds in part.reference_latencies_s],
        control_latencies_s=[rounds for part in parts for rounds in part.control_latencies_s],
        rounds_per_start=[len(part.latencies_s) for part in parts],
        conditions=_worst([part.conditions for part in parts if part.conditions is not None]),
    )


def _worst(parts: Sequence[Conditions]) -> Conditions | None:
    """Of the part in which others used most."""
    return max(parts, key=lambda conditions: conditions.others_cores, default=None)


def _measure(worker: WorkerClient, plan: ScenarioPlan, number: int, **changes: Any) -> dict[str, Any]:
    arguments = {
        "batch_size": plan.batch_size,
        "num_warmup": plan.num_warmup,
        "min_seconds": plan.round_seconds,
        "min_iterations": plan.min_iterations,
        "max_iterations": MAX_ITERATIONS,
        "offset": number * plan.batch_size,
    }
    return worker.ask("measure", **(arguments | changes))


def measure_layers(
    sides: Sides, plan: ScenarioPlan, layers: Sequence[LayerInfo], kernels: Kernels, reference_kernels: Kernels
) -> LayerTable:
    """Seconds per layer of the network under all sides. A backend that cannot tell its layers gives an empty table.

    Args:
        layers: of the network, in the order in which they run.
        kernels: what ran in each group of layers, as `trace` of the backend found it.

    Raises:
        BackendError: the backend named a layer that the network does not have, or one twice.
    """
    times: dict[str, list[LayerTimes]] = {role: [] for role in sides}
    rounds = turns(sides, plan.max_layer_rounds, 1, num_rounds=plan.layer_rounds, seconds=plan.layer_seconds)
    for number, role, worker in rounds:
        answer = worker.ask(
            "layers", batch_size=plan.batch_size, num_passes=plan.layer_passes, offset=number * plan.batch_size
        )
        times[role].append(answer["layers"])
        if role == "backend" and not answer["layers"]:
            break  # unknown
    groups = _groups(times["backend"], layers)
    return LayerTable(
        scenario=plan.name,
        batch_size=plan.batch_size,
        layers=[
            Layer(
                name=name,
                members=[layer.name for layer in members],
                kind="+".join(layer.kind for layer in members),
                num_macs=sum(layer.num_macs for layer in members),
                num_inputs=_outside_inputs(members),
                num_weights=sum(layer.num_weights for layer in members),
                output_shape=list(members[-1].output_shape),
                latencies_s=[one_round[name] for one_round in times["backend"]],
                reference_latencies_s=[_sum_of(members, one_round) for one_round in times["reference"]],
                control_latencies_s=[_sum_of(members, one_round) for one_round in times["control"]],
                kernels=kernels.get(name, []),
                reference_kernels=[kernel for layer in members for kernel in reference_kernels.get(layer.name, [])],
            )
            for name, members in groups.items()
        ],
        runtime_latencies_s=[one_round[RUNTIME] for one_round in times["backend"] if RUNTIME in one_round],
        runtime_kernels=kernels.get(RUNTIME, []),
    )


def _groups(rounds: Sequence[LayerTimes], layers: Sequence[LayerInfo]) -> dict[str, list[LayerInfo]]:
    """The groups that every round has, in the order of the network, with their layers."""
    known = {layer.name: layer for layer in layers}
    place = {layer.name: number for number, layer in enumerate(layers)}
    groups = {
        name: name.split("+")
        for name in (rounds[0] if rounds else {})
        if name != RUNTIME and all(name in one_round for one_round in rounds)
    }
    named = [member for members in groups.values() for member in members]
    if foreign := [member for member in named if member not in known]:
        raise BackendError(f"the backend reports times of a layer {foreign[0]!r} that the network does not have")
    if twice := [member for member in named if named.count(member) > 1]:
        raise BackendError(f"the backend reports times of layer {twice[0]!r} in two groups")
    order = sorted(groups, key=lambda name: min(place[member] for member in groups[name]))
    return {name: [known[member] for member in groups[name]] for name in order}


def _outside_inputs(members: Sequence[LayerInfo]) -> int:
    """Elements that come from outside a group: what its layers read, less what they hand on to each other."""
    return sum(layer.num_inputs for layer in members) - sum(math.prod(layer.output_shape) for layer in members[:-1])


def _sum_of(members: Sequence[LayerInfo], times: LayerTimes) -> list[float]:
    """Seconds of every pass over all members."""
    return [sum(passes) for passes in zip(*(times[layer.name] for layer in members), strict=True)]
