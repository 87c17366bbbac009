"""Two releases before the same judges: the validation images of a run that neither was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from lib.data import Data, Split
from lib.errors import UserError
from lib.promotion.rules import quality_rules, read_limits, speed_rule, verdict_of
from lib.records.run import run_folder
from lib.records.schema import Promotion, Scenario
from lib.release import Release, verify
from lib.release.predicting import predict_images
from lib.release.reader import FOLDER, TRAINING_IMAGES
from lib.release.writer import Plan, training_data, training_images


@dataclass(frozen=True)
class Champion:
    """An earlier release that is whole, and the images that judge it."""

    release: Release
    judges: Split  # at the size that its network reads


def verified_champion(path: str, run_dir: Path) -> Release:
    """An earlier release, with every link of its chain checked.

    Args:
        path: of the release, or of a run folder with one.
        run_dir: of the run whose release it judges.

    Raises:
        UserError: no such folder, not a release, one of another format, or one that does not verify; or it is the
            release that the run is about to replace.
    """
    try:
        release, _ = verify(run_folder(path, "the folder of an earlier release"))
    except UserError as error:
        raise UserError(f"the champion cannot be used: {error}") from None
    if release.path.resolve() == (run_dir / FOLDER).resolve():
        raise UserError(
            f"the champion {release.path} is the release of this run, which is written anew; give that of another run"
        )
    return release


def check_judges(champion: Release, data: Data) -> None:
    """See that the validation images of a run may judge its release and the champion.

    Raises:
        UserError: the champion has other classes; or champion or challenger was trained on one of these images.
    """
    classes = zip_longest(champion.labels, data.classes, fillvalue="no class")
    for index, (there, here) in enumerate(classes):
        if there != here:
            raise UserError(
                f"the champion {champion.path} reads other classes: {index} is {there!r} there and {here!r} here; "
                "give one that reads the same"
            )
    judges = {digest.tobytes().hex() for digest in data.val.digests}
    sides = {"champion": champion.text(TRAINING_IMAGES), "challenger": training_images(data)}
    for name, trained_on in sides.items():
        if seen := len(judges.intersection(trained_on.split())):
            raise UserError(
                f"the {name} was trained on {seen:,} of the {len(judges):,} validation images that would judge it; "
                "give a champion that was trained on the training images of these data, or none"
            )


def open_champion(path: str, plan: Plan, data: Data | None, data_root: str) -> Champion | None:
    """The champion of a notebook, before anything is written; None where none was given, or nothing is released.

    Args:
        path: as of `verified_champion`; empty: none.
        data, data_root: as of `training_data`.

    Raises:
        UserError: as `verified_champion` and `check_judges`.
    """
    if not path:
        return None
    release = verified_champion(path, plan.run_dir)
    if data is None:
        return None
    check_judges(release, data)
    as_shown = (release.preprocessing.image_size, release.metadata.crop)
    own = data if as_shown == (data.image_size, data.crop) else training_data(plan, data_root, release.metadata)
    assert own is not None
    return Champion(release, own.val)


def judge(challenger: Release, champion: Champion, data: Data, times: Scenario) -> Promotion:
    """The verdict and all that it rests on.

    Args:
        data: whose validation images judge both, each network with its own preprocessing.
        times: as `race` measures them.
    """
    limits, judges, rival = read_limits(), data.val, champion.release
    answers = [
        predict_images(release.model(), release.preprocessing, seen.images) / np.float32(release.metadata.temperature)
        for release, seen in ((challenger, judges), (rival, champion.judges))
    ]
    rules = [*quality_rules(answers[0], answers[1], judges, limits), speed_rule(times, limits)]
    doubts = []
    for name, release in (("challenger", challenger), ("champion", rival)):
        if release.manifest.profile == "smoke":
            doubts.append(f"the {name} is of a smoke run, whose figures mean nothing")
        if release.manifest.figures.data_hash != data.manifest_hash:
            doubts.append(f"the {name} was trained and judged on other data ({release.manifest.figures.data})")
    if judges.num_tracks < limits.least_tracks:
        doubts.append(f"{judges.num_tracks} tracks are too few, {limits.least_tracks} are needed")
    return Promotion(
        champion=f"{rival.name} {rival.version}",
        champion_digest=rival.digest,
        num_images=judges.num_images,
        num_tracks=judges.num_tracks,
        rules=rules,
        doubts=doubts,
        verdict=verdict_of(rules, doubts),
        times=times,
    )
