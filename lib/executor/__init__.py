"""One notebook, executed by papermill."""

import lib.html  # before anything imports nbformat: see there
