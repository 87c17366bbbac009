"""Layers by backends: rows are the network's own layers, also where a runtime runs several as one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lib.analysis.judgement import disturbance
from lib.analysis.statistics import layer_noise_floor, median_latency
from lib.records.schema import BenchmarkRecord, Layer, LayerTable

HEAVY = ("Conv", "Linear")  # kinds that compute; the others move data


@dataclass(frozen=True)
class Column:
    """One backend's layers, by row.

    Attributes:
        shown: row -> the layer or group whose numbers stand there.
        hidden: row -> the row where its numbers stand, because both run as one step.
        noise_floor: smallest deviation of a layer's speedup from 1 that counts, as a share.
    """

    record: BenchmarkRecord
    table: LayerTable
    shown: dict[str, Layer]
    hidden: dict[str, str]
    noise_floor: float

    @property
    def runtime_s(self) -> float | None:
        """Seconds of a pass in steps that belong to no layer; None where the runtime has none."""
        return median_latency(self.table.runtime_latencies_s) if self.table.runtime_latencies_s else None


@dataclass(frozen=True)
class LayerGrid:
    """All backends that can tell their layers in one scenario.

    Attributes:
        rows: names of the network's layers, in the order in which they run.
        kinds: by row: Conv2d, ...
        shares: by row: part of the reference's time over all layers, in the first job that timed the layer by itself.
            Of layers that nobody timed by themselves the first row of their group has the share of all.
        columns: by backend.
        silent: backends that cannot tell their layers.
        disturbed: backends whose layers are not judged.
    """

    scenario: str
    rows: list[str]
    kinds: dict[str, str]
    shares: dict[str, float]
    columns: dict[str, Column]
    silent: list[str]
    disturbed: list[str]

    def slowest(self, limit: int) -> list[str]:
        """At most `limit` rows in the order of the network: those that compute first, then by their share."""
        weight = {row: (not self.kinds.get(row, "").startswith(HEAVY), -self.shares.get(row, 0.0)) for row in self.rows}
        kept = set(sorted(self.rows, key=lambda row: weight[row])[:limit])
        return [row for row in self.rows if row in kept]


def layer_grid(records: Sequence[BenchmarkRecord], scenario: str) -> LayerGrid:
    """The layers of all measured backends in one scenario."""
    measured = [record for record in records if record.status == "ok"]
    tables = [(record, table) for record in measured for table in record.layers if table.scenario == scenario]
    tables = [(record, table) for record, table in tables if table.layers]
    disturbed = [record.backend for record, table in tables if disturbance(table) is not None]
    tables = [(record, table) for record, table in tables if record.backend not in disturbed]
    rows = _rows([table for _, table in tables])
    alone, macs, shares = {}, {}, {}
    for _, table in tables:
        total = sum(median_latency(layer.reference_latencies_s) for layer in table.layers)
        for layer in table.layers:
            if len(layer.members) == 1 and layer.members[0] not in alone:
                name = layer.members[0]
                alone[name], macs[name] = layer.kind, layer.num_macs
                shares[name] = median_latency(layer.reference_latencies_s) / total
    for _, table in tables:
        total = sum(median_latency(layer.reference_latencies_s) for layer in table.layers)
        for layer in table.layers:
            if not any(name in shares for name in layer.members):
                row = max(layer.members, key=lambda name: macs.get(name, 0))
                shares[row] = median_latency(layer.reference_latencies_s) / total
    columns = {}
    for record, table in tables:
        shown, hidden = {}, {}
        for layer in table.layers:
            # Without anybody who timed the members by themselves the first one stands for all.
            row = max(layer.members, key=lambda name: macs.get(name, 0))
            shown[row] = layer
            hidden.update({name: row for name in layer.members if name != row})
        columns[record.backend] = Column(record, table, shown, hidden, layer_noise_floor(table))
    kinds = {**_kinds_of_groups([table for _, table in tables]), **alone}
    silent = [record.backend for record in measured if record.backend not in (*columns, *disturbed)]
    return LayerGrid(scenario, rows, kinds, shares, columns, silent, disturbed)


def _rows(tables: Sequence[LayerTable]) -> list[str]:
    """All layers in the order of the network. The table with most of them gives it; what it lacks comes behind its
    neighbour in another table."""
    members = [[name for layer in table.layers for name in layer.members] for table in tables]
    rows: list[str] = []
    for names in sorted(members, key=len, reverse=True):
        place = 0
        for name in names:
            if name in rows:
                place = rows.index(name) + 1
            else:
                rows.insert(place, name)
                place += 1
    return rows


def _kinds_of_groups(tables: Sequence[LayerTable]) -> dict[str, str]:
    """Kinds of layers that were only seen in groups."""
    return {
        name: kind
        for table in tables
        for layer in table.layers
        for name, kind in zip(layer.members, layer.kind.split("+"), strict=False)
    }
