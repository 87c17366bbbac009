"""The tests. Several processes share the cores here, so a thread that waits must sleep: spinning, as OpenMP does by
default, it would keep those that work from working."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
