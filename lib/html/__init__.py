"""Executed notebooks as self-contained pages, and the index of a run."""

import os
import sys
from pathlib import Path

# nbformat imports jsonschema, which imports this optional package to check addresses with foreign letters. It builds 39
# grammars on import, for seconds; reading notebooks here needs none of them. The lock leaves it out, conda does not.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

try:
    Path.home()
except RuntimeError:  # a user without a name, as in a container: Jupyter looks for its settings in the home folder
    os.environ["HOME"] = "/"
