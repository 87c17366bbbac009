"""What each backend promised to run, and what ran."""

from __future__ import annotations

from collections.abc import Sequence

from lib.analysis.comparison import Comparison
from lib.records.run import networks
from lib.records.schema import BenchmarkRecord, Proof
from lib.report.gaps import Shown, with_records
from lib.report.table import Table, Value
from lib.report.verdict_cells import proof_cell
from lib.report.words import UNKNOWN, ranked_kernels

NUM_KERNELS = 4  # that a row of the proof table names


@with_records
def kernels(comparison: Comparison) -> Shown:
    """Which kernels ran."""
    return proofs_table(networks(comparison.records))


def proofs_table(records: Sequence[BenchmarkRecord]) -> Table:
    """What each backend promised to run, and what ran."""
    rows: list[list[Value]] = [
        [record.backend, record.proof.promised, _kernels(record.proof), proof_cell(record.proof)]
        for record in records
        if record.proof is not None
    ]
    columns = ["backend", "promised", "what ran, and in how many steps or layers, offline", "verdict"]
    return Table(columns, rows, caption="Kernels", compact=True, align_numbers=False)


def _kernels(proof: Proof) -> str:
    ranked = ranked_kernels(proof)
    parts = [f"{count} x {name}" for name, count in ranked[:NUM_KERNELS]]
    rest = len(ranked) - NUM_KERNELS
    return ", ".join([*parts, *[f"{rest} more"] * (rest > 0)]) or UNKNOWN
