"""Tables from records. Every summary is computed here from the raw samples, by `lib.records.statistics`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from lib.records.results import (
    Accuracy,
    BenchmarkRecord,
    ColdStart,
    Environment,
    Layer,
    LayerTable,
    ParameterValue,
    Parity,
    Proof,
    Scenario,
)
from lib.records.statistics import (
    SMALLEST_EFFECT,
    Ratio,
    is_unstable,
    layer_ratio,
    median_latency,
    percentiles,
    samples_per_s,
    scenario_ratio,
    verdict,
)
from lib.report.table import Banner, Cell, Table, Tone, Value, banner, profile_banner
from lib.report.words import (
    SIGNS,
    UNKNOWN,
    duration,
    factor,
    milliseconds,
    number,
    percent,
    percent_interval,
    ratio_interval,
    ratio_words,
    scenario_name,
    size,
)
from lib.signs import SIGNS as TRAFFIC_SIGNS
from lib.signs import render_artwork

__all__ = [
    "Banner",
    "Cell",
    "Table",
    "accuracy_table",
    "banner",
    "cold_start_table",
    "compare_layers_table",
    "compare_scenarios_table",
    "confused_pairs_table",
    "environment_table",
    "layer_table",
    "parameter_table",
    "parity_table",
    "profile_banner",
    "proof_table",
    "ratio_cell",
    "scenario_table",
    "sign_cell",
]

THUMBNAIL = 44  # pixels, shown at half of that


def ratio_tone(ratio: Ratio, noise_floor: float = SMALLEST_EFFECT) -> Tone:
    """How strongly a cell is coloured: beyond the noise, from 1.25x and from 2x."""
    judged = verdict(ratio, noise_floor)
    if judged == "no difference":
        return ""
    strength = max(ratio.value, 1 / ratio.value)
    level = 3 if strength >= 2 else 2 if strength >= 1.25 else 1
    tones: dict[str, tuple[Tone, Tone, Tone]] = {"faster": ("f1", "f2", "f3"), "slower": ("s1", "s2", "s3")}
    return tones[judged][level - 1]


def ratio_cell(ratio: Ratio, detail: str = "", noise_floor: float = SMALLEST_EFFECT) -> Cell:
    """A speedup as sign and words, coloured."""
    judged = verdict(ratio, noise_floor)
    return Cell(f"{SIGNS[judged]} {ratio_words(ratio, noise_floor)}", detail, ratio_tone(ratio, noise_floor))


def _short_ratio_cell(ratio: Ratio, layer: Layer, noise_floor: float) -> Cell:
    """For wide tables: sign and factor, and the backend's milliseconds."""
    judged = verdict(ratio, noise_floor)
    text = "=" if judged == "no difference" else f"{SIGNS[judged]} {factor(ratio.value):.2f}x"
    return Cell(text, f"{milliseconds(median_latency(layer.latencies_s))} ms", ratio_tone(ratio, noise_floor))


def sign_cell(class_id: int) -> Cell:
    """A class by artwork, number and name."""
    return Cell(f"{class_id} {TRAFFIC_SIGNS[class_id].name}", image=render_artwork(class_id, THUMBNAIL))


class Parameter(Protocol):
    """What a table needs of a declared parameter (`lib.series.parameters` has it)."""

    @property
    def default(self) -> ParameterValue: ...

    @property
    def help(self) -> str: ...


def parameter_table(parameters: Mapping[str, ParameterValue], schema: Mapping[str, Parameter] | None = None) -> Table:
    """The resolved parameters; with a schema, those that differ from their default are marked, in words and bold."""
    rows: list[list[Value]] = []
    for name, value in parameters.items():
        if schema is None or name not in schema:
            rows.append([name, repr(value), "", ""])
            continue
        default = schema[name].default
        if value == default:
            rows.append([name, repr(value), Cell("default", tone="muted"), Cell(schema[name].help, tone="muted")])
        else:
            changed = Cell(f"changed from {default!r}", tone="mark")
            rows.append([name, Cell(repr(value), tone="mark"), changed, Cell(schema[name].help, tone="muted")])
    columns = ["parameter", "value", "origin", "meaning"]
    if schema is None:
        columns, rows = columns[:2], [row[:2] for row in rows]
    return Table(columns, rows, caption="Parameters of this run", compact=True, align_numbers=False)


def environment_table(environment: Environment) -> Table:
    """The machine and software of a record; what is not known says so."""
    unknown = "unknown"
    acl = {True: "yes", False: "no", None: unknown}[environment.acl]
    emulated = " (emulated: times mean nothing)" if environment.emulated else ""
    rows: list[list[Value]] = [
        ["CPU", environment.cpu_model or unknown],
        ["architecture", Cell(environment.architecture + emulated, tone="bad" if environment.emulated else "")],
        ["instruction sets", ", ".join(environment.isa_flags) or unknown],
        ["threads", f"{environment.num_threads} on {environment.num_cores} cores"],
        ["memory", unknown if environment.memory_bytes is None else size(environment.memory_bytes)],
        ["kernel", environment.kernel],
        ["BLAS", environment.blas or unknown],
        ["oneDNN", environment.onednn or unknown],
        ["Arm Compute Library", acl],
        ["capability torch uses", environment.cpu_capability or unknown],
        ["load at the start", unknown if environment.load_average is None else f"{environment.load_average:.2f}"],
        ["git commit", environment.git_commit or unknown],
        ["versions", ", ".join(f"{name} {version}" for name, version in environment.versions.items()) or unknown],
    ]
    columns = ["what", "of the machine that ran this"]
    return Table(columns, rows, caption="Machine and software", compact=True, align_numbers=False)


def accuracy_table(accuracy: Mapping[str, Accuracy]) -> Table:
    """Top-1 by split with its interval, and the class that is recognised worst."""
    rows: list[list[Value]] = [
        [
            split,
            Cell(percent(found.top1), percent_interval(found.top1_interval)),
            found.num_images,
            found.num_tracks,
            Cell(sign_cell(found.worst_class).text, percent(found.worst_class_recall, 1)),
        ]
        for split, found in accuracy.items()
    ]
    note = "Interval: 95 % bootstrap over tracks, since the frames of one sign stand or fall together."
    columns = ["split", "top-1", "images", "tracks", "worst class (recall)"]
    return Table(columns, rows, caption="Accuracy", note=note)


def _passed(passed: bool) -> Cell:
    return Cell("passed", tone="good") if passed else Cell("FAILED", tone="bad")


def parity_table(parity: Parity) -> Table:
    """Does the backend compute the same network?"""
    drop = parity.reference_top1 - parity.top1
    sqnr = "exactly equal" if parity.sqnr_db is None else f"{parity.sqnr_db:.1f} dB"
    rows: list[list[Value]] = [
        ["verdict", Cell(_passed(parity.passed).text, parity.reason, _passed(parity.passed).tone)],
        ["images", f"{parity.num_images:,}"],
        ["equal predictions", percent(parity.agreement)],
        ["top-1", Cell(percent(parity.top1), f"reference {percent(parity.reference_top1)}")],
        ["drop of top-1", Cell(percent(drop), f"allowed {percent(parity.top1_drop_allowed)}")],
        ["logit error, largest", number(parity.error_max)],
        ["logit error, mean absolute", number(parity.error_mae)],
        ["signal to error (SQNR)", sqnr],
    ]
    columns = ["what", "against the reference backend"]
    return Table(columns, rows, caption="Parity: right before fast", compact=True, align_numbers=False)


def proof_table(proof: Proof) -> Table:
    """Which kernels really ran."""
    rows: list[list[Value]] = [[name, calls] for name, calls in sorted(proof.found.items(), key=lambda item: -item[1])]
    judged = "The promise holds" if proof.passed else "THE PROMISE DOES NOT HOLD"
    note = f"{judged}. Promised: {proof.promised}." + (f" {proof.reason}" if proof.reason else "")
    columns = ["operator that ran", "calls in one forward pass"]
    return Table(columns, rows, caption="Proof of the backend", note=note, compact=True)


def cold_start_table(sides: Mapping[str, ColdStart | None]) -> Table:
    """What a first request waits for. `sides`: backend name -> its cold start."""
    rows: list[list[Value]] = []
    for name, cold in sides.items():
        if cold is None:
            rows.append([name, None, None, None, None, None])
            continue
        parts = (cold.import_s, cold.load_s, cold.first_inference_s)
        cells: list[Value] = [milliseconds(part) for part in parts]
        rows.append([name, *cells, milliseconds(sum(parts)), size(cold.peak_memory_bytes)])
    columns = ["backend", "import (ms)", "load (ms)", "first inference (ms)", "total (ms)", "peak memory"]
    return Table(columns, rows, caption="Cold start")


def scenario_table(
    scenarios: Sequence[Scenario], backend: str, reference: str, noise_floor: float = SMALLEST_EFFECT
) -> Table:
    """Latency percentiles, throughput and speedup, two rows per scenario."""
    rows: list[list[Value]] = []
    unstable = False
    for scenario in scenarios:
        ratio = scenario_ratio(scenario)
        sides = ((backend, scenario.latencies_s), (reference, scenario.reference_latencies_s))
        for position, (name, latencies_s) in enumerate(sides):
            times = [milliseconds(value) for value in percentiles(latencies_s)]
            speed: Value = Cell("reference", tone="muted")
            if position == 0:
                speed = ratio_cell(ratio, ratio_interval(ratio, noise_floor), noise_floor)
            question = f"{scenario_name(scenario.name)}, batch {scenario.batch_size}" if position == 0 else ""
            side = Cell(name, "unstable", "warn") if is_unstable(latencies_s) else Cell(name)
            unstable |= side.detail != ""
            rows.append([question, side, *times, samples_per_s(latencies_s, scenario.batch_size), speed])
    columns = [
        "scenario",
        "backend",
        "p50 (ms)",
        "p90 (ms)",
        "p99 (ms)",
        "images per s",
        "speed [95 %]",
    ]
    note = "Compared round by round: time of the reference / time of the backend, median over rounds."
    if unstable:
        note += " Unstable: the medians of the rounds scatter by 10 % or more, or one is 50 % off; "
        note += "believe the speedup rather than the times."
    return Table(columns, rows, caption="Latency and throughput", note=note)


def _short_shape(shape: Sequence[int]) -> str:
    return "x".join(str(length) for length in shape)


def layer_table(
    table: LayerTable, backend: str, reference: str, noise_floor: float = SMALLEST_EFFECT, num_layers: int = 0
) -> Table:
    """One row per layer in the order of the network; `num_layers` keeps the slowest of the reference only."""
    reference_medians = [median_latency(layer.reference_latencies_s) for layer in table.layers]
    total = sum(reference_medians) or 1.0
    kept = range(len(table.layers))
    if 0 < num_layers < len(table.layers):
        kept = sorted(sorted(kept, key=lambda index: -reference_medians[index])[:num_layers])  # type: ignore[assignment]
    rows: list[list[Value]] = []
    for index in kept:
        layer = table.layers[index]
        ratio = layer_ratio(layer)
        rows.append(
            [
                Cell(layer.name, layer.kind),
                _short_shape(layer.output_shape),
                number(layer.num_macs / 1e6) if layer.num_macs else Cell(UNKNOWN, tone="muted"),
                milliseconds(median_latency(layer.latencies_s)),
                milliseconds(reference_medians[index]),
                f"{100 * reference_medians[index] / total:.1f} %",
                ratio_cell(ratio, ratio_interval(ratio, noise_floor), noise_floor),
                ", ".join(layer.kernels) or UNKNOWN,
            ]
        )
    columns = ["layer", "output", "million MACs", f"{backend} (ms)", f"{reference} (ms)", "share", "speed [95 %]"]
    columns.append(f"kernels of {backend}")
    left_out = len(table.layers) - len(rows)
    note = f"Share: of the reference's time. {left_out} faster layers are not shown." if left_out else ""
    caption = f"Layers, {scenario_name(table.scenario)}, batch {table.batch_size}"
    return Table(columns, rows, caption=caption, note=note or "Share: of the reference's time.", compact=True)


def _usable(records: Sequence[BenchmarkRecord]) -> list[BenchmarkRecord]:
    return [record for record in records if record.status == "ok"]


def compare_layers_table(
    records: Sequence[BenchmarkRecord], scenario: str, noise_floors: Mapping[str, float] | None = None
) -> Table:
    """Rows = layers, columns = backends: speedup against the reference of the same job, milliseconds beside it."""
    tables = {
        record.backend: {layer.name: layer for layer in table.layers}
        for record in _usable(records)
        for table in record.layers
        if table.scenario == scenario
    }
    names = list(dict.fromkeys(name for layers in tables.values() for name in layers))
    rows: list[list[Value]] = []
    for name in names:
        row: list[Value] = [name]
        for backend, layers in tables.items():
            if name not in layers:
                row.append(None)
                continue
            layer = layers[name]
            floor = (noise_floors or {}).get(backend, SMALLEST_EFFECT)
            row.append(_short_ratio_cell(layer_ratio(layer), layer, floor))
        rows.append(row)
    note = (
        "▲ faster, ▼ slower, = no difference, against the reference of the same job, and the backend's milliseconds. "
    )
    note += "Milliseconds of different jobs are not compared."
    caption = f"Layers of all backends, {scenario_name(scenario)}"
    return Table(["layer", *tables], rows, caption=caption, note=note, compact=True)


def compare_scenarios_table(
    records: Sequence[BenchmarkRecord], noise_floors: Mapping[str, float] | None = None
) -> Table:
    """One row per backend: accuracy, speedup per scenario, cold start, parity; also those that did not run."""
    scenarios = list(dict.fromkeys(scenario.name for record in records for scenario in record.scenarios))
    rows: list[list[Value]] = []
    for record in records:
        if record.status != "ok":
            reason = Cell(record.status, record.error, "bad" if record.status == "failed" else "muted")
            rows.append([record.backend, reason, *[None] * len(scenarios), None, None])
            continue
        floor = (noise_floors or {}).get(record.backend, SMALLEST_EFFECT)
        ratios = {scenario.name: scenario_ratio(scenario) for scenario in record.scenarios}
        cells: list[Value] = [
            ratio_cell(ratios[name], ratio_interval(ratios[name], floor), floor) if name in ratios else None
            for name in scenarios
        ]
        cold = record.cold_start
        waited = None if cold is None else duration(cold.import_s + cold.load_s + cold.first_inference_s)
        split = "test" if "test" in record.accuracy else "val"
        top1 = percent(record.accuracy[split].top1) if split in record.accuracy else UNKNOWN
        rows.append([record.backend, "ok", *cells, Cell(top1, split if top1 != UNKNOWN else ""), waited])
    columns = ["backend", "status", *[scenario_name(name) for name in scenarios], "top-1", "cold start"]
    if all(record.status == "ok" for record in records):
        columns, rows = [columns[0], *columns[2:]], [[row[0], *row[2:]] for row in rows]
    note = "Speed against the reference measured in the same job, with 95 % intervals over rounds."
    return Table(columns, rows, caption="Backends compared", note=note, compact=True)


def confused_pairs_table(confusion: Sequence[Sequence[int]], limit: int = 10) -> Table:
    """The pairs of classes that are most often taken for each other, by number of images."""
    counts = np.asarray(confusion)
    totals = counts.sum(1)
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
    rows: list[list[Value]] = []
    for flat in order:
        true, predicted = divmod(int(flat), counts.shape[1])
        if wrong[true, predicted] == 0:
            break
        share = percent(wrong[true, predicted] / totals[true], 1)
        rows.append([sign_cell(true), sign_cell(predicted), int(wrong[true, predicted]), share])
    columns = ["True class", "Predicted class", "images", "share of the true class"]
    note = "" if rows else "No image was confused."
    return Table(columns, rows, caption="Most confused pairs", note=note)
