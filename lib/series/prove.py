"""`python -m lib prove`: which kernels does every backend run on this machine? Nothing is timed.

For whoever wants to know before measuring, on an Arm machine above all; works under emulation too.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from lib.backends import all_backends, get_backend
from lib.bench.session import Session
from lib.data import load_data
from lib.files import write_atomic
from lib.model import (
    CheckpointMetadata,
    build_network,
    fit_preprocessing,
    load_checkpoint,
    save_checkpoint,
)
from lib.records.environment import collect_environment

NUM_IMAGES = 120  # synthetic; enough to calibrate on and to compare
BATCH_SIZE = 32  # NNPACK takes convolutions from 16 images on
SHOWN = 3  # kernels in a line of the printed table


def prove(
    names: Sequence[str], checkpoint_path: str, num_threads: int, out: Path, progress: Callable[[str], None]
) -> bool:
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
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="gtsrb-prove-") as folder:
        path = Path(checkpoint_path) if checkpoint_path else _random_network(Path(folder), data.train.images)
        checkpoint = load_checkpoint(path)
        for backend in chosen:
            if not names and (missing := backend.missing_packages()):
                progress(f"{backend.name:<24} not installed: {', '.join(missing)} (requirements-{backend.extra}.txt)")
                continue
            session = Session(
                backend, checkpoint, data, profile="smoke", num_threads=num_threads, batch_size=BATCH_SIZE
            )
            session.prepare()
            session.start()
            session.check_parity()
            session.check_proof()
            kernels = session.kernels("offline")
            session.close()
            results.append(
                {
                    "backend": backend.name,
                    "status": session.status,
                    "error": session.error,
                    "proof": asdict(session.proof) if session.proof else None,
                    "parity": asdict(session.parity) if session.parity else None,
                    "kernels": kernels,
                    "versions": session.versions,
                }
            )
            progress(f"{backend.name:<24} {_line(session)}")
    environment = asdict(collect_environment(num_threads))
    write_atomic(out, json.dumps({"environment": environment, "batch_size": BATCH_SIZE, "backends": results}, indent=1))
    return all(result["status"] != "failed" for result in results)


def _random_network(folder: Path, images: Any) -> Path:
    torch.manual_seed(0)
    path = folder / "random.safetensors"
    metadata = CheckpointMetadata(
        "signnet_small", "random weights", "smoke", 0, 0, "synthetic", "", fit_preprocessing(images)
    )
    save_checkpoint(path, build_network("signnet_small"), metadata)
    return path


def _line(session: Session) -> str:
    if session.status != "ok" or session.proof is None:
        return f"{session.status}: {session.error}"
    most = sorted(session.proof.found.items(), key=lambda item: ("reorder" in item[0].lower(), -item[1]))
    found = ", ".join(f"{name} ({count}x)" for name, count in most[:SHOWN]) or "nobody can tell"
    doubt = f"; investigate: {session.proof.investigate}" if session.proof.investigate else ""
    return f"ok: {found}{doubt}"
