"""What may pass from a notebook into a page: an allow-list of tags, attributes and addresses.

Outputs of a notebook are data (class names, file names, messages of other programs), so nothing in them may become a
script, a style, a form or a request to another machine.
"""

from __future__ import annotations

import re
from html import escape, unescape

import nh3
from nbconvert.filters import ansi2html, strip_ansi

_TAGS = (
    "a abbr b blockquote br caption code col colgroup dd del details div dl dt em figcaption figure h1 h2 h3 h4 h5 h6 "
    "hr i img input ins kbd li mark ol p pre s samp small span strong sub summary sup table tbody td tfoot th thead "
    "tr u ul var"
)
_ATTRIBUTES = "class tabindex data-v alt title scope colspan rowspan width height start open lang role aria-label"
_CONTENT_DROPPED = "script style template noscript iframe object embed svg math head"
_CLASS = re.compile(r"r-[a-z0-9-]+|highlight|dataframe|[a-z]{1,2}\d?|task-list-item(-checkbox)?")
_VALUES = {  # of attributes that may have some values only
    "src": re.compile(r"data:image/(png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=\s]*"),
    "href": re.compile(r"(https?://|mailto:|#|\.{0,2}/)?[^:]*|https?://.*", re.DOTALL),
    "tabindex": re.compile("0"),
    "data-v": re.compile(r"-?\d{1,20}(\.\d{1,20})?(e[-+]?\d{1,3})?"),  # by which the page sorts its tables
}
_IMAGE = re.compile(r'<img((?: [a-z-]+="[^"]*")*)>')  # as nh3 writes it


def _attribute(_tag: str, name: str, value: str) -> str | None:
    if name == "class":
        return " ".join(kept for kept in value.split() if _CLASS.fullmatch(kept)) or None
    allowed = _VALUES.get(name)
    return value if allowed is None or allowed.fullmatch(value) else None


_CLEANER = nh3.Cleaner(
    tags=set(_TAGS.split()),
    clean_content_tags=set(_CONTENT_DROPPED.split()),
    attributes={"*": set(_ATTRIBUTES.split()), "a": {"href"}, "img": {"src"}, "input": {"checked"}},
    tag_attribute_values={"input": {"type": {"checkbox"}}},
    set_tag_attribute_values={"input": {"disabled": ""}},
    attribute_filter=_attribute,
    url_schemes={"http", "https", "mailto", "data"},  # `data` only for images: see _VALUES
    link_rel=None,
)


def clean_html(html: str) -> str:
    """HTML of a notebook -> HTML that shows the same text and can do nothing."""
    return _IMAGE.sub(_described, _CLEANER.clean(html))


def _described(image: re.Match[str]) -> str:
    alt = re.search(r' alt="([^"]*)"', image[1])
    if ' src="' not in image[1]:  # an image on another machine: a page makes no requests
        description = unescape(alt[1]) if alt else ""
        return f"[image not embedded: {escape(description) or 'no description'}]"
    return image[0] if alt else f'<img alt="Figure without a description"{image[1]}>'


_NO_COLOUR = re.compile(r"\x1b\].*?(\x07|\x1b\\)|\x1b(?!\[)|[\x00-\x08\x0b-\x1a\x1c-\x1f]")
_STYLE = re.compile(r' style="[^"]*"')


def ansi_to_html(text: str) -> str:
    """Escaped text; the eight colours of a terminal become classes, every other escape sequence goes."""
    return _STYLE.sub("", str(ansi2html(_NO_COLOUR.sub("", text))))  # type: ignore[no-untyped-call]


def plain(text: str) -> str:
    """Text without the colours of a terminal."""
    return str(strip_ansi(text))  # type: ignore[no-untyped-call]


def last_writes(text: str) -> str:
    """What a terminal shows in the end: a carriage return starts its line again (progress bars)."""
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.replace("\r\n", "\n").split("\n")]
    return "\n".join(lines)
