"""What people look at: tables, figures, the page of a notebook, the index of a run, the summary in the terminal.

Importing this package imports nothing: the launcher needs pages and tables without waiting for matplotlib.
"""

SERIES_VARIABLE = "GTSRB_SERIES"  # in the environment of a notebook that the launcher runs
