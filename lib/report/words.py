"""One way to write each kind of number, so that page, index, figure and terminal say the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lib.analysis.judgement import DISTURBED, Judgement
from lib.analysis.statistics import SMALLEST_EFFECT, Ratio, verdict
from lib.records.schema import LayerTable, Proof, Scenario

UNKNOWN = "–"
NOT_JUDGED = "disturbed, not judged"
VERDICT_SIGNS = {"faster": "▲", "slower": "▼", "no difference": "=", DISTURBED: "○"}  # never colour alone


def number(value: float, digits: int = 3) -> str:
    """Three significant digits, thousands separated, never in powers of ten for what a table shows."""
    if value != value or value in (float("inf"), float("-inf")):
        return UNKNOWN
    if value == 0:
        return "0"
    if abs(value) < 1e-4:
        return f"{value:.{digits - 1}e}"
    if abs(value) >= 10**digits:
        return f"{value:,.0f}"
    text = f"{value:#.{digits}g}"
    return text.rstrip("." if abs(value) >= 1 else "")


def milliseconds(seconds: float | None) -> str:
    """Seconds as milliseconds without the unit (it stands in the column's head)."""
    return UNKNOWN if seconds is None else number(seconds * 1000)


def duration(seconds: float | None) -> str:
    """A time a person waited: `340 ms`, `12.3 s`, `2 min 05 s`, `1 h 02 min`."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def percent(share: float | None, digits: int = 2) -> str:
    """`0.98765` -> `98.77 %`."""
    return UNKNOWN if share is None else f"{100 * share:.{digits}f} %"


def points(share: float) -> str:
    """A difference of shares: `0.0012` -> `0.12 points`."""
    text = f"{100 * share:.2f}"
    return f"{text.removeprefix('-') if float(text) == 0 else text} points"


def percent_interval(interval: tuple[float, float] | None) -> str:
    """`[98.31, 99.02] %`, or an empty string."""
    return "" if interval is None else f"[{100 * interval[0]:.2f}, {100 * interval[1]:.2f}] %"


def size(num_bytes: float | None) -> str:
    """Bytes in powers of 1024: `412 MiB`."""
    if num_bytes is None:
        return UNKNOWN
    for unit in ("B", "KiB", "MiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.0f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.1f} GiB"


def factor(speedup: float) -> float:
    """How many times faster or slower, always at least 1."""
    return speedup if speedup >= 1 else 1 / speedup


def ratio_words(ratio: Ratio, noise_floor: float = SMALLEST_EFFECT) -> str:
    """`1.81x faster`, `1.62x slower` or `no difference`."""
    judged = verdict(ratio, noise_floor)
    return judged if judged == "no difference" else f"{factor(ratio.value):.2f}x {judged}"


def judgement_words(found: Judgement) -> str:
    """As `ratio_words`, or `disturbed, not judged`."""
    return NOT_JUDGED if found.disturbance is not None else ratio_words(found.ratio, found.noise_floor)


def ratio_interval(ratio: Ratio, noise_floor: float = SMALLEST_EFFECT) -> str:
    """The interval in the direction of the words: `1.62x slower [1.58, 1.66]`."""
    low, high = ratio.low, ratio.high
    if verdict(ratio, noise_floor) == "slower":
        low, high = 1 / high, 1 / low
    return f"[{low:.2f}, {high:.2f}]"


def scenario_name(name: str) -> str:
    """`single_stream` -> `single stream`: names of the record as words of a sentence."""
    return name.replace("_", " ")


def place_of(measured: Scenario | LayerTable) -> str:
    """`single stream, batch 1`."""
    name = measured.name if isinstance(measured, Scenario) else measured.scenario
    return f"{scenario_name(name)}, batch {measured.batch_size}"


def capital(text: str) -> str:
    """As a sentence begins; all other letters stay as they are."""
    return f"{text[:1].upper()}{text[1:]}"


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return capital(text).rstrip(".") + "."


MULTIPLIES = ("conv", "gemm", "matmul", "addmm", "linear", "fullyconnected", "fully connected", "inner")


def group_name(members: Sequence[str]) -> str:
    """Layers that run as one step, with what their names have in common said once.

    `stage1.block1.conv2`, `stage1.block1.bn2` -> `stage1.block1: conv2 + bn2`.
    """
    if len(members) == 1:
        return members[0]
    parts = [member.split(".") for member in members]
    shared = 0
    while all(len(names) > shared + 1 and names[shared] == parts[0][shared] for names in parts):
        shared += 1
    inside = " + ".join(".".join(names[shared:]) for names in parts)
    return f"{'.'.join(parts[0][:shared])}: {inside}" if shared else inside


def counted(names: Sequence[str]) -> str:
    """`a, a, b` -> `a x2, b`, in the order of their first mention."""
    numbers = Counter(names)
    return ", ".join(name if number == 1 else f"{name} x{number}" for name, number in numbers.items())


def ranked_kernels(proof: Proof) -> list[tuple[str, int]]:
    """Kernels that ran, those that multiply first, then the most frequent."""

    def rank(item: tuple[str, int]) -> tuple[bool, int]:
        name = item[0].lower()
        return not any(word in name for word in MULTIPLIES) or "reorder" in name, -item[1]

    return sorted(proof.found.items(), key=rank)


def floor_words(floor: float) -> str:
    """`2.3 %`; where a machine did other things, `a factor of 4`."""
    return percent(floor, 1) if floor < 1 else f"a factor of {number(1 + floor, 2)}"


def shortened(name: str, length: int) -> str:
    """At most so many characters, the last ones dots."""
    return name if len(name) <= length else f"{name[: length - 3]}..."
