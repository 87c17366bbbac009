"""A tiny GTSRB in the official layout, for tests: noise in a colour per class."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

NUM_CLASSES = 43
HEADER = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"
TRAIN_FOLDER = "GTSRB/Final_Training/Images"
TORCHVISION_FOLDER = "GTSRB/Training"
TEST_FOLDER = "GTSRB/Final_Test/Images"


def write_image(path: Path, label: int, seed: int) -> tuple[int, int]:
    """One PPM of 15 to 30 pixels a side; returns width and height."""
    generator = np.random.default_rng((label, seed))
    width, height = (int(side) for side in generator.integers(15, 31, 2))
    colour = np.random.default_rng(label).integers(40, 216, 3)
    pixels = colour + generator.integers(-30, 31, (height, width, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return width, height


def _row(path: Path, label: int, seed: int) -> str:
    width, height = write_image(path, label, seed)
    return f"{path.name};{width};{height};2;2;{width - 3};{height - 3};{label}"


def write_layout(
    root: Path,
    tracks_per_class: int = 2,
    frames: int = 3,
    *,
    classes: Iterable[int] = range(NUM_CLASSES),
    folder: str = TRAIN_FOLDER,
    test_images: int = 0,
) -> Path:
    """Write `root/gtsrb/...` and return `root/gtsrb`. Equal arguments give equal files.

    Args:
        folder: `TRAIN_FOLDER` or `TORCHVISION_FOLDER`.
        test_images: Their number; with their csv, if there are any.
    """
    base = root / "gtsrb"
    for label in classes:
        place = base / folder / f"{label:05d}"
        rows = [
            _row(place / f"{track:05d}_{frame:05d}.ppm", label, track * 100 + frame)
            for track in range(tracks_per_class)
            for frame in range(frames)
        ]
        (place / f"GT-{label:05d}.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    if test_images:
        place = base / TEST_FOLDER
        rows = [_row(place / f"{n:05d}.ppm", n % NUM_CLASSES, 1_000_000 + n) for n in range(test_images)]
        (base / "GT-final_test.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return base


def write_kaggle(root: Path, base: Path) -> None:
    """The same images as Kaggle has them, below `root`: from an official layout in `base`."""
    header = "Width,Height,Roi.X1,Roi.Y1,Roi.X2,Roi.Y2,ClassId,Path\n"
    rows: dict[str, list[str]] = {"Train": [], "Test": []}
    for table in [*sorted((base / TRAIN_FOLDER).glob("*/GT-*.csv")), base / "GT-final_test.csv"]:
        part = "Test" if table.name == "GT-final_test.csv" else "Train"
        folder = base / TEST_FOLDER if part == "Test" else table.parent
        for line in table.read_text().splitlines()[1:]:
            name, *box, label = line.split(";")
            number = name.removesuffix(".ppm")
            place = f"Test/{number}.png" if part == "Test" else f"Train/{label}/{int(label):05d}_{number}.png"
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            with Image.open(folder / name) as image:
                image.save(root / place)
            rows[part].append(",".join([*box, label, place]))
    for part, lines in rows.items():
        (root / f"{part}.csv").write_text(header + "\n".join(lines) + "\n")


def zip_folder(base: Path, folder: str) -> bytes:
    """A folder of the layout as the official server keeps it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted((base / folder).rglob("*")):
            file.write(path, path.relative_to(base).as_posix())
        file.writestr("GTSRB/Readme-Images.txt", "not needed")
    return content.getvalue()


def zip_file(path: Path) -> bytes:
    """One file as the official server keeps it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.write(path, path.name)
    return content.getvalue()
