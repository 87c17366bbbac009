"""docs/extending.md: a notebook, a backend, a recipe and a data set are added to a copy of the project, and no list is
edited."""

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
DATA_SET = '''"""Three shades of noise, made on the spot."""

from pathlib import Path

import numpy as np

from lib.data.dataset import Data, DataSet, Progress, Split, register
from lib.data.images import digest_images


@register
class Shades(DataSet):
    name = "shades"
    title = "three shades of noise"
    classes = ("dark", "grey", "stop")

    def load(self, data_root: Path, num_images: int, seed: int, image_size: int, progress: Progress) -> Data:
        def split(name: str, first_track: int, count: int = 60) -> Split:
            labels = np.arange(count) % 3
            noise = np.random.default_rng((seed, first_track)).integers(0, 60, (count, 3, image_size, image_size))
            images = (noise + 90 * labels[:, None, None, None]).astype(np.uint8)
            return Split(name, images, labels, first_track + np.arange(count), np.full((count, 2), image_size),
                         np.full(count, ""), digest_images(images))

        return Data(self.name, "0" * 64, self.classes, split("train", 0), split("val", 100), None, ["noise"])
'''
WALK = """
import json
from pathlib import Path
from lib.backends import default_names
from lib.ci.inputs import dispatch_inputs
from lib.data import assert_fair, audit_splits, load_data, num_images_for
from lib.model import load_checkpoint
from lib.series.jobs import plan_jobs
from lib.series.parameters import load_schema, notebook_names
from lib.training.evaluation import evaluate_splits
from lib.training.loop import train
from lib.training.recipes import RECIPES
jobs = plan_jobs(["03", "06"], {"seed": "1"}, ["mine"])
data = load_data("shades", num_images=num_images_for("smoke", "shades"), image_size=40)
assert_fair(audit_splits(data))
trained = train("slow", data, profile="smoke", num_epochs=1, num_threads=1)
trained.save(Path("checkpoint.safetensors"))
checkpoint = load_checkpoint(Path("checkpoint.safetensors"))
print(json.dumps({"notebooks": notebook_names(), "default": default_names(), "jobs": [job.label for job in jobs],
    "recipes": load_schema("02")["recipe"].choices, "backends": load_schema("03")["backend"].choices,
    "form": dispatch_inputs()["recipe"]["options"], "data sets": load_schema("02_train")["dataset"].choices,
    "classes": checkpoint.metadata.classes, "record": data.info().classes, "recipe": checkpoint.metadata.recipe,
    "logits": evaluate_splits(checkpoint, data)["val"].probs.shape[1], "size": checkpoint.preprocessing.image_size}))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a copy of the project with the four additions answers."""
    copy = tmp_path_factory.mktemp("extended") / "copy"
    for folder in ("lib", "notebooks"):
        shutil.copytree(PROJECT_ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "lib/backends/mine.py").write_text(BACKEND)
    (copy / "lib/data/sets/shades.py").write_text(DATA_SET)
    explore = (copy / "notebooks/01_explore.ipynb").read_text()
    (copy / "notebooks/06_mine.ipynb").write_text(explore.replace('start(\\"01_explore\\"', 'start(\\"06_mine\\"'))
    recipes = copy / "lib/training/recipes.py"
    entry = "_RECIPES = (\n"
    assert recipes.read_text().count(entry) == 1
    added = "    Recipe('slow', 'a slow one', 'signnet_small', 1, 'sgd', 0.01, 64, 'constant'),\n"
    recipes.write_text(recipes.read_text().replace(entry, entry + added))
    ended = subprocess.run([sys.executable, "-c", WALK], cwd=copy, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    answers: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return answers


def test_a_notebook_is_one_file(found: dict[str, Any]) -> None:
    assert found["notebooks"][-1] == "06_mine" and "06_mine" in found["jobs"]


def test_a_backend_is_one_file_and_not_part_of_a_run_unless_it_says_so(found: dict[str, Any]) -> None:
    assert "mine" in found["backends"] and "mine" not in found["default"] and "03_benchmark.mine" in found["jobs"]


def test_a_recipe_is_one_entry(found: dict[str, Any]) -> None:
    assert found["recipe"] == "slow"
    assert "slow" in found["recipes"] and "slow" in found["form"], "ci inputs prints it for the workflow"


def test_a_data_set_is_one_file_and_trained_on(found: dict[str, Any]) -> None:
    assert "shades" in found["data sets"] and found["classes"] == found["record"] == ["dark", "grey", "stop"]
    assert found["logits"] == 3 and found["size"] == 40
