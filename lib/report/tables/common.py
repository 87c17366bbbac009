"""What several notebooks show: parameters, machine, accuracy, ratios."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from lib.analysis.judgement import DISTURBED, Judgement
from lib.analysis.statistics import (
    SMALLEST_EFFECT,
    Ratio,
    verdict,
)
from lib.records.schema import (
    Accuracy,
    Environment,
    ParameterValue,
    Parity,
    ParityOutcome,
    Proof,
    StepKernels,
)
from lib.report.table import Cell, Table, Tone, Value
from lib.report.words import (
    NOT_JUDGED,
    SIGNS,
    percent,
    percent_interval,
    ratio_words,
    size,
)
from lib.signs import SIGNS as TRAFFIC_SIGNS
from lib.signs import render_artwork

MULTIPLIES = ("conv", "gemm", "matmul", "addmm", "linear", "fullyconnected", "fully connected", "inner")
DIRECTIONS = {
    "forward_training": "forward",
    "backward_data": "backward, for the inputs",
    "backward_weights": "backward, for the weights",
}
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


def judgement_cell(found: Judgement, detail: str = "") -> Cell:
    """As `ratio_cell`; what was disturbed says so instead."""
    if found.disturbance is not None:
        return Cell(f"{SIGNS[DISTURBED]} {NOT_JUDGED}", tone="warn")
    return ratio_cell(found.ratio, detail, found.noise_floor)


def group_name(members: Sequence[str]) -> str:
    """Layers that run as one step, with what their names have in common said once.

    `stage1.block1.conv2`, `stage1.block1.bn2` -> `stage1.block1: conv2 + bn2`.
    """
    if len(members) == 1:
        return members[0]
    parts = [member.split(".") for member in members]
    shared = 0
    while all(len(names) > shared + 1 and names[shared] == parts[0][shared] for names in parts):
        shared += 1
    inside = " + ".join(".".join(names[shared:]) for names in parts)
    return f"{'.'.join(parts[0][:shared])}: {inside}" if shared else inside


def counted(names: Sequence[str]) -> str:
    """`a, a, b` -> `a x2, b`, in the order of their first mention."""
    numbers = Counter(names)
    return ", ".join(name if number == 1 else f"{name} x{number}" for name, number in numbers.items())


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


def accuracy_table(accuracy: Mapping[str, Accuracy], note: str = "") -> Table:
    """Top-1 by split with its interval, and the class that is recognised worst.

    Args:
        note: more to say under the table.
    """
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
    interval = "Interval: 95 % bootstrap over tracks, since the frames of one sign stand or fall together."
    columns = ["split", "top-1", "images", "tracks", "worst class (recall)"]
    return Table(columns, rows, caption="Accuracy", note=f"{interval} {note}".strip())


def passed_cell(passed: bool) -> Cell:
    return Cell("passed", tone="good") if passed else Cell("FAILED", tone="bad")


def parity_cell(parity: Parity, detail: str = "") -> Cell:
    """The outcome; without a detail, why it has not passed."""
    tones: dict[ParityOutcome, Tone] = {"passed": "good", "inconclusive": "warn", "failed": "bad"}
    text = "FAILED" if parity.outcome == "failed" else parity.outcome
    return Cell(text, detail or parity.reason, tones[parity.outcome])


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


def step_kernels_table(kernels: StepKernels) -> Table:
    """Which implementations oneDNN ran in one training step, by direction."""
    rows: list[list[Value]] = [
        [DIRECTIONS.get(direction, direction), kernel.removeprefix("onednn "), times]
        for direction, found in kernels.found.items()
        for kernel, times in sorted(found.items(), key=lambda item: -item[1])
    ]
    columns = ["direction", "kernel of oneDNN", "times"]
    note = "As oneDNN reports them. What PyTorch computes itself, such as batch norm, is not among them."
    return Table(columns, rows, caption="What one training step ran", note=note, compact=True)


def ranked_kernels(proof: Proof) -> list[tuple[str, int]]:
    """Kernels that ran, those that multiply first, then the most frequent."""

    def rank(item: tuple[str, int]) -> tuple[bool, int]:
        name = item[0].lower()
        return not any(word in name for word in MULTIPLIES) or "reorder" in name, -item[1]

    return sorted(proof.found.items(), key=rank)
