"""The tests. What libraries read when they are imported is set here, all else in `tests.surroundings`.

Several processes share the cores, so a thread that waits must sleep: spinning, as OpenMP does by default, it would keep
those that work from working.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GTSRB_KEEP", "OMP_WAIT_POLICY")  # in measured processes too
os.environ["MATPLOTLIBRC"] = os.devnull  # not the settings of a user
