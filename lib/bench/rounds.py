"""Interleaved measuring: both sides in every round, in an order that drifts and periodic disturbances cannot favour."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from lib.backends import Kernels
from lib.bench.client import WorkerClient
from lib.bench.plan import MAX_ITERATIONS, ScenarioPlan
from lib.model import LayerInfo
from lib.records.results import Layer, LayerTable, Scenario

PAUSE_S = 0.02  # after a turn: OpenMP threads spin for some milliseconds before they sleep

Side = tuple[str, WorkerClient]


def turns(backend: WorkerClient, reference: WorkerClient, num_rounds: int, seed: int = 0) -> Iterator[tuple[int, Side]]:
    """Every round asks both sides once; which is first is drawn for pairs of rounds (AB BA or BA AB), so that both
    sides are first equally often."""
    generator = random.Random(seed)
    sides: list[Side] = [("backend", backend), ("reference", reference)]
    for number in range(num_rounds):
        if number % 2 == 0:
            generator.shuffle(sides)
        else:
            sides.reverse()
        for side in sides:
            yield number, side
            time.sleep(PAUSE_S)


def measure_scenario(backend: WorkerClient, reference: WorkerClient, plan: ScenarioPlan) -> Scenario:
    """Latencies of whole calls, one list per round and side."""
    latencies: dict[str, list[list[float]]] = {"backend": [], "reference": []}
    for number, (name, worker) in turns(backend, reference, plan.num_rounds):
        answer = worker.ask(
            "measure",
            batch_size=plan.batch_size,
            num_warmup=plan.num_warmup,
            min_seconds=plan.round_seconds,
            min_iterations=plan.min_iterations,
            max_iterations=MAX_ITERATIONS,
            offset=number * plan.batch_size,
        )
        latencies[name].append(answer["latencies_s"])
    return Scenario(
        name=plan.name,
        batch_size=plan.batch_size,
        latencies_s=latencies["backend"],
        reference_latencies_s=latencies["reference"],
        num_warmup=plan.num_warmup,
    )


def measure_layers(
    backend: WorkerClient,
    reference: WorkerClient,
    plan: ScenarioPlan,
    layers: list[LayerInfo],
    kernels: Kernels,
    reference_kernels: Kernels,
) -> LayerTable:
    """Seconds per layer of the network under both sides. A backend that cannot tell its layers gives an empty table.

    Args:
        layers: of the network, in the order in which they run.
        kernels: what ran in each layer, by name of the layer, as `trace` found it.
    """
    times: dict[str, list[dict[str, list[float]]]] = {"backend": [], "reference": []}
    for number, (name, worker) in turns(backend, reference, plan.layer_rounds, seed=1):
        answer = worker.ask(
            "layers", batch_size=plan.batch_size, num_passes=plan.layer_passes, offset=number * plan.batch_size
        )
        times[name].append(answer["layers"])
    told = [layer for layer in layers if all(layer.name in one_round for one_round in times["backend"])]
    return LayerTable(
        scenario=plan.name,
        batch_size=plan.batch_size,
        layers=[
            Layer(
                name=layer.name,
                kind=layer.kind,
                num_macs=layer.num_macs,
                output_shape=list(layer.output_shape),
                latencies_s=[one_round[layer.name] for one_round in times["backend"]],
                reference_latencies_s=[one_round[layer.name] for one_round in times["reference"]],
                kernels=kernels.get(layer.name, []),
                reference_kernels=reference_kernels.get(layer.name, []),
            )
            for layer in told
        ],
    )
