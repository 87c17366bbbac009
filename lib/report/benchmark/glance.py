"""The answer at the top of the page, and which network was measured."""

from __future__ import annotations

from lib.analysis.judgement import judge
from lib.analysis.statistics import is_unstable
from lib.data import Data
from lib.model import Checkpoint
from lib.records.schema import BenchmarkRecord
from lib.report.caveats import warnings_words
from lib.report.gaps import absent
from lib.report.table import Banner, Cell, Stack, Table, Value, profile_banner
from lib.report.verdict_cells import judgement_cell, parity_cell
from lib.report.words import duration, percent, points, ratio_interval, scenario_name, size

GLANCE = "at-a-glance"  # id of the display at the top of the page that the end of the notebook fills in


def place() -> None:
    """A place at the top of the page for what is only known at its end; `fill_glance` fills it in."""
    from IPython.display import display

    display(Banner("The answer appears here when the notebook has come to its end.", "info"), display_id=GLANCE)  # type: ignore[no-untyped-call]


def fill(record: BenchmarkRecord) -> None:
    """The answer at the top of the page, and every warning but that of the shell, which the next output has."""
    from IPython.display import update_display

    parts: list[Table | Banner | None] = []
    if not record.is_network:
        parts.append(Banner(f"{record.backend} computes no network: its times are those of the harness.", "info"))
    elif record.status == "ok" and record.scenarios:
        parts.append(glance_table(record))
    elif record.status != "ok":
        parts.append(absent(record, "times"))
    if warnings := [warning for warning in record.warnings if warning.kind != "variables"]:
        parts.append(Banner(warnings_words(warnings)))
    update_display(Stack(*parts), display_id=GLANCE)  # type: ignore[no-untyped-call]


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
        warning = Banner(
            "Nobody trained this network: its weights are random. Its speed can be measured and its logits compared; "
            "its answers mean nothing.",
            "info",
        )
    elif trained_now or about.profile == "smoke":
        why = (
            "There was no checkpoint in this run, so a small network was trained just now"
            if trained_now
            else ("The checkpoint of this run is that of a smoke training")
        )
        warning = Banner(
            f"{why}. Its speed is what it is, its accuracy means little, and its record is marked as a smoke one. "
            "Train a real network with python -m lib run 02_train."
        )
    elif about.data_hash != data.manifest_hash:
        warning = Banner(
            f"The checkpoint was trained on other images ({about.data_source}, {about.data_hash[:12]}) than those it "
            f"is measured on ({data.source}, {data.manifest_hash[:12]}): its accuracy is that of a network abroad."
        )
    return Stack(profile_banner(profile), warning, Table(["", "checkpoint"], rows, caption="The network"))
