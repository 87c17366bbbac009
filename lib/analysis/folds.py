"""Folds put together: each training image is judged once, by a network that has not seen its track."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.analysis.statistics import track_bootstrap
from lib.errors import UserError
from lib.files import project_path
from lib.records.run import load_run
from lib.records.schema import TrackResult

Tracks = dict[str, TrackResult]  # by name


@dataclass(frozen=True)
class Pooled:
    """Top-1 over the folds that ran, or its difference to another, as a share with the 95 % interval over tracks."""

    value: float
    interval: tuple[float, float] | None
    num_tracks: int


@dataclass(frozen=True)
class Folds:
    """The folds of one recipe, by seed."""

    recipe: str
    classes: list[str]
    by_seed: dict[int, Tracks]

    @property
    def names(self) -> set[str]:
        """Of all tracks."""
        return set().union(*self.by_seed.values())

    def top1(self, seed: int) -> Pooled:
        """Share of the images that are read right."""
        tracks = self.by_seed[seed]
        return _pooled({name: track.num_right / track.num_images for name, track in tracks.items()}, tracks)

    @property
    def doubted(self) -> list[TrackResult]:
        """Tracks that every seed misreads in most of their images: a wrong label, or a sign that is hard to read."""
        seeds = list(self.by_seed.values())
        names = set.intersection(*(set(tracks) for tracks in seeds))
        found = [name for name in names if all(2 * t[name].num_right < t[name].num_images for t in seeds)]
        return [seeds[0][name] for name in sorted(found)]


def _pooled(values: dict[str, float], tracks: Tracks) -> Pooled:
    """Mean over images of a value by track."""
    counts = np.array([tracks[name].num_images for name in values])
    by_image, track_ids = np.repeat(list(values.values()), counts), np.repeat(np.arange(len(counts)), counts)
    return Pooled(float(by_image.mean()), track_bootstrap(by_image, track_ids), len(counts))


def load_folds(folder: str | Path) -> Folds:
    """The trainings of a finished `sweep 02 -p fold 1,2,3,4,5`, with one or more seeds.

    Raises:
        UserError: no training in there, or trainings of several recipes, data sets or numbers of epochs.
    """
    path = project_path(folder)
    runs = sorted(path.iterdir()) if path.is_dir() else []
    records = [run.train for run in map(load_run, (each for each in runs if each.is_dir())) if run.train is not None]
    records = [record for record in records if record.params["fold"]]
    if not records:
        raise UserError(
            f"{path} has no folds; make them with `python -m lib sweep 02 -p fold 1,2,3,4,5 --out {folder}`"
        )
    kinds = {(r.recipe, r.profile, r.num_epochs, r.params["dataset"], r.params["num_images"]) for r in records}
    if len(kinds) > 1:
        raise UserError(f"{path} has trainings of several kinds, and folds of one are put together: {sorted(kinds)}")
    by_seed: dict[int, Tracks] = {}
    for record in records:
        by_seed.setdefault(int(record.params["seed"]), {}).update({track.name: track for track in record.tracks})
    data = records[0].data
    return Folds(records[0].recipe, data.classes if data else [], dict(sorted(by_seed.items())))


def paired_difference(one: Folds, other: Folds) -> Pooled:
    """Top-1 of `one` less that of `other`, on the tracks, averaged over the seeds that both have.

    Raises:
        UserError: no seed, or no track, in both.
    """
    seeds = one.by_seed.keys() & other.by_seed.keys()
    names = set.intersection(*(set(each.by_seed[seed]) for each in (one, other) for seed in seeds)) if seeds else set()
    if not names:
        raise UserError("the two have no seed or no fold in common; train both with the same seeds and folds")

    def share(folds: Folds, name: str) -> float:
        return float(np.mean([folds.by_seed[s][name].num_right / folds.by_seed[s][name].num_images for s in seeds]))

    differences = {name: share(one, name) - share(other, name) for name in sorted(names)}
    return _pooled(differences, one.by_seed[min(seeds)])


def folds_lines(folds: Folds, other: Folds | None = None) -> list[str]:
    """What the command `folds` prints."""
    lines, classes = [], folds.classes
    for seed in folds.by_seed:
        found = folds.top1(seed)
        lines.append(f"{folds.recipe}, seed {seed}: top-1 {_percent(found)} on {found.num_tracks:,} tracks")
    tops = [folds.top1(seed).value for seed in folds.by_seed]
    if len(tops) > 1:
        lines.append(f"mean of {len(tops)} seeds: {np.mean(tops):.2%}, standard deviation {np.std(tops, ddof=1):.2%}")
    if other is not None:
        lines.append(f"less {other.recipe}, paired: {_percent(paired_difference(folds, other), '+')}")
    lines.append(f"tracks of which every seed misreads most images: {len(folds.doubted)}")
    for track in folds.doubted:
        taken = "" if track.mistaken_for is None else f", read as {classes[track.mistaken_for]}"
        lines.append(f"  {track.name}: {classes[track.label]}{taken}, {track.num_right} of {track.num_images} right")
    return lines


def _percent(found: Pooled, sign: str = "") -> str:
    interval = f" [{found.interval[0]:{sign}.2%}, {found.interval[1]:{sign}.2%}]" if found.interval else ""
    return f"{found.value:{sign}.2%}{interval}"
