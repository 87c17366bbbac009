"""docs/extending.md: a notebook, a backend and a recipe are added to a copy of the project, and no list is edited.

`tests/test_datasets.py` does the same for a data set.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import Any

import pytest

from lib.files import PROJECT_ROOT

BACKEND = """
from lib.backends.interface import register
from lib.backends.null import Null


@register
class Mine(Null):
    name = "mine"
    title = "a new backend"
"""
WALK = """
import json
from lib.backends import default_names
from lib.ci.inputs import dispatch_inputs
from lib.series.jobs import plan_jobs
from lib.series.parameters import load_schema, notebook_names
from lib.training.recipes import RECIPES
jobs = plan_jobs(["03", "05"], {"seed": "1"}, ["mine"])
print(json.dumps({"notebooks": notebook_names(), "default": default_names(), "jobs": [job.label for job in jobs],
    "recipes": load_schema("02")["recipe"].choices, "backends": load_schema("03")["backend"].choices,
    "form": dispatch_inputs()["recipe"]["options"], "lr": RECIPES["slow"].lr}))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a copy of the project with the three additions answers."""
    copy = tmp_path_factory.mktemp("extended") / "copy"
    for folder in ("lib", "notebooks"):
        shutil.copytree(PROJECT_ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "lib/backends/mine.py").write_text(BACKEND)
    explore = (copy / "notebooks/01_explore.ipynb").read_text()
    (copy / "notebooks/05_mine.ipynb").write_text(explore.replace('start(\\"01_explore\\"', 'start(\\"05_mine\\"'))
    recipes = copy / "lib/training/recipes.py"
    entry = "    for recipe in (\n"
    assert recipes.read_text().count(entry) == 1
    added = "        Recipe('slow', 'a slow one', {'smoke': Plan('signnet', 1)}, 'sgd', 0.01, 64, 'constant'),\n"
    recipes.write_text(recipes.read_text().replace(entry, entry + added))
    ended = subprocess.run([sys.executable, "-c", WALK], cwd=copy, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    answers: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return answers


def test_a_notebook_is_one_file(found: dict[str, Any]) -> None:
    assert found["notebooks"][-1] == "05_mine" and "05_mine" in found["jobs"]


def test_a_backend_is_one_file_and_not_part_of_a_run_unless_it_says_so(found: dict[str, Any]) -> None:
    assert "mine" in found["backends"] and "mine" not in found["default"] and "03_benchmark.mine" in found["jobs"]


def test_a_recipe_is_one_entry(found: dict[str, Any]) -> None:
    assert found["lr"] == 0.01
    assert "slow" in found["recipes"] and "slow" in found["form"], "ci inputs prints it for the workflow"
