"""The confidence of a server's answers beside that of the validation images."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from lib.records.network_outputs import Outputs
from lib.report.figures import FASTER, SLOWER, describe, fixed_ticks, new_axes, styled

_DOUBTS = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@styled
def plot_confidence(validation: Outputs, window: Outputs) -> Axes:
    """Share of answers that are at least so unsure, for both."""
    ax = new_axes(3.2)
    for name, outputs, colour, style in (("validation", validation, FASTER, "-"), ("window", window, SLOWER, "--")):
        doubt = np.sort(np.maximum(-np.expm1(outputs.confidence), _DOUBTS[0]))
        ax.plot(doubt, 100 * (1 - np.arange(len(doubt)) / len(doubt)), style, color=colour, label=name)
    surest = -np.expm1(max(outputs.confidence.max() for outputs in (validation, window)))
    shown = _DOUBTS[max(0, np.searchsorted(_DOUBTS, surest) - 1) :]
    ax.set_xscale("log")
    fixed_ticks(ax.xaxis, shown)
    ax.set_xticks(shown, [f"{100 * (1 - doubt):.7g}" for doubt in shown])
    ax.set_xlim(shown[0], 1)
    ax.set_ylim(0, 100)
    ax.set_xlabel("confidence (%), towards 0 on the right")
    ax.set_ylabel("answers at most so sure (%)")
    ax.grid()
    ax.legend(loc="upper right")
    shares = [100 * float((outputs.confidence < np.log(0.9)).mean()) for outputs in (validation, window)]
    says = f"Less than 90 % sure: {shares[0]:.1f} % of the answers on validation, {shares[1]:.1f} % in the window."
    return describe(ax, f"Share of answers by confidence, validation and window. {says}", says)
