"""Whether a release should replace the champion, in words and as a table."""

from __future__ import annotations

from lib.records.schema import Promotion, Rule
from lib.report.table import Banner, Cell, Displayed, Stack, Table, Tone, Value
from lib.report.words import capital, milliseconds, percent, sentence

SIGNS: dict[str, tuple[str, Tone]] = {"holds": ("✓", "good"), "broken": ("✗", "bad"), "undecided": ("○", "warn")}
_LOWER_IS_BETTER = ("calibration error", "p50")
NO_CHAMPION = "Nothing is compared: that takes a release of this run and an earlier one, given with -p champion PATH."


def shown(promotion: Promotion | None) -> Displayed:
    """The verdict, with what each rule found."""
    if promotion is None:
        return Banner(NO_CHAMPION, "info")
    words = sentence(verdict_words(promotion))
    return Stack(Banner(words, "info" if promotion.verdict == "promote" else "warning"), rules_table(promotion))


def verdict_words(promotion: Promotion) -> str:
    """`keep the champion synthetic-signnet 2026-11-26.98b023e1: top-1 changes by -3.20 points [...], ...`."""
    broken, undecided = (
        "; ".join(_rule_words(rule) for rule in promotion.rules if rule.result == result)
        for result in ("broken", "undecided")
    )
    if promotion.verdict == "promote":
        return f"promote it over the champion {promotion.champion}: each of the {len(promotion.rules)} rules holds"
    if promotion.verdict == "keep":
        return f"keep the champion {promotion.champion}: {broken}"
    why = "; ".join(promotion.doubts) or f"undecided is {undecided}"
    return f"investigate before it replaces the champion {promotion.champion}: {why}"


def rules_table(promotion: Promotion) -> Table:
    """A row for each rule: both figures, the change with its interval, the limit, the result."""
    images = f"{promotion.num_images:,} validation images of {promotion.num_tracks} tracks"
    return Table(
        ["rule", "result", "change", "interval", "limit", "challenger", "champion"],
        [_row(rule) for rule in promotion.rules],
        caption=f"{capital(promotion.verdict)}: the challenger against {promotion.champion}",
        note=f"Both read the same {images}, and took turns for p50, which counts the network alone.",
        align_numbers=False,
    )


def short_rules_table(promotion: Promotion) -> Table:
    """The same for a first screen, which says the verdict already."""
    return Table(["rule", "result", "change"], [_row(rule)[:3] for rule in promotion.rules], align_numbers=False)


def _row(rule: Rule) -> list[Value]:
    sign, tone = SIGNS[rule.result]
    return [
        rule.name,
        Cell(f"{sign} {rule.reason or rule.result}", tone=tone),
        _changed(rule, rule.loss),
        _interval(rule),
        _changed(rule, rule.limit),
        _figure(rule, rule.challenger),
        _figure(rule, rule.champion),
    ]


def _rule_words(rule: Rule) -> str:
    if rule.reason:
        return f"{rule.name} ({rule.reason})"
    return f"{rule.name} changes by {_changed(rule, rule.loss)} {_interval(rule)}, and the limit is " + _changed(
        rule, rule.limit
    )


def _figure(rule: Rule, value: float) -> str:
    return f"{milliseconds(value)} ms" if rule.name == "p50" else percent(value)


def _changed(rule: Rule, loss: float) -> str:
    """`-0.31 points`: what the challenger has more than the champion; for p50 its time over the other, `1.04x`."""
    return f"{loss:.2f}x" if rule.name == "p50" else f"{_points(rule, loss)} points"


def _interval(rule: Rule) -> str:
    if rule.interval is None:
        return ""
    if rule.name == "p50":
        return f"[{rule.interval[0]:.2f}, {rule.interval[1]:.2f}]"
    low, high = sorted(rule.interval, key=lambda loss: _signed(rule, loss))
    return f"[{_points(rule, low)}, {_points(rule, high)}]"


def _points(rule: Rule, loss: float) -> str:
    text = f"{100 * _signed(rule, loss):+.2f}"
    return "0.00" if float(text) == 0 else text


def _signed(rule: Rule, loss: float) -> float:
    return loss if rule.name in _LOWER_IS_BETTER else -loss
