"""What can be found wrong before the first notebook starts: data, checkpoint, records. It ends in a `UserError`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lib.analysis.folds import load_folds
from lib.analysis.history import EARLIER_RUNS
from lib.backends import get_backend
from lib.bench.plan import UNTRAINED_IMAGES
from lib.data import IMAGE_SIZE, Data, check_num_images, load_data, num_images_for
from lib.data.cache import folder_of
from lib.data.images import WHOLE
from lib.data.loading import choose_dataset
from lib.data.sets import get_dataset
from lib.data.splitting import VAL_SHARE
from lib.data.store import SENT_NAME, find_extra, store_dir, with_extra
from lib.errors import UserError
from lib.files import CHECKPOINT_NAME, TEMPORARY, project_path, writing
from lib.header import read_header
from lib.progress import Progress, silent, to_stderr
from lib.promotion.contest import check_judges, verified_champion
from lib.promotion.rules import read_limits
from lib.records.network_outputs import Outputs
from lib.records.run import Job, run_folder
from lib.records.schema import BENCHMARK, COMPARE, TRAIN, ParameterValue
from lib.release.writer import plan_release, training_data
from lib.series.compared import load_records
from lib.training.recipes import check_shards, choose_recipe

if TYPE_CHECKING:
    from lib.model import Checkpoint

IMAGE_PARAMETERS = ("dataset", "data_root", "profile", "num_images", "crop", "fold", "extra_data")
ALL_IMAGES = 40_000  # of the largest real training set, about


def check_installed(jobs: Sequence[Job]) -> None:
    """For backends that were named: one that this CPU cannot run is reported by its job, one without its packages here.

    Raises:
        UserError: a backend's packages are missing.
    """
    for backend in [get_backend(job.backend) for job in jobs if job.backend]:
        if not backend.unavailable() and (reason := backend.not_installed()):
            raise UserError(reason)


def check_data(jobs: Sequence[Job], progress: Progress) -> None:
    """Load real images once, which also decodes them into the cache; synthetic ones only have their number checked.

    Raises:
        UserError: data that are missing, incomplete or damaged, too few images asked for, or unknown extra data.
    """
    for name in ("extra_data", "previous_data"):
        for extra in {str(job.values[name]) for job in jobs if job.values.get(name)}:
            find_extra(extra)
    values = next((job.values for job in jobs if "dataset" in job.values), None)  # all jobs get the same data
    if values is None:
        return
    if get_dataset(str(values["dataset"])).reads_files:
        load_given(values, progress)
    else:
        check_num_images(str(values["dataset"]), int(values["num_images"]))
        choose_dataset(str(values["dataset"]), str(values.get("crop", WHOLE)))


def load_given(values: Mapping[str, ParameterValue], progress: Progress = silent) -> Data:
    """The images that a notebook loads with these parameters.

    Raises:
        UserError: as `load_data`.
    """
    profile, dataset = str(values["profile"]), str(values["dataset"])
    data = load_data(
        dataset,
        data_root=str(values["data_root"]),
        download=bool(values["download"]),
        num_images=int(values["num_images"]) or num_images_for(profile, dataset),
        seed=int(values.get("seed", 0)),
        image_size=choose_recipe(str(values["recipe"]), profile).image_size if "recipe" in values else IMAGE_SIZE,
        crop=str(values.get("crop", WHOLE)),
        fold=int(values.get("fold", 0)),
        progress=progress,
    )
    return with_extra(data, str(values.get("extra_data", "")), progress)


def image_hashes(jobs: Sequence[Job], known: dict[tuple[ParameterValue | None, ...], str]) -> dict[str, str]:
    """By label of each job that reads images from files, the manifest hash of those that it would read now.

    Args:
        known: what was found before, by parameters; it is added to.

    Raises:
        UserError: as `check_data`
    """
    found = {}
    for job in jobs:
        if (values := job.values).get("dataset") and get_dataset(str(values["dataset"])).reads_files:
            asked = tuple(values.get(name) for name in IMAGE_PARAMETERS)
            if asked not in known:
                data = load_given(values, to_stderr)
                known[asked] = f"{data.manifest_hash}{data.extra_hash}"
            found[job.label] = known[asked]
    return found


def image_caches(jobs: Sequence[Job], run_dir: Path, known: dict[tuple[str, str, int, str], Path]) -> dict[str, Path]:
    """Folders with the decoded images of files that these jobs read, by data set, size and crop as
    `lib.data.cache.sent` has them, and the store of extra images. Caches are made where they are missing.

    Args:
        known: what was found before, by parameters; it is added to.
    """
    found = {}
    for job in jobs:
        if job.values.get("extra_data") or job.values.get("previous_data"):
            found[SENT_NAME] = store_dir()
        if (values := job.values).get("dataset") and get_dataset(str(values["dataset"])).reads_files:
            read = {(IMAGE_SIZE, str(values.get("crop", WHOLE)))}
            if "recipe" in values:
                size = choose_recipe(str(values["recipe"]), str(values["profile"])).image_size
                read.add((size, str(values.get("crop", WHOLE))))
            if (checkpoint := run_dir / CHECKPOINT_NAME).exists():
                header = read_header(checkpoint, "train again")
                read.add((header.preprocessing.image_size, header.crop))
            for size, crop in read:
                asked = str(values["dataset"]), str(values["data_root"]), size, crop
                if asked not in known:
                    data = load_data(asked[0], data_root=asked[1], image_size=size, crop=crop)
                    known[asked] = folder_of(data.splits)
                found[known[asked].name.rpartition("-")[0]] = known[asked]
    return found


def check_inputs(jobs: Sequence[Job], run_dir: Path) -> None:
    """What earlier launches left in the run folder and this one builds on.

    Raises:
        UserError: an unreadable or foreign checkpoint, an unknown model, a damaged or older record, records that do not
            fit, no folder of earlier runs, a champion that cannot be judged, a window that cannot be read, or a full
            temporary folder.
    """
    notebooks = {job.notebook for job in jobs}
    for job in jobs:
        if job.notebook == TRAIN:
            check_training(job.values)
        if folds := job.values.get("folds"):
            load_folds(str(folds))
        if history := job.values.get("history"):
            run_folder(str(history), EARLIER_RUNS)
        if champion := job.values.get("champion"):
            _check_champion(str(champion), jobs, job, run_dir)
        if window := job.values.get("window"):
            Outputs.load(project_path(str(window)))
    if benchmark := next((job for job in jobs if job.notebook == BENCHMARK), None):
        _check_network(benchmark, run_dir / CHECKPOINT_NAME, trains=TRAIN in notebooks)
        _check_temporary_folder(benchmark)
    if notebooks == {COMPARE}:
        load_records(run_dir, str(jobs[0].values.get("backends", "")))


def check_training(values: Mapping[str, ParameterValue], num_processes: int = 1) -> None:
    """Refuse a device that is not there, and parts of a batch that do not fit.

    Raises:
        UserError: they are such.
    """
    if values["device"] == "cuda":
        from lib.training.group import choose_device  # imports torch

        choose_device("cuda")
    recipe = choose_recipe(str(values["recipe"]), str(values["profile"]), int(values["shards"]))
    check_shards(recipe, recipe.batch_size, num_processes)


def _check_champion(path: str, jobs: Sequence[Job], release: Job, run_dir: Path) -> None:
    """Judged by what this launch trains or measures on; else by what the run in the folder was trained on."""
    champion = verified_champion(path, run_dir)
    read_limits()
    values = next((job.values for job in jobs if "dataset" in job.values), None)
    if values is not None:
        check_judges(champion, load_given(values, to_stderr))
    elif (data := training_data(plan_release(run_dir), str(release.values["data_root"]))) is not None:
        check_judges(champion, data)


def _check_network(job: Job, checkpoint: Path, trains: bool) -> None:
    """What this job would measure: a model by its name, or a checkpoint that no job of this launch makes anew."""
    model, image_size = str(job.values.get("model", "")), int(job.values.get("image_size", 0))
    if model or image_size:
        from lib.series.network import check_network  # imports torch, and torchvision for a model's name

        check_network(model, image_size)
    elif not trains and checkpoint.exists():
        from lib.model import load_checkpoint  # imports torch: only where there is something to check

        _refuse_other_data(load_checkpoint(checkpoint), job)


def _check_temporary_folder(job: Job) -> None:
    """Room for the validation images, which 03 hands to its workers as files of float32."""
    values = job.values
    profile, dataset = str(values.get("profile", "fast")), str(values.get("dataset", "synthetic"))
    num_images = VAL_SHARE * (int(values.get("num_images", 0)) or num_images_for(profile, dataset) or ALL_IMAGES)
    size = int(values.get("image_size", 0)) or IMAGE_SIZE
    needed = min(num_images, UNTRAINED_IMAGES if values.get("model") else num_images) * 3 * size**2 * 4
    with writing("a temporary folder", TEMPORARY):
        folder = tempfile.gettempdir()
    if (free := shutil.disk_usage(folder).free) < needed:
        raise UserError(
            f"{folder} has {free / 1e6:,.0f} MB left, and {job.notebook} writes {needed / 1e6:,.0f} MB and more there; "
            f"free space or {TEMPORARY}"
        )


def _refuse_other_data(checkpoint: Checkpoint, job: Job) -> None:
    """A network measured on other images than it was trained on would be refused by 04 at the very end."""
    trained_on, dataset = checkpoint.metadata.data_source, str(job.values["dataset"])
    if dataset == trained_on:
        return
    if get_dataset(dataset).reads_files and load_given(job.values).manifest_hash == checkpoint.metadata.data_hash:
        return  # the same images under another name
    raise UserError(
        f"{checkpoint.path} was trained on {trained_on!r}, and {job.notebook} would measure it on {dataset!r}; "
        f"add -p dataset {trained_on}, or choose another run with --out"
    )
