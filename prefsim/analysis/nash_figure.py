"""The figure of every method for preference games on the same games."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from prefsim._colours import COLOURS
from prefsim.analysis.nash_family import FAMILY, MethodTrace, is_penalised

__all__ = ["draw_comparison"]


def draw_comparison(traces: Sequence[MethodTrace], *, floor: float = 1e-10) -> Any:
    """Draw exploitability against iterations.

    A column a game, the last policy above and the average below.

    Parameters
    ----------
    traces
        From :func:`compare_methods`.
    floor
        Smallest exploitability drawn; smaller ones lie on it.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    games = list(dict.fromkeys(trace.game for trace in traces))
    methods = list(dict.fromkeys(trace.method for trace in traces))
    colour = dict(zip(methods, itertools.cycle(COLOURS), strict=False))
    style = {method: "--" if is_penalised(method) else "-" for method in methods}
    figure = Figure(figsize=(3.4 * len(games) + 3.2, 6.4), layout="constrained")
    axes = figure.subplots(2, len(games), sharex=True, sharey=True, squeeze=False)
    for row, part in enumerate(("last", "average")):
        for column, game in enumerate(games):
            axis = axes[row, column]
            for trace in traces:
                if trace.game == game:
                    axis.loglog(
                        trace.iteration + 1,
                        np.maximum(getattr(trace, part), floor),
                        color=colour[trace.method],
                        linestyle=style[trace.method],
                        linewidth=1.4,
                    )
            axis.grid(alpha=0.25)
            if row == 0:
                axis.set_title(game)
            else:
                axis.set_xlabel("updates + 1")
        axes[row, 0].set_ylabel(f"exploitability of the\n{part} policy (probability)")
    handles = [
        axes[0, 0].plot([], [], color=colour[m], linestyle=style[m], label=FAMILY.get(m, m))[0]
        for m in methods
    ]
    figure.legend(
        handles=handles,
        loc="outside right center",
        frameon=False,
        title="solid: without penalty\ndashed: with KL penalty τ",
    )
    figure.suptitle("One family, the same games: who converges, and in which sense")
    return figure
