"""What backends prepare is kept in the run folder, by its content: equal models are there once."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from lib.files import sha256_file, writing

LIMIT_BYTES = 50 * 10**6  # of all models of a run
VARIABLE = "GTSRB_KEEP_MODELS"  # in the environment of a notebook: 0 = keep none, as in a sweep


def keep_model(folder: Path, run_dir: Path) -> tuple[str, dict[str, str]]:
    """Copy what a backend prepared to `models/<hash>/` of a run.

    Returns:
        The place in the run folder, and the SHA-256 of each file by its path below; both empty where nothing was
        prepared, or where the run would keep more than 50 MB.

    Raises:
        UserError: the folder is not writable or the disk is full.
    """
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    if not found or os.environ.get(VARIABLE) == "0":
        return "", {}
    files = {path.relative_to(folder).as_posix(): sha256_file(path) for path in found}
    named = "".join(f"{name}\0{sha256}\0" for name, sha256 in files.items())
    models = run_dir / "models"
    target = models / hashlib.sha256(named.encode()).hexdigest()[:16]
    if not target.exists():
        if _num_bytes(models) + _num_bytes(folder) > LIMIT_BYTES:
            return "", {}
        with writing(models):
            models.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".", dir=models) as temporary:
                shutil.copytree(folder, copy := Path(temporary, "model"))
                copy.rename(target)
    return target.relative_to(run_dir).as_posix(), files


def _num_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
