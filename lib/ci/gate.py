"""Pass, fail or investigate: a finished run against its limits, and the jobs of the workflow that made it.

A floor that is missed fails. A value above its floor and still worse than is usual is investigated: it needs a look,
and blocks nothing. No verdict rests on a time: times of shared runners differ by more than what they judge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pydantic

from lib.analysis.history import CONFIRMED
from lib.analysis.judgement import disturbances
from lib.ci.limits import AtLeast, AtMost, Limits, load_limits
from lib.ci.verdicts import Outcome, Verdict, Verdicts
from lib.errors import UserError
from lib.files import CHECKPOINT_NAME, project_path, sha256_file
from lib.records.run import RunFolder, load_run, run_folder
from lib.records.schema import BENCHMARK, BenchmarkRecord, ParityOutcome
from lib.report.caveats import warnings_words
from lib.report.words import percent, points, scenario_name, size
from lib.series.parameters import notebook_names

CONFIRMING = {"confirm", "conclude"}  # nothing to do where `compare` suspects nothing
VALIDATION = "val"
TRAINING = "train"  # the job of the workflow that names the checkpoint
CHANGES = "changes"  # the job that says whether there is anything to run


@dataclass(frozen=True)
class Need:
    """How a job of the workflow ended."""

    result: str  # success, failure, cancelled, skipped
    outputs: dict[str, str] = field(default_factory=dict)


Needs = Mapping[str, Need]  # by job
_NEEDS = pydantic.TypeAdapter(dict[str, Need])


def judge_run(run_dir: Path, limits: Path | None = None, needs: Needs | None = None) -> Verdicts:
    """All verdicts of a run.

    Args:
        limits: a TOML file; default: that of the project.
        needs: the jobs of the workflow that the asking one needs; None outside of a workflow.

    Raises:
        UserError: unreadable limits, or no such folder where no workflow asks.
    """
    stated = load_limits(limits)
    verdicts = _jobs(needs or {})
    if needs and _nothing_to_run(needs):
        return Verdicts(verdicts)
    if needs and not project_path(run_dir).is_dir():
        return Verdicts([*verdicts, Verdict("run", "", "fail", "no run arrived here", "a run folder")])
    run = load_run(run_folder(run_dir))
    return Verdicts([*verdicts, *_left_out(needs or {}), *_chain(run, needs or {}), *judge_folder(run, stated)])


def read_needs(text: str) -> Needs:
    """GitHub's `toJSON(needs)`.

    Raises:
        UserError: it is something else.
    """
    try:
        if jobs := _NEEDS.validate_json(text):
            return jobs
    except ValueError:
        pass
    raise UserError(f"--needs is {text[:200]!r}; give GitHub's toJSON(needs): {{job: {{result, outputs}}}}")


def output(jobs: Needs, job: str, name: str) -> str:
    """An output of a job; empty where it has none, or did not run."""
    return jobs[job].outputs.get(name, "") if job in jobs else ""


def _nothing_to_run(jobs: Needs) -> bool:
    """True where the first job found that the change touches nothing that runs."""
    return output(jobs, CHANGES, "run") == "false"


def _jobs(jobs: Needs) -> list[Verdict]:
    """The jobs before the gate. Skipped is fine where nothing was to be run, or to be confirmed."""
    idle, suspected = _nothing_to_run(jobs), bool(output(jobs, "compare", "suspects"))
    verdicts = []
    for name, job in jobs.items():
        may_be_skipped = idle or (name in CONFIRMING and not suspected)
        good = job.result in ({"success", "skipped"} if may_be_skipped else {"success"})
        asked = "success or skipped" if may_be_skipped else "success"
        verdicts.append(Verdict("job", name, "pass" if good else "fail", job.result, asked))
    return verdicts


def _left_out(jobs: Needs) -> list[Verdict]:
    """Backends that were not measured, which is right where the change touches files of other backends alone."""
    if not (names := output(jobs, "plan", "left_out")):
        return []
    touched = output(jobs, CHANGES, "backends")
    found = f"left out, the change touches {touched} alone" if touched else "left out without a reason"
    return [Verdict("backend", names, "pass" if touched else "fail", found, "measured, or not touched by the change")]


def _chain(run: RunFolder, jobs: Needs) -> list[Verdict]:
    """One SHA-256 from the job that trained to the file and the records that arrived here."""
    if TRAINING not in jobs:
        return []
    trained = output(jobs, TRAINING, "checkpoint_sha256")
    path = run.path / CHECKPOINT_NAME
    if not path.is_file():
        return [Verdict("checkpoint", CHECKPOINT_NAME, "fail", "the file did not arrive here", trained or "a file")]
    of_records = {label: record.checkpoint_sha256 for label, record in run.records.items() if record.checkpoint_sha256}
    found = {CHECKPOINT_NAME: sha256_file(path), **of_records}
    return [
        Verdict("checkpoint", name, "pass" if digest == trained else "fail", digest[:12], f"{trained[:12]}, as trained")
        for name, digest in found.items()
    ]


def judge_folder(run: RunFolder, limits: Limits) -> list[Verdict]:
    """What a run folder says about itself."""
    return [
        *_notebooks(run),
        *_training_kernels(run),
        *_accuracy(run, limits),
        *(verdict for record in run.benchmarks for verdict in judge_benchmark(record)),
        *_missing(run),
        *_confirmed_slower(run),
        *_pages(run, limits),
    ]


def _notebooks(run: RunFolder) -> list[Verdict]:
    """Every notebook of the series ran, and every job of the run ended well."""
    verdicts = []
    for job in run.jobs:
        outcomes: dict[str, Outcome] = {"ok": "pass", "unavailable": "pass", "unknown": "investigate"}
        outcome = outcomes.get(job.status, "fail")
        found = f"{job.status}: {job.reason}" if job.reason and job.status != "ok" else job.status
        if job.status == "ok" and job.label not in run.records:
            outcome, found = "fail", job.reason or "it left no record"
        verdicts.append(Verdict("notebook", job.label, outcome, found, "ok"))
    present = {job.notebook for job in run.jobs}
    for name in notebook_names():
        if name not in present:
            verdicts.append(Verdict("notebook", name, "fail", "it did not run", "ok"))
    if BENCHMARK in present and not any(record.status == "ok" for record in run.benchmarks):
        verdicts.append(Verdict("notebook", BENCHMARK, "fail", "no backend was measured", "at least one"))
    return verdicts


def _training_kernels(run: RunFolder) -> list[Verdict]:
    asked = "no convolution on oneDNN's reference implementation"
    return [_kernels("training", "", run.train.kernels.investigate, asked)] if run.train is not None else []


def _kernels(subject: str, wrong: str, doubt: str, asked: str) -> Verdict:
    outcome: Outcome = "fail" if wrong else "investigate" if doubt else "pass"
    return Verdict("kernels", subject, outcome, wrong or doubt or "as asked", asked)


def _accuracy(run: RunFolder, limits: Limits) -> list[Verdict]:
    train = run.train
    if train is None:
        return []  # a notebook that did not run is a failure already
    verdicts = []
    dataset = train.data.source if train.data is not None else "unknown data"
    for split, found in train.accuracy.items():
        stated = limits.accuracy_of(dataset, train.profile, train.recipe, split)
        if stated is None:
            about = f"{dataset}, {train.profile}, {train.recipe}, {split}"
            verdicts.append(
                Verdict("top-1", split, "investigate", percent(found.top1), f"no limits are stated for {about}")
            )
            continue
        verdicts.append(_at_least("top-1", split, found.top1, stated.top1))
        if stated.worst_class is not None:
            subject = f"{split}, class {found.worst_class}"
            verdicts.append(
                _at_least("recall of the worst class", subject, found.worst_class_recall, stated.worst_class)
            )
    if VALIDATION not in train.accuracy:  # the test images may be absent, these never are
        verdicts.append(Verdict("top-1", VALIDATION, "fail", "was not evaluated", "an accuracy"))
    return verdicts


def judge_benchmark(record: BenchmarkRecord) -> list[Verdict]:
    """One backend: same network, promised kernels, a real machine."""
    if record.status != "ok":
        return []  # its notebook's verdict says so
    verdicts = [_promise(record)]
    if record.environment.emulated:
        verdicts.append(Verdict("machine", record.backend, "investigate", "emulated: its times mean nothing"))
    if why := disturbances(record):
        asked = "a machine that does nothing else"
        verdicts.append(Verdict("times", record.backend, "investigate", warnings_words(why).rstrip("."), asked))
    if record.is_network:
        verdicts.append(_parity(record))
    return verdicts


def _promise(record: BenchmarkRecord) -> Verdict:
    proof = record.proof
    if proof is None:
        return _kernels(record.backend, "it was not checked which kernels ran", "", "a proof")
    wrong = "" if proof.passed else proof.reason or "other kernels ran"
    return _kernels(record.backend, wrong, proof.investigate, proof.promised)


def _parity(record: BenchmarkRecord) -> Verdict:
    """By the tolerance of the backend itself, which its record applied."""
    parity = record.parity
    if parity is None:
        return Verdict("parity", record.backend, "fail", "its answers were not compared", "parity with the reference")
    outcomes: dict[ParityOutcome, Outcome] = {"passed": "pass", "inconclusive": "investigate", "failed": "fail"}
    found = parity.outcome + (f": {parity.reason}" if parity.reason else "")
    asked = "" if record.random_weights else f"at most {points(parity.top1_drop_allowed)} of top-1 lost"
    return Verdict("parity", record.backend, outcomes[parity.outcome], found, asked or "the logits of the reference")


def _missing(run: RunFolder) -> list[Verdict]:
    """Backends that the comparison expected and did not find."""
    listed = {job.backend for job in run.jobs if job.backend}
    missing = [name for name in (run.compare.missing if run.compare else []) if name not in listed]
    return [Verdict("backend", name, "fail", "nothing of it arrived", "a record") for name in missing]


def _confirmed_slower(run: RunFolder) -> list[Verdict]:
    """Against earlier runs, where 04 was given some: speedups that were measured twice, never times."""
    history = run.compare.history if run.compare is not None else {}
    return [
        Verdict(f"speedup, {scenario_name(scenario)}", backend, "investigate", verdict, "as in earlier runs")
        for backend, scenarios in history.items()
        for scenario, verdict in scenarios.items()
        if verdict == CONFIRMED
    ]


def _pages(run: RunFolder, limits: Limits) -> list[Verdict]:
    """Every job that ran left a page, none of them too large."""
    verdicts = []
    for job in run.jobs:
        if job.page is not None:
            num_bytes = (run.path / job.page).stat().st_size
            verdicts.append(_at_most("size of the page", job.label, num_bytes, limits.page_bytes, size))
        elif job.status in ("ok", "unavailable"):
            verdicts.append(Verdict("page", job.label, "fail", "there is none", "a page"))
    return verdicts


def _at_least(check: str, subject: str, value: float, bound: AtLeast) -> Verdict:
    usual = bound.expected - bound.budget
    if value < bound.floor:
        return Verdict(check, subject, "fail", percent(value), f"at least {percent(bound.floor)}")
    if value < usual:
        asked = f"usual {percent(bound.expected)}, at most {points(bound.budget)} less"
        return Verdict(check, subject, "investigate", percent(value), asked)
    return Verdict(check, subject, "pass", percent(value), f"at least {percent(usual)}", value - usual)


def _at_most(check: str, subject: str, value: float, bound: AtMost, words: Callable[[float], str]) -> Verdict:
    if value > bound.limit:
        return Verdict(check, subject, "fail", words(value), f"at most {words(bound.limit)}")
    outcome: Outcome = "investigate" if value > bound.watch else "pass"
    return Verdict(check, subject, outcome, words(value), f"at most {words(bound.watch)}", bound.watch - value)
