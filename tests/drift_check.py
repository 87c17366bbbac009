"""How often drift is reported where there is none, and how often a planted shift is found.

    .venv/bin/python -m tests.drift_check runs/latest              figures in build/drift-check/
    .venv/bin/python -m tests.drift_check --document RUN [RUN...]  also the table of docs/serving.md; runs such as folds

For each window, the validation tracks of a run are split in two at random: one half is what the release knows, the
window is drawn from the other half, by whole tracks in random order. No window shares a track with its reference.
"""

from __future__ import annotations

import argparse
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter
from scipy.stats import binomtest

from lib.analysis.drift import ALPHA, find_drift, is_drift
from lib.data import load_data, num_images_for, resize_image
from lib.data.images import as_image
from lib.files import CHECKPOINT_NAME, PROJECT_ROOT, project_path, write_atomic
from lib.machine import collect_environment
from lib.model import load_checkpoint
from lib.records.network_outputs import Outputs
from lib.records.schema import TRAIN, TrainRecord, read_record, record_path
from lib.training.evaluation import predict_logits

SIZES = (100, 300, 1000)
NUM_WINDOWS = 200  # of each size and shift
PIXELS = 64  # side of the images before a shift; the network gets them smaller
OUT = PROJECT_ROOT / "build/drift-check"
FIGURES = re.compile(r"(?<=<!-- drift -->\n).*(?=<!-- end of drift -->)", re.DOTALL)
SPEED_LIMITS = range(9)  # classes
OFTEN = 10.0  # times as often as the others in the other mix


def dark(image: Image.Image) -> Image.Image:
    """15 % of the light."""
    return image.point(lambda value: value * 0.15)


def blur(image: Image.Image) -> Image.Image:
    """Gaussian, with a deviation of 3 of 64 pixels."""
    return image.filter(ImageFilter.GaussianBlur(3))


def camera(image: Image.Image) -> Image.Image:
    """Red x 1.3, blue x 0.7, 40 % of the colour, sharpness 3, JPEG of quality 20."""
    red, green, blue = image.split()
    tinted = Image.merge("RGB", (red.point(lambda value: value * 1.3), green, blue.point(lambda value: value * 0.7)))
    packed = io.BytesIO()
    ImageEnhance.Sharpness(ImageEnhance.Color(tinted).enhance(0.4)).enhance(3).save(packed, "JPEG", quality=20)
    return Image.open(packed).convert("RGB")


SHIFTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "none": lambda image: image, "dark": dark, "blur": blur, "camera": camera, "mix": lambda image: image
}  # fmt: skip


@dataclass
class Found:
    """What became of the windows of one shift and size."""

    shift: str
    size: int
    num_found: int = 0
    top1: list[float] = field(default_factory=list)
    estimates: list[float] = field(default_factory=list)
    num_inside: int = 0  # windows whose interval has their top-1
    num_windows: int = 0

    @property
    def share(self) -> tuple[float, float, float]:
        """Windows in which drift is found, with the 95 % interval of Wilson."""
        found = binomtest(self.num_found, self.num_windows)
        interval = found.proportion_ci(method="wilson")
        return found.statistic, interval.low, interval.high


def answers(run: Path) -> tuple[dict[str, Outputs], list[str]]:
    """Of a run's network to its validation images, for each shift; and its classes."""
    record = read_record(record_path(run, TRAIN), TrainRecord)
    checkpoint, given = load_checkpoint(run / CHECKPOINT_NAME), record.params
    dataset = str(given["dataset"])
    data = load_data(
        dataset,
        data_root=str(given["data_root"]),
        num_images=int(given["num_images"]) or num_images_for(record.profile, dataset),
        seed=int(given["seed"]),
        fold=int(given.get("fold", 0)),
        image_size=PIXELS,
    )
    assert data.manifest_hash == checkpoint.metadata.data_hash
    found: dict[str, Any] = {}
    val = data.val
    for name, shift in SHIFTS.items():
        if name == "mix":
            found[name] = found["none"]
            continue
        size = checkpoint.preprocessing.image_size
        images = np.stack([resize_image(shift(as_image(image)), size) for image in val.images])
        logits = predict_logits(checkpoint.model, checkpoint.preprocessing, images)
        found[name] = Outputs.of(np.asarray(logits), val.track_ids, val.labels)
    return found, list(data.classes)


def window_of(found: dict[str, Outputs], shift: str, size: int, rng: np.random.Generator) -> tuple[Outputs, Outputs]:
    """What the release knows, and a window."""
    known, rows = found["none"], found[shift]
    tracks, first = np.unique(known.sequences, return_index=True)
    order = rng.permutation(len(tracks))
    half, rest = order[: len(order) // 2], order[len(order) // 2 :]
    if shift == "mix":
        weights = np.where(np.isin(known.labels[first[rest]], SPEED_LIMITS), OFTEN, 1.0)
        rest = rng.choice(rest, len(rest), replace=False, p=weights / weights.sum())
    chosen: list[int] = []
    for track in tracks[rest]:
        chosen += np.flatnonzero(rows.sequences == track).tolist() if len(chosen) < size else []
    reference = np.flatnonzero(np.isin(known.sequences, tracks[half]))
    return known.taken(reference), rows.taken(np.array(chosen[:size]))


def check(runs: Sequence[Path], num_windows: int) -> list[Found]:
    """All shifts and sizes; the runs take turns."""
    sources = [answers(run) for run in runs]
    results = []
    for shift in SHIFTS:
        for size in SIZES:
            result = Found(shift, size, num_windows=num_windows)
            for number in range(num_windows):
                outputs, classes = sources[number % len(sources)]
                reference, window = window_of(outputs, shift, size, np.random.default_rng((number, size)))
                drift = find_drift(reference, window, classes, seed=number)
                top1 = float(window.right.mean())
                result.num_found += is_drift(drift)
                result.top1.append(top1)
                result.estimates.append(drift.estimated_top1)
                result.num_inside += drift.interval is not None and drift.interval[0] <= top1 <= drift.interval[1]
            results.append(result)
            print(row(result), flush=True)
    return results


def row(result: Found) -> str:
    """Of the table."""
    share, low, high = (100 * value for value in result.share)
    wrong = np.abs(np.array(result.estimates) - result.top1).mean()
    return (
        f"| {result.shift} | {result.size:,} | {share:.1f} % [{low:.1f}, {high:.1f}] | {np.mean(result.top1):.1%} "
        f"| {np.mean(result.estimates):.1%} | {100 * wrong:.1f} points | {result.num_inside / result.num_windows:.0%} |"
    )


def table(results: Sequence[Found], runs: Sequence[Path]) -> str:
    """For the document, with what it was measured on."""
    records = [read_record(record_path(run, TRAIN), TrainRecord) for run in runs]
    machine = collect_environment()
    data = ", ".join(f"{record.data.source} {record.data.manifest_hash[:12]}" for record in records if record.data)
    hashes = ", ".join((record.checkpoint_sha256 or "")[:12] for record in records)
    versions = ", ".join(f"{name} {machine.versions[name]}" for name in ("numpy", "torch", "pillow"))
    return "\n".join(
        [
            f"{results[0].num_windows} windows of each kind; recipe {records[0].recipe}, data {data}, "
            f"checkpoints {hashes}; {machine.cpu_model}; {versions}:",
            "",
            "| shift | images | drift found | top-1 | estimated | off by | interval has it |",
            "|---|---|---|---|---|---|---|",
            *map(row, results),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", type=project_path, help="run folders with a training")
    parser.add_argument("--windows", type=int, default=NUM_WINDOWS, metavar="N", help=f"default: {NUM_WINDOWS}")
    parser.add_argument("--document", action="store_true", help="write the table into docs/serving.md")
    arguments = parser.parse_args()
    results = check(arguments.runs, arguments.windows)
    write_atomic(OUT / "figures.json", json.dumps([asdict(result) for result in results], indent=1))
    if arguments.document:
        page = PROJECT_ROOT / "docs/serving.md"
        text = FIGURES.sub(lambda _: table(results, arguments.runs), page.read_text(encoding="utf-8"))
        write_atomic(page, text)
    if (quiet := [one for one in results if one.shift == "none" and one.share[1] > ALPHA]) != []:
        raise SystemExit(f"false alarms in windows of {quiet[0].size}: {quiet[0].share[0]:.1%}")


if __name__ == "__main__":
    main()
