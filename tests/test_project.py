"""The project's own promises: layers of imports, pins that agree, nothing that ties it to one machine."""

from __future__ import annotations

import ast
import csv
import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import yaml

import lib
from lib.backends import get_backend
from lib.files import PROJECT_ROOT
from tests.new_python import printed_by

LAYERS = re.findall(r"^    (\w+)  ", lib.__doc__ or "", re.MULTILINE)[::-1]  # the map, from the ground up
MODULES = sorted((PROJECT_ROOT / "lib").rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Every module that a file names in an import, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PROJECT_ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    parts = path.relative_to(PROJECT_ROOT / "lib").with_suffix("").parts
    if parts[0] in ("__init__", "__main__"):
        return
    for name in imported(path):
        if name.startswith("lib."):
            assert LAYERS.index(name.split(".")[1]) <= LAYERS.index(parts[0]), f"{path.name} imports {name}"
        if name.split(".")[0] == "matplotlib":
            assert parts[0] == "report"


def test_map_of_lib_shows_every_room_once() -> None:
    rooms = [path.stem for path in (PROJECT_ROOT / "lib").iterdir() if not path.name.startswith("__")]
    assert sorted(LAYERS) == sorted(rooms)


def test_module_names_occur_once() -> None:
    names = Counter(path.stem for path in MODULES if path.stem != "__init__")
    assert {name for name, count in names.items() if count > 1} == set()


def pins(name: str) -> dict[str, str]:
    """Pinned versions of a requirements file; every line must pin."""
    text = (PROJECT_ROOT / name).read_text()
    lines = [line.split("#")[0].strip() for line in text.splitlines() if not line.startswith((" ", "#"))]
    found = {}
    for line in filter(None, lines):
        package, version = re.fullmatch(r"([\w.-]+)==([\w.]+)(?: \\)?", line).groups()  # type: ignore[union-attr]
        found[package.lower().replace("_", "-")] = version
    return found


DIRECT = {**pins("requirements.txt"), **pins("requirements-dev.txt")}


@pytest.mark.parametrize("name", sorted(path.name for path in PROJECT_ROOT.glob("requirements*.txt")))
def test_every_direct_requirement_says_what_it_is_for(name: str) -> None:
    for line in (PROJECT_ROOT / name).read_text().splitlines():
        assert line.startswith("#") or re.search(r"# \w+", line), line


def test_lock_has_the_direct_pins_and_leaves_torch_out() -> None:
    lock = pins("requirements.lock")
    assert {name: lock.get(name) for name in DIRECT} == DIRECT
    assert not {"torch", "torchvision"} & set(lock)


def test_server_has_the_versions_of_the_lock() -> None:
    served, lock = pins("requirements-serve.txt"), pins("requirements.lock")
    shared = served.keys() & lock.keys()
    assert {"numpy", "onnxruntime", "pillow", "pydantic"} <= shared
    assert {name: served[name] for name in shared} == {name: lock[name] for name in shared}


@pytest.mark.parametrize("name", ["sign", "ray", "slurm"])
def test_what_is_installed_beside_the_lock_pins_nothing_that_it_pins(name: str) -> None:
    assert not pins(f"requirements-{name}.txt").keys() & pins("requirements.lock").keys()


def test_lock_has_what_torch_needs_beside_its_own_builds() -> None:
    import importlib.metadata

    lock = {name.replace(".", "-") for name in pins("requirements.lock")}
    needed = {re.split(r"[ ;<>=!\[~]", line)[0].lower() for line in importlib.metadata.requires("torch") or []
              if "extra ==" not in line}  # fmt: skip
    own = re.compile(r"triton|nvidia-.*|cuda-.*|setuptools")
    assert {name for name in needed if not own.fullmatch(name)} <= lock


README = (PROJECT_ROOT / "README.md").read_text()
DOCUMENTS = sorted([*PROJECT_ROOT.glob("*.md"), *(PROJECT_ROOT / "docs").rglob("*.md")])


def anchors(document: Path) -> set[str]:
    """What GitHub calls the headings of a document in a link."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT_ROOT)))
def test_relative_links_of_documents_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|\.\./\.\./actions/)([^)#]*)#?([^)]*)\)", document.read_text())
    for path, anchor in links:
        target = document.parent / path if path else document
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


def test_readme_is_short_and_names_backends_that_exist_with_the_default_ones_in_bold() -> None:
    assert len(README.splitlines()) <= 120
    table = README.split("## Backends")[1].split("A run measures")[0]
    for name in re.findall(r"`([\w-]+)`", table):
        assert (f"**`{name}`**" in table) == get_backend(name).default, name


def test_speedups_at_the_top_of_the_readme_are_those_of_the_record() -> None:
    with (PROJECT_ROOT / "docs/results/scenarios.csv").open() as file:
        measured = [(row["backend"], row["speedup"]) for row in csv.DictReader(file) if row["speedup"]]
    answers = README.split("## ")[0]
    assert len(re.findall(r"[\d.]+x", answers)) == 6
    for row in answers.splitlines():
        names = re.findall(r"`([\w-]+)`", row)
        for figure in re.findall(r"([\d.]+)x", row):
            digits = len(figure.partition(".")[2])
            assert figure in [f"{float(speedup):.{digits}f}" for name, speedup in measured if name in names], row


def test_citation_has_the_version_of_the_project() -> None:
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((PROJECT_ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])


def test_counts_at_the_top_of_the_readme_are_those_of_the_self_check() -> None:
    files = [PROJECT_ROOT / "docs/selfcheck" / name for name in ("outcomes.jsonl", "outcomes.planted.jsonl")]
    outcomes = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    size = {"same": 0.0, "planted": 0.05}
    found, claimed = (
        [outcome["verdict"] != "no difference" for outcome in outcomes
         if outcome.get("planted", size.get(outcome.get("kind"))) == planted]
        for planted in (0.05, 0.0)
    )  # fmt: skip
    assert f"found {sum(found)} of {len(found)} planted slow-downs of 5 %" in README
    assert f"claimed a difference in {sum(claimed)} of {len(claimed)} runs" in README


def test_conda_users_get_the_same_pins() -> None:
    environment = yaml.safe_load((PROJECT_ROOT / "environment.yml").read_text())
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert sorted(pip) == sorted(
        ["-r requirements.txt", "-r requirements-dev.txt", "-r requirements-torch.txt", "-e ."]
    ), "the pins come from the same files"


def test_every_file_that_names_supported_pythons_names_the_same() -> None:
    supported = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    (oldest, newest) = re.fullmatch(r">=3\.(\d+)\.\d+,<3\.(\d+)", supported).groups()  # type: ignore[union-attr]
    makefile = (PROJECT_ROOT / "Makefile").read_text()
    (low, high) = re.search(r"\(([\d, ]+)\) <= sys.version_info\[:3\] < \(([\d, ]+)\)", makefile).groups()  # type: ignore[union-attr]
    assert f">={low.replace(', ', '.')},<{high.replace(', ', '.')}" == supported
    assert f"python{supported}" in yaml.safe_load((PROJECT_ROOT / "environment.yml").read_text())["dependencies"]
    minors = range(int(oldest), int(newest))
    for minor in minors:
        assert re.search(rf"for python in .*3\.{minor}\b", makefile), "lock-check asks for wheels of each"
    github = "".join(path.read_text() for path in sorted((PROJECT_ROOT / ".github").rglob("*.yml")))
    used = {int(minor) for minor in re.findall(r'"3\.(\d+)\.\d+"', github)}
    assert {min(minors), max(minors)} <= used <= set(minors), "workflows run the oldest and the newest"


@pytest.mark.parametrize("version", ["3.10.13", "3.11.4", "3.14.0"])
def test_make_refuses_a_python_that_is_not_supported_in_one_line(version: str, tmp_path: Path) -> None:
    parts = tuple(map(int, version.split(".")))
    pretend = f"import sys; sys.version_info, sys.version = {parts}, '{version} (main)'; exec(sys.argv[1])"
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{pretend}" "$2"\n')
    python.chmod(0o755)
    for name in ("Makefile", "requirements.lock", "requirements-torch.txt", "pyproject.toml"):
        (tmp_path / name).symlink_to(PROJECT_ROOT / name)
    ended = subprocess.run(["make", f"PYTHON={python}", ".venv"], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 2
    assert f"Python 3.11.5 to 3.13 is needed, {python} is {version}" in ended.stderr.splitlines()[0]
    assert not (tmp_path / ".venv").exists()


def test_repository_names_no_path_of_one_machine() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.split():
        path = PROJECT_ROOT / name
        if path.suffix in (".py", ".md", ".yml", ".toml", ".ipynb", ".txt", ".lock", ".sh", "") and path.is_file():
            text = path.read_text()
            found = re.search(r"/wor[k]/|/roo[t]/|/home/\w+/|pypi\.or[g]/simple|file://[^{\s\"']*/op[t]", text)
            assert not found, f"{name}: {found and found[0]}"


def test_reading_notebooks_waits_for_no_grammars() -> None:
    code = "import sys, lib.executor.execute, lib.html.page; print(sys.modules.get('rfc3987_syntax', 'not kept out'))"
    assert printed_by(code) == "None"


def test_notebook_that_describes_itself_does_not_import_nbformat() -> None:
    code = "import sys, lib.series.notebook, lib.report.train; print('nbformat' in sys.modules)"
    assert printed_by(code) == "False"
