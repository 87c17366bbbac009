"""The check of `make coverage`: which functions count, and when one was executed."""

from __future__ import annotations

import re

from coverage.regions import code_regions

from lib.files import PROJECT_ROOT
from tests.unexecuted import LISTED, is_listed, public_functions


def test_public_functions_that_have_a_body_count_and_one_line_of_it_is_enough() -> None:
    statements = {"ran": (1, 2), "never": (0, 1), "_private": (0, 1), "Public.method": (0, 1), "Public._own": (0, 1),
                  "Public.promised": (0, 0), "_Hidden.method": (0, 1), "": (9, 9)}  # fmt: skip
    summaries = {
        name: {"summary": {"covered_lines": covered, "num_statements": number}}
        for name, (covered, number) in statements.items()
    }
    found = public_functions({"files": {"lib/x.py": {"functions": summaries}}})
    assert found == {"lib/x.py:ran": True, "lib/x.py:never": False, "lib/x.py:Public.method": False}


def test_every_exception_is_a_function_that_exists_and_has_a_reason() -> None:
    names = [
        f"{path.relative_to(PROJECT_ROOT)}:{region.name}"
        for path in (PROJECT_ROOT / "lib").rglob("*.py")
        for region in code_regions(path.read_text())
    ]
    assert not is_listed("lib/cli.py:main")
    for entry in LISTED:
        assert entry.because and any(re.fullmatch(entry.functions, name) for name in names), entry
