"""The series: parameters, launching notebooks, what notebooks call first and last, the command line."""

import sys

# nbformat imports jsonschema, which imports this optional package to check addresses with foreign letters. It builds 39
# grammars on import, for a second; whoever reads notebooks here needs none of them.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
