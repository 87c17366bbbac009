"""What surrounds inference: preparation, cold start, and the way of an image from its file to an answer."""

from __future__ import annotations

from collections.abc import Iterable

from lib.analysis.comparison import first_answer_s
from lib.analysis.judgement import judged
from lib.analysis.statistics import median_latency
from lib.records.schema import BenchmarkRecord, ColdStart, Preparation
from lib.report.gaps import Shown, absent, disturbed
from lib.report.table import Cell, FileNote, Stack, Table, Value
from lib.report.words import duration, milliseconds, number, percent, scenario_name, size


def cold_start(record: BenchmarkRecord) -> Shown:
    """What a first request waits for, both sides; and the files that a build machine made for it once."""
    if record.cold_start is None:
        return absent(record, "cold start")
    kept, made = None, record.preparation
    if made is not None and made.kept:
        names = ", ".join(f"{name} ({sha256[:12]})" for name, sha256 in made.files.items())
        kept = FileNote("Kept in the run folder, with the SHA-256 of each file", f"{made.kept}: {names}")
    reference = (f"{record.reference} (reference)", record.reference_cold_start, None)
    return Stack(cold_start_table([(record.backend, record.cold_start, made), reference]), kept)


def cold_start_table(sides: Iterable[tuple[str, ColdStart | None, Preparation | None]]) -> Table:
    """What a first request waits for, memory, and what was done once on a build machine."""
    rows = []
    for name, cold, made in sides:
        if cold is None:
            continue
        parts = {"import": cold.import_s, "load": cold.load_s, "compile": cold.compile_s}
        parts |= {"first inference": cold.first_inference_s, "total": first_answer_s(cold)}
        written = made if made is not None and made.num_bytes else None
        rows.append(
            {
                "backend": name,
                **{f"{part} (ms)": milliseconds(seconds) for part, seconds in parts.items()},
                "peak memory": size(cold.peak_memory_bytes),
                "preparation, once": duration(written.seconds) if written else "",
                "its files": size(written.num_bytes) if written else "",
                "calibration images": (written and written.num_calibration_images) or "",
            }
        )
    note = (
        "One measurement each, in the worker, from the first import on; the start of Python itself is not counted. "
        "Compile: making ready for single images, with reading a program compiled ahead of time. Peak memory: after "
        "batches of 256. Preparation is work of a build machine and no part of the cold start."
    )
    return Table.of(rows, caption="Cold start, memory and preparation", note=note, compact=True)


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
    rows: list[list[Value]] = []
    for name, seconds in by_step.items():
        shares = [percent(part / total, 0) for part, total in zip(seconds, totals, strict=True)]
        rows.append(
            [name, *(Cell(number(1e6 * part), f"({share})") for part, share in zip(seconds, shares, strict=True))]
        )
    rows.append(["together", *(Cell(number(1e6 * total), tone="mark") for total in totals)])
    columns = ["step", *(f"{scenario_name(s.name)}, batch {s.batch_size} (µs)" for s in scenarios)]
    note = f"Per image, of {before.num_images} files, made in memory as large as the originals. "
    note += "What comes before the network runs on one thread, "
    note += f"inference on {threads}." if threads != 1 else "as inference does here."
    return Stack(banner, Table(columns, rows, caption="What an image costs, end to end", note=note))
