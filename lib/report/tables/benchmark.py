"""03_benchmark: one backend beside the reference."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from lib.analysis.judgement import disturbance, judge
from lib.analysis.roofline import LayerRoofline, Roofline
from lib.analysis.statistics import (
    Ratio,
    is_unstable,
    layer_noise_floor,
    layer_ratio,
    median_latency,
    noise_floor,
    paired_ratio,
    percentiles,
    samples_per_s,
    scenario_ratio,
)
from lib.records.schema import (
    BenchmarkRecord,
    ColdStart,
    LayerTable,
    Parity,
    Peaks,
    Preparation,
    PreprocessingTime,
    Proof,
    Scenario,
)
from lib.report.table import Cell, Table, Value
from lib.report.tables.common import counted, group_name, judgement_cell, parity_cell, ranked_kernels, ratio_cell
from lib.report.words import (
    UNKNOWN,
    duration,
    milliseconds,
    number,
    percent,
    percent_interval,
    points,
    ratio_interval,
    scenario_name,
    size,
)

WORTH_TELLING_S = 0.01  # of a compilation: less is the call that does nothing
NUM_KERNELS = 2  # of a layer in its row; the record has all
NUM_ROOFLINE = 24  # rows of a roofline, the slowest layers
_SIZES = re.compile(r"\bits [\d.,]+ [kM]?B\b")  # differ from layer to layer, and the reason is the same
MARKS = "¹²³⁴⁵⁶⁷⁸⁹"


def preparation_table(preparation: Preparation, backend: str) -> Table:
    """What a build machine would do once."""
    images = preparation.num_calibration_images
    written = size(preparation.num_bytes) if preparation.num_bytes else "nothing"
    rows: list[list[Value]] = [[backend, duration(preparation.seconds), written, images or "none"]]
    note = "Done once, in a process of its own. No part of the cold start below."
    columns = ["backend", "time", "written", "calibration images (train)"]
    return Table(columns, rows, caption="One-off preparation", note=note)


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


def parity_table(parity: Parity, *, random_weights: bool = False) -> Table:
    """Does the backend compute the same network?"""
    sqnr = "exactly equal" if parity.sqnr_db is None else f"{parity.sqnr_db:.1f} dB"
    rows: list[list[Value]] = [
        ["verdict", parity_cell(parity)],
        ["validation images", Cell(f"{parity.num_images:,}", f"of {parity.num_tracks:,} tracks")],
        ["logit error, largest", number(parity.error_max)],
        ["logit error, mean absolute", number(parity.error_mae)],
        ["signal to error (SQNR)", sqnr],
        ["equal predictions", percent(parity.agreement)],
    ]
    note = "Random weights: nobody trained this network, so only its logits are compared and accuracy means nothing."
    if not random_weights:
        interval = percent_interval(parity.top1_drop_interval).removesuffix(" %")
        allowed = f"allowed {points(parity.top1_drop_allowed)}"
        rows += [
            ["top-1", Cell(percent(parity.top1), f"reference {percent(parity.reference_top1)}")],
            ["loss of top-1", Cell(f"{points(parity.top1_drop)} {interval}".strip(), allowed)],
            ["images that only the backend reads right", f"{parity.num_gained:,}"],
            ["images that only the reference reads right", f"{parity.num_lost:,}"],
        ]
        note = (
            "In brackets: the 95 % interval, resampled over tracks, since the frames of one sign are not independent. "
            "Passed: no more is lost than allowed. Failed: the whole interval lies beyond that. Else inconclusive."
        )
    columns = ["what", "against the reference backend"]
    return Table(
        columns, rows, caption="Parity: right before fast", note=note, compact=True, align_numbers=False
    )  # fmt: skip


def proof_table(proof: Proof) -> Table:
    """Which kernels really ran."""
    rows: list[list[Value]] = [[name, count] for name, count in ranked_kernels(proof)]
    judged = "The promise holds" if proof.passed else "THE PROMISE DOES NOT HOLD"
    note = f"{judged}. Promised: {proof.promised}." + (f" {proof.reason}" if proof.reason else "")
    note += f" To investigate: {proof.investigate}." if proof.investigate else ""
    columns = ["kernel that ran", "steps or layers that it ran in"]
    return Table(columns, rows, caption="Proof of the backend, offline scenario", note=note, compact=True)


def kernel_table(tables: Sequence[LayerTable], backend: str) -> Table:
    """Which kernels ran in which scenario: rows = kernels, how many layers had them."""
    found = {
        table.scenario: [
            *(kernel for layer in table.layers for kernel in dict.fromkeys(layer.kernels)),
            *table.runtime_kernels,
        ]
        for table in tables
    }
    names = list(dict.fromkeys(kernel for kernels in found.values() for kernel in kernels))
    rows: list[list[Value]] = [
        [name, *(kernels.count(name) or Cell("0", tone="muted") for kernels in found.values())] for name in names
    ]
    differ = any(len({kernels.count(name) for kernels in found.values()}) > 1 for name in names)
    note = "The scenarios run different kernels: what is true of one is not true of the other." if differ else ""
    columns = [f"kernel of {backend}", *(f"{scenario_name(name)} (layers)" for name in found)]
    return Table(columns, rows, caption="Kernels by scenario", note=note, compact=True)


def scenario_table(scenarios: Sequence[Scenario], backend: str, reference: str, *, raw: bool = False) -> Table:
    """Latency percentiles, throughput and speedup: backend, reference and control of each scenario.

    Args:
        raw: with the numbers of what was disturbed, which are not a result.
    """
    rows: list[list[Value]] = []
    unstable = False
    for scenario in scenarios:
        judgement = judge(scenario)
        if judgement.disturbance is not None and not raw:
            question = f"{scenario_name(scenario.name)}, batch {scenario.batch_size}"
            rows.append([question, backend, *[None] * 4, judgement_cell(judgement)])
            continue
        floor, ratio = noise_floor(scenario), scenario_ratio(scenario)
        control = paired_ratio(scenario.control_latencies_s, scenario.reference_latencies_s)
        judged = ratio_cell(ratio, ratio_interval(ratio, floor), floor)
        question = f"{scenario_name(scenario.name)}, batch {scenario.batch_size}"
        sides: list[tuple[str, Cell, list[list[float]], Value]] = [
            (question, Cell(backend), scenario.latencies_s, _raw_cell(ratio) if raw else judged),
            ("", Cell(reference), scenario.reference_latencies_s, Cell("reference", tone="muted")),
            (
                "",
                Cell(f"{reference}, again (control)", tone="muted"),
                scenario.control_latencies_s,
                Cell(f"noise floor {_floor_words(floor)}", f"[{control.low:.3f}, {control.high:.3f}]", "muted"),
            ),
        ]
        for head, side, latencies_s, speed in sides:
            times = [milliseconds(value) for value in percentiles(latencies_s)]
            if is_unstable(latencies_s):
                side, unstable = Cell(side.text, "unstable", "warn"), True
            rows.append([head, side, *times, samples_per_s(latencies_s, scenario.batch_size), speed])
    columns = ["scenario", "backend", "p50 (ms)", "p90 (ms)", "p99 (ms)", "images per s", "speed [99 %]"]
    note = (
        "Compared round by round: time of the reference / time of the backend, trimmed mean over rounds. The control "
        "is the reference once more in another process: what these two differ by is the noise floor, and less is no "
        "difference for anybody."
    )
    if unstable:
        note += " Unstable: the rounds scatter so much that their mean is uncertain by 3 % or more; "
        note += "believe the speedup rather than the times."
    compiled = [
        f"{duration(s.compile_s)} for batch {s.batch_size}" for s in scenarios if s.compile_s >= WORTH_TELLING_S
    ]
    note += f" Compiled before the clock started: {', '.join(compiled)}." if compiled else ""
    if not raw and all(disturbance(scenario) is not None for scenario in scenarios):
        note = ""
    caption = "As measured, while it was disturbed: no result" if raw else "Latency and throughput"
    return Table(columns, rows, caption=caption, note=note)


def _raw_cell(ratio: Ratio) -> Cell:
    """A quotient, in no colour and without a word of what it means."""
    return Cell(f"{ratio.value:.2f}", f"[{ratio.low:.2f}, {ratio.high:.2f}]", "muted")


def _floor_words(floor: float) -> str:
    """`2.3 %`; where a machine did other things, `a factor of 4`."""
    return percent(floor, 1) if floor < 1 else f"a factor of {number(1 + floor, 2)}"


def _kernels(names: Sequence[str]) -> Cell:
    """The kernels that say most come first; of long lists only these."""
    distinct = list(dict.fromkeys(names))
    if not distinct:
        return Cell(UNKNOWN, tone="muted")
    more = len(distinct) - NUM_KERNELS
    shown = counted([name for name in names if name in distinct[:NUM_KERNELS]])
    return Cell(shown, f"and {more} more" if more > 0 else "")


def _short_shape(shape: Sequence[int]) -> str:
    return "x".join(str(length) for length in shape)


def layer_table(table: LayerTable, backend: str, reference: str, num_layers: int = 0) -> Table:
    """One row per layer or fused group in the order of the network; `num_layers` keeps the slowest of the reference
    only. Last, what the runtime does outside of layers. Of what was disturbed the speed is a bare quotient."""
    floor, raw = layer_noise_floor(table), disturbance(table) is not None
    reference_medians = [median_latency(layer.reference_latencies_s) for layer in table.layers]
    total = sum(reference_medians) or 1.0
    kept = range(len(table.layers))
    if 0 < num_layers < len(table.layers):
        kept = sorted(sorted(kept, key=lambda index: -reference_medians[index])[:num_layers])  # type: ignore[assignment]
    rows: list[list[Value]] = []
    for index in kept:
        layer = table.layers[index]
        ratio = layer_ratio(layer)
        kinds = layer.kind if len(layer.members) == 1 else "fused"
        rows.append(
            [
                Cell(group_name(layer.members), kinds),
                _short_shape(layer.output_shape),
                number(layer.num_macs / 1e6) if layer.num_macs else Cell(UNKNOWN, tone="muted"),
                milliseconds(median_latency(layer.latencies_s)),
                milliseconds(reference_medians[index]),
                f"{100 * reference_medians[index] / total:.1f} %",
                _raw_cell(ratio) if raw else ratio_cell(ratio, ratio_interval(ratio, floor), floor),
                _kernels(layer.kernels),
                _kernels(layer.reference_kernels),
            ]
        )
    left_out = len(table.layers) - len(rows)
    if table.runtime_latencies_s:
        steps = milliseconds(median_latency(table.runtime_latencies_s))
        head = Cell("outside layers", "steps of the runtime")
        rows.append([head, None, None, steps, None, None, "", _kernels(table.runtime_kernels), ""])
    columns = ["layer", "output", "million MACs", f"{backend} (ms)", f"{reference} (ms)", "share", "speed [99 %]"]
    columns += [f"kernels of {backend}", f"kernels of {reference}"]
    note = "Share: of the reference's time."
    if any(len(layer.members) > 1 for layer in table.layers):
        note += " Layers that the backend runs as one step stand in one row, against the sum of the reference's."
    note += f" Differences below {_floor_words(floor)} are noise: 90 % of the layers differ less between the reference "
    note += "and its control."
    note += f" {left_out} faster layers are not shown." if left_out else ""
    caption = f"Layers, {scenario_name(table.scenario)}, batch {table.batch_size}"
    return Table(
        columns, rows, caption=caption, note=note, compact=True, num_totals=int(bool(table.runtime_latencies_s))
    )


def layer_sum_table(tables: Sequence[LayerTable], scenarios: Sequence[Scenario], backend: str, reference: str) -> Table:
    """Do the layers add up to the whole call? Two rows per scenario."""
    whole = {scenario.name: scenario for scenario in scenarios}
    rows: list[list[Value]] = []
    for table in tables:
        scenario = whole[table.scenario]
        for name, calls, passes, steps in (
            (backend, scenario.latencies_s, [layer.latencies_s for layer in table.layers], table.runtime_latencies_s),
            (reference, scenario.reference_latencies_s, [x.reference_latencies_s for x in table.layers], []),
        ):
            layers_s, call = sum(median_latency(latencies_s) for latencies_s in passes), median_latency(calls)
            runtime_s = median_latency(steps) if steps else 0.0
            missing = call - layers_s - runtime_s
            rows.append(
                [
                    f"{scenario_name(table.scenario)}, batch {table.batch_size}" if name == backend else "",
                    name,
                    milliseconds(layers_s),
                    milliseconds(runtime_s) if steps else Cell(UNKNOWN, tone="muted"),
                    milliseconds(call),
                    Cell(f"{'+' if missing >= 0 else '-'}{milliseconds(abs(missing))}", percent(missing / call, 1)),
                ]
            )
    columns = ["scenario", "backend", "layers (ms)", "outside layers (ms)", "whole call (ms)", "missing (ms)"]
    note = (
        "Missing: what happens between layers, and layers that nobody tells the time of. Below zero: the cost of "
        "watching layers, which weighs more on single images."
    )
    return Table(columns, rows, caption="Do the layers add up?", note=note)


def peaks_table(peaks: Peaks) -> Table:
    """What the machine can do at most."""
    rows: list[list[Value]] = [
        [f"multiply and add, {precision}", f"{number(peak.per_s / 1e9)} GFLOP/s", peak.how]
        for precision, peak in peaks.matmul.items()
    ]
    rows.append(["copy, read and written", f"{number(peaks.copy.per_s / 1e9)} GB/s", peaks.copy.how])
    note = "Measured once in this run on this machine, with the same number of threads: the best of several libraries "
    note += "and sizes."
    columns = ["what", "at most", "how it was reached"]
    return Table(columns, rows, caption="The machine's peaks", note=note, compact=True, align_numbers=False)


def roofline_table(roofline: Roofline, backend: str, num_layers: int = NUM_ROOFLINE) -> Table:
    """The slowest layers, in the order of the network, against what the machine can do at most."""
    reasons: list[str] = []
    rows: list[list[Value]] = []
    slowest = sorted(roofline.layers, key=lambda found: -found.seconds)[:num_layers]
    for found in roofline.layers:
        if found not in slowest:
            continue
        mark = ""
        if found.explanation:
            reason = _SIZES.sub("its data", found.explanation).rstrip(".")
            if reason not in reasons:
                reasons.append(reason)
            mark = _mark(reasons.index(reason))
        rows.append(_roofline_row(found, mark))
    whole = roofline.network
    unknown = Cell(UNKNOWN, tone="muted")
    share = unknown if whole.bound_share is None else Cell(percent(whole.bound_share, 0), tone="mark")
    rate = _rate(whole.flops_per_s, whole.peak_share)
    rows.append([Cell("whole call", tone="mark"), milliseconds(whole.whole_s), unknown, rate, unknown, "", share])
    columns = ["layer", "time (ms)", "FLOP per byte", "GFLOP/s", "GB/s", "bound by", "share of the bound"]
    note = (
        "In brackets the share of the machine's peak. FLOP: two per multiply-accumulate. Bytes: inputs, weights and "
        "outputs, each moved once. Share of the bound: the least possible time over the measured one; 100 % would be "
        "a perfect kernel."
    )
    left_out = len(roofline.layers) - len(slowest)
    note += f" {left_out} faster layers are not shown." if left_out else ""
    note += "".join(f" {_mark(place)} {reason[:1].upper()}{reason[1:]}." for place, reason in enumerate(reasons))
    note += f" {roofline.network.sentence}" if roofline.network.sentence else ""
    caption = f"Roofline of {backend}, {scenario_name(roofline.scenario)}, batch {roofline.batch_size}"
    return Table(columns, rows, caption=caption, note=note, compact=True, num_totals=1)


def _mark(position: int) -> str:
    return MARKS[position] if position < len(MARKS) else f"({position + 1})"


def _rate(per_s: float | None, share: float | None) -> Cell:
    """Billions per second and the share of the machine's peak."""
    if per_s is None:
        return Cell(UNKNOWN, tone="muted")
    return Cell(number(per_s / 1e9), f"({percent(share, 0)})" if share is not None else "")


def _roofline_row(found: LayerRoofline, mark: str) -> list[Value]:
    return [
        Cell(group_name(found.layer.members)),
        milliseconds(found.seconds),
        number(found.intensity) if found.intensity else Cell(UNKNOWN, tone="muted"),
        _rate(found.flops_per_s, found.peak_share),
        _rate(found.bytes_per_s, found.bandwidth_share),
        found.limit or UNKNOWN,
        Cell(percent(found.bound_share, 0), mark) if found.bound_share is not None else Cell(UNKNOWN, tone="muted"),
    ]


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


def glance_table(record: BenchmarkRecord) -> Table:
    """The answer in a few rows, for the top of the page."""
    rows: list[list[Value]] = []
    for scenario in record.scenarios:
        judgement = judge(scenario)
        question = f"{scenario_name(scenario.name)}, batch {scenario.batch_size}"
        shaky = is_unstable(scenario.latencies_s) or is_unstable(scenario.reference_latencies_s)
        told = ratio_interval(judgement.ratio, judgement.noise_floor)
        told += ", unstable: measure again on a quiet machine" if shaky else ""
        rows.append([question, judgement_cell(judgement, told)])
    if record.parity is not None:
        parity = record.parity
        told = f"top-1 {percent(parity.top1)}, {points(parity.top1_drop)} lost"
        rows.append(["same network", parity_cell(parity, "random weights" if record.random_weights else told)])
    if record.proof is not None:
        proof = record.proof
        judged = (
            Cell("investigate", proof.investigate, "warn") if proof.investigate else Cell("as promised", tone="good")
        )
        rows.append(["kernels", judged if proof.passed else Cell("NOT AS PROMISED", proof.reason, "bad")])
    if record.cold_start is not None:
        cold = record.cold_start
        waited = cold.import_s + cold.load_s + cold.compile_s + cold.first_inference_s
        rows.append(["first answer after", Cell(duration(waited), f"peak memory {size(cold.peak_memory_bytes)}")])
    columns = ["what", f"{record.backend} against {record.reference}"]
    return Table(columns, rows, caption="At a glance", align_numbers=False)
