"""The check of `make coverage`: which functions count, and when one was executed."""

from __future__ import annotations

import re
from pathlib import Path

from lib.files import PROJECT_ROOT
from tests.unexecuted import LISTED, is_listed, public_functions, unexecuted

MODULE = '''
def ran() -> int:
    """It has two lines."""
    number = 1
    return number

def never() -> int:
    """Its head and docstring are executed by the import."""
    return 2

def _private() -> int:
    return 3

class Public:
    def method(self) -> int:
        def inside() -> int:
            return 4
        return inside()

    def promised(self) -> int:
        """Others fill it."""

    def _private(self) -> int:
        return 5

class _Hidden:
    def method(self) -> int:
        return 6
'''


def test_public_functions_that_have_a_body_count_and_one_line_of_it_is_enough(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(MODULE)
    found = public_functions(tmp_path / "module.py", tmp_path)
    assert [function.name for function in found] == ["module.py:ran", "module.py:never", "module.py:Public.method"]
    by_import = {number for number, line in enumerate(MODULE.splitlines(), 1) if line.lstrip().startswith(("def", '"'))}
    assert len(unexecuted(found, lambda _: by_import)) == 2, "`def inside` is a line of a method"
    one_line = {found[0].lines.stop - 1}
    assert unexecuted(found, lambda _: one_line) == ["module.py:never", "module.py:Public.method"]


def test_every_exception_is_a_function_that_exists_and_has_a_reason() -> None:
    names = [function.name for path in (PROJECT_ROOT / "lib").rglob("*.py") for function in public_functions(path)]
    assert len(names) > 500 and not is_listed("lib/cli.py:main")
    for entry in LISTED:
        assert entry.because and any(re.fullmatch(entry.functions, name) for name in names), entry
