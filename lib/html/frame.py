"""What all pages share: style, script, the policy that allows these two and nothing else, and the templates."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lib.files import sha256_source
from lib.report.table import TABLE_CSS

PAGE_LIMIT = 1_500_000  # bytes of one page
TEMPLATES = Path(__file__).parent / "template"


@cache
def assets() -> dict[str, str]:
    """Style and script of every page, and the policy that allows these two and nothing else."""
    table, page, dark, script = (
        path.read_text(encoding="utf-8")
        for path in (TABLE_CSS, *(TEMPLATES / name for name in ("page.css", "dark.css", "page.js")))
    )
    style = table + page  # the page may override
    style += f"@media screen and (prefers-color-scheme:dark){{{dark}}}"
    style = re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL).replace("\n", "")
    policy = (
        f"default-src 'none'; img-src data:; style-src {sha256_source(style)}; "
        f"script-src {sha256_source(script)}; base-uri 'none'; form-action 'none'"
    )
    return {"style": style, "script": script, "policy": policy}


@cache
def _templates() -> Environment:
    loader = FileSystemLoader(TEMPLATES)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def render(template: str, **content: Any) -> str:
    """A template with everything escaped that is not marked as `safe`."""
    return _templates().get_template(template).render(assets=assets(), **content)


def safe(html: str) -> Markup:
    """Mark HTML that was sanitized, escaped or made here; templates escape everything else."""
    return Markup(html)  # noqa: S704
