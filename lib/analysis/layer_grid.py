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
    """All backends with times of layers in one scenario.

    Attributes:
        rows: names of the network's layers, in the order in which they run.
        kinds: by row: Conv2d, ...
        shares: by row: part of the reference's time over all layers, in the first job that timed the layer by itself.
            Of layers that no backend timed by themselves the first row of their group has the share of all.
        columns: by backend.
        silent: backends without times of layers.
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
    found = [(record, table) for record in measured if (table := record.layer_table(scenario)) is not None]
    disturbed = [record.backend for record, table in found if disturbance(table) is not None]
    found = [(record, table) for record, table in found if record.backend not in disturbed]
    tables = [table for _, table in found]
    alone = _timed_alone(tables)
    columns = {record.backend: _column(record, table, alone) for record, table in found}
    return LayerGrid(
        scenario=scenario,
        rows=_rows(tables),
        kinds={**_kinds_of_groups(tables), **{name: layer.kind for name, layer in alone.items()}},
        shares=_shares(tables, alone),
        columns=columns,
        silent=[record.backend for record in measured if record.backend not in (*columns, *disturbed)],
        disturbed=disturbed,
    )


def _timed_alone(tables: Sequence[LayerTable]) -> dict[str, Layer]:
    """By name: layers that a job timed by themselves, in the first of these jobs."""
    alone: dict[str, Layer] = {}
    for table in tables:
        for layer in table.layers:
            if len(layer.members) == 1:
                alone.setdefault(layer.members[0], layer)
    return alone


def _row(layer: Layer, alone: dict[str, Layer]) -> str:
    """Where the numbers of a layer or group stand: at the member that computes most, as far as that is known; else at
    the first one."""
    return max(layer.members, key=lambda name: alone[name].num_macs if name in alone else 0)


def _shares(tables: Sequence[LayerTable], alone: dict[str, Layer]) -> dict[str, float]:
    """By row: part of the reference's time over all layers. Of a group it counts where no job timed a member alone."""
    shares: dict[str, float] = {}
    for table in tables:
        seconds = [median_latency(layer.reference_latencies_s) for layer in table.layers]
        for layer, layer_s in zip(table.layers, seconds, strict=True):
            if len(layer.members) == 1 or alone.keys().isdisjoint(layer.members):
                shares.setdefault(_row(layer, alone), layer_s / sum(seconds))
    return shares


def _column(record: BenchmarkRecord, table: LayerTable, alone: dict[str, Layer]) -> Column:
    shown = {_row(layer, alone): layer for layer in table.layers}
    hidden = {name: row for row, layer in shown.items() for name in layer.members if name != row}
    return Column(record, table, shown, hidden, layer_noise_floor(table))


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
