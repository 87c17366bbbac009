"""From what a notebook computed to its record. One function per notebook; each writes it and says where it lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lib.analysis.comparison import Comparison
from lib.analysis.csv_files import write_csv
from lib.analysis.history import History
from lib.analysis.judgement import disturbance, record_warnings
from lib.analysis.recommendation import speeds
from lib.bench.session import Session
from lib.data import Audit, Data
from lib.data.audit import audit_splits, class_counts, mean_brightness, memorized
from lib.errors import UserError
from lib.model import Checkpoint, leaf_layers, num_weights
from lib.records.run import networks
from lib.records.schema import (
    BenchmarkRecord,
    CompareRecord,
    Drift,
    Examination,
    ExploreRecord,
    Promotion,
    RecordWarning,
    ReleaseRecord,
    SeedsAccuracy,
    Shift,
    TrainRecord,
)
from lib.release.verifying import authenticity
from lib.release.writer import Plan, Written
from lib.report.compare.answer import recommendations
from lib.report.headline import comparison_headline, kernel_change_words
from lib.report.table import FileNote
from lib.series.notebook import Run
from lib.training.evaluation import Evaluation, track_results
from lib.training.loop import Trained
from lib.training.states import States


def _percentiles(values: np.ndarray) -> dict[str, float]:
    return {f"p{rank}": round(float(np.percentile(values, rank)), 2) for rank in (5, 50, 95)}


def _written(run: Run, path: Path) -> FileNote:
    return FileNote("Record of this page, in the run folder", path.relative_to(run.run_dir).as_posix())


def write_explore(run: Run, data: Data, audit: Audit, shifts: Sequence[Shift] = ()) -> FileNote:
    """Record of 01: what is in the training images, which images are there twice, and how the splits differ."""
    train = data.train
    images_per_class, tracks_per_class = class_counts(data)
    record = ExploreRecord(
        **{**run.common(data), "warnings": [*run.warnings, *memorized(data, audit)]},
        images_per_class=images_per_class,
        tracks_per_class=tracks_per_class,
        size_px_percentiles=_percentiles(train.sizes.max(axis=1)),
        brightness_percentiles=_percentiles(mean_brightness(train.images)),
        duplicates=[
            [f"{name}: {data.splits[name].sources[index] or index}" for name, index in duplicate.places]
            for duplicate in audit.duplicates
        ],
        shifts=list(shifts),
    )
    return _written(run, run.write(record))


def write_train(
    run: Run,
    data: Data,
    trained: Trained,
    checkpoint: Checkpoint,
    evaluations: dict[str, Evaluation],
    by_seed: dict[str, SeedsAccuracy],
    examination: Examination | None = None,
) -> FileNote:
    """Record of 02: the network, its learning curve, its accuracy by split, and what else was examined.

    The states of its training are removed: there is nothing left to resume.
    """
    common, network = run.common(data, checkpoint.sha256), trained.metadata
    common["warnings"] = [*run.warnings, *memorized(data, audit_splits(data))]
    if doubt := trained.kernels.investigate:
        common["warnings"].append(RecordWarning("investigate", figures={"reason": doubt}))
    record = TrainRecord(
        **common,
        recipe=network.recipe,
        architecture=network.architecture,
        num_weights=num_weights(trained.model),
        num_macs=sum(layer.num_macs for layer in leaf_layers(trained.model, network.preprocessing.image_shape)),
        num_epochs=network.num_epochs,
        train_s=round(trained.train_s, 3),
        estimated_s=round(trained.estimate.seconds, 3) if trained.estimate is not None else None,
        precision=trained.precision,
        kernels=trained.kernels,
        history=trained.history,
        accuracy={name: evaluation.accuracy for name, evaluation in evaluations.items()},
        accuracy_without_duplicates={
            name: evaluation.without_duplicates
            for name, evaluation in evaluations.items()
            if evaluation.without_duplicates is not None
        },
        per_class_recall={name: evaluation.per_class_recall for name, evaluation in evaluations.items()},
        confusion={name: evaluation.confusion for name, evaluation in evaluations.items()},
        tracks=track_results(evaluations[data.val.name], data.val),
        device=trained.device,
        num_drawn=trained.num_drawn,
        drawn_hash=trained.drawn_hash,
        by_seed=by_seed,
        examination=examination,
    )
    path = run.write(record)
    States(run.run_dir).clear()
    return _written(run, path)


def benchmark_record(run: Run, session: Session) -> BenchmarkRecord:
    """Record of 03 as far as the session has come."""
    measured = session.record
    return replace(
        measured,
        params=run.params,
        environment=replace(run.environment, versions={**run.environment.versions, **measured.environment.versions}),
        started=run.started,
        duration_s=run.duration_s,
        warnings=[*run.warnings, *record_warnings(measured)],
    )


def write_benchmark(run: Run, session: Session) -> FileNote:
    """Write the record of 03, whatever became of the backend.

    Raises:
        UserError: the backend failed; the record is written then too.
    """
    record = benchmark_record(run, session)
    path = run.write(record, record.backend)
    if record.status == "failed":
        raise UserError(f"backend {record.backend} failed: {record.error}")
    return _written(run, path)


def write_compare(run: Run, comparison: Comparison, history: History | None = None) -> Path | None:
    """Record of 04, and its numbers as CSV beside it; None where there was nothing to compare."""
    if not comparison.measured:
        return None
    compared = networks(comparison.measured)
    history_verdicts: dict[str, dict[str, str]] = {}
    for trend in history.trends if history is not None else []:
        history_verdicts.setdefault(trend.backend, {})[trend.scenario] = trend.verdict
    common = run.common(None, comparison.measured[0].checkpoint_sha256)
    common |= {"data": comparison.measured[0].data, "profile": comparison.profile}
    common["warnings"] = [*run.warnings, *comparison.warnings]
    record = CompareRecord(
        **common,
        headline=comparison_headline(comparison),
        layers=kernel_change_words(comparison),
        backends=[record.backend for record in comparison.measured],
        missing=comparison.missing,
        speeds=speeds(compared),
        recommendations=recommendations(comparison),
        history=history_verdicts,
    )
    path = run.write(record)
    write_csv(comparison.records, path.parent)
    return path


def write_released(
    run: Run,
    plan: Plan,
    written: Written,
    links: list[str],
    promotion: Promotion | None = None,
    drift: Drift | None = None,
) -> FileNote:
    """Record of 05: what was released, or why nothing was.

    Args:
        links: what holds, as `lib.release.verify` reports it.
        promotion: whether it should replace the champion; None without one.
        drift: how a window of answers differs; None without one.
    """
    release, train = written.release, plan.train
    common = run.common(None, train.checkpoint_sha256 if train is not None else None)
    common |= {"data": train.data, "profile": train.profile} if train is not None else {}
    if promotion is not None and (disturbed := disturbance(promotion.times)) is not None:
        common["warnings"] = [*run.warnings, disturbed]
    if release is None:
        record = ReleaseRecord(**common, notes=written.notes, reason=plan.reason)
    else:
        record = ReleaseRecord(
            **common,
            name=release.name,
            version=release.version,
            digest=release.digest,
            place=release.path.relative_to(run.run_dir).as_posix(),
            num_bytes=sum((release.path / path).stat().st_size for path in release.sums),
            models=release.manifest.models,
            links=links,
            notes=[*written.notes, authenticity(release)],
            promotion=promotion,
            drift=drift,
        )
    return _written(run, run.write(record))
