"""German traffic sign recognition on CPUs, from data to a decision.

Imports point downwards only: errors, files < granted, variables < signs < records < data < model < training
< backends < bench < report < series. Importing a package imports no inference runtime.
"""

import sys

if sys.platform != "linux":  # here, so that it is the first thing that the command line and every notebook report
    from lib.errors import UserError

    _NEEDED = f"Linux (x86-64 or Arm) is needed, this is {sys.platform}; use a virtual machine, WSL 2 or a container"
    raise UserError(_NEEDED) if "IPython" in sys.modules else SystemExit(f"error: {_NEEDED}")

import lib.granted  # noqa: F401  # before torch is loaded, which may bind this thread to one core
