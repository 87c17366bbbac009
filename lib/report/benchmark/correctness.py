"""Does the backend compute the same network, and by the kernels that it promises?"""

from __future__ import annotations

from lib.records.schema import BenchmarkRecord, Parity, Proof
from lib.report.gaps import Shown, absent
from lib.report.table import Banner, Cell, Stack, Table, Value
from lib.report.train import accuracy_table
from lib.report.verdict_cells import parity_cell
from lib.report.words import number, percent, percent_interval, points, ranked_kernels
from lib.signs import CLASS_NAMES


def parity(record: BenchmarkRecord) -> Shown:
    """Logits and accuracy against the reference."""
    if record.parity is None:
        if record.status == "ok" and not record.is_network:
            return Banner(f"{record.backend} computes no network, so it has no accuracy to compare", "info")
        return absent(record, "parity")
    classes = record.data.classes if record.data else CLASS_NAMES
    accuracy = accuracy_table(record.accuracy, classes=classes) if record.accuracy else None
    return Stack(parity_table(record.parity, random_weights=record.random_weights), accuracy)


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
    note = "The network is not trained, its weights are random: only its logits are compared, accuracy means nothing."
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
            "Passed: no more is lost than allowed. Failed: the whole interval is beyond that. Else inconclusive."
        )
    columns, caption = ["what", "against the reference backend"], "Parity: right before fast"
    return Table(columns, rows, caption=caption, note=note, compact=True, align_numbers=False)


def proof(record: BenchmarkRecord) -> Shown:
    """Which kernels ran, and what of it needs a look."""
    if record.proof is None:
        return absent(record, "kernels")
    doubt = record.proof.investigate
    return Stack(Banner(f"To investigate: {doubt}.") if doubt else None, proof_table(record.proof))


def proof_table(proof: Proof) -> Table:
    """Which kernels really ran."""
    rows: list[list[Value]] = [[name, count] for name, count in ranked_kernels(proof)]
    judged = "The promise holds" if proof.passed else "THE PROMISE DOES NOT HOLD"
    note = f"{judged}. Promised: {proof.promised}." + (f" {proof.reason}" if proof.reason else "")
    columns = ["kernel that ran", "steps or layers that it ran in"]
    return Table(columns, rows, caption="Proof of the backend, offline scenario", note=note, compact=True)
