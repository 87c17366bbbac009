"""03_benchmark. Every view also says why there is nothing to see, when a backend is unavailable or has failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lib.analysis.batch_sweep import batch_points, crossing_words, failure_words, judged_points, scaling_words
from lib.analysis.judgement import disturbance, judged
from lib.analysis.roofline import roofline as roofline_of
from lib.analysis.statistics import SMALLEST_EFFECT, noise_floor
from lib.backends import backend_names
from lib.bench.session import Session
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


def _absent(found: Session | BenchmarkRecord, what: str) -> Banner:
    """Why there is no `what`."""
    name = found.backend if isinstance(found.backend, str) else found.backend.name
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


def preparation(session: Session) -> Shown:
    """One-off work before the first start."""
    if session.preparation is None:
        return _absent(session, "preparation")
    return preparation_table(session.preparation, session.backend.name)


def cold_start(session: Session) -> Shown:
    """What a first request waits for, both sides."""
    if session.cold_start is None:
        return _absent(session, "cold start")
    return cold_start_table(
        {
            session.backend.name: session.cold_start,
            f"{session.reference.name} (reference)": session.reference_cold_start,
        }
    )


def parity(session: Session) -> Shown:
    """Logits and accuracy against the reference."""
    if session.parity is None:
        if session.status == "ok" and not session.backend.is_network:
            return Banner(f"{session.backend.name} computes no network: there is no accuracy to compare", "info")
        return _absent(session, "parity")
    random_weights = session.checkpoint.metadata.random_weights
    accuracy = accuracy_table(session.accuracy) if session.accuracy else None
    return Stack(parity_table(session.parity, random_weights=random_weights), accuracy)


def proof(session: Session) -> Shown:
    """Which kernels ran, and what of it needs a look."""
    if session.proof is None:
        return _absent(session, "kernels")
    doubt = session.proof.investigate
    return Stack(Banner(f"To investigate: {doubt}.") if doubt else None, proof_table(session.proof))


def scenarios(session: Session) -> Shown:
    """Latency, throughput and speedup."""
    if not session.scenarios:
        return _absent(session, "latency and throughput")
    names = session.backend.name, session.reference.name
    disturbed = [scenario for scenario in session.scenarios if disturbance(scenario) is not None]
    raw = Fold(RAW, scenario_table(disturbed, *names, raw=True)) if disturbed else None
    return Stack(_tried(session.scenarios), scenario_table(session.scenarios, *names), raw)


def latencies(session: Session) -> Shown:
    """Distribution of all calls."""
    if not session.scenarios:
        return _absent(session, "latency of every call")
    if found := judged(session.scenarios):
        show(plot_latencies(found, session.backend.name, session.reference.name, backend_names()))
    return _disturbed("latency of every call", session.scenarios)


def round_ratios(session: Session) -> Shown:
    """Speedup of every round."""
    if not session.scenarios:
        return _absent(session, "speedup of every round")
    if not session.backend.is_network:
        return Banner(f"{session.backend.name} computes no network: a speedup would mean nothing", "info")
    if found := judged(session.scenarios):
        show(plot_round_ratios(found))
    return _disturbed("speedup of every round", session.scenarios)


def layer_bars(session: Session) -> Shown:
    """Milliseconds of the slowest layers, one figure per scenario, and how much of a call they add up to."""
    if not session.layers:
        return _absent(session, "layers")
    tables = [table for table in session.layers if disturbance(table) is None]
    for table in tables:
        show(plot_layers(table, session.backend.name, session.reference.name, backend_names()))
    whole = judged(session.scenarios)
    added = [table for table in tables if table.scenario in {scenario.name for scenario in whole}]
    return Stack(
        _disturbed("layers", session.layers),
        layer_sum_table(added, whole, session.backend.name, session.reference.name) if added else None,
    )


def kernels(session: Session) -> Shown:
    """Which kernels ran in which scenario."""
    if not any(layer.kernels for table in session.layers for layer in table.layers):
        return _absent(session, "kernels by scenario")
    return kernel_table(session.layers, session.backend.name)


def layers(session: Session, scenario: str) -> Shown:
    """Every layer with its kernels in one scenario."""
    for table in session.layers:
        if table.scenario == scenario:
            shown = layer_table(table, session.backend.name, session.reference.name)
            banner = _disturbed("layers", [table])
            return shown if banner is None else Stack(banner, Fold(RAW, shown))
    return _absent(session, f"layers, {scenario_name(scenario)}")


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
