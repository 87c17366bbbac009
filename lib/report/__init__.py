"""What people look at: tables, figures, the page of a notebook, the index of a run, the summary in the terminal.

Importing this package imports nothing: the launcher needs pages and tables without waiting for matplotlib.
"""

SERIES_VARIABLE = "GTSRB_SERIES"  # in the environment of a notebook that the launcher runs: its name
LIMITS_VARIABLE = "GTSRB_TIME_LIMITS"  # there too: seconds for each cell, and when the notebook ends (Unix time)
NOTE_VARIABLE = "RUN_NOTE"  # in the environment: what readers of the pages must know about this run, in a sentence
RUN_METADATA = "run"  # of the output that describes a run: what the page says on top (see `lib.series.notebook`)
PEAK_MEMORY = "peak_memory_bytes"  # of a code cell's metadata: most memory of the kernel while it ran
