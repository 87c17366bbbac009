"""What images cost: throughput of a record times the price of a rented machine of that size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pydantic

from lib.analysis.judgement import disturbance
from lib.analysis.statistics import samples_per_s
from lib.records.schema import BenchmarkRecord

CAVEAT = "speed of the machine that measured, price of a runner of that size"
SCENARIO = "offline"


@dataclass(frozen=True)
class RunnerPrice:
    """One type of runner, as the price list names it."""

    runner: str
    sku: str
    architecture: str
    num_cores: int
    usd_per_min: float
    note: str


@dataclass(frozen=True)
class PriceTable:
    """A price list and the day on which it was read."""

    source: str
    url: str
    date: str
    runners: list[RunnerPrice]


@dataclass(frozen=True)
class CostRow:
    """The backend on one type of runner."""

    runner: str
    usd_per_min: float
    images_per_s: float
    million_images_per_dollar: float
    note: str


@dataclass(frozen=True)
class Cost:
    """Rows by runner, or the reason in words why there are none."""

    rows: list[CostRow]
    reason: str = ""


@cache
def price_table() -> PriceTable:
    """The stored price list."""
    content = Path(__file__).with_name("runner_prices.json").read_bytes()
    return pydantic.TypeAdapter(PriceTable).validate_json(content)


def cost_of(record: BenchmarkRecord) -> Cost:
    """Images per dollar in the offline scenario, only on runners of the architecture and size that was measured: speed
    does not grow with cores as prices do."""
    scenario, machine = record.scenario(SCENARIO), record.environment
    if record.status != "ok" or scenario is None:
        return Cost([], "throughput was not measured")
    if record.parity is None:
        return Cost([], "this backend computes no network")
    if disturbance(scenario) is not None:
        return Cost([], "disturbed, not judged")
    if machine.emulated:
        return Cost([], "times under emulation mean nothing")
    threads, cores = machine.num_threads, machine.num_cores
    if threads != cores:
        return Cost([], f"measured with {threads} threads on {cores} cores, and all cores are paid for")
    images_per_s = samples_per_s(scenario.latencies_s, scenario.batch_size)
    rows = [
        CostRow(
            runner=f"GitHub {price.runner}",
            usd_per_min=price.usd_per_min,
            images_per_s=images_per_s,
            million_images_per_dollar=60 * images_per_s / price.usd_per_min / 1e6,
            note=price.note,
        )
        for price in price_table().runners
        if (price.architecture, price.num_cores) == (machine.architecture, cores)
    ]
    return Cost(rows, "" if rows else f"the price list has no {machine.architecture} runner with {cores} cores")
