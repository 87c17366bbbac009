"""The Containerfile by its rules. `make container-check` executes its steps."""

from __future__ import annotations

import re
import shlex
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import yaml

from lib.files import PROJECT_ROOT
from tests.container import PORT, instructions, only
from tests.served import made_release, serving
from tests.test_project import pins

STEPS = instructions()
NAMES = [step.name for step in STEPS]


def test_base_is_a_supported_python_by_its_digest() -> None:
    base = re.fullmatch(r"python:3\.(\d+)-slim@sha256:[0-9a-f]{64}", only("FROM").text)
    assert base and f"for python in 3.11.5 3.12 3.{base[1]};" in (PROJECT_ROOT / "Makefile").read_text()
    assert STEPS[0] == only("FROM")


def test_it_runs_as_nobody_in_particular_and_nothing_is_changed_afterwards() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", only("USER").text)
    assert not {"RUN", "COPY", "USER"} & set(NAMES[NAMES.index("USER") + 1 :])


def test_packages_are_those_that_are_pinned_for_the_server_and_torch_is_none_of_them() -> None:
    (install,) = [shlex.split(step.text) for step in STEPS if step.name == "RUN" and "pip" in step.text]
    assert {"--no-deps", "--only-binary=:all:", "--no-cache-dir"} <= set(install)
    assert install[install.index("-r") + 1 :] == ["requirements-serve.txt"]
    assert not [name for name in pins("requirements-serve.txt") if "torch" in name]


def ignored(path: str) -> bool:
    """As .dockerignore says: the last pattern that matches a path, or a folder that it is in, decides."""
    out = False
    for line in (PROJECT_ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        parts = Path(path).parts
        places = ["/".join(parts[: number + 1]) for number in range(len(parts))]
        if line and not line.startswith("#") and any(fnmatchcase(one, pattern) for one in (*places, *parts)):
            out = not line.startswith("!")
    return out


def test_what_is_copied_exists_and_is_all_that_a_builder_is_sent() -> None:
    copied = [source for step in STEPS if step.name == "COPY" and "--from" not in step.text
              for source in step.text.split()[:-1]]  # fmt: skip
    assert copied and all((PROJECT_ROOT / source).exists() for source in copied)
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    sent = {path for path in listed.stdout.splitlines() if not ignored(path)}
    assert sent and sent == {path for path in listed.stdout.splitlines() if Path(path).parts[0] in copied}
    assert ignored("lib/ci/__pycache__/gate.cpython-311.pyc") and ignored(".venv/bin/python") and ignored("runs/x")


def test_labels_have_the_arguments_that_the_workflow_gives() -> None:
    declared = {step.text.partition("=")[0] for step in STEPS if step.name == "ARG"}
    assert set(re.findall(r"\$\{(\w+)\}", only("LABEL").text)) == declared == {"VERSION", "REVISION", "MODEL_DIGEST"}
    jobs = yaml.safe_load((PROJECT_ROOT / ".github/workflows/release.yml").read_text())["jobs"]
    (build,) = [step for step in jobs["image"]["steps"] if "build-push-action" in step.get("uses", "")]
    assert {line.partition("=")[0] for line in build["with"]["build-args"].splitlines()} == declared
    assert build["with"]["file"] == "Containerfile" and build["with"]["build-contexts"] == "release=shipped/release"


def test_health_check_tells_a_ready_server_from_one_that_is_gone(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="serving is not installed: make EXTRAS=serve .venv")
    assert only("EXPOSE").text == PORT
    with serving(made_release(tmp_path)) as server:
        check = [part.replace(PORT, str(server.port)) for part in only("HEALTHCHECK").command]
        assert subprocess.run(check, check=False).returncode == 0
    assert subprocess.run(check, capture_output=True, check=False).returncode != 0
