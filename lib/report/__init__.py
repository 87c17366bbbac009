"""What a notebook shows: figures, tables and sentences, one file per section of a page.

Importing this package imports nothing. Modules that draw import matplotlib; `table`, `words`, `caveats` and `headline`
do not.
"""

SERIES_VARIABLE = "GTSRB_SERIES"  # in the environment of a notebook that the launcher runs: its name
LIMITS_VARIABLE = "GTSRB_TIME_LIMITS"  # there too: seconds for each cell, and when the notebook ends (Unix time)
NOTE_VARIABLE = "RUN_NOTE"  # in the environment: what readers of the pages must know about this run, in a sentence
RUN_METADATA = "run"  # of the output that describes a run: what the page says on top (see `lib.series.notebook`)
PEAK_MEMORY = "peak_memory_bytes"  # of a code cell's metadata: most memory of the kernel while it ran
