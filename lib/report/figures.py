"""Figures: one look, one colour per backend, and an image with alternative text on every page."""

from __future__ import annotations

import base64
import io
import sys
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.offsetbox import OffsetImage
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter
from PIL import Image

from lib.analysis.statistics import Ratio
from lib.backends import REFERENCE, backend_names
from lib.report.table import packed

WIDTH = 9.4  # inches; 902 CSS pixels, the text column of the page
SVG_LIMIT = 90_000  # bytes; beyond it a bitmap is smaller and draws faster
IMAGE_LIMIT = 200_000  # bytes of one bitmap; a page of 1.5 MB holds five of these and its text
MANY_IMAGES = 12  # in a figure: as SVG it would be larger than any limit, so that is not tried
CSS_DPI = 96
WIDE_PX = 640  # wider than a phone: there the figure scrolls inside its frame instead of shrinking to dust

# After Okabe and Ito and Paul Tol's "muted" (colour-blind safe); darkened so that all have at least 3:1 on white.
PALETTE = ("#0072B2", "#D55E00", "#00805C", "#AA4499", "#332288", "#8A6D00", "#882255", "#4C7A8A", "#6B4C2A")
SPEEDUP_TICKS = (0.05, 0.1, 0.2, 0.25, 0.33, 0.5, 0.67, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 8, 10, 20, 50)
COARSE_TICKS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
INK = "#1b1f24"
MARKERS = "osD^v"
REFERENCE_COLOUR = "#24292F"
CONTROL = "#8a939b"  # of the control, and of the band within which nothing differs
FASTER, SLOWER, NEUTRAL = "#1f5fa8", "#b4560b", "#5c6670"
VERDICT_COLOURS = {"faster": FASTER, "slower": SLOWER, "no difference": NEUTRAL}
STYLE = Path(__file__).with_suffix(".mplstyle")
P = ParamSpec("P")
R = TypeVar("R")
_descriptions: WeakKeyDictionary[Figure, list[tuple[str, str]]] = WeakKeyDictionary()


def _rank(name: str) -> int:
    """Place among all backends of the registry; of any other name a number made from its letters, which is stable."""
    names = backend_names()
    return names.index(name) if name in names else zlib.crc32(name.encode())


def backend_colour(name: str) -> str:
    """One colour per backend, the same in every notebook. The reference has one that no other backend has, since every
    backend is beside it."""
    return REFERENCE_COLOUR if name == REFERENCE else PALETTE[_rank(name) % len(PALETTE)]


def marker(name: str) -> str:
    """Another shape for each round of the palette: with more backends than colours, two share a colour."""
    return MARKERS[_rank(name) // len(PALETTE) % len(MARKERS)]


def side_colours(backend: str, reference: str) -> tuple[str, str]:
    """Of the backend and of the reference beside it, also where both are the same."""
    return backend_colour(backend), NEUTRAL if backend == reference else backend_colour(reference)


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Draw in the common style, whatever the user has set for Matplotlib, and leave these settings as they were."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.style.context(["default", STYLE]):
            return function(*args, **kwargs)

    return wrapper


def new_axes(height: float, width: float = WIDTH) -> Axes:
    """Axes of a new figure of `width` x `height` inches."""
    return Figure(figsize=(width, height), layout="constrained").subplots()


def new_panels(num_panels: int, height: float, *, share_y: bool = False) -> list[Axes]:
    """Panels side by side in a new figure."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return list(figure.subplots(1, num_panels, squeeze=False, sharey=share_y)[0])


def text_colour(background: Sequence[float] | np.ndarray) -> str:
    """Black or white, whichever is easier to read on a colour (0..1 per channel; WCAG's relative luminance)."""
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in background[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "white" if luminance < 0.19 else "#1b1f24"


def figure_of(ax: Axes) -> Figure:
    """The figure that axes belong to."""
    figure = ax.get_figure(root=True)
    if figure is None:
        raise ValueError("the axes were removed from their figure")
    return figure


def describe(ax: Axes, text: str, says: str = "") -> Axes:
    """Remember what the axes show, in words made from the data.

    Args:
        text: what `show` uses as alternative text.
        says: one sentence for everybody, below the figure.
    """
    _descriptions.setdefault(figure_of(ax), []).append((text, says))
    return ax


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    empty: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=empty)
    return buffer.getvalue()


def png(figure: Figure) -> bytes:
    """At twice the CSS resolution; with 256 colours where it would be too big, then at a lower resolution."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=2 * CSS_DPI)
    full = Image.open(buffer).convert("RGB")
    content = packed(full)
    for scale in (1.0, 0.75, 0.5):
        if len(content) <= IMAGE_LIMIT:
            break
        size = (round(full.width * scale), round(full.height * scale))
        content = packed(full.resize(size, Image.Resampling.LANCZOS).quantize(256, Image.Quantize.FASTOCTREE))
    return content


@styled
def figure_html(figure: Figure, alt: str, caption: str = "") -> str:
    """A figure as an image inside the page, SVG or (where that is smaller) PNG."""
    if not alt.strip():
        raise ValueError("a figure needs alternative text: say in one sentence what it shows")
    images = [found for found in figure.findobj(AxesImage) if isinstance(found, AxesImage)]
    artwork = figure.findobj(OffsetImage)
    # The dark theme inverts figures, but for camera images and artwork, whose colours must stay.
    is_picture = bool(artwork) or any(np.asarray(image.get_array()).ndim == 3 for image in images)
    content, mime = b"", "image/svg+xml"
    if len(images) + len(artwork) <= MANY_IMAGES:
        content = _svg(figure)
    if not 0 < len(content) <= SVG_LIMIT:
        content, mime = png(figure), "image/png"
    width, height = (round(inches * CSS_DPI) for inches in figure.get_size_inches())
    names = "r-figure" + " r-wide" * (width > WIDE_PX) + " r-picture" * is_picture
    text = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    # The style is for live front ends; in the page the style sheet says the same.
    return (
        f'<figure class="{names}" style="margin:.75rem 0"><img alt="{escape(alt)}" width="{width}" '
        f'height="{height}" style="max-width:100%;height:auto;background:#fff" '
        f'src="data:{mime};base64,{base64.b64encode(content).decode()}">{text}</figure>'
    )


def described_html(figure: Figure, alt: str = "") -> tuple[str, str]:
    """A figure as HTML with its sentence, and its alternative text; arguments and errors as of `show`."""
    descriptions = _descriptions.pop(figure, [])
    alt = alt or " ".join(text for text, _ in descriptions)
    return figure_html(figure, alt, " ".join(says for _, says in descriptions if says)), alt


def show(figure: Figure | Axes, alt: str = "") -> None:
    """Display a figure with its sentence in JupyterLab, under papermill and in the page, and let go of it.

    Args:
        alt: alternative text; without it, what the `plot_*` function said about its data.

    Raises:
        ValueError: no alternative text at all.
    """
    from IPython.display import display

    if isinstance(figure, Axes):
        figure = figure_of(figure)
    html, alt = described_html(figure, alt)
    # The alternative text is also what a plain terminal or a search in the notebook file sees.
    texts = {"text/html": html, "text/plain": f"[figure: {alt}]"}
    display(texts, raw=True)  # type: ignore[no-untyped-call]
    figure.clear()
    if pyplot := sys.modules.get("matplotlib.pyplot"):  # or it shows its own figures again at the end of the cell
        pyplot.close(figure)


def speedup_axis(ax: Axes, values: Sequence[float], axis: str = "x") -> None:
    """Logarithmic, so that twice as fast and half as fast lie equally far from 1; plain numbers on the ticks."""
    low, high = min([0.8, *values]) / 1.12, max([1.25, *values]) * 1.12
    ticks = [tick for tick in SPEEDUP_TICKS if low <= tick <= high]
    if len(ticks) > 6:
        ticks = [tick for tick in ticks if tick in COARSE_TICKS]
    getattr(ax, f"set_{axis}scale")("log")
    getattr(ax, f"set_{axis}lim")(low, high)
    fixed_ticks(ax.xaxis if axis == "x" else ax.yaxis, ticks, "x")


def fixed_ticks(line: XAxis | YAxis, ticks: Sequence[float], unit: str = "") -> None:
    """These ticks and no others, as plain numbers: a logarithmic axis would write powers of ten."""
    line.set_major_locator(FixedLocator(ticks))
    line.set_minor_locator(NullLocator())
    line.set_major_formatter(StrMethodFormatter(f"{{x:g}}{unit}"))


def reach(ratios: Sequence[Ratio]) -> list[list[float]]:
    """How far the intervals reach below and above their values, as `errorbar` takes it."""
    return [[ratio.value - ratio.low for ratio in ratios], [ratio.high - ratio.value for ratio in ratios]]


def legend_below(panel: Axes) -> None:
    """One legend for all panels of a figure, from the curves of one of them."""
    figure_of(panel).legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=4)


def doublings_axis(panel: Axes, values: Iterable[int], label: str) -> None:
    """A horizontal scale of doublings with the measured numbers on it."""
    panel.set_xscale("log", base=2)
    fixed_ticks(panel.xaxis, sorted(set(values)))
    panel.set_xlabel(label)
    panel.grid()
