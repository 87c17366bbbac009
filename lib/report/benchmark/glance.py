"""The answer at the top of the page, and which network was measured."""

from __future__ import annotations

from lib.analysis.comparison import first_answer_s
from lib.analysis.judgement import judge
from lib.analysis.statistics import is_unstable
from lib.data import Data
from lib.model import Checkpoint
from lib.records.schema import BenchmarkRecord
from lib.report.caveats import warning_lines
from lib.report.headline import answer
from lib.report.table import Banner, Cell, Stack, Table, Value, profile_banner
from lib.report.verdict_cells import judgement_cell, parity_cell, proof_cell
from lib.report.words import duration, percent, place_of, points, ratio_interval, size

GLANCE = "at-a-glance"  # id of the display at the top of the page that the end of the notebook fills in


def place() -> None:
    """A place at the top of the page for what is only known at its end; `fill` fills it in."""
    from IPython.display import display

    text = "The answer appears here when the notebook has come to its end."
    display(Banner(text, "info"), display_id=GLANCE)  # type: ignore[no-untyped-call]


def fill(record: BenchmarkRecord) -> None:
    """The answer at the top of the notebook, and what must be known about it; what the shell changes is said where the
    machine is shown. The page has both on its first screen."""
    from IPython.display import update_display

    table = glance_table(record) if record.is_network and record.scenarios else None
    lines = warning_lines([warning for warning in record.warnings if warning.kind != "variables"])
    first = Banner(answer(record), "error" if record.status == "failed" else "info")
    shown = Stack(first, table, *map(Banner, lines))
    update_display(shown, display_id=GLANCE)  # type: ignore[no-untyped-call]


def glance_table(record: BenchmarkRecord) -> Table:
    """The answer in a few rows, for the top of the page."""
    rows: list[list[Value]] = []
    for scenario in record.scenarios:
        judgement = judge(scenario)
        shaky = is_unstable(scenario.latencies_s) or is_unstable(scenario.reference_latencies_s)
        detail = ratio_interval(judgement.ratio, judgement.noise_floor)
        detail += ", unstable: measure again on a quiet machine" if shaky else ""
        rows.append([place_of(scenario), judgement_cell(judgement, detail)])
    if (parity := record.parity) is not None:
        detail = f"top-1 {percent(parity.top1)}, {points(parity.top1_drop)} lost"
        rows.append(["same network", parity_cell(parity, "random weights" if record.random_weights else detail)])
    if record.proof is not None:
        rows.append(["kernels as promised", proof_cell(record.proof)])
    if record.cold_start is not None:
        memory = f"peak memory {size(record.cold_start.peak_memory_bytes)}"
        rows.append(["first answer after", Cell(duration(first_answer_s(record.cold_start)), memory)])
    columns = ["what", f"{record.backend} against {record.reference}"]
    return Table(columns, rows, caption="At a glance", align_numbers=False)


def checkpoint_table(checkpoint: Checkpoint, data: Data, trained_now: bool, profile: str) -> Stack:
    """Which network is measured; a warning where it was trained just now, on other data or not at all."""
    about = checkpoint.metadata
    size = about.preprocessing.image_size
    trained = f"{about.data_source}, {about.data_hash[:12]}, {about.num_epochs} epochs, seed {about.seed}"
    rows: list[list[Value]] = [
        ["network", about.architecture],
        ["input", f"3 x {size} x {size}"],
        ["recipe and profile", about.recipe if about.random_weights else f"{about.recipe}, {about.profile}"],
        ["trained on", f"nothing, seed {about.seed}" if about.random_weights else trained],
        ["SHA-256", checkpoint.sha256],
    ]
    warning = None
    if about.random_weights:
        text = "The weights of this network are random: its speed can be measured, its answers mean nothing."
        warning = Banner(text, "info")
    elif trained_now or about.profile == "smoke":
        why = "The checkpoint of this run is that of a smoke training"
        if trained_now:
            why = "There was no checkpoint in this run, so a small network was trained just now"
        warning = Banner(
            f"{why}. Its speed is what it is, its accuracy means little, and its record is marked as a smoke one. "
            "Train a real network with python -m lib run 02_train."
        )
    elif about.data_hash != data.manifest_hash:
        warning = Banner(
            f"The checkpoint was trained on other images ({about.data_source}, {about.data_hash[:12]}) than those it "
            f"is measured on ({data.source}, {data.manifest_hash[:12]}): its accuracy here is out of distribution."
        )
    return Stack(profile_banner(profile), warning, Table(["", "checkpoint"], rows, caption="The network"))
