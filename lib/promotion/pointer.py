"""Which release is served: a link that servers follow, turned in one step, forwards or back."""

from __future__ import annotations

import os

from lib.errors import RefusedError, UserError
from lib.files import project_path, writing
from lib.records.schema import RELEASE, ReleaseRecord, read_record, record_path
from lib.release import verify


def promote(path: str, current: str) -> str:
    """Verify a release and turn a link to it; a server that follows the link answers with it within seconds.

    Args:
        path: of the release, or of a run folder with one; `current` itself is followed.
        current: the link, made where there is none.

    Returns:
        What was done, with the command that goes back.

    Raises:
        UserError: not a release, or `current` is not a link. Nothing has changed then.
        RefusedError: a link of its chain does not hold, or its run decided to keep the champion. The same holds.
    """
    link = project_path(current)
    if link.exists() and not link.is_symlink():
        raise UserError(f"{link} is not a link; give --current another place, for `serve` too")
    release, _ = verify(project_path(path))
    target = release.path.resolve()
    record_file = record_path(target.parent, RELEASE)  # of the run, where it was not copied out of it
    record = read_record(record_file, ReleaseRecord) if record_file.exists() else None
    decided = record.promotion if record is not None and record.digest == release.digest else None
    if decided is not None and decided.verdict == "keep":
        raise RefusedError(
            f"{release.path} is not promoted: 05 decided to keep {decided.champion}, see the page of that run"
        )
    before = link.resolve() if link.exists() else None
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    with writing(link, "choose another place with --current"):
        link.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        os.replace(temporary, link)
    back = f"; back to the one before: python -m lib promote --to {before}" if before not in (None, target) else ""
    return f"{link} is {release.name} {release.version} (digest {release.digest[:12]}){back}"
