"""03_benchmark. Every view also says why there is nothing to see, when a backend is unavailable or has failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lib.analysis.batch_sweep import batch_points, crossing_words, failure_words, judged_points, scaling_words
from lib.analysis.judgement import disturbance, judged
from lib.analysis.roofline import roofline as roofline_of
from lib.analysis.statistics import SMALLEST_EFFECT, noise_floor
from lib.backends import backend_names
from lib.data import Data
from lib.model import Checkpoint
from lib.records.schema import BenchmarkRecord, LayerTable, Scenario
from lib.report.caveats import warnings_words
from lib.report.figures import show
from lib.report.plots import plot_latencies, plot_layers, plot_roofline, plot_round_ratios, plot_sweep
from lib.report.table import Banner, Fold, Stack, Table, Value, profile_banner
from lib.report.tables import (
    accuracy_table,
    cold_start_table,
    glance_table,
    image_cost_table,
    kernel_table,
    layer_sum_table,
    layer_table,
    parity_table,
    peaks_table,
    preparation_table,
    proof_table,
    roofline_table,
    scenario_table,
)
from lib.report.words import NOT_JUDGED, capital, duration, scenario_name

Shown = Any  # something that a notebook displays, or None
RAW = "Raw numbers"
GLANCE = "at-a-glance"  # id of the display at the top of the page that the end of the notebook fills in


def _absent(found: BenchmarkRecord, what: str) -> Banner:
    """Why there is no `what`."""
    name = found.backend
    if found.status == "unavailable":
        return Banner(f"{what}: not measured, {name} is unavailable here: {found.error}", "info")
    if found.status == "failed":
        return Banner(f"{what}: not measured, {name} failed: {found.error}", "error")
    return Banner(f"{what}: nothing to show for {name}", "info")


def _disturbed(what: str, measured: Sequence[Scenario | LayerTable]) -> Banner | None:
    """Where `what` is not judged; the reason is at the top of the page. None where nothing was disturbed."""
    names = [
        scenario_name(part.name if isinstance(part, Scenario) else part.scenario)
        for part in measured
        if disturbance(part) is not None
    ]
    if not names:
        return None
    return Banner(f"{capital(what)}, {', '.join(dict.fromkeys(names))}: {NOT_JUDGED}.", "info")


def _tried(scenarios: Sequence[Scenario]) -> Banner | None:
    """What was measured more than once, because of others, before it could be judged."""
    told = [
        f"{scenario_name(scenario.name)}: {scenario.conditions.num_measured} attempts, after waiting "
        f"{duration(scenario.conditions.waited_s)} for quiet"
        for scenario in judged(scenarios)
        if scenario.conditions is not None and scenario.conditions.num_measured > 1
    ]
    return Banner(f"Disturbed at first, undisturbed in the end. {capital('; '.join(told))}.", "info") if told else None


def glance() -> None:
    """A place at the top of the page for what is only known at its end; `fill_glance` fills it in."""
    from IPython.display import display

    display(Banner("The answer appears here when the notebook has come to its end.", "info"), display_id=GLANCE)  # type: ignore[no-untyped-call]


def fill_glance(record: BenchmarkRecord) -> None:
    """The answer at the top of the page, and every warning but that of the shell, which the next output has."""
    from IPython.display import update_display

    parts: list[Table | Banner | None] = []
    if not record.is_network:
        parts.append(Banner(f"{record.backend} computes no network: its times are those of the harness.", "info"))
    elif record.status == "ok" and record.scenarios:
        parts.append(glance_table(record))
    elif record.status != "ok":
        parts.append(_absent(record, "times"))
    if warnings := [warning for warning in record.warnings if warning.kind != "variables"]:
        parts.append(Banner(warnings_words(warnings)))
    update_display(Stack(*parts), display_id=GLANCE)  # type: ignore[no-untyped-call]


def checkpoint_table(checkpoint: Checkpoint, data: Data, trained_now: bool, profile: str) -> Stack:
    """Which network is measured; a warning where it was trained just now, on other data or not at all."""
    about = checkpoint.metadata
    size = about.preprocessing.image_size
    trained = f"{about.data_source}, {about.data_hash[:12]}, {about.num_epochs} epochs, seed {about.seed}"
    rows: list[list[Value]] = [
        ["network", about.architecture],
        ["input", f"3 x {size} x {size}"],
        ["recipe and profile", about.recipe if about.random_weights else f"{about.recipe}, {about.profile}"],
        ["trained on", f"nothing, seed {about.seed}" if about.random_weights else trained],
        ["SHA-256", checkpoint.sha256],
    ]
    warning = None
    if about.random_weights:
        warning = Banner(
            "Nobody trained this network: its weights are random. Its speed can be measured and its logits compared; "
            "its answers mean nothing.",
            "info",
        )
    elif trained_now or about.profile == "smoke":
        why = (
            "There was no checkpoint in this run, so a small network was trained just now"
            if trained_now
            else ("The checkpoint of this run is that of a smoke training")
        )
        warning = Banner(
            f"{why}. Its speed is what it is, its accuracy means little, and its record is marked as a smoke one. "
            "Train a real network with python -m lib run 02_train."
        )
    elif about.data_hash != data.manifest_hash:
        warning = Banner(
            f"The checkpoint was trained on other images ({about.data_source}, {about.data_hash[:12]}) than those it "
            f"is measured on ({data.source}, {data.manifest_hash[:12]}): its accuracy is that of a network abroad."
        )
    return Stack(profile_banner(profile), warning, Table(["", "checkpoint"], rows, caption="The network"))


def preparation(record: BenchmarkRecord) -> Shown:
    """One-off work before the first start."""
    if record.preparation is None:
        return _absent(record, "preparation")
    return preparation_table(record.preparation, record.backend)


def cold_start(record: BenchmarkRecord) -> Shown:
    """What a first request waits for, both sides."""
    if record.cold_start is None:
        return _absent(record, "cold start")
    return cold_start_table(
        {
            record.backend: record.cold_start,
            f"{record.reference} (reference)": record.reference_cold_start,
        }
    )


def parity(record: BenchmarkRecord) -> Shown:
    """Logits and accuracy against the reference."""
    if record.parity is None:
        if record.status == "ok" and not record.is_network:
            return Banner(f"{record.backend} computes no network: there is no accuracy to compare", "info")
        return _absent(record, "parity")
    random_weights = record.random_weights
    accuracy = accuracy_table(record.accuracy) if record.accuracy else None
    return Stack(parity_table(record.parity, random_weights=random_weights), accuracy)


def proof(record: BenchmarkRecord) -> Shown:
    """Which kernels ran, and what of it needs a look."""
    if record.proof is None:
        return _absent(record, "kernels")
    doubt = record.proof.investigate
    return Stack(Banner(f"To investigate: {doubt}.") if doubt else None, proof_table(record.proof))


def scenarios(record: BenchmarkRecord) -> Shown:
    """Latency, throughput and speedup."""
    if not record.scenarios:
        return _absent(record, "latency and throughput")
    names = record.backend, record.reference
    disturbed = [scenario for scenario in record.scenarios if disturbance(scenario) is not None]
    raw = Fold(RAW, scenario_table(disturbed, *names, raw=True)) if disturbed else None
    return Stack(_tried(record.scenarios), scenario_table(record.scenarios, *names), raw)


def latencies(record: BenchmarkRecord) -> Shown:
    """Distribution of all calls."""
    if not record.scenarios:
        return _absent(record, "latency of every call")
    if found := judged(record.scenarios):
        show(plot_latencies(found, record.backend, record.reference, backend_names()))
    return _disturbed("latency of every call", record.scenarios)


def round_ratios(record: BenchmarkRecord) -> Shown:
    """Speedup of every round."""
    if not record.scenarios:
        return _absent(record, "speedup of every round")
    if not record.is_network:
        return Banner(f"{record.backend} computes no network: a speedup would mean nothing", "info")
    if found := judged(record.scenarios):
        show(plot_round_ratios(found))
    return _disturbed("speedup of every round", record.scenarios)


def layer_bars(record: BenchmarkRecord) -> Shown:
    """Milliseconds of the slowest layers, one figure per scenario, and how much of a call they add up to."""
    if not record.layers:
        return _absent(record, "layers")
    tables = [table for table in record.layers if disturbance(table) is None]
    for table in tables:
        show(plot_layers(table, record.backend, record.reference, backend_names()))
    whole = judged(record.scenarios)
    added = [table for table in tables if table.scenario in {scenario.name for scenario in whole}]
    return Stack(
        _disturbed("layers", record.layers),
        layer_sum_table(added, whole, record.backend, record.reference) if added else None,
    )


def kernels(record: BenchmarkRecord) -> Shown:
    """Which kernels ran in which scenario."""
    if not any(layer.kernels for table in record.layers for layer in table.layers):
        return _absent(record, "kernels by scenario")
    return kernel_table(record.layers, record.backend)


def layers(record: BenchmarkRecord, scenario: str) -> Shown:
    """Every layer with its kernels in one scenario."""
    for table in record.layers:
        if table.scenario == scenario:
            shown = layer_table(table, record.backend, record.reference)
            banner = _disturbed("layers", [table])
            return shown if banner is None else Stack(banner, Fold(RAW, shown))
    return _absent(record, f"layers, {scenario_name(scenario)}")


def roofline(record: BenchmarkRecord, network_layers: Sequence[str] = ()) -> Shown:
    """Every layer against the machine's peaks, in a figure and in a table per scenario.

    Args:
        network_layers: names of all layers of the network, so that those nobody tells the time of are named.
    """
    if record.peaks is None:
        return _absent(record, "roofline")
    banner = _disturbed("roofline", [*record.scenarios, *record.layers])
    kept = {scenario.name for scenario in judged(record.scenarios)}
    tables = [table for table in record.layers if table.scenario in kept and disturbance(table) is None]
    found = [roofline_of(record, table.scenario, network_layers) for table in tables]
    drawn = [one for one in found if one is not None and one.layers]
    if not drawn:
        return Stack(peaks_table(record.peaks), banner or _absent(record, "roofline"))
    show(plot_roofline(drawn, record.backend, backend_names()))
    return Stack(peaks_table(record.peaks), banner, *(roofline_table(one, record.backend) for one in drawn))


def image_cost(record: BenchmarkRecord) -> Shown:
    """Decoding, resizing, normalizing and inference of one image."""
    if record.preprocessing is None or not record.scenarios:
        return _absent(record, "cost of an image")
    banner, found = _disturbed("inference", record.scenarios), judged(record.scenarios)
    if not found:
        return banner
    threads = record.environment.num_threads
    return Stack(banner, image_cost_table(record.preprocessing, found, record.backend, threads))


def sweep(record: BenchmarkRecord) -> Shown:
    """Curves over batch sizes and threads, and where they cross."""
    if not batch_points(record.sweep):
        if record.status == "ok" and not record.sweep:
            return Banner("Other batch sizes and numbers of threads are measured in the profile full only.", "info")
        return _absent(record, "batch sizes and threads")
    if not record.is_network:
        return Banner(f"{record.backend} computes no network: a speedup would mean nothing", "info")
    if batch_points(judged_points(record.sweep)):
        show(plot_sweep(record, backend_names()))
    floor = max([SMALLEST_EFFECT, *(noise_floor(scenario) for scenario in judged(record.scenarios))])
    words = (
        crossing_words(record.sweep, record.backend, floor),
        scaling_words(record.sweep, record.backend, record.reference),
        failure_words(record.sweep),
    )
    return Banner(" ".join(filter(None, words)), "info")
