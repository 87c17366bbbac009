"""A walk through the whole loop, on drawn images and in a few minutes: `make loop`.

    python -m tests.loop               folders in build/loop/, emptied first
    python -m tests.loop --document    also writes what happened into docs/loop.md

A release is served; new images of a class that it reads badly come in; drift is reported; the network is trained again
with new images of that class, compared, promoted and served; a bad release is refused; the first one comes back. Each
step is a command that users have, and is checked.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import httpx
import numpy as np

from lib.data.images import as_image
from lib.files import PROJECT_ROOT, write_atomic
from lib.records.schema import RELEASE, ReleaseRecord, read_record, record_path
from lib.release import Release
from lib.release.writer import write_sums
from lib.signs.renderer import TrackPlan, render_tracks
from tests.served import COMMAND, Server, serving

OUT = PROJECT_ROOT / "build/loop"
CURRENT = OUT / "current"
NUM_TRACKS, FRAMES = 24, 30  # of the class that is read badly: one half is served, the other trains
SIZE = ("-p", "profile", "smoke", "-p", "recipe", "tiny", "--backends", "onnxruntime")
TEXT = re.compile(r"(?<=<!-- loop -->\n).*(?=<!-- end of loop -->)", re.DOTALL)
Tracks = list[np.ndarray]  # uint8 (frames, 3, 32, 32) each


class Walk:
    """Runs commands, and keeps what is to be read."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def says(self, text: str) -> None:
        print(text, flush=True)
        self.lines.append(text)

    def run(self, *arguments: object, expected: int = 0) -> str:
        """A command of `python -m lib`; returns what it wrote. Fails where it ends otherwise than expected."""
        words = [str(argument) for argument in arguments]
        shown = " ".join(words).replace(f"{PROJECT_ROOT}/", "")
        self.says(f"\n    $ python -m lib {shown}")
        environ = {**os.environ, "GTSRB_STORE": str(OUT / "store")}
        ended = subprocess.run([*COMMAND, *words], cwd=PROJECT_ROOT, env=environ, capture_output=True, text=True)
        assert ended.returncode == expected, f"status {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        return (ended.stdout + ended.stderr).strip().replace(f"{PROJECT_ROOT}/", "")

    def shows(self, output: str, lines: int = 1) -> None:
        for line in output.splitlines()[:lines]:
            self.says(f"    {line}")


def asked(server: Server, tracks: Tracks, label: str, name: str) -> float:
    """Send images, each track as a sequence; the share that is read as the label."""
    right = []
    with httpx.Client(base_url=server.address, timeout=60) as client:
        for number, frames in enumerate(tracks):
            for frame in frames:
                packed = io.BytesIO()
                as_image(frame).save(packed, "PNG")
                headers = {"Content-Type": "image/png", "X-Sequence": f"{name} {number}"}
                answer = client.post("/predict", content=packed.getvalue(), headers=headers).raise_for_status()
                right.append(answer.json()["results"][0]["top"][0]["label"] == label)
    return float(np.mean(right))


def digest_of(server: Server) -> str:
    found: str = httpx.get(f"{server.address}/v2/models/gtsrb").raise_for_status().json()["parameters"]["digest"]
    return found


def follows(server: Server, release: Release) -> None:
    """Wait until the server answers with a release."""
    ends = time.monotonic() + 60
    while digest_of(server) != release.digest:
        assert time.monotonic() < ends, "the server does not follow the link"
        time.sleep(0.2)


def kept_for_training(tracks: Tracks, class_id: int) -> Path:
    """A folder as `data add` takes it."""
    folder = OUT / "new" / str(class_id)
    folder.mkdir(parents=True)
    for number, frames in enumerate(tracks):
        for index, frame in enumerate(frames):
            as_image(frame).save(folder / f"{number:05d}_{index:05d}.png")
    return folder.parent


def damaged(release: Release) -> Path:
    """A copy in which two classes have each other's name, and every sum is right."""
    copy = Path(shutil.copytree(release.path, OUT / "bad"))
    config = copy / "config.json"
    first, second = release.labels[:2]
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace(first, "\0").replace(second, first).replace("\0", second), encoding="utf-8")
    write_sums(copy)
    return copy


def loop() -> list[str]:
    """All steps; returns what happened, line by line."""
    shutil.rmtree(OUT, ignore_errors=True)
    walk = Walk()
    walk.says("1. A network is trained, measured and released, and a server follows the link to it.")
    walk.run("run", "02", "03", "05", "--out", OUT / "first", *SIZE)
    walk.shows(walk.run("promote", "--to", OUT / "first", "--current", CURRENT))
    first = Release.load(OUT / "first")
    weak = first.manifest.figures.weak_classes[0]
    class_id = first.labels.index(weak.label)
    plans = [TrackPlan(class_id, 7_000_000 + number, FRAMES) for number in range(NUM_TRACKS)]
    tracks = [frames for frames, _ in render_tracks(plans)]
    served, training = tracks[: NUM_TRACKS // 2], tracks[NUM_TRACKS // 2 :]
    with serving(CURRENT, "--port", "0", "--window", "1000") as server:
        walk.says(f"\n2. The card says that it reads '{weak.label}' badly (recall {weak.recall:.1%} on validation).")
        walk.says(f"   Now many of these come in: {len(served)} new tracks, {len(served) * FRAMES} images.")
        before = asked(server, served, weak.label, "before")
        walk.says(f"   Right are {before:.1%}. The server does not know that; it keeps its outputs.")
        (OUT / "window").write_bytes(httpx.get(f"{server.address}/window").raise_for_status().content)
        walk.shows(walk.run("drift", OUT / "window", OUT / "first", expected=3), 3)

        walk.says(
            f"\n3. {len(training)} other tracks of that class get labels, and the network is trained with them too."
        )
        folder = kept_for_training(training, class_id)
        added = walk.run("data", "add", folder, "--dataset", "synthetic")
        walk.shows(next(line for line in added.splitlines() if "extra_data" in line))
        extra = re.findall(r"extra_data ([0-9a-f]+)", added)[-1]
        walk.run("run", "02", "03", "05", "--out", OUT / "second", *SIZE, "-p", "extra_data", extra,
                 "-p", "champion", OUT / "first")  # fmt: skip
        record = read_record(record_path(OUT / "second", RELEASE), ReleaseRecord)
        assert record.promotion is not None
        walk.says(f"   05 compares both on the same validation images: {record.promotion.verdict}.")
        for rule in record.promotion.rules:
            walk.says(f"   - {rule.name}: {rule.challenger:.4g} against {rule.champion:.4g}, {rule.result}")
        walk.says("   A smoke run is never promoted by the rules; here a person decides.")

        walk.says("\n4. It is promoted, and the server follows.")
        walk.shows(walk.run("promote", "--to", OUT / "second", "--current", CURRENT))
        second = Release.load(OUT / "second")
        follows(server, second)
        after = asked(server, served, weak.label, "after")
        walk.says(f"   Of the {len(served)} tracks that it was not trained on, {after:.1%} are right now.")
        assert after > before, (before, after)

        walk.says("\n5. A release in which two classes have each other's name is refused, and the server stays.")
        bad = walk.run("promote", "--to", damaged(second), "--current", CURRENT, expected=1)
        walk.shows(bad)
        assert CURRENT.resolve() == second.path.resolve() and digest_of(server) == second.digest

        walk.says("\n6. Back to the first one.")
        walk.shows(walk.run("promote", "--to", OUT / "first", "--current", CURRENT))
        follows(server, first)
        walk.says(f"   The server answers with release {first.digest[:12]} again.")
    return walk.lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--document", action="store_true", help="write what happened into docs/loop.md")
    arguments = parser.parse_args()
    text = "\n".join(loop()) + "\n"
    if arguments.document:
        page = PROJECT_ROOT / "docs/loop.md"
        write_atomic(page, TEXT.sub(lambda _: text, page.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
