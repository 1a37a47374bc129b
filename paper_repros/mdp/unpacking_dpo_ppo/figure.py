"""The figure, and how to read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paper_repros.mdp.unpacking_dpo_ppo.study import (
    FACTORS,
    NAMES,
    RICH,
    SHARED,
    TABLE,
    Curve,
    effect,
)
from paper_repros.mdp.unpacking_dpo_ppo.training import Trained
from prefsim.analysis.factorial import Factorial
from prefsim.analysis.intervals import mean_half_width
from prefsim.papers import panels
from prefsim.papers.figures import BLUE, GREEN, ORANGE, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AFTER = {TABLE: "k", SHARED: BLUE, RICH: ORANGE}


def caption(found: dict[str, Factorial], curves: list[Curve]) -> str:
    return (
        "Left: by how much the better level of each factor raises the gain in true reward, mean of"
        " all settings of the others; right of the line is gain, bars are 95 % intervals over"
        " worlds, and shapes are what policies can express. Middle: what PPO gains over DPO where"
        " policies are tables and no prompt is new, by the number of labelled pairs"
        f" (mean of {curves[0].difference.shape[1]} worlds). Right: distance of PPO from the"
        " regularised optimum while it trains on token trees; lower is better, and the black line"
        " has exact expectations."
    )


def draw(found: dict[str, Factorial], curves: list[Curve], trained: Trained) -> Figure:
    figure, axes = panels(
        1,
        3,
        title=(
            "Data come first unless policies do not generalise. PPO is worth what its reward model"
            " carries over and the policy does not"
        ),
        width=5.6,
        height=4.8,
        width_ratios=(1.35, 1, 1),
    )
    draw_effects(axes[0, 0], found)
    draw_labels(axes[0, 1], curves)
    draw_training(axes[0, 2], trained)
    return figure


def draw_effects(axes: Axes, found: dict[str, Factorial]) -> None:
    names = list(FACTORS)
    for k, (kind, each) in enumerate(found.items()):
        sizes = [effect(each, name) for name in names]
        axes.errorbar(
            [size.size for size in sizes],
            np.arange(len(names)) + 0.22 * (k - 1),
            xerr=[size.half_width for size in sizes],
            fmt="osD"[k],
            color=AFTER[kind],
            capsize=3,
            label=f"policy: {kind}",
        )
    axes.axvline(0.0, color="0.5", lw=1)
    axes.set_yticks(range(len(names)), [NAMES[name].replace(" (", "\n(") for name in names])
    axes.set(
        xlabel="change of the gain in true reward (1: the most there is)",
        title="Main effects, ± 95 % over worlds",
        ylim=(len(names) - 0.5, -0.6),
    )
    axes.set_xlim(right=0.46)
    axes.legend(frameon=False, loc="lower right")


def draw_labels(axes: Axes, curves: list[Curve]) -> None:
    for curve, style in zip(curves, ((BLUE, "o-"), (VERMILION, "s--")), strict=True):
        colour, form = style
        error = [mean_half_width(row) for row in curve.difference]
        mean = curve.difference.mean(axis=1)
        label = f"reward with a non-linear part of {curve.non_linear:g}"
        axes.errorbar(
            curve.labels, mean, yerr=error, fmt=form, color=colour, capsize=3, label=label
        )
    axes.axhline(0.0, color="0.5", lw=1)
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks(curves[0].labels, [str(pairs) for pairs in curves[0].labels])
    axes.set(
        xlabel="labelled pairs",
        ylabel="gain of PPO less that of DPO",
        title="Tables, the labelled prompts alone",
    )
    axes.legend(frameon=False, loc="upper right")


def draw_training(axes: Axes, trained: Trained) -> None:
    for paths, colour, label in (
        (trained.exact, "k", "all draws, true values: one step a round"),
        (trained.drawn, GREEN, "512 draws, critic, whitened: 8 steps"),
    ):
        for i, path in enumerate(paths):
            steps = np.arange(len(path)) * (1 if colour == "k" else 8)
            axes.semilogy(steps, path, color=colour, lw=1.3, label=label if i == 0 else None)
    axes.set(
        xlabel="gradient steps",
        ylabel="total variation from the optimum",
        title="PPO on token trees ends at π_ref exp(R/κ)",
    )
    axes.set_ylim(top=3.0)
    axes.legend(frameon=False, loc="upper right")
