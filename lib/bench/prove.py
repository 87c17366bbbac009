"""`python -m lib prove`: which kernels does every backend run on this machine? Nothing is timed.

For those who want to know before measuring, above all on an Arm machine; works under emulation too.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lib.analysis.statistics import signal_to_error_db
from lib.backends import REFERENCE, Backend, all_backends, get_backend
from lib.bench.client import PREPARE_LIMIT_S, BackendError
from lib.bench.parity import agreement
from lib.bench.session import backend_versions, runs_here
from lib.bench.workers import prepare_backend, save_images, start_worker
from lib.data import Data, load_data
from lib.data.preprocessing import fit_preprocessing
from lib.errors import UserError
from lib.files import write_atomic
from lib.granted import num_cores
from lib.machine import collect_environment
from lib.model import CheckpointMetadata, build_network, load_checkpoint, save_checkpoint
from lib.progress import Progress

NUM_IMAGES = 120  # synthetic; enough to calibrate on and to compare
BATCH_SIZE = 32  # NNPACK takes convolutions from 16 images on
SHOWN = 3  # kernels in a line of the printed table


def prove(names: Sequence[str], checkpoint_path: str, num_threads: int, out: Path, progress: Progress) -> bool:
    """Prove backends one after the other, print a line for each, and write what ran in every layer as JSON.

    Args:
        names: of backends; empty = all.
        checkpoint_path: whose network runs; empty = `signnet_small` with random weights.

    Returns:
        Whether no backend failed; an unavailable one has not failed, nor has one that is not installed and was not
        asked for by name.

    Raises:
        UserError: unknown backend or unreadable checkpoint.
    """
    chosen = [get_backend(name) for name in names] or all_backends()
    data = load_data("synthetic", num_images=NUM_IMAGES)
    threads = num_threads or num_cores()
    results = []
    with tempfile.TemporaryDirectory(prefix="gtsrb-prove-") as temporary:
        folder = Path(temporary)
        path = Path(checkpoint_path) if checkpoint_path else random_network(folder, data)
        checkpoint = load_checkpoint(path)
        for split in (data.train, data.val):
            save_images(folder / f"{split.name}.npy", split.images[:BATCH_SIZE], checkpoint.preprocessing)
        try:
            reference = _use(get_backend(REFERENCE), path, folder, threads)
        except BackendError as error:
            raise UserError(f"the reference {REFERENCE} does not run here, nothing can be compared: {error}") from None
        for backend in chosen:
            if not names and (missing := backend.missing_packages()):
                progress(f"{backend.name:<24} not installed: {', '.join(missing)}")
                continue
            result = {"backend": backend.name, **judge_backend(backend, path, folder, threads, reference)}
            results.append(result)
            progress(f"{backend.name:<24} {_line(result)}")
    environment = asdict(collect_environment(num_threads))
    write_atomic(out, json.dumps({"environment": environment, "batch_size": BATCH_SIZE, "backends": results}, indent=1))
    return all(result["status"] != "failed" for result in results)


def judge_backend(
    backend: type[Backend], checkpoint: Path, folder: Path, num_threads: int, reference: dict[str, Any]
) -> dict[str, Any]:
    """What `prove` writes of one backend.

    Args:
        folder: has the normalized images of `train` and `val`.
        reference: what the reference gave for them; its logits are compared.
    """
    status, why = runs_here(backend)
    if status != "ok":
        return {"status": status, "error": why}
    try:
        used = reference if backend.name == REFERENCE else _use(backend, checkpoint, folder, num_threads)
    except BackendError as error:
        return {"status": "failed", "error": str(error)}
    found = {
        "sqnr_db": signal_to_error_db(used["logits"], reference["logits"]),
        "agreement": agreement(used["logits"], reference["logits"]),
        "proof": used["proof"],
        "kernels": used["kernels"],
        "versions": backend_versions(backend),
    }
    reason = used["proof"]["reason"]
    return {"status": "failed" if reason else "ok", "error": reason, **found}


def _use(backend: type[Backend], checkpoint: Path, folder: Path, num_threads: int) -> dict[str, Any]:
    """Prepare and load a backend as a benchmark does, and let it predict and trace one batch.

    Raises:
        BackendError: it broke.
    """
    model, images, logits = folder / backend.name, folder / "val.npy", folder / f"{backend.name}.npy"
    prepare_backend(backend, checkpoint, folder / "train.npy", model, num_threads)
    worker, _ = start_worker(backend, checkpoint, model, images, num_threads, PREPARE_LIMIT_S)
    try:
        worker.ask("predict", images=str(images), batch_size=BATCH_SIZE, out=str(logits))
        return {**worker.ask("trace", batch_size=BATCH_SIZE), "logits": np.load(logits).astype(np.float64)}
    finally:
        worker.kill()


def random_network(folder: Path, data: Data, architecture: str = "signnet_small") -> Path:
    """A checkpoint with random weights, for what needs the shape of a network and not its answers.

    Args:
        data: whose training images give the statistics of the preprocessing.
    """
    torch.manual_seed(0)
    path = folder / "random.safetensors"
    metadata = CheckpointMetadata(
        architecture,
        "random weights",
        "smoke",
        0,
        0,
        data.source,
        "",
        data.classes,
        fit_preprocessing(data.train.images),
    )
    save_checkpoint(path, build_network(architecture, len(data.classes)), metadata)
    return path


def _line(result: dict[str, Any]) -> str:
    if result["status"] != "ok":
        return f"{result['status']}: {result['error']}"
    proof = result["proof"]
    most = sorted(proof["found"].items(), key=lambda item: ("reorder" in item[0].lower(), -item[1]))
    found = ", ".join(f"{name} ({count}x)" for name, count in most[:SHOWN]) or "unknown"
    return f"ok: {found}" + (f"; investigate: {proof['investigate']}" if proof["investigate"] else "")
