"""What surrounds inference: preparation, cold start, and the way of an image from its file to an answer."""

from __future__ import annotations

from lib.analysis.comparison import first_answer_s
from lib.analysis.judgement import judged
from lib.analysis.statistics import median_latency
from lib.records.schema import BenchmarkRecord, ColdStart
from lib.report.gaps import Shown, absent, disturbed
from lib.report.table import Cell, Stack, Table, Value
from lib.report.words import duration, milliseconds, number, percent, scenario_name, size

COLD_START_COLUMNS = ("import (ms)", "load (ms)", "compile (ms)", "first inference (ms)", "total (ms)", "peak memory")


def preparation(record: BenchmarkRecord) -> Shown:
    """What a build machine would do once."""
    made = record.preparation
    if made is None:
        return absent(record, "preparation")
    written = size(made.num_bytes) if made.num_bytes else "nothing"
    rows: list[list[Value]] = [[record.backend, duration(made.seconds), written, made.num_calibration_images or "none"]]
    note = "Done once, in a process of its own. Not part of the cold start below."
    columns = ["backend", "time", "written", "calibration images (train)"]
    return Table(columns, rows, caption="One-off preparation", note=note)


def cold_start(record: BenchmarkRecord) -> Shown:
    """What a first request waits for, both sides."""
    if record.cold_start is None:
        return absent(record, "cold start")
    sides = {record.backend: record.cold_start, f"{record.reference} (reference)": record.reference_cold_start}
    rows = [[name, *cold_start_cells(cold)] for name, cold in sides.items()]
    note = (
        "In the worker, from the first import on; the start of Python itself is not counted. Compile: making ready "
        "for single images, reading a program compiled ahead of time included. Peak memory: after batches of 256."
    )
    return Table(["backend", *COLD_START_COLUMNS], rows, caption="Cold start", note=note)


def cold_start_cells(cold: ColdStart | None) -> list[Value]:
    """One for each of `COLD_START_COLUMNS`."""
    if cold is None:
        return [None] * len(COLD_START_COLUMNS)
    parts = (cold.import_s, cold.load_s, cold.compile_s, cold.first_inference_s, first_answer_s(cold))
    return [*(milliseconds(part) for part in parts), size(cold.peak_memory_bytes)]


def image_cost(record: BenchmarkRecord) -> Shown:
    """What one image costs from file to answer: microseconds and shares, with inference in each scenario."""
    if record.preprocessing is None or not record.scenarios:
        return absent(record, "cost of an image")
    banner, scenarios = disturbed("inference", record.scenarios), judged(record.scenarios)
    if not scenarios:
        return banner
    before, threads = record.preprocessing, record.environment.num_threads
    parts = {
        f"decode {before.file_format}": median_latency([before.decode_s]),
        "resize": median_latency([before.resize_s]),
        "normalize": median_latency([before.normalize_s]),
    }
    inference = [median_latency(found.latencies_s) / found.batch_size for found in scenarios]
    totals = [sum(parts.values()) + seconds for seconds in inference]
    by_step = {name: [seconds] * len(totals) for name, seconds in parts.items()}
    by_step[f"inference by {record.backend}"] = inference
    rows: list[list[Value]] = [
        [
            name,
            *(
                Cell(number(1e6 * part), f"({percent(part / total, 0)})")
                for part, total in zip(seconds, totals, strict=True)
            ),
        ]
        for name, seconds in by_step.items()
    ]
    rows.append(["together", *(Cell(number(1e6 * total), tone="mark") for total in totals)])
    columns = ["step", *(f"{scenario_name(s.name)}, batch {s.batch_size} (µs)" for s in scenarios)]
    note = f"Per image, of {before.num_images} files, made in memory as large as the originals. "
    note += "What comes before the network runs on one thread, "
    note += f"inference on {threads}." if threads != 1 else "as inference does here."
    return Stack(banner, Table(columns, rows, caption="What an image costs, end to end", note=note))
