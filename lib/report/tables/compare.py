"""04_compare: all backends, each against the reference of its own job."""

from __future__ import annotations

from collections.abc import Sequence

from lib.analysis.comparison import first_answer_s
from lib.analysis.cost import CAVEAT, cost_of
from lib.analysis.history import MIN_RUNS, History, Trend
from lib.analysis.judgement import DISTURBED, judge, judged
from lib.analysis.layer_grid import Column, LayerGrid, layer_grid
from lib.analysis.pace import slow_references
from lib.analysis.statistics import (
    Ratio,
    layer_ratio,
    median_latency,
    scenario_ratio,
    verdict,
)
from lib.records.schema import BenchmarkRecord, Environment, ParityOutcome, Proof, Recommendation
from lib.report.table import Cell, Table, Tone, Value
from lib.report.tables.common import judgement_cell, passed_cell, ranked_kernels, ratio_tone
from lib.report.words import (
    NOT_JUDGED,
    SIGNS,
    UNKNOWN,
    duration,
    factor,
    milliseconds,
    number,
    percent,
    percent_interval,
    ratio_interval,
    scenario_name,
    size,
)

TUNED = "torch-onednn-tuned"  # eager PyTorch at its best, shown beside the reference
NUM_KERNELS = 4  # that a row of the proof table names
NOTHING = Cell("", tone="muted")


def machine_letters(records: Sequence[BenchmarkRecord]) -> dict[str, str]:
    """Short names for machine ids, in the order of the records; empty where there is only one machine."""
    ids = list(dict.fromkeys(record.environment.machine_id for record in _usable(records)))
    return {machine_id: _letter(number) for number, machine_id in enumerate(ids)} if len(ids) > 1 else {}


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else f"{number + 1}"


def _with_machine(record: BenchmarkRecord, letters: dict[str, str]) -> str:
    letter = letters.get(record.environment.machine_id)
    return f"{record.backend} ({letter})" if letter else record.backend


def _usable(records: Sequence[BenchmarkRecord]) -> list[BenchmarkRecord]:
    return [record for record in records if record.status == "ok"]


def _short_ratio_cell(ratio: Ratio, latencies_s: Sequence[Sequence[float]], floor: float) -> Cell:
    """For wide tables: sign and factor, and the backend's milliseconds."""
    judged = verdict(ratio, floor)
    text = "=" if judged == "no difference" else f"{SIGNS[judged]} {factor(ratio.value):.2f}x"
    return Cell(text, f"{milliseconds(median_latency(latencies_s))} ms", ratio_tone(ratio, floor))


def compare_layers_table(records: Sequence[BenchmarkRecord], scenario: str) -> Table:
    """Rows = layers, columns = backends: speedup against the reference of the same job, milliseconds beside it."""
    grid = layer_grid(records, scenario)
    columns, letters = list(grid.columns.values()), machine_letters(records)
    rows: list[list[Value]] = []
    has_runtime = any(column.runtime_s is not None for column in columns)
    for name in grid.rows:
        share = percent(grid.shares[name], 1) if name in grid.shares else None
        rows.append([name, share, *(_layer_cell(grid, column, name) for column in columns)])
    if has_runtime:
        outside = [_runtime_cell(column) for column in columns]
        rows.append(["outside layers", NOTHING, *outside])
    rows.append(["whole call", NOTHING, *(_whole_cell(column.record, scenario) for column in columns)])
    return Table(
        ["layer", "share", *(_with_machine(column.record, letters) for column in columns)],
        rows if columns else [],
        caption=f"Layers of all backends, {scenario_name(scenario)}",
        note=_layers_note(grid, letters),
        compact=True,
        num_totals=1 + has_runtime if columns else 0,
    )


def _layers_note(grid: LayerGrid, letters: dict[str, str]) -> str:
    note = "▲ faster, ▼ slower, = no difference beyond the noise, against the reference of the same job over the same "
    note += "layers; beside it the backend's milliseconds. Share: of the reference's time over all layers. "
    if any(column.hidden for column in grid.columns.values()):
        note += "↑ and ↓: runs as one step with a layer above or below, and the next number there is that of both. "
    if any(column.runtime_s is not None for column in grid.columns.values()):
        note += "Outside layers: steps of the runtime, such as reorders. "
    if grid.disturbed:
        note += f"Without a column, since disturbed and not judged: {', '.join(grid.disturbed)}. "
    if grid.silent:
        note += f"Without a column, since they cannot tell their layers: {', '.join(grid.silent)}. "
    if letters:
        note += "The letter is the machine (below): milliseconds of different letters must not be compared. "
    return note.strip()


def hidden_mark(grid: LayerGrid, column: Column, name: str) -> str:
    """Where the numbers of a fused layer stand: `↑`, `↓`, or by name where the next number is another one's."""
    place, there = grid.rows.index(name), grid.rows.index(column.hidden[name])
    between = grid.rows[min(place, there) + 1 : max(place, there)]
    if any(row in column.shown for row in between):
        return f"in {column.hidden[name]}"
    return "↑" if there < place else "↓"


def _layer_cell(grid: LayerGrid, column: Column, name: str) -> Value:
    if name in column.shown:
        layer = column.shown[name]
        return _short_ratio_cell(layer_ratio(layer), layer.latencies_s, column.noise_floor)
    if name in column.hidden:
        return Cell("", hidden_mark(grid, column, name), "muted")
    return None


def _runtime_cell(column: Column) -> Cell:
    return NOTHING if column.runtime_s is None else Cell("", f"{milliseconds(column.runtime_s)} ms")


def _whole_cell(record: BenchmarkRecord, scenario: str) -> Value:
    for measured in record.scenarios:
        if measured.name == scenario:
            found = judge(measured)
            if found.disturbance is not None:
                return judgement_cell(found)
            return _short_ratio_cell(found.ratio, measured.latencies_s, found.noise_floor)
    return None


def compare_scenarios_table(records: Sequence[BenchmarkRecord]) -> Table:
    """One row per backend: speedup per scenario, accuracy and what it lost; also those that did not run."""
    scenarios = list(dict.fromkeys(scenario.name for record in records for scenario in record.scenarios))
    slow = {name: slow_references(records, name) for name in scenarios}
    tuned = next((record for record in records if record.backend == TUNED and record.status == "ok"), None)
    split = _common_split(records)
    rows: list[list[Value]] = []
    for record in records:
        if record.status != "ok":
            status = Cell(record.status, record.error, "bad" if record.status == "failed" else "muted")
            rows.append(
                [record.backend, status, *[None] * (len(scenarios) * (2 if tuned else 1) + 2), record.precision]
            )
            continue
        measured = {scenario.name: scenario for scenario in record.scenarios}
        cells: list[Value] = []
        for name in scenarios:
            if name not in measured:
                cells.append(None)
                continue
            found = judge(measured[name])
            told = ratio_interval(found.ratio, found.noise_floor)
            if record.backend in slow[name]:
                told += f", its reference {slow[name][record.backend]:.1f}x slower than in other jobs"
            cells.append(judgement_cell(found, told))
        cells += [_against_tuned(record, tuned, name) for name in scenarios] if tuned else []
        rows.append([record.backend, "ok", *cells, _top1_cell(record, split), _drop_cell(record), record.precision])
    columns = ["backend", "status", *[scenario_name(name) for name in scenarios]]
    columns += [f"{scenario_name(name)}, against tuned eager" for name in scenarios] if tuned else []
    columns += [f"top-1, {split}".removesuffix(", "), "points lost", "precision"]
    if all(record.status == "ok" for record in records):
        columns, rows = [columns[0], *columns[2:]], [[row[0], *row[2:]] for row in rows]
    note = "Speed against the reference measured in the same job, with 99 % intervals over rounds."
    note += _accuracy_note(records, split)
    if tuned:
        note += f" Tuned eager: {TUNED}, whose speedup over the reference of its own job divides that of the backend."
    return Table(columns, rows, caption="Backends compared", note=note, compact=True)


def _against_tuned(record: BenchmarkRecord, tuned: BenchmarkRecord, scenario: str) -> Value:
    """Speedup over eager PyTorch at its best, as a quotient of two ratios; only on one machine."""
    if record.environment.machine_id != tuned.environment.machine_id:
        return None
    sides = [
        scenario_ratio(measured)
        for side in (record, tuned)
        for measured in judged(side.scenarios)
        if measured.name == scenario
    ]
    return f"{sides[0].value / sides[1].value:.2f}x" if len(sides) == 2 else None


def _common_split(records: Sequence[BenchmarkRecord]) -> str:
    """The split on which all read the same number of images, test if there is one: a column never mixes two sets of
    images. Empty for none."""
    read = [record.accuracy for record in records if record.accuracy]
    for split in ("test", "val"):
        if len({found[split].num_images if split in found else None for found in read}) == 1 and split in read[0]:
            return split
    return ""


def _accuracy_note(records: Sequence[BenchmarkRecord], split: str) -> str:
    """Which images the columns are about."""
    read = next((record.accuracy[split] for record in records if split in record.accuracy), None)
    note = "" if read is None else f" Top-1: of {read.num_images:,} images of {split}."
    compared = {(parity.num_images, parity.num_tracks) for record in records if (parity := record.parity) is not None}
    if read is not None and len(compared) == 1:
        num_images, num_tracks = compared.pop()
        note += f" Points lost: of top-1 against the reference on the {num_images:,} validation images, with 95 % "
        note += (
            f"intervals over their {num_tracks:,} tracks. Inconclusive: these images cannot decide whether the loss "
        )
        note += "is allowed, and the backend is not ranked."
    return note


def _top1_cell(record: BenchmarkRecord, split: str) -> Value:
    if record.random_weights:
        return Cell(UNKNOWN, "random weights", "muted")
    return percent(record.accuracy[split].top1) if split in record.accuracy else None


def _drop_cell(record: BenchmarkRecord) -> Value:
    parity = record.parity
    if parity is None or record.random_weights:
        return None
    if record.backend == record.reference:
        return Cell("0.00", "reference", "muted")
    interval = percent_interval(parity.top1_drop_interval).removesuffix(" %")
    outcome = "" if parity.outcome == "passed" else parity.outcome
    tones: dict[ParityOutcome, Tone] = {"passed": "", "inconclusive": "warn", "failed": "bad"}
    detail = f"{interval} {outcome}".strip() if parity.num_lost + parity.num_gained else outcome
    return Cell(f"{100 * parity.top1_drop:.2f}", detail, tones[parity.outcome])


def recommendation_table(found: Sequence[Recommendation]) -> Table:
    """What to use in which scenario, at a glance."""
    alone = len({item.architecture for item in found}) == 1
    rows: list[list[Value]] = [
        [
            scenario_name(item.scenario) + ("" if alone else f", {item.architecture}"),
            "fp32 only" if item.precision == "fp32" else "any",
            Cell(item.backend or UNKNOWN, tone="mark" if item.backend else "muted"),
            _recommended_speed(item),
            ", ".join(item.equally_good) or Cell("none", tone="muted"),
        ]
        for item in found
    ]
    columns = ["scenario", "precision", "use", "speed [99 %]", "equally good"]
    return Table(columns, rows, caption="At a glance", compact=True, align_numbers=False)


def _recommended_speed(item: Recommendation) -> Cell:
    if not item.backend:
        return Cell(f"{SIGNS[DISTURBED]} {NOT_JUDGED}", tone="warn")
    if item.ratio is None:
        return Cell("= nothing is faster", "beyond the noise", "muted")
    ratio = Ratio(*item.ratio)
    return Cell(f"▲ {ratio.value:.2f}x faster", f"[{ratio.low:.2f}, {ratio.high:.2f}]")


def compare_starts_table(records: Sequence[BenchmarkRecord]) -> Table:
    """What a first request waits for, memory, and what was done once on a build machine."""
    letters = machine_letters(records)
    rows: list[list[Value]] = []
    for record in _usable(records):
        cold, made = record.cold_start, record.preparation
        if cold is None:
            continue
        parts = [milliseconds(part) for part in (cold.import_s, cold.load_s, cold.compile_s, cold.first_inference_s)]
        files = size(made.num_bytes) if made is not None and made.num_bytes else NOTHING
        images = made.num_calibration_images if made is not None and made.num_calibration_images else NOTHING
        prepared = duration(made.seconds) if made is not None and made.num_bytes else NOTHING
        total, memory = milliseconds(first_answer_s(cold)), size(cold.peak_memory_bytes)
        rows.append([_with_machine(record, letters), *parts, total, memory, prepared, files, images])
    columns = ["backend", "import (ms)", "load (ms)", "compile (ms)", "first inference (ms)", "in all (ms)"]
    columns += ["peak memory", "preparation, once", "its files", "calibration images"]
    note = (
        "One measurement each. Preparation is work of a build machine and no part of the cold start. Peak memory: of "
    )
    note += "the worker process, after batches of 256."
    return Table(columns, rows, caption="Cold start, memory and preparation", note=note, compact=True)


def compare_proofs_table(records: Sequence[BenchmarkRecord]) -> Table:
    """What each backend promised to run, and what ran."""
    rows: list[list[Value]] = [
        [record.backend, record.proof.promised, _kernels(record.proof), _proof_cell(record.proof)]
        for record in records
        if record.proof is not None
    ]
    columns = ["backend", "promised", "what ran, and in how many steps or layers, offline", "verdict"]
    return Table(columns, rows, caption="Kernels", compact=True, align_numbers=False)


def _kernels(proof: Proof) -> str:
    ranked = ranked_kernels(proof)
    told = [f"{count} x {name}" for name, count in ranked[:NUM_KERNELS]]
    rest = len(ranked) - NUM_KERNELS
    return ", ".join([*told, *[f"{rest} more"] * (rest > 0)]) or UNKNOWN


def _proof_cell(proof: Proof) -> Cell:
    if not proof.passed:
        return Cell(passed_cell(passed=False).text, proof.reason, "bad")
    if proof.investigate:
        return Cell("investigate", proof.investigate, "warn")
    return passed_cell(passed=True)


def machines_table(records: Sequence[BenchmarkRecord]) -> Table:
    """One column per machine: what it is, what ran on it, and whether milliseconds may be compared."""
    letters = machine_letters(records)
    groups: dict[str, list[BenchmarkRecord]] = {}
    for record in _usable(records):
        groups.setdefault(record.environment.machine_id, []).append(record)
    facts = [_machine_facts(machine_id, group) for machine_id, group in groups.items()]
    names = list(dict.fromkeys(name for machine in facts for name in machine))
    rows: list[list[Value]] = [[name, *(machine.get(name) for machine in facts)] for name in names]
    note = (
        "Different machines: compare speedups only, never milliseconds of different letters."
        if letters
        else "All on one machine in one boot: milliseconds may be compared."
    )
    columns = ["what", *(letters.get(machine_id, "this machine") for machine_id in groups)]
    return Table(columns, rows, caption="Machines", note=note, compact=True, align_numbers=False)


def _machine_facts(machine_id: str, records: Sequence[BenchmarkRecord]) -> dict[str, Value]:
    machines = [record.environment for record in records]
    machine, unknown = machines[0], "unknown"
    emulated = any(other.emulated for other in machines)
    acl = {True: "yes", False: "no", None: unknown}
    return {
        "machine id": machine_id,
        "backends": ", ".join(record.backend for record in records),
        "CPU": machine.cpu_model or unknown,
        "architecture": Cell(machine.architecture, "emulated: times mean nothing" if emulated else "",
                             "bad" if emulated else ""),
        "instruction sets": ", ".join(machine.isa_flags) or unknown,
        "threads on cores": _span([f"{other.num_threads} on {other.num_cores}" for other in machines]),
        "memory": unknown if machine.memory_bytes is None else size(machine.memory_bytes),
        "BLAS": _span([other.blas or unknown for other in machines]),
        "oneDNN": _span([other.onednn or unknown for other in machines]),
        "Arm Compute Library": _span([acl[other.acl] for other in machines]),
        "kernel": machine.kernel,
        "versions": _versions(machines),
        "load at the start": _loads(machines),
        "started (UTC)": _times(records),
    }  # fmt: skip


def _span(values: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def _versions(machines: Sequence[Environment]) -> str:
    """Of all records together; a package in two versions is named with both."""
    found: dict[str, list[str]] = {}
    for machine in machines:
        for name, version in machine.versions.items():
            if version not in found.setdefault(name, []):
                found[name].append(version)
    return ", ".join(f"{name} {' and '.join(versions)}" for name, versions in found.items()) or "unknown"


def _loads(machines: Sequence[Environment]) -> str:
    loads = [machine.load_average for machine in machines if machine.load_average is not None]
    if not loads:
        return "unknown"
    return f"{min(loads):.2f}" if len(loads) == 1 else f"{min(loads):.2f} to {max(loads):.2f}"


def _times(records: Sequence[BenchmarkRecord]) -> str:
    times = sorted(record.started.replace("+00:00", "").replace("T", " ") for record in records)
    return times[0] if times[0] == times[-1] else f"{times[0]} to {times[-1]}"


def compare_costs_table(records: Sequence[BenchmarkRecord]) -> Table:
    """Images per dollar on runners of the size that measured."""
    costs, letters = {record.backend: cost_of(record) for record in _usable(records)}, machine_letters(records)
    runners = list(dict.fromkeys(row.runner for cost in costs.values() for row in cost.rows))
    rows: list[list[Value]] = []
    for record in _usable(records):
        cost = costs[record.backend]
        images = {row.runner: number(row.million_images_per_dollar) for row in cost.rows}
        cells: list[Value] = [images.get(runner) for runner in runners]
        rows.append([_with_machine(record, letters), *cells, cost.reason])
    columns = ["backend", *[f"{runner} (million images per $)" for runner in runners], "why not"]
    if not any(cost.reason for cost in costs.values()):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    first = next(iter(costs.values()))
    notes = dict.fromkeys(row.note for cost in costs.values() for row in cost.rows if row.note)
    note = f"Offline scenario: {CAVEAT}. Prices: {first.source}, {first.date}, {first.url}. "
    note += "".join(f"{text[:1].upper()}{text[1:]}. " for text in notes)
    return Table(columns, rows, caption="What images cost", note=note.rstrip(), compact=True)


def history_table(history: History) -> Table:
    """The speedup of this run beside the range of the earlier ones, the second measurement, and the verdict."""
    again = any(trend.second is not None for trend in history.trends)
    rows: list[list[Value]] = [
        [
            trend.backend,
            scenario_name(trend.scenario),
            len(trend.earlier),
            _earlier_range(trend),
            _point_cell(trend),
            *([_point_cell(trend.second)] if again else []),
            f"{100 * trend.points[-1].noise_floor:.1f} %",
            _trend_cell(trend),
        ]
        for trend in history.trends
    ]
    measured = ["this run [99 %]", *(["measured again [99 %]"] if again else [])]
    columns = ["backend", "scenario", "earlier runs", "earlier speedups", *measured, "noise", "verdict"]
    note = (
        f"{history.words()} Speedups against the reference of the same job, never milliseconds. Suspected: the "
        f"interval of this run lies beyond all earlier speedups by more than the noise. Confirmed: a second "
        f"measurement of this run shows it too. It takes {MIN_RUNS} earlier runs to say anything."
    )
    return Table(columns, rows, caption="Against earlier runs", note=note, compact=True)


def _earlier_range(trend: Trend) -> Value:
    values = [point.ratio.value for point in trend.earlier]
    if not values:
        return None
    return f"{min(values):.2f}x" if len(values) == 1 else Cell(f"{min(values):.2f}x", f"to {max(values):.2f}x")


def _point_cell(trend: Trend | None) -> Value:
    if trend is None:
        return None
    ratio = trend.points[-1].ratio
    return Cell(f"{ratio.value:.2f}x", f"[{ratio.low:.2f}, {ratio.high:.2f}]")


def _trend_cell(trend: Trend) -> Cell:
    judged = trend.verdict
    sign = next((sign for word, sign in SIGNS.items() if word in judged), "")
    tones: dict[str, Tone] = {"suspected": "warn", "confirmed": "bad" if judged.endswith("slower") else "good"}
    return Cell(f"{sign} {judged}".strip(), tone=tones.get(judged.split()[0], "muted"))
