"""Small charts as SVG inside a page: they take its colours, light or dark, and its fonts; each says itself in words.

For the index, which is made after every notebook and must not wait for matplotlib.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from lib.analysis.judgement import DISTURBED
from lib.analysis.statistics import Ratio
from lib.html.frame import safe
from lib.report.words import NOT_JUDGED, VERDICT_SIGNS, factor, percent

WIDTH = 440  # units of every chart; a page shows one at most as wide, in pixels
ROW = 22
NAME = 168  # room for names, left
VALUE = 62  # room for values, right
NAME_LENGTH = 24  # characters; longer names are cut
TICKS = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Speed:
    """One line of a speed chart."""

    name: str
    ratio: Ratio
    verdict: str  # faster, slower, no difference, disturbed


def speed_chart(title: str, reference: str, speeds: Sequence[Speed]) -> Markup:
    """Speedups over the reference with their intervals, fastest first, on a logarithmic axis; what was disturbed comes
    last and has no place on it."""
    speeds = sorted(speeds, key=lambda speed: (speed.verdict == DISTURBED, -speed.ratio.value))
    judged = [speed.ratio for speed in speeds if speed.verdict != DISTURBED]
    low = min([0.8, *(max(ratio.low, 1e-3) for ratio in judged)]) / 1.1
    high = max([1.25, *(min(ratio.high, 1e3) for ratio in judged)]) * 1.1
    span = math.log(high / low)

    def x(speedup: float) -> float:
        clipped = min(max(speedup, low), high)
        return NAME + 8 + (WIDTH - NAME - VALUE - 16) * math.log(clipped / low) / span

    bottom = ROW * len(judged) + 6 if judged else -20
    ticks = [tick for tick in TICKS if low <= tick <= high] if judged else []
    if len(ticks) > 5:  # they would touch: every second one
        ticks = [tick for tick in ticks if round(math.log2(tick)) % 2 == 0]
    parts = [
        f'<path class="c-{"one" if tick == 1 else "grid"}" d="M{x(tick):.1f} 4V{bottom}"/>'
        f'<text class="c-tick" x="{x(tick):.1f}" y="{bottom + 14}" text-anchor="middle">{_tick(tick)}</text>'
        for tick in ticks
    ]
    for number, speed in enumerate(speeds):
        y = ROW * number + ROW / 2 + 4 + (bottom + 20 - ROW * len(judged) if speed.verdict == DISTURBED else 0)
        name = f'<text class="c-name" x="{NAME}" y="{y + 4}" text-anchor="end">{_cut(speed.name)}</text>'
        if speed.verdict == DISTURBED:
            parts.append(
                f'{name}<text class="c-name" x="{NAME + 12}" y="{y + 4}">{VERDICT_SIGNS[DISTURBED]} {NOT_JUDGED}</text>'
            )
            continue
        css = {"faster": "c-up", "slower": "c-down"}.get(speed.verdict, "c-same")
        sign = {"faster": "▲", "slower": "▼"}.get(speed.verdict, "=")
        value = f"{sign} {factor(speed.ratio.value):.2f}x" if speed.verdict != "no difference" else "= same"
        parts.append(
            f'{name}<path class="c-line {css}" d="M{x(speed.ratio.low):.1f} {y}H{x(speed.ratio.high):.1f}"/>'
            f'<circle class="{css}" cx="{x(speed.ratio.value):.1f}" cy="{y}" r="4"/>'
            f'<text class="c-value" x="{WIDTH}" y="{y + 4}" text-anchor="end">{value}</text>'
        )
    words = "; ".join(f"{speed.name} {_said(speed)}" for speed in speeds)
    caption = f"{title[:1].upper()}{title[1:]}: speed over {reference} (= 1), 99 % intervals"
    return _chart(caption, f"{caption}. {words}.", bottom + 20 + ROW * (len(speeds) - len(judged)) + 4, parts)


def _said(speed: Speed) -> str:
    if speed.verdict == DISTURBED:
        return NOT_JUDGED
    if speed.verdict == "no difference":
        return speed.verdict
    return f"{factor(speed.ratio.value):.2f} times {speed.verdict}"


def _tick(tick: float) -> str:
    return f"{tick:g}x" if tick >= 1 else f"1/{1 / tick:g}"


def _cut(name: str) -> str:
    return escape(name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - 1] + "…")


def curve_chart(title: str, shares: Sequence[float]) -> Markup:
    """Shares (0..1) of successive epochs, the axis from 0 to 100 %."""
    height, left, right = 150, 44, WIDTH - 74

    def point(number: int) -> tuple[float, float]:
        across = (number - 1) / max(1, len(shares) - 1)
        return left + 8 + (right - left - 16) * across, 10 + (height - 40) * (1 - min(max(shares[number - 1], 0), 1))

    parts = []
    for share in (0, 0.5, 1):
        y = 10 + (height - 40) * (1 - share)
        parts.append(
            f'<path class="c-grid" d="M{left} {y}H{right}"/>'
            f'<text class="c-tick" x="{left - 6}" y="{y + 4}" text-anchor="end">{share:.0%}</text>'
        )
    points = [point(number) for number in range(1, len(shares) + 1)]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    parts.append(f'<path class="c-curve" d="M{path}"/>')
    parts += [f'<circle class="c-point" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in points]
    x, y = points[-1]
    parts.append(f'<text class="c-value" x="{x + 8:.1f}" y="{y + 4:.1f}">{percent(shares[-1], 1)}</text>')
    middle = (left + right) / 2
    parts.append(
        f'<text class="c-tick" x="{middle}" y="{height - 4}" text-anchor="middle">epoch 1 to {len(shares)}</text>'
    )
    words = f"{title}: from {percent(shares[0], 1)} after epoch 1 to {percent(shares[-1], 1)} after epoch {len(shares)}"
    return _chart(title, words + ".", height, parts)


def bars_chart(title: str, counts: Sequence[int]) -> Markup:
    """One bar per class, by class number."""
    height, left, right = 150, 44, WIDTH - 8
    most = max([*counts, 1])
    step = (right - left) / max(1, len(counts))
    parts = []
    for count in (0, most):
        y = 10 + (height - 40) * (1 - count / most)
        parts.append(
            f'<path class="c-grid" d="M{left} {y}H{right}"/>'
            f'<text class="c-tick" x="{left - 6}" y="{y + 4}" text-anchor="end">{count:,}</text>'
        )
    for number, count in enumerate(counts):
        tall = (height - 40) * count / most
        parts.append(
            f'<rect class="c-bar" x="{left + number * step + 0.5:.1f}" y="{height - 30 - tall:.1f}" '
            f'width="{max(1.0, step - 1):.1f}" height="{tall:.1f}"/>'
        )
    parts.append(
        f'<text class="c-tick" x="{(left + right) / 2}" y="{height - 4}" text-anchor="middle">'
        f"class 0 to {len(counts) - 1}</text>"
    )
    words = f"{title}: {min(counts):,} to {max(counts):,} in {len(counts)} classes"
    return _chart(title, words + ".", height, parts)


def _chart(caption: str, words: str, height: float, parts: Sequence[str]) -> Markup:
    """An image with its description; the parts are made here and escaped."""
    return safe(
        f'<figure class="c-chart"><svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(words)}">'
        f"{''.join(parts)}</svg><figcaption>{escape(caption)}</figcaption></figure>"
    )
