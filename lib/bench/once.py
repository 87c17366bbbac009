"""What does not depend on the backend is measured once in a run on each machine, and read by its later jobs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import pydantic

from lib.files import write_atomic
from lib.machine import machine_id
from lib.records.schema import Peaks, PreprocessingTime

FOLDER = "once"
Measured = TypeVar("Measured", Peaks, PreprocessingTime)


def once_in_run(
    run_dir: Path | None, name: str, kind: type[Measured], measure: Callable[[], Measured | None]
) -> Measured | None:
    """What an earlier job of the same run measured on this machine, or what is measured now.

    Args:
        run_dir: None: it is kept nowhere.
        name: what it is and depends on besides the machine, as part of a file name.
        measure: gives None where it could not be measured; the next job tries again.
    """
    if run_dir is None:
        return measure()
    path = run_dir / FOLDER / f"{machine_id()}.{name}.json"
    if path.exists():
        try:
            return pydantic.TypeAdapter(kind).validate_json(path.read_bytes())
        except pydantic.ValidationError:  # cut off or of another version: measured again
            pass
    found = measure()
    if found is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(asdict(found)) + "\n")
    return found
