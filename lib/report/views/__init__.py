"""What the cells of the notebooks show: one call per cell, also where there is nothing to show and a reason why."""

from lib.report.views.benchmark import (
    checkpoint_table,
    cold_start,
    latencies,
    layer_bars,
    layers,
    parity,
    proof,
    round_ratios,
    scenarios,
)
from lib.report.views.compare import (
    accuracy_speed,
    answer,
    cold_starts,
    layer_map,
    layer_numbers,
    machines,
    ratios,
    verdicts,
)
from lib.report.views.explore import augmentation, class_balance, data_table, split_table
from lib.report.views.train import confident_errors, predict_file, training_table

__all__ = [
    "accuracy_speed",
    "answer",
    "augmentation",
    "checkpoint_table",
    "class_balance",
    "cold_start",
    "cold_starts",
    "confident_errors",
    "data_table",
    "latencies",
    "layer_bars",
    "layer_map",
    "layer_numbers",
    "layers",
    "machines",
    "parity",
    "predict_file",
    "proof",
    "ratios",
    "round_ratios",
    "scenarios",
    "split_table",
    "training_table",
    "verdicts",
]
