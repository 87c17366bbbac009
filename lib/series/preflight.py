"""What can be found wrong before the first notebook starts: data, checkpoint, records. It ends in a `UserError`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lib.data import check_num_images, load_data
from lib.files import CHECKPOINT_NAME
from lib.series.compare import load_records
from lib.series.jobs import BENCHMARK, COMPARE, TRAIN, Job
from lib.series.parameters import load_schema
from lib.series.sizes import num_images_for


def check_data(jobs: Sequence[Job], progress: Callable[[str], None]) -> None:
    """Load real images once, which also decodes them into the cache; synthetic ones only have their number checked.

    Raises:
        UserError: data that are missing, incomplete or damaged, or too few images asked for.
    """
    for job in jobs:
        schema = load_schema(job.notebook)
        if "dataset" in schema:
            values = schema.resolve(job.parameters)
            profile, dataset, num_images = str(values["profile"]), str(values["dataset"]), int(values["num_images"])
            if dataset == "synthetic":
                check_num_images(num_images)
            else:
                load_data(
                    dataset,
                    data_root=str(values["data_root"]),
                    download=bool(values["download"]),
                    num_images=num_images or num_images_for(profile, dataset),
                    progress=progress,
                )
            return  # all notebooks of a launch get the same data


def check_inputs(jobs: Sequence[Job], run_dir: Path) -> None:
    """What earlier launches left in the run folder and this one builds on.

    Raises:
        UserError: an unreadable or foreign checkpoint, a damaged or older record, or records that do not fit.
    """
    notebooks = {job.notebook for job in jobs}
    checkpoint = run_dir / CHECKPOINT_NAME
    if BENCHMARK in notebooks and TRAIN not in notebooks and checkpoint.exists():
        from lib.model import load_checkpoint  # imports torch: only where there is something to check

        load_checkpoint(checkpoint)
    if notebooks == {COMPARE}:
        load_records(run_dir, str(next(job.parameters.get("backends", "") for job in jobs)))
