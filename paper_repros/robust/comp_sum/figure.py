"""The figure, and how to read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paper_repros.robust.comp_sum import linear_scorers, noisy_sets, one_input
from paper_repros.robust.comp_sum.linear_scorers import Robustness
from paper_repros.robust.comp_sum.noisy_sets import Study
from paper_repros.robust.comp_sum.one_input import Points
from prefsim.analysis import (
    h_consistency_bound,
)
from prefsim.analysis.class_calibration import (
    ClassLossProfile,
    draw_error_costs,
    draw_noise_terms,
)
from prefsim.papers import panels
from prefsim.papers.figures import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


NAMES = {0.0: "τ = 0, sum-exponential", 1.0: "τ = 1, cross-entropy", 2.0: "τ = 2, MAE"}


CAPTION = (
    "Top left: how much more error than the best a scorer may have, by its excess risk in each"
    " loss; every dot, a random scorer and its excess cross-entropy, must lie below the line of"
    " τ = 1. Top middle: the part of the risk that no constant scorer can avoid, against its bound."
    " Top right: the least excess risk of an excess error of one half: 0 means that the loss may"
    " not notice it; what is red right of 0 does not notice some smaller error. Bottom left:"
    " error under the worst perturbation within γ; lower is better. Bottom middle: accuracy ahead"
    " of cross-entropy; right of the line is ahead. Bottom right: how much a loss changes under"
    " uniformly flipped labels."
)


def draw(
    points: Points,
    profiles: dict[str, ClassLossProfile],
    bounds: dict[str, np.ndarray],
    fragile: Robustness,
    studies: list[Study],
) -> Figure:
    figure, axes = panels(
        2,
        3,
        width=5.2,
        title=(
            "A small excess risk bounds the excess error, with equality for some inputs; which"
            " loss is best is decided by noise, adversaries and optimiser instead"
        ),
    )
    draw_bounds(axes[0, 0], points)
    draw_gaps(axes[0, 1])
    draw_error_costs(axes[0, 2], profiles, bounds)
    axes[0, 2].set_title("What an error costs in every loss")
    linear_scorers.draw_robust_errors(axes[1, 0], fragile)
    noisy_sets.draw_real_data(axes[1, 1], studies)
    draw_noise_terms(axes[1, 2], profiles)
    axes[1, 2].set_title("What uniform noise adds: 0 is robust")
    return figure


def draw_bounds(axis: Any, points: Points) -> None:
    excess = np.linspace(0.0, 0.8, 200)
    for place, tau in enumerate(one_input.FAMILY):
        allowed = h_consistency_bound(excess, tau=tau, n_classes=3)
        axis.plot(excess, allowed, color=COLOURS[place], label=NAMES.get(tau, f"τ = {tau:g}"))
    axis.plot(*points, ".", ms=3, color="0.45", label="random inputs, τ = 1")
    axis.set(
        xlim=(0, 0.8),
        ylim=(0, 1.02),
        xlabel="excess risk in the loss",
        ylabel="largest excess error",
        title="Γ: the error that a risk allows, 3 classes",
    )
    axis.legend(edgecolor="none", fontsize=8, loc="lower right", facecolor="white", framealpha=0.8)


def draw_gaps(axis: Any) -> None:
    taus = np.linspace(0.0, 3.0, 61)
    axis.plot(taus, one_input.gaps(taus), lw=2, label="gap M of constant scores")
    axis.plot(taus, one_input.gap_bounds(taus), "--", label="its bound from τ = 0")
    known = one_input.KNOWN_ZERO_ONE_GAP
    axis.axhline(known, color="0.5", lw=1, ls=":", label="gap of errors")
    axis.set(
        xlabel="τ",
        ylabel="minimisability gap",
        ylim=(0, None),
        title="What a constant scorer must pay on two inputs",
    )
    axis.legend(frameon=False, fontsize=8)
