"""`python -m lib`."""

import sys

from lib.series.cli import main

sys.exit(main())
