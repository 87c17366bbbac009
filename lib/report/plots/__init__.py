"""Figures of the four notebooks: `plot_*(data, ax=None) -> ax`, for `lib.report.figures.show`."""

from lib.report.plots.benchmark import plot_latencies, plot_layers, plot_roofline, plot_round_ratios, plot_sweep
from lib.report.plots.compare import (
    plot_accuracy_speed,
    plot_cold_start,
    plot_history,
    plot_layer_heat_map,
    plot_ratios,
    plot_sweeps,
)
from lib.report.plots.explore import (
    mean_brightness,
    plot_augmentation,
    plot_brightness,
    plot_class_balance,
    plot_class_gallery,
    plot_sizes,
    plot_track,
)
from lib.report.plots.train import plot_confident_errors, plot_confusion, plot_learning_curve, plot_per_class_recall

__all__ = [
    "mean_brightness",
    "plot_accuracy_speed",
    "plot_augmentation",
    "plot_brightness",
    "plot_class_balance",
    "plot_class_gallery",
    "plot_cold_start",
    "plot_confident_errors",
    "plot_confusion",
    "plot_history",
    "plot_latencies",
    "plot_layer_heat_map",
    "plot_layers",
    "plot_learning_curve",
    "plot_per_class_recall",
    "plot_ratios",
    "plot_roofline",
    "plot_round_ratios",
    "plot_sizes",
    "plot_sweep",
    "plot_sweeps",
    "plot_track",
]
