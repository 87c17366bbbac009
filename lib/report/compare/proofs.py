"""What each backend promised to run, and what ran."""

from __future__ import annotations

from collections.abc import Sequence

from lib.records.schema import BenchmarkRecord, Proof
from lib.report.table import Table
from lib.report.verdict_cells import proof_cell
from lib.report.words import UNKNOWN, ranked_kernels

NUM_KERNELS = 4  # that a row of the proof table names


def proofs_table(records: Sequence[BenchmarkRecord]) -> Table:
    """What each backend promised to run, and what ran."""
    rows = [
        {
            "backend": record.backend,
            "promised": record.proof.promised,
            "what ran, and in how many steps or layers, offline": _kernels(record.proof),
            "verdict": proof_cell(record.proof),
        }
        for record in records
        if record.proof is not None
    ]
    return Table.of(rows, caption="Kernels", compact=True, align_numbers=False)


def _kernels(proof: Proof) -> str:
    ranked = ranked_kernels(proof)
    parts = [f"{count} x {name}" for name, count in ranked[:NUM_KERNELS]]
    rest = len(ranked) - NUM_KERNELS
    return ", ".join([*parts, *[f"{rest} more"] * (rest > 0)]) or UNKNOWN
