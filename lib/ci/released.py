"""Whether a run was released, and whether its release holds."""

from __future__ import annotations

from pathlib import Path

from lib.errors import UserError
from lib.files import project_path
from lib.records.schema import RELEASE, ReleaseRecord, read_record, record_path
from lib.release import verify


def verified(run_dir: Path) -> tuple[str, list[str]]:
    """The digest of the release of a run, and what holds in it, link by link; empty where nothing was released.

    Raises:
        UserError: no record of 05, a link that does not hold, or another release than the record names.
    """
    run = project_path(run_dir)
    record = read_record(record_path(run, RELEASE), ReleaseRecord)
    if not record.digest:
        return "", []
    release, holds = verify(run / record.place)
    if release.digest != record.digest:
        raise UserError(f"{release.path} is release {release.digest[:12]}, and the record names {record.digest[:12]}")
    return release.digest, holds
