"""Small charts as SVG inside a page: they take its colours, light or dark, and its fonts; each says itself in words.

For what a page shows first, and for the index, which is made after every notebook and must not wait for matplotlib.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from markupsafe import Markup

from lib.html.frame import safe
from lib.records.schema import Speed
from lib.report.words import NOT_JUDGED, VERDICT_SIGNS, factor, percent

WIDTH = 356  # units of every chart; about as many pixels on a phone, so that its text has the size of the page's
ROW = 24
NAME = 166  # room for names, left
VALUE = 68  # room for values, right
HEIGHT = 170  # of a chart with a vertical axis
LEFT = 52  # room for its labels
NAME_LENGTH = 23  # characters; longer names are cut
MOST = 5  # backends in a chart; tables have all of them
MOST_TICKS = 4  # more would touch
_SHAPES = {"faster": "c-up", "slower": "c-down"}


def speed_chart(title: str, speeds: Sequence[Speed]) -> Markup:
    """Speedups over a reference with their intervals, the highest lower end first, on a logarithmic axis. What is not
    ranked follows, hollow; what was disturbed comes last and has no place on the axis."""
    found = [(speed, speed.ratio[1]) for speed in speeds if speed.ratio]
    judged = [speed for speed, _ in sorted(found, key=lambda pair: (not pair[0].ranked, -pair[1]))]
    ranked = [*judged, *(speed for speed in speeds if not speed.ratio)]
    shown = ranked[:MOST]
    ratios = [speed.ratio for speed in shown if speed.ratio]
    low = min([0.7, *(max(bottom, 1e-3) for _, bottom, _ in ratios)]) / 1.1
    high = max([1.4, *(min(top, 1e3) for *_, top in ratios)]) * 1.1

    def x(speedup: float) -> float:
        clipped = min(max(speedup, low), high)
        return NAME + 8 + (WIDTH - NAME - VALUE - 16) * math.log(clipped / low) / math.log(high / low)

    bottom = ROW * len(shown) + 4
    parts = [
        f'<path class="c-{"one" if tick == 1 else "grid"}" d="M{x(tick):.1f} 2V{bottom}"/>'
        f'<text class="c-tick" x="{x(tick):.1f}" y="{bottom + 15}" text-anchor="middle">{_tick(tick)}</text>'
        for tick in (_ticks(low, high) if ratios else ())
    ]
    for number, speed in enumerate(shown):
        y, sign = ROW * number + ROW / 2 + 2, VERDICT_SIGNS[speed.verdict]
        parts.append(f'<text class="c-name" x="{NAME}" y="{y + 5}" text-anchor="end">{_cut(speed.name)}</text>')
        if not speed.ratio:
            parts.append(f'<text class="c-name" x="{NAME + 12}" y="{y + 5}">{sign} {NOT_JUDGED}</text>')
            continue
        css, (value, start, end) = _SHAPES.get(speed.verdict, "c-same"), speed.ratio
        text = f"{factor(value):.2f}x" if css != "c-same" else "same"
        parts.append(
            f'<path class="c-line {css}" d="M{x(start):.1f} {y}H{x(end):.1f}"/>'
            f'<circle class="{css}{"" if speed.ranked else " c-open"}" cx="{x(value):.1f}" cy="{y}" r="4"/>'
            f'<text class="c-value" x="{WIDTH}" y="{y + 5}" text-anchor="end">{sign} {text}</text>'
        )
    if ratios:
        parts.append(f'<text class="c-tick" x="{NAME - 12}" y="{bottom + 15}" text-anchor="end">99 % intervals</text>')
    caption = title + (f"; {MOST} of {len(ranked)}" if len(ranked) > MOST else "")
    caption += "; hollow: not ranked" if any(speed.ratio and not speed.ranked for speed in shown) else ""
    words = "; ".join(f"{speed.name} {_said(speed)}" for speed in ranked)
    return _chart(caption, f"{title}: {words}.", bottom + 20 if ratios else bottom, parts)


def _value(speed: Speed) -> float:
    return speed.ratio[0] if speed.ratio else 1.0


def _said(speed: Speed) -> str:
    if not speed.ratio:
        return NOT_JUDGED
    same = speed.verdict == "no difference"
    said = speed.verdict if same else f"{factor(_value(speed)):.2f} times {speed.verdict}"
    return said if speed.ranked else f"{said} (not ranked)"


def _ticks(low: float, high: float) -> list[float]:
    """Powers of 2, or of 4, or of 16, ..., from `low` to `high`."""
    powers = [power for power in range(-12, 13) if low <= 2.0**power <= high]
    step = 1
    while len(kept := [power for power in powers if power % step == 0]) > MOST_TICKS:
        step *= 2
    return [2.0**power for power in kept]


def _tick(tick: float) -> str:
    return f"{tick:g}x" if tick >= 1 else f"1/{1 / tick:g}"


def _cut(name: str) -> str:
    return escape(name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - 1] + "…")


def curve_chart(title: str, shares: Sequence[float]) -> Markup:
    """Shares (0..1) of successive epochs, the axis from 0 to 100 %."""
    right = WIDTH - 62
    step = (right - LEFT - 16) / max(1, len(shares) - 1)
    points = [(LEFT + 8 + number * step, _y(min(max(share, 0), 1))) for number, share in enumerate(shares)]
    parts = [_level(share, f"{share:.0%}", right) for share in (0, 0.5, 1)]
    parts.append(f'<path class="c-curve" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in points)}"/>')
    parts += [f'<circle class="c-point" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in points]
    x, y = points[-1]
    parts.append(f'<text class="c-value" x="{x + 8:.1f}" y="{y + 5:.1f}">{percent(shares[-1], 1)}</text>')
    parts.append(_under(f"epoch 1 to {len(shares)}", right))
    words = f"{title}: from {percent(shares[0], 1)} after epoch 1 to {percent(shares[-1], 1)} after epoch {len(shares)}"
    return _chart(title, f"{words}.", HEIGHT, parts)


def bars_chart(title: str, counts: Sequence[int]) -> Markup:
    """One bar per class, by class number."""
    most = max([*counts, 1])
    step = (WIDTH - LEFT) / max(1, len(counts))
    parts = [_level(share, f"{share * most:,.0f}", WIDTH) for share in (0, 1)]
    parts += [
        f'<rect class="c-bar" x="{LEFT + number * step + 0.5:.1f}" y="{_y(count / most):.1f}" '
        f'width="{max(1.0, step - 1):.1f}" height="{_y(0) - _y(count / most):.1f}"/>'
        for number, count in enumerate(counts)
    ]
    parts.append(_under(f"class 0 to {len(counts) - 1}", WIDTH))
    words = f"{title}: {min(counts):,} to {max(counts):,} in {len(counts)} classes"
    return _chart(title, f"{words}.", HEIGHT, parts)


def _y(share: float) -> float:
    """Where a share of the whole axis is."""
    return 10 + (HEIGHT - 42) * (1 - share)


def _level(share: float, label: str, right: float) -> str:
    """A line across with its label."""
    return (
        f'<path class="c-grid" d="M{LEFT} {_y(share)}H{right}"/>'
        f'<text class="c-tick" x="{LEFT - 6}" y="{_y(share) + 5}" text-anchor="end">{label}</text>'
    )


def _under(label: str, right: float) -> str:
    """The name of the horizontal axis."""
    return f'<text class="c-tick" x="{(LEFT + right) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{label}</text>'


def _chart(caption: str, words: str, height: float, parts: Sequence[str]) -> Markup:
    """An image with its description; the parts are made here and escaped."""
    return safe(
        f'<figure class="c-chart"><svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(words)}">'
        f"{''.join(parts)}</svg><figcaption>{escape(caption)}</figcaption></figure>"
    )
