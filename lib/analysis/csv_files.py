"""The numbers of a comparison as CSV, one row per backend and scenario or layer, for spreadsheets and programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from lib.analysis import statistics
from lib.analysis.judgement import disturbance
from lib.analysis.sweep_points import point_ratio
from lib.files import write_atomic
from lib.records.schema import BenchmarkRecord, LayerTable, Scenario, SweepPoint

# in the folder of the records
SCENARIOS_CSV, LAYERS_CSV, SWEEP_CSV = "compare_scenarios.csv", "compare_layers.csv", "compare_sweep.csv"
Row = dict[str, object]


def to_csv(rows: Sequence[Mapping[str, object]]) -> str:
    """A column for every name in any row. Numbers have six digits; what a row lacks is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()})
    return text.getvalue()


def write_csv(records: Sequence[BenchmarkRecord], folder: Path) -> list[Path]:
    """Write the files into a folder and return their paths; that of the sweep only where one was measured.

    Raises:
        UserError: the folder is not writable.
    """
    tables = {SCENARIOS_CSV: scenario_rows(records), LAYERS_CSV: layer_rows(records), SWEEP_CSV: sweep_rows(records)}
    paths = []
    for name, rows in tables.items():
        if rows or name != SWEEP_CSV:
            write_atomic(folder / name, to_csv(rows))
            paths.append(folder / name)
    return paths


def scenario_rows(records: Sequence[BenchmarkRecord]) -> list[Row]:
    """One row per backend and scenario; a backend that did not run has one row with the reason."""
    rows = []
    for record in records:
        if record.status != "ok":
            rows.append(_backend(record))
            continue
        parity, preparation, proof = record.parity, record.preparation, record.proof
        low, high = (parity and parity.top1_drop_interval) or (None, None)
        about: Row = {
            **_backend(record),
            "parity": parity and parity.outcome,
            **_fields(parity, "top1", "top1_drop"),  # shares of the validation images
            "top1_drop_low": low,
            "top1_drop_high": high,
            **_fields(record.cold_start, "import_s", "load_s", "first_inference_s", "peak_memory_bytes"),
            "preparation_s": preparation and preparation.seconds,
            "proof": proof and ("investigate" if proof.investigate else "pass"),
            "kernels": proof and "; ".join(proof.found),
        }
        rows += [{**about, **_scenario(scenario)} for scenario in record.scenarios]
    return rows


def sweep_rows(records: Sequence[BenchmarkRecord]) -> list[Row]:
    """One row per backend, batch size and number of threads; a point that failed has its error."""
    rows = []
    for record in records:
        for point in record.sweep if record.status == "ok" else []:
            about = {**_backend(record), **_fields(point, "batch_size", "num_threads", "error")}
            rows.append({**about, **(_point(point) if point.latencies_s else {})})
    return rows


def layer_rows(records: Sequence[BenchmarkRecord]) -> list[Row]:
    """One row per backend, scenario and step: a layer, a group of layers joined by `+`, or steps of the runtime."""
    rows = []
    for record in records:
        for table in record.layers if record.status == "ok" else []:
            about = {**_backend(record), **_fields(table, "scenario", "batch_size")}
            floor = statistics.layer_noise_floor(table)
            for layer in table.layers:
                times = {
                    **_speedup(statistics.layer_ratio(layer), floor),
                    "ms": 1000 * statistics.median_latency(layer.latencies_s),
                    "reference_ms": 1000 * statistics.median_latency(layer.reference_latencies_s),
                }
                kernels = {"kernels": layer.kernels, "reference_kernels": layer.reference_kernels}
                rows.append(
                    {
                        **about,
                        "layer": layer.name,
                        **_fields(layer, "kind", "num_macs"),
                        **_judged(table, times),
                        **{name: " ".join(names) for name, names in kernels.items()},
                    }
                )
            if table.runtime_latencies_s:
                times = {"ms": 1000 * statistics.median_latency(table.runtime_latencies_s)}
                step = {"layer": "(runtime)", "kernels": " ".join(table.runtime_kernels)}
                rows.append({**about, **step, **_judged(table, times)})
    return rows


def _fields(of: object, *names: str) -> Row:
    """Some attributes by name; None for those of what is not there."""
    return {name: getattr(of, name, None) for name in names}


def _backend(record: BenchmarkRecord) -> Row:
    machine = _fields(record.environment, "machine_id", "cpu_model", "architecture", "num_threads")
    return {**_fields(record, "backend", "status", "precision", "reference"), **machine, "error": record.error}


def _scenario(scenario: Scenario) -> Row:
    times = statistics.percentiles(scenario.latencies_s)
    numbers = {
        **_speedup(statistics.scenario_ratio(scenario), statistics.noise_floor(scenario)),
        **{f"{name}_ms": 1000 * seconds for name, seconds in times._asdict().items()},
        "reference_p50_ms": 1000 * statistics.percentiles(scenario.reference_latencies_s).p50,
        "images_per_s": statistics.samples_per_s(scenario.latencies_s, scenario.batch_size),
    }
    about = {"scenario": scenario.name, **_fields(scenario, "batch_size", "compile_s")}
    return {**about, **_judged(scenario, numbers)}


def _point(point: SweepPoint) -> Row:
    ratio, images_per_s = point_ratio(point), statistics.samples_per_s(point.latencies_s, point.batch_size)
    numbers = {"speedup": ratio.value, "low": ratio.low, "high": ratio.high, "images_per_s": images_per_s}
    return _judged(point, {**numbers})


def _judged(measured: Scenario | LayerTable | SweepPoint, numbers: Row) -> Row:
    """The numbers; of what was disturbed none: they stay in the record, where they are not mistaken for results."""
    return numbers if disturbance(measured) is None else {"verdict": "disturbed, not judged"}


def _speedup(ratio: statistics.Ratio, floor: float) -> Row:
    return {
        "speedup": ratio.value,
        "speedup_low": ratio.low,
        "speedup_high": ratio.high,
        "noise_floor": floor,
        "verdict": statistics.verdict(ratio, floor),
    }
