"""Code in a Python of its own, which has imported nothing yet."""

from __future__ import annotations

import os
import subprocess
import sys

from lib.files import PROJECT_ROOT


def printed_by(code: str, **variables: str) -> str:
    """What the code prints, with these variables beside those of the tests. It must end well."""
    command, environ = [sys.executable, "-c", code], {**os.environ, **variables}
    ran = subprocess.run(command, env=environ, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()
