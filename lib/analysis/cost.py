"""What images cost: throughput of a record times the price of a rented machine of that size."""

from __future__ import annotations

import json
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
    """Rows by runner, or the reason in words why there are none; and where the prices come from."""

    rows: list[CostRow]
    reason: str
    source: str
    url: str
    date: str


@cache
def price_table() -> PriceTable:
    """The stored price list."""
    content = (Path(__file__).parent / "runner_prices.json").read_bytes()
    return pydantic.TypeAdapter(PriceTable).validate_python(json.loads(content))


def cost_of(record: BenchmarkRecord) -> Cost:
    """Images per dollar in the offline scenario, only on runners of the architecture and size that was measured: speed
    does not grow with cores as prices do."""
    table, scenario = price_table(), record.scenario(SCENARIO)
    machine = record.environment
    rows: list[CostRow] = []
    reason = ""
    if record.status != "ok" or scenario is None:
        reason = "throughput was not measured"
    elif record.parity is None:
        reason = "this backend computes no network"
    elif disturbance(scenario) is not None:
        reason = "disturbed, not judged"
    elif machine.emulated:
        reason = "times under emulation mean nothing"
    elif machine.num_threads != machine.num_cores:
        reason = f"measured with {machine.num_threads} threads on {machine.num_cores} cores, and all cores are paid for"
    else:
        images_per_s = samples_per_s(scenario.latencies_s, scenario.batch_size)
        rows = [
            CostRow(
                runner=f"GitHub {price.runner}",
                usd_per_min=price.usd_per_min,
                images_per_s=images_per_s,
                million_images_per_dollar=60 * images_per_s / price.usd_per_min / 1e6,
                note=price.note,
            )
            for price in table.runners
            if (price.architecture, price.num_cores) == (machine.architecture, machine.num_cores)
        ]
        if not rows:
            reason = f"the price list has no {machine.architecture} runner with {machine.num_cores} cores"
    return Cost(rows, reason, table.source, table.url, table.date)
