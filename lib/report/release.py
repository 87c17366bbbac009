"""The page of 05_release: what is released, what of it was recomputed, how fast and how accurate it is."""

from __future__ import annotations

from collections.abc import Sequence

from lib.records.schema import ReleaseRecord
from lib.release import Release
from lib.release.reader import DEMO, FOLDER, FP32
from lib.release.writer import Plan, Written
from lib.report.table import Banner, Cell, Stack, Table, Value
from lib.report.words import milliseconds, percent, percent_interval, scenario_name, sentence, size

SHOWN_HASH = 12  # characters


def chosen(plan: Plan) -> Stack:
    """Which measured models are released, and why others are not."""
    if plan.reason:
        return Stack(Banner(f"Nothing is released: {plan.reason}.", "info"))
    rows: list[list[Value]] = []
    for record in plan.benchmarks:
        parity, prepared = record.parity, record.preparation
        assert parity is not None and prepared is not None
        path = plan.kept(record).relative_to(plan.run_dir).as_posix()
        rows.append(
            [record.backend, path, prepared.files[plan.kept(record).name][:SHOWN_HASH], parity.outcome,
             percent(parity.top1), percent(parity.agreement)]
        )  # fmt: skip
    columns = ["backend", "file in the run folder", "SHA-256", "parity", "top-1, validation", "equal answers"]
    return Stack(Table(columns, rows, caption="Models that 03 measured and kept"), *_banners(plan.notes))


def files(written: Written) -> Stack:
    """The model files of a release, with what they were measured with."""
    if written.release is None:
        return Stack(Banner("This run has no release.", "info"))
    manifest = written.release.manifest
    rows: list[list[Value]] = [
        [model.path, model.backend or f"made of {model.made_of}, not measured", size(model.num_bytes),
         f"{model.error_max:.2g}" if model.made_of else Cell(""), model.sha256[:SHOWN_HASH]]
        for model in manifest.models
    ]  # fmt: skip
    if DEMO in (sums := written.release.sums):
        link = Cell(DEMO, href=f"../{FOLDER}/{DEMO}")
        bytes_of_it = (written.release.path / DEMO).stat().st_size
        rows.append([link, f"made of {FP32}, weights of 8 bits", size(bytes_of_it), Cell(""), sums[DEMO][:SHOWN_HASH]])
    columns = ["file", "measured with", "size", "largest difference of logits", "SHA-256"]
    return Stack(Table(columns, rows, caption=f"{manifest.name} {manifest.version}"), *_banners(written.notes))


def claims(release: Release | None) -> Stack | None:
    """What the model card claims: accuracy, weak classes, speed. None without a release."""
    if release is None:
        return None
    figures = release.manifest.figures
    accuracy = Table(
        ["images", "top-1", "interval by track", "number"],
        [[split, percent(found.top1), percent_interval(found.top1_interval), found.num_images]
         for split, found in figures.accuracy.items()],
        caption="Accuracy of the trained network",
    )  # fmt: skip
    weak = Table(
        ["class", "recall"],
        [[found.label, percent(found.recall)] for found in figures.weak_classes],
        caption="Weakest classes",
    )
    speeds: list[list[Value]] = []
    for speed in figures.speeds:
        value, low, high = speed.speedup or (0.0, 0.0, 0.0)
        ratio = Cell(f"{value:.2f}x", f"[{low:.2f}, {high:.2f}]") if speed.speedup else Cell("disturbed", tone="muted")
        speeds.append(
            [speed.backend, scenario_name(speed.scenario), speed.batch_size, milliseconds(speed.p50_s),
             milliseconds(speed.p99_s), round(speed.images_per_s), ratio]
        )  # fmt: skip
    columns = ["backend", "scenario", "batch", "p50, ms", "p99, ms", "images/s", "speedup"]
    return Stack(accuracy, weak, Table(columns, speeds, caption="Speed, as 03 measured it"))


def links_table(links: Sequence[str]) -> Table:
    """What was recomputed from the files alone and holds, link by link."""
    rows: list[list[Value]] = [[Cell(f"✓ {name}", tone="good"), words] for name, words in map(_split, links)]
    return Table(["link", "what holds"], rows, caption="Recomputed from the files of the release alone")


def short_links_table(record: ReleaseRecord) -> Table:
    """The same for a first screen: the model files, and which links hold."""
    rows: list[list[Value]] = [
        [model.path.rpartition("/")[2], model.backend or "not measured"] for model in record.models
    ]
    names = ", ".join(_split(link)[0] for link in record.links)
    return Table(["model file", "measured with"], rows, note=f"✓ holds: {names}")


def _split(link: str) -> tuple[str, str]:
    name, _, words = link.partition(": ")
    return name, words


def _banners(notes: Sequence[str]) -> list[Banner]:
    """What must be known about a release; the page has it on top."""
    return [Banner(sentence(note)) for note in notes]
