"""What surrounds inference: preparation, cold start, and the way of an image from its file to an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lib.analysis.judgement import judged
from lib.analysis.statistics import median_latency
from lib.records.schema import BenchmarkRecord, ColdStart, Preparation, PreprocessingTime, Scenario
from lib.report.gaps import Shown, absent, disturbed
from lib.report.table import Cell, Stack, Table, Value
from lib.report.words import duration, milliseconds, number, percent, scenario_name, size


def preparation(record: BenchmarkRecord) -> Shown:
    """One-off work before the first start."""
    if record.preparation is None:
        return absent(record, "preparation")
    return preparation_table(record.preparation, record.backend)


def preparation_table(preparation: Preparation, backend: str) -> Table:
    """What a build machine would do once."""
    images = preparation.num_calibration_images
    written = size(preparation.num_bytes) if preparation.num_bytes else "nothing"
    rows: list[list[Value]] = [[backend, duration(preparation.seconds), written, images or "none"]]
    note = "Done once, in a process of its own. No part of the cold start below."
    columns = ["backend", "time", "written", "calibration images (train)"]
    return Table(columns, rows, caption="One-off preparation", note=note)


def cold_start(record: BenchmarkRecord) -> Shown:
    """What a first request waits for, both sides."""
    if record.cold_start is None:
        return absent(record, "cold start")
    return cold_start_table(
        {
            record.backend: record.cold_start,
            f"{record.reference} (reference)": record.reference_cold_start,
        }
    )


def cold_start_table(sides: Mapping[str, ColdStart | None]) -> Table:
    """What a first request waits for. `sides`: backend name -> its cold start."""
    rows: list[list[Value]] = []
    for name, cold in sides.items():
        if cold is None:
            rows.append([name, *[None] * 6])
            continue
        parts = (cold.import_s, cold.load_s, cold.compile_s, cold.first_inference_s)
        cells: list[Value] = [milliseconds(part) for part in parts]
        rows.append([name, *cells, milliseconds(sum(parts)), size(cold.peak_memory_bytes)])
    columns = ["backend", "import (ms)", "load (ms)", "compile (ms)", "first inference (ms)", "total (ms)"]
    note = "In the worker, from the first import on; the start of Python itself is not counted. Compile: making ready "
    note += "for single images, reading a program compiled ahead of time included. Peak memory: after batches of 256."
    return Table([*columns, "peak memory"], rows, caption="Cold start", note=note)


def image_cost(record: BenchmarkRecord) -> Shown:
    """Decoding, resizing, normalizing and inference of one image."""
    if record.preprocessing is None or not record.scenarios:
        return absent(record, "cost of an image")
    banner, found = disturbed("inference", record.scenarios), judged(record.scenarios)
    if not found:
        return banner
    threads = record.environment.num_threads
    return Stack(banner, image_cost_table(record.preprocessing, found, record.backend, threads))


def image_cost_table(
    preprocessing: PreprocessingTime, scenarios: Sequence[Scenario], backend: str, num_threads: int
) -> Table:
    """What one image costs from file to answer: microseconds and shares, with inference in each scenario."""
    parts = {
        f"decode {preprocessing.file_format}": median_latency([preprocessing.decode_s]),
        "resize": median_latency([preprocessing.resize_s]),
        "normalize": median_latency([preprocessing.normalize_s]),
    }
    inference = {s.name: median_latency(s.latencies_s) / s.batch_size for s in scenarios}
    totals = {name: sum(parts.values()) + seconds for name, seconds in inference.items()}
    rows: list[list[Value]] = [
        [name, *(Cell(number(1e6 * seconds), f"({percent(seconds / total, 0)})") for total in totals.values())]
        for name, seconds in parts.items()
    ]
    shares = (Cell(number(1e6 * inference[name]), f"({percent(inference[name] / totals[name], 0)})") for name in totals)
    rows.append([f"inference by {backend}", *shares])
    rows.append(["together", *(Cell(number(1e6 * total), tone="mark") for total in totals.values())])
    columns = ["step", *(f"{scenario_name(s.name)}, batch {s.batch_size} (µs)" for s in scenarios)]
    note = f"Per image, of {preprocessing.num_images} files, made in memory as large as the originals. "
    note += "What comes before the network runs on one thread, "
    note += f"inference on {num_threads}." if num_threads != 1 else "as inference does here."
    return Table(columns, rows, caption="What an image costs, end to end", note=note)
