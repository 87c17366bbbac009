"""03_benchmark. Every view also says why there is nothing to see, when a backend is unavailable or has failed."""

from __future__ import annotations

from typing import Any

from lib.backends import backend_names
from lib.bench.session import Session
from lib.data import Data
from lib.model import Checkpoint
from lib.records.statistics import median_latency
from lib.report.figures import show
from lib.report.plots import plot_latencies, plot_layers, plot_round_ratios
from lib.report.table import Banner, Stack, Table, Value, profile_banner
from lib.report.tables import accuracy_table, cold_start_table, layer_table, parity_table, proof_table, scenario_table
from lib.report.words import milliseconds, percent, scenario_name

Shown = Any  # something that a notebook displays, or None


def _absent(session: Session, what: str) -> Banner:
    """Why a session has no `what`."""
    name = session.backend.name
    if session.status == "unavailable":
        return Banner(f"{what}: not measured, {name} is unavailable here: {session.error}", "info")
    if session.status == "failed":
        return Banner(f"{what}: not measured, {name} failed: {session.error}", "error")
    return Banner(f"{what}: nothing to show for {name}", "info")


def checkpoint_table(checkpoint: Checkpoint, data: Data, trained_now: bool, profile: str) -> Stack:
    """Which network is measured; a warning where it was trained just now or on other data."""
    about = checkpoint.metadata
    rows: list[list[Value]] = [
        ["network", about.architecture],
        ["recipe and profile", f"{about.recipe}, {about.profile}"],
        ["trained on", f"{about.data_source}, {about.data_hash[:12]}, {about.num_epochs} epochs, seed {about.seed}"],
        ["SHA-256", checkpoint.sha256],
    ]
    warning = None
    if trained_now or about.profile == "smoke":
        why = (
            "There was no checkpoint in this run, so a small network was trained just now"
            if trained_now
            else ("The checkpoint of this run is that of a smoke training")
        )
        warning = Banner(
            f"{why}. Its speed is what it is, its accuracy means little, and its record is marked as a smoke one. "
            "Train a real network with `python -m lib run 02_train`."
        )
    elif about.data_hash != data.manifest_hash:
        warning = Banner(
            f"The checkpoint was trained on other images ({about.data_source}, {about.data_hash[:12]}) than those it "
            f"is measured on ({data.source}, {data.manifest_hash[:12]}): its accuracy is that of a network abroad."
        )
    return Stack(profile_banner(profile), warning, Table(["", "checkpoint"], rows, caption="The network"))


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
    return Stack(parity_table(session.parity), accuracy_table(session.accuracy) if session.accuracy else None)


def proof(session: Session) -> Shown:
    """Which kernels ran."""
    return proof_table(session.proof) if session.proof is not None else _absent(session, "kernels")


def scenarios(session: Session) -> Shown:
    """Latency, throughput and speedup."""
    if not session.scenarios:
        return _absent(session, "latency and throughput")
    return scenario_table(session.scenarios, session.backend.name, session.reference.name)


def latencies(session: Session) -> Shown:
    """Distribution of all calls."""
    if not session.scenarios:
        return _absent(session, "latency of every call")
    show(plot_latencies(session.scenarios, session.backend.name, session.reference.name, backend_names()))
    return None


def round_ratios(session: Session) -> Shown:
    """Speedup of every round."""
    if not session.scenarios:
        return _absent(session, "speedup of every round")
    if not session.backend.is_network:
        return Banner(f"{session.backend.name} computes no network: a speedup would mean nothing", "info")
    show(plot_round_ratios(session.scenarios))
    return None


def layer_bars(session: Session) -> Shown:
    """Milliseconds of the slowest layers, one figure per scenario, and how much of a call they add up to."""
    if not session.layers:
        return _absent(session, "layers")
    rows: list[list[Value]] = []
    for table in session.layers:
        show(plot_layers(table, session.backend.name, session.reference.name, backend_names()))
        whole = next(scenario for scenario in session.scenarios if scenario.name == table.scenario)
        for name, calls, passes in (
            (session.backend.name, whole.latencies_s, [layer.latencies_s for layer in table.layers]),
            (session.reference.name, whole.reference_latencies_s, [x.reference_latencies_s for x in table.layers]),
        ):
            total, call = sum(median_latency(latencies_s) for latencies_s in passes), median_latency(calls)
            rows.append(
                [scenario_name(table.scenario), name, milliseconds(total), milliseconds(call), percent(total / call, 1)]
            )
    columns = ["scenario", "backend", "sum of layers (ms)", "whole call (ms)", "layers / call"]
    note = (
        "What is missing is what happens between layers; what is above 100 % is the cost of watching them, which "
        "weighs more on single images."
    )
    return Table(columns, rows, caption="Do the layers add up?", note=note)


def layers(session: Session, scenario: str) -> Shown:
    """Every layer with its kernels in one scenario."""
    for table in session.layers:
        if table.scenario == scenario:
            return layer_table(table, session.backend.name, session.reference.name)
    return _absent(session, f"layers, {scenario_name(scenario)}")
