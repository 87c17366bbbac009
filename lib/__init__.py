"""German traffic sign recognition on CPUs, from data to a decision.

Imports point downwards only: errors, files < granted, variables < signs < records < data < model < training
< backends < bench < report < series. Importing a package imports no inference runtime.
"""

import lib.granted  # noqa: F401  # before torch is loaded, which may bind this thread to one core
