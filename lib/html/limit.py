"""How large a page may be, and what is left out of one that would be larger."""

from __future__ import annotations

import re

from lib.html.cells import CellView, Output
from lib.html.frame import safe
from lib.html.outputs import left_out

PAGE_LIMIT = 1_500_000  # bytes of one page
TEXT_LIMIT = 900_000  # bytes of text, code and tables; the rest is for images and what they are replaced by
ALT_LIMIT = 300  # characters of an image's description that stay where the image goes
_IMAGE = re.compile(r'<img\b[^>]*src="data:[^>]*>')


def shorten_text(views: list[CellView]) -> None:
    """Leave out the largest texts, codes and tables until the rest fits, with a note where each was."""
    sizes: list[tuple[int, Output | CellView]] = []
    for view in views:
        sizes.append((_size(view.text) + _size(view.code), view))
        sizes += [(_size(output.html), output) for output in view.outputs]
    excess = sum(size for size, _ in sizes) - TEXT_LIMIT
    for size, item in sorted(sizes, key=lambda pair: -pair[0]):
        if excess <= 0:
            return
        note = safe(left_out("Output" if isinstance(item, Output) else "Cell", size))
        if isinstance(item, Output):
            item.html = note
        elif item.text:
            item.text = note
        else:
            item.code = note
        excess -= size


def _size(html: str) -> int:
    """Bytes without images."""
    return len(_IMAGE.sub("", html).encode()) if "data:" in html else len(html.encode())


def within_limit(html: str) -> str:
    """Leave out the largest images until the page fits, saying so where each was."""
    sizes = sorted((len(match[0]) for match in _IMAGE.finditer(html)), reverse=True)
    excess = len(html.encode()) - PAGE_LIMIT
    threshold = None
    for image_size in sizes:
        if excess <= 0:
            break
        excess -= max(0, image_size - ALT_LIMIT - 200)  # its note needs room too
        threshold = image_size
    if threshold is None:
        return html

    def replace(match: re.Match[str]) -> str:
        if len(match[0]) < threshold:
            return match[0]
        alt = re.search(r'alt="([^"]*)"', match[0])
        words = alt[1] if alt else ""
        if len(words) > ALT_LIMIT:
            words = re.sub(r"&\w*$", "", words[:ALT_LIMIT]) + " ..."
        about = f" It shows: {words}" if words else ""
        kilobytes = len(match[0]) // 1000
        return f'<span class="r-note">Figure left out ({kilobytes} kB; pages are limited to 1.5 MB).{about}</span>'

    return _IMAGE.sub(replace, html)
