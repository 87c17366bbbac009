"""What may pass from a notebook into a page: an allow-list of tags, attributes and addresses.

Outputs of a notebook are data (class names, file names, messages of other programs), so nothing in them may become a
script, a style, a form or a request to another machine.
"""

from __future__ import annotations

import re
from html import escape

import bleach  # type: ignore[import-untyped]
from bs4 import BeautifulSoup, Tag

_TAG_NAMES = (
    "a abbr b blockquote br caption code col colgroup dd del details div dl dt em figcaption figure h1 h2 h3 h4 h5 h6 "
    "hr i img input ins kbd li mark ol p pre s samp small span strong sub summary sup table tbody td tfoot th thead "
    "tr u ul var"
)
_ATTRIBUTE_NAMES = "alt title scope colspan rowspan width height start open lang role aria-label"
TAGS = frozenset(_TAG_NAMES.split())
DROPPED_WITH_CONTENT = ("script", "style", "template", "noscript", "iframe", "object", "embed", "svg", "math", "head")
_CLASS = re.compile(r"r-[a-z0-9-]+|highlight|dataframe|[a-z]{1,2}\d?|task-list-item(-checkbox)?")
_IMAGE = re.compile(r"data:image/(png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=\s]*")
_LINK = re.compile(r"(https?://|mailto:|#|\.{0,2}/)?[^:]*|https?://.*", re.DOTALL)
_SORT_KEY = re.compile(r"-?\d{1,20}(\.\d{1,20})?(e[-+]?\d{1,3})?")
_PLAIN_ATTRIBUTES = frozenset(_ATTRIBUTE_NAMES.split())


def _attribute_allowed(tag: str, name: str, value: str) -> bool:
    if name == "class":
        return True  # `clean_html` keeps the known class names
    if name == "src":
        return tag == "img" and _IMAGE.fullmatch(value) is not None
    if name == "href":
        return tag == "a" and _LINK.fullmatch(value) is not None
    if name == "tabindex":
        return value == "0"
    if name == "data-v":  # by which the page sorts its tables
        return _SORT_KEY.fullmatch(value) is not None
    if tag == "input":
        return name in ("type", "checked", "disabled") and (name != "type" or value == "checkbox")
    return name in _PLAIN_ATTRIBUTES


def _without_foreign_content(html: str) -> str:
    """Elements whose text is no text for readers go with their content (bleach alone would show it)."""
    soup = BeautifulSoup(html, "html.parser")
    for element in soup.find_all(DROPPED_WITH_CONTENT):
        element.decompose()
    return str(soup)


def clean_html(html: str) -> str:
    """HTML of a notebook -> HTML that shows the same text and can do nothing."""
    cleaned = bleach.clean(
        _without_foreign_content(html),
        tags=TAGS,
        attributes=_attribute_allowed,
        protocols={"http", "https", "mailto", "data"},  # `data` only for images: see _attribute_allowed
        strip=True,
        strip_comments=True,
    )
    soup = BeautifulSoup(cleaned, "html.parser")
    for element in soup.find_all(class_=True):
        kept = [name for name in element.get_attribute_list("class") if name and _CLASS.fullmatch(name)]
        if kept:
            element["class"] = " ".join(kept)
        else:
            del element["class"]
    for element in soup.find_all("img"):
        _repair_image(element)
    for element in soup.find_all("input"):
        element["disabled"] = ""
    return str(soup)


def _repair_image(element: Tag) -> None:
    if not element.get("src"):  # an image on another machine: a page makes no requests
        element.replace_with(f"[image not embedded: {element.get('alt') or 'no description'}]")
    elif element.get("alt") is None:
        element["alt"] = "Figure without a description"


_ESCAPE = re.compile(r"\x1b\[([\d;:]*)([A-Za-z])|\x1b\][^\x07]*\x07|\x1b[@-_]")
_COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")


def _nearest_colour(red: int, green: int, blue: int) -> str:
    """One of the eight names: a page has one palette for light and one for dark."""
    low, high = min(red, green, blue), max(red, green, blue)
    if high - low < 48:
        return "white"
    middle = (low + high) / 2
    index = (red > middle) * 1 + (green > middle) * 2 + (blue > middle) * 4
    return _COLOURS[index]


def _colour_of_256(index: int) -> str:
    if index < 16:
        return _COLOURS[index % 8]
    if index >= 232:
        return "white"
    index -= 16
    red, green, blue = (51 * level for level in (index // 36, index // 6 % 6, index % 6))
    return _nearest_colour(red, green, blue)


def _apply_codes(codes: list[int], style: dict[str, str]) -> None:
    """Change `style` (keys: colour, bold) as one escape sequence says."""
    while codes:
        code = codes.pop(0)
        if code == 0:
            style.clear()
        elif code == 1:
            style["bold"] = "r-a-bold"
        elif code == 22:
            style.pop("bold", None)
        elif code == 39:
            style.pop("colour", None)
        elif 30 <= code <= 37 or 90 <= code <= 97:
            style["colour"] = f"r-a-{_COLOURS[code % 10]}"
        elif code in (38, 48):
            kind, colour = codes[:1], ""
            if kind == [5] and len(codes) >= 2:
                colour, codes[:2] = _colour_of_256(codes[1]), []
            elif kind == [2] and len(codes) >= 4:
                colour, codes[:4] = _nearest_colour(codes[1], codes[2], codes[3]), []
            else:
                codes.clear()
            if code == 38 and colour:
                style["colour"] = f"r-a-{colour}"


def ansi_to_html(text: str) -> str:
    """Escaped text; colours become classes, every other escape sequence goes."""
    parts, style, end = [], dict[str, str](), 0

    def piece(raw: str) -> str:
        content = escape(raw.translate(_CONTROL), quote=False)
        return f'<span class="{" ".join(style.values())}">{content}</span>' if style and content else content

    for match in _ESCAPE.finditer(text):
        parts.append(piece(text[end : match.start()]))
        end = match.end()
        if match[2] == "m":
            _apply_codes([int(code) for code in re.findall(r"\d+", match[1])] or [0], style)
    parts.append(piece(text[end:]))
    return "".join(parts)


_CONTROL = {code: None for code in range(32) if chr(code) not in "\n\t"}


def last_writes(text: str) -> str:
    """What a terminal shows in the end: a carriage return starts its line again (progress bars)."""
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.replace("\r\n", "\n").split("\n")]
    return "\n".join(lines)
