"""A few lines for the terminal at the end of a run; those with answers are also the head of the summary on GitHub."""

from __future__ import annotations

from pathlib import Path

from lib.analysis.comparison import QUESTION, load_comparison
from lib.records.run import RunFolder, load_run
from lib.report.headline import best_backends, kernel_change_words, top1_text
from lib.report.words import UNKNOWN


def summary_lines(run_dir: Path) -> list[str]:
    """The answers and what to open. Plain text, no colours."""
    return [*answer_lines(load_run(run_dir)), f"Open: {run_dir / 'index.html'}"]


def answer_lines(run: RunFolder) -> list[str]:
    """Data and accuracy; layers, if they were asked for; best backend per scenario; what did not run."""
    return [_accuracy(run), *_layers(run), _best(run), _problems(run)]


def _accuracy(run: RunFolder) -> str:
    if run.train is None:
        return "Accuracy: no training record"
    split, top1, interval = top1_text(run.train)
    data = run.train.data
    source = f"{data.source}, {sum(data.num_images.values()):,} images" if data is not None else "unknown data"
    return f"Accuracy: top-1 {top1} {interval} on {split} ({source}){_smoke(run)}".replace("  ", " ")


def _smoke(run: RunFolder) -> str:
    return "; SMOKE RUN, figures mean nothing" if run.is_smoke else ""


def _layers(run: RunFolder) -> list[str]:
    """The answer of 04_compare, or made here where it did not run or is older than the records; nothing where the run
    was not to measure the backend of the question."""
    if QUESTION[0] not in [job.backend for job in run.jobs]:
        return []
    still_open = f"{QUESTION[0]} was not measured against {QUESTION[1]}"
    if run.compare is not None and not run.stale_compare:
        return [f"Layers: {run.compare.layers or still_open}"]
    try:
        return [f"Layers: {kernel_change_words(load_comparison(run.path, [])) or still_open}"]
    except ValueError as error:  # UserError: mixed records, which nothing may be said about
        return [f"Layers: {error}"]


def _best(run: RunFolder) -> str:
    found = [f"{best.scenario}: {best.backend}, {best.words}" for best in best_backends(run.benchmarks)]
    return "Speed: " + ("; ".join(found) + _smoke(run) if found else "no benchmark")


def _problems(run: RunFolder) -> str:
    parts = [
        f"{job.label} {job.status} ({job.reason or UNKNOWN})" for job in run.jobs if job.status not in ("ok", "unknown")
    ]
    if not run.jobs:
        return "Nothing has run yet: the folder has no pages or records"
    return "Not done: " + ("; ".join(parts) if parts else "nothing, all notebooks ran")
