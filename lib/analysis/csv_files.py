"""The numbers of a comparison as CSV, one row per backend and scenario or layer, for spreadsheets and programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from lib.analysis.judgement import disturbance
from lib.analysis.statistics import (
    Ratio,
    layer_noise_floor,
    layer_ratio,
    median_latency,
    noise_floor,
    paired_ratio,
    percentiles,
    samples_per_s,
    scenario_ratio,
    verdict,
)
from lib.files import write_atomic
from lib.records.schema import BenchmarkRecord, Parity, Scenario, SweepPoint

# in the folder of the records
SCENARIOS_CSV, LAYERS_CSV, SWEEP_CSV = "compare_scenarios.csv", "compare_layers.csv", "compare_sweep.csv"
Row = dict[str, object]


def write_csv(records: Sequence[BenchmarkRecord], folder: Path) -> list[Path]:
    """Write the files into a folder and return their paths; that of the sweep only where one was measured.

    Raises:
        UserError: the folder is not writable.
    """
    paths = []
    for name, rows in (
        (SCENARIOS_CSV, scenario_rows(records)),
        (LAYERS_CSV, layer_rows(records)),
        (SWEEP_CSV, sweep_rows(records)),
    ):
        if name == SWEEP_CSV and not rows:
            continue
        text = io.StringIO()
        writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomic(folder / name, text.getvalue())
        paths.append(folder / name)
    return paths


def scenario_rows(records: Sequence[BenchmarkRecord]) -> list[Row]:
    """One row per backend and scenario; a backend that did not run has one row with the reason."""
    rows = []
    for record in records:
        if record.status != "ok":
            rows.append({**_backend(record), "error": record.error})
        for scenario in record.scenarios if record.status == "ok" else []:
            parity, cold = record.parity, record.cold_start
            rows.append(
                {
                    **_backend(record),
                    "scenario": scenario.name,
                    "batch_size": scenario.batch_size,
                    **_times(scenario),
                    **_parity(parity),
                    "import_s": "" if cold is None else f"{cold.import_s:.4g}",
                    "load_s": "" if cold is None else f"{cold.load_s:.4g}",
                    "compile_s": f"{scenario.compile_s:.4g}",
                    "first_inference_s": "" if cold is None else f"{cold.first_inference_s:.4g}",
                    "peak_memory_bytes": "" if cold is None else cold.peak_memory_bytes,
                    "preparation_s": "" if record.preparation is None else f"{record.preparation.seconds:.4g}",
                    "proof": "" if record.proof is None else "investigate" if record.proof.investigate else "pass",
                    "kernels": "" if record.proof is None else "; ".join(record.proof.found),
                    "error": "",
                }
            )
    return rows


def sweep_rows(records: Sequence[BenchmarkRecord]) -> list[Row]:
    """One row per backend, batch size and number of threads; a point that failed has its error."""
    rows = []
    for record in records:
        for point in record.sweep if record.status == "ok" else []:
            row: Row = {**_backend(record), "batch_size": point.batch_size, "num_threads": point.num_threads}
            if point.latencies_s:
                row |= _point(point)
            rows.append({**row, "error": point.error})
    return rows


def layer_rows(records: Sequence[BenchmarkRecord]) -> list[Row]:
    """One row per backend, scenario and step: a layer, a group of layers joined by `+`, or steps of the runtime."""
    rows = []
    for record in records:
        for table in record.layers if record.status == "ok" else []:
            about = {**_backend(record), "scenario": table.scenario, "batch_size": table.batch_size}
            why, floor = disturbance(table), layer_noise_floor(table)
            for layer in table.layers:
                times = {
                    **_speedup(layer_ratio(layer), floor),
                    "ms": _ms(median_latency(layer.latencies_s)),
                    "reference_ms": _ms(median_latency(layer.reference_latencies_s)),
                }
                rows.append(
                    {
                        **about,
                        "layer": layer.name,
                        "kind": layer.kind,
                        "num_macs": layer.num_macs,
                        **(times if why is None else _unjudged(times)),
                        "kernels": " ".join(layer.kernels),
                        "reference_kernels": " ".join(layer.reference_kernels),
                    }
                )
            if table.runtime_latencies_s:
                outside = "" if why else _ms(median_latency(table.runtime_latencies_s))
                kernels = " ".join(table.runtime_kernels)
                rows.append({**about, "layer": "(runtime)", "ms": outside, "kernels": kernels})
    return rows


def _times(scenario: Scenario) -> Row:
    """The numbers of a scenario; of one that was disturbed none, and that it was."""
    times = percentiles(scenario.latencies_s)
    row = {
        **_speedup(scenario_ratio(scenario), noise_floor(scenario)),
        "p50_ms": _ms(times.p50),
        "p90_ms": _ms(times.p90),
        "p99_ms": _ms(times.p99),
        "reference_p50_ms": _ms(percentiles(scenario.reference_latencies_s).p50),
        "images_per_s": f"{samples_per_s(scenario.latencies_s, scenario.batch_size):.6g}",
    }
    return row if disturbance(scenario) is None else _unjudged(row)


def _point(point: SweepPoint) -> Row:
    ratio = paired_ratio(point.latencies_s, point.reference_latencies_s)
    row: Row = {"speedup": f"{ratio.value:.5g}", "low": f"{ratio.low:.5g}", "high": f"{ratio.high:.5g}"}
    row["images_per_s"] = f"{samples_per_s(point.latencies_s, point.batch_size):.6g}"
    return row if disturbance(point) is None else _unjudged(row)


def _unjudged(row: Row) -> Row:
    """The same columns without numbers: they stay in the record, where they are not mistaken for results."""
    return {**dict.fromkeys(row, ""), "verdict": "disturbed, not judged"}


def _backend(record: BenchmarkRecord) -> Row:
    machine = record.environment
    return {
        "backend": record.backend,
        "status": record.status,
        "precision": record.precision,
        "reference": record.reference,
        "machine_id": machine.machine_id,
        "cpu_model": machine.cpu_model or "",
        "architecture": machine.architecture,
        "num_threads": machine.num_threads,
    }


def _speedup(ratio: Ratio, floor: float) -> Row:
    return {
        "speedup": f"{ratio.value:.5g}",
        "speedup_low": f"{ratio.low:.5g}",
        "speedup_high": f"{ratio.high:.5g}",
        "noise_floor": f"{floor:.4g}",
        "verdict": verdict(ratio, floor),
    }


def _parity(parity: Parity | None) -> Row:
    """Shares of the validation images; empty for what computes no network."""
    interval = None if parity is None else parity.top1_drop_interval
    return {
        "parity": "" if parity is None else parity.outcome,
        "top1": "" if parity is None else f"{parity.top1:.6f}",
        "top1_drop": "" if parity is None else f"{parity.top1_drop:.6f}",
        "top1_drop_low": "" if interval is None else f"{interval[0]:.6f}",
        "top1_drop_high": "" if interval is None else f"{interval[1]:.6f}",
    }


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.6g}"
