"""The steps of the Containerfile as plain commands: `make container-check`. No container engine is needed.

A virtual environment stands in for the image's Python, and a folder for its files, which nobody may write to. What only
an engine can show: that the base image can be had by its digest, the other architecture, and a root without a `/tmp`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.files import PROJECT_ROOT, write_atomic
from lib.release import Release
from tests.served import made_release

CONTAINERFILE = PROJECT_ROOT / "Containerfile"
OUT = PROJECT_ROOT / "build/container"
PORT = "8000"  # that the file exposes


@dataclass(frozen=True)
class Instruction:
    """One instruction, with its lines joined."""

    name: str
    text: str

    @property
    def command(self) -> list[str]:
        """What an instruction in its JSON form runs, behind options and CMD."""
        return list(json.loads(self.text[self.text.index("[") :]))


def instructions() -> list[Instruction]:
    """Of the Containerfile, in order."""
    text = re.sub(r"^#.*\n", "", CONTAINERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [Instruction(*line.split(maxsplit=1)) for line in text.splitlines() if line]


def only(name: str) -> Instruction:
    """The one instruction of a name."""
    (found,) = (one for one in instructions() if one.name == name)
    return found


@dataclass
class Built:
    """What the steps left."""

    folder: Path  # working directory
    python: Path  # virtual environment
    variables: dict[str, str]

    def start(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a command in the folder and environment of the image."""
        return subprocess.Popen(command, cwd=self.folder, env=self.variables, **options)

    def succeeds(self, command: list[str]) -> bool:
        """Whether a command ends well; what it says of failures is expected."""
        return self.start(command, stderr=subprocess.DEVNULL).wait() == 0


def build(root: Path, release: Path) -> Built:
    """Execute ENV, WORKDIR, COPY and RUN below a folder; whatever else changes files is refused."""
    python = root / "python"
    subprocess.run([sys.executable, "-m", "venv", python], check=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    built = Built(root, python, {**kept, "PATH": f"{python / 'bin'}:{kept['PATH']}"})
    for step in instructions():
        if step.name == "ENV":
            built.variables |= dict(part.split("=", 1) for part in step.text.split())
        elif step.name == "WORKDIR":
            built.folder = root / step.text.strip("/")
            built.folder.mkdir(parents=True)
        elif step.name == "RUN":
            assert built.start(["/bin/sh", "-c", step.text]).wait() == 0, step.text
        elif step.name == "COPY":
            _copy(built.folder, release, step.text.split())
        else:
            assert step.name in ("FROM", "ARG", "LABEL", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT"), step
    return built


def _copy(folder: Path, release: Path, given: list[str]) -> None:
    *sources, target = (part for part in given if not part.startswith("--"))
    context = release if "--from=release" in given else PROJECT_ROOT
    for source in (context / name for name in sources):
        if source.is_dir():
            shutil.copytree(source, folder / target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / target)


def serve(built: Built, release: Release, port: str) -> None:
    """Run the entry point, to which no file can be written; ask for health and for an image; end it."""
    before = _files(built.folder)
    for path in (built.folder, *built.folder.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    without_power = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    command = [*without_power, *only("ENTRYPOINT").command, "--port", port]
    health = [part.replace(PORT, port) for part in only("HEALTHCHECK").command]
    assert not built.succeeds(health), "nothing listens yet"
    process = built.start(command)
    try:
        begun = time.monotonic()
        while not built.succeeds(health):
            assert process.poll() is None and time.monotonic() - begun < 60, "it does not become ready"
            time.sleep(0.5)
        print(f"ready after {time.monotonic() - begun:.1f} s")
        sample = json.loads(release.text("samples/samples.json"))[0]
        content, logits = release.path / "samples" / sample["file"], sample["logits"]["onnx/model.onnx"]
        asked = ["curl", "--silent", "--fail", "-H", "Content-Type: image/png", "--data-binary", f"@{content}"]
        answer = json.loads(subprocess.check_output([*asked, f"http://127.0.0.1:{port}/predict"]))
        assert answer["model"]["digest"] == release.digest, answer
        assert answer["results"][0]["top"][0]["label"] == release.labels[logits.index(max(logits))], answer
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    assert _files(built.folder) == before, "something was written"


def _files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def sizes(built: Built) -> dict[str, int]:
    """Bytes of what the steps add to the base image, and of the same compressed as a registry keeps it."""
    (packages,) = built.python.glob("lib/python*/site-packages")
    for brought in packages.glob("pip*"):  # is in the base image
        shutil.rmtree(brought)
    folders = {"packages": packages, **{name: built.folder / name for name in ("lib", "release")}}
    found = {name: sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
             for name, folder in folders.items()}  # fmt: skip
    packed = [shutil.make_archive(str(built.python / name), "gztar", folder) for name, folder in folders.items()]
    return {**found, "compressed": sum(Path(name).stat().st_size for name in packed)}


def main() -> int:
    """Build, serve, and write the sizes to build/container/sizes.json."""
    parser = argparse.ArgumentParser(prog="python -m tests.container")
    parser.add_argument("--release", default="", help="release or run folder; default: one with random weights is made")
    parser.add_argument("--port", default="8018", help="of this machine, for the server (default 8018)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        release = Release.load(arguments.release or made_release(Path(folder, "run")))
        built = build(Path(folder, "root"), release.path)
        assert not built.succeeds(["python", "-c", "import torch"]), "torch is in the image"
        serve(built, release, arguments.port)
        found = sizes(built)
    write_atomic(OUT / "sizes.json", json.dumps(found, indent=1))
    for name, num_bytes in found.items():
        print(f"{name:<12}{num_bytes / 1e6:8.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
