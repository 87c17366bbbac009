"""All backends at other batch sizes and numbers of threads."""

from __future__ import annotations

from collections.abc import Sequence

from lib.analysis.judgement import widest_floor
from lib.records.schema import BenchmarkRecord
from lib.report.benchmark.batch_sweep import NOT_ASKED, crossing_words, failure_words, plot_sweeps
from lib.report.figures import show
from lib.report.table import Displayed, Table


def curves(records: Sequence[BenchmarkRecord]) -> Displayed:
    """Speedups at other batch sizes and numbers of threads, and where the verdict changes."""
    swept = [record for record in records if record.sweep and record.backend != record.reference]
    if not swept:
        return NOT_ASKED
    show(plot_sweeps(swept))
    rows = [
        {
            "backend": record.backend,
            "against the reference": crossing_words(record.sweep, widest_floor(record)),
            "left out": failure_words(record.sweep),
        }
        for record in swept
    ]
    return Table.of(rows, caption="Where the verdict changes", compact=True)
