"""`python -m lib`."""

import sys

import lib.series  # noqa: F401  # before anything imports nbformat: see there
from lib.cli import main

sys.exit(main())
