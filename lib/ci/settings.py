"""What a run of the workflow does: its inputs, checked by the parameter schema, or the defaults of its event.

Inputs arrive as environment variables and are text that anyone with write access may have typed. Only values of the
schema leave here: numbers, and names out of closed sets.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from lib.backends import all_backends, get_backend, split_names
from lib.data.sets import get_dataset
from lib.errors import UserError, unknown
from lib.records.schema import TRAIN
from lib.series.parameters import load_schema
from lib.training.recipes import AUTO

MACHINES = {"arm64": "aarch64", "x64": "x86_64"}  # as the runner's label says it -> as the machine does
BLAS = {"arm64": "openblas", "x64": "mkl"}  # of PyTorch's CPU builds: what `torch-blas` promises to multiply with
PARAMETERS = ("profile", "dataset", "recipe", "num_threads")  # inputs that go to the notebooks as they are
LONGEST = "small"  # of the recipes that train within a job's limit on runners, which compute in fp32 on Arm
RUNNERS = {"arm64": "ubuntu-24.04-arm", "x64": "ubuntu-24.04"}
# A change that is not merged yet shows that everything works, in minutes and without the download; the rest is for its
# figures.
BEFORE_MERGE = ("pull_request", "merge_group")
QUICK = {"profile": "smoke", "dataset": "synthetic"}
OTHERWISE = {"profile": "fast", "dataset": "gtsrb"}
LEFT_OUT = "This change touches the files of {} alone. Left out, as it cannot concern them: {}."


def settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Outputs of the plan job.

    Args:
        environ: reads GITHUB_EVENT_NAME, ARCH (arm64 or x64) and INPUT_PROFILE, INPUT_DATASET, INPUT_RECIPE,
            INPUT_BACKENDS, INPUT_NUM_THREADS; a missing or empty input means the default of the event. CHANGED_BACKENDS
            are those of `touched_backends`: a pull request measures them alone.

    Returns:
        tests (JSON list for the matrix: machines that run the test suite); profile, dataset, recipe, num_threads;
        backends (JSON list for the matrix) and backends_csv; left_out (names of those that need not run, as the change
        cannot concern them) and note (a sentence about that for the pages); extras (names of the optional requirements
        that these backends need, with spaces); blas; data_key (cache key of the images: their checksums; empty:
        synthetic ones).

    Raises:
        UserError: an unknown architecture or backend, one that this architecture cannot run, or a bad value.
    """
    architecture = environ.get("ARCH", "") or "arm64"
    if architecture not in MACHINES:
        raise unknown("architecture", architecture, MACHINES)
    defaults = QUICK if environ.get("GITHUB_EVENT_NAME", "") in BEFORE_MERGE else OTHERWISE
    given = {name: environ.get(f"INPUT_{name.upper()}", "") or defaults.get(name, "") for name in PARAMETERS}
    resolved = load_schema(TRAIN).resolve({name: value for name, value in given.items() if value})
    chosen = {name: str(resolved[name]) for name in PARAMETERS}
    if (chosen["profile"], chosen["recipe"]) == ("full", AUTO):
        chosen["recipe"] = LONGEST
    machine = MACHINES[architecture]
    backends, touched = _backends(environ.get("INPUT_BACKENDS", ""), machine), _touched(environ, machine)
    left_out = [name for name in backends if touched and name not in touched]
    backends = touched or backends
    extras = sorted({extra for name in backends if (extra := get_backend(name).extra)})
    return {
        "tests": json.dumps(_tests(architecture)),
        **chosen,
        "backends": json.dumps(backends),
        "backends_csv": ",".join(backends),
        "left_out": ", ".join(left_out),
        "note": LEFT_OUT.format(", ".join(touched), ", ".join(left_out)) if left_out else "",
        "extras": " ".join(extras),
        "blas": BLAS[architecture],
        "data_key": data_key(chosen["dataset"]),
    }


def _touched(environ: Mapping[str, str], machine: str) -> list[str]:
    """The backends that a pull request touches; empty where others run too, or one of them is unknown or cannot run."""
    if environ.get("GITHUB_EVENT_NAME", "") != "pull_request" or environ.get("INPUT_BACKENDS", ""):
        return []
    names = split_names(environ.get("CHANGED_BACKENDS", ""))
    known = {item.name for item in all_backends() if item.is_network and machine in item.architectures}
    return names if known.issuperset(names) else []


def _tests(architecture: str) -> list[dict[str, str]]:
    """Both architectures for Arm, which every change runs; the leg for contrast tests what it measures on."""
    names = list(RUNNERS) if architecture == "arm64" else [architecture]
    return [{"arch": name, "runner": RUNNERS[name]} for name in names]


def data_key(dataset: str) -> str:
    """Cache key of a downloaded data set: the checksums that its archives must have."""
    archives = get_dataset(dataset).archives
    return "-".join(["data", dataset, *(archive.sha256[:16] for archive in archives)]) if archives else ""


def _backends(text: str, machine: str) -> list[str]:
    """Names out of the registry, each once, in its order; empty text: all default ones of this architecture."""
    names = split_names(text)
    if not names:
        if text.strip():
            raise UserError(f"backends is {text!r}; give names with commas between them, or nothing for the default")
        return [item.name for item in all_backends() if item.default and machine in item.architectures]
    chosen = {get_backend(name).name for name in names}
    for name in chosen:
        if machine not in (can := get_backend(name).architectures):
            raise UserError(f"backend {name!r} runs on {', '.join(can)}, and this workflow on {machine}; leave it out")
    return [item.name for item in all_backends() if item.name in chosen]
