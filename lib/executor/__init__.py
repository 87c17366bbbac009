"""One notebook, executed by papermill."""

import lib.html  # noqa: F401  # before anything imports nbformat: see there
