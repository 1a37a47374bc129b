"""The figure, and how to read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paper_repros.mdp.cpl.learning import (
    LAMBDAS,
    PHASES,
    FromLists,
    Phases,
    Recorded,
)
from prefsim.papers import (
    panels,
)
from prefsim.papers.figures import BLUE, GREEN, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Curves = dict[int, dict[str, np.ndarray]]


def caption(curves: Curves) -> str:
    seeds = len(next(iter(curves.values()))["CPL"])
    return (
        f"Top left: return of what is learned from compared segments, scaled so that the uniform"
        f" policy has 0 and the expert 1; mean of {seeds} grids, higher is better. Top middle:"
        " distance from the expert where all comparisons are known, by the bias λ of the loss;"
        " 0 is recovery. Bottom left, top right: probability of actions that the data never show;"
        " it should be small. Bottom middle: the loss meanwhile. Bottom right: two returns of the"
        " policy learned from segments recorded in the environment; 1 is optimal."
    )


def draw(
    curves: Curves,
    lists: list[FromLists],
    errors: dict[float, float],
    masses: dict[float, float],
    phases: Phases,
    recorded: dict[tuple[str, int], Recorded],
) -> Figure:
    figure, axes = panels(
        2,
        3,
        title="A policy straight from compared segments finds the expert, where λ = 1",
        width=5.4,
    )
    draw_curves(axes[0, 0], curves, lists)
    for axis, values, ylabel, title in (
        (
            axes[0, 1],
            errors,
            "largest error of a probability",
            "Exact population: only λ = 1 recovers the expert",
        ),
        (
            axes[1, 0],
            masses,
            "mean probability of unseen actions",
            "Data show half of the actions: λ < 1 stays with them",
        ),
    ):
        axis.plot(list(values), list(values.values()), "-o", color=BLUE, clip_on=False)
        axis.set(xlabel="bias λ", ylabel=ylabel, ylim=(0, None), xticks=LAMBDAS, title=title)
    draw_phases(axes[0, 2], axes[1, 1], phases)
    draw_recorded(axes[1, 2], recorded)
    return figure


def draw_phases(unseen: Axes, contrast: Axes, phases: Phases) -> None:
    for k, (name, colour) in enumerate(zip(PHASES, (ORANGE, BLUE), strict=True)):
        unseen.plot(phases.steps, phases.outside[:, k], color=colour, label=name)
        contrast.plot(phases.steps, phases.loss[:, k], color=colour, label=name)
    unseen.set(
        xlabel="gradient steps of CPL",
        ylabel="mean probability of unseen actions",
        ylim=(0, None),
        title="λ = 1 stays with them if they are cloned first",
    )
    contrast.set(
        xlabel="gradient steps of CPL",
        ylabel="loss of the comparisons (nats)",
        title="From there the comparisons are learned",
    )
    unseen.legend(fontsize=8, loc="center right")
    contrast.legend(fontsize=8, loc="upper right")


def draw_curves(axes: Axes, curves: Curves, lists: list[FromLists]) -> None:
    for name, colour in (("CPL", BLUE), ("partial return", ORANGE)):
        by_seed = np.stack([returns[name] for returns in curves.values()])
        axes.plot(list(curves), by_seed, color=colour, alpha=0.25, linewidth=1)
        label = name if name == "CPL" else f"{name} + soft planning"
        axes.plot(list(curves), by_seed.mean(axis=1), "-o", color=colour, label=label)
    from_lists = float(np.mean([found.soft for found in lists]))
    axes.plot(max(curves), from_lists, "D", color=GREEN, label="lists of 8, half as many")
    for name, height, style in (("expert", 1.0, "--"), ("uniform", 0.0, ":")):
        axes.axhline(height, color="grey", linestyle=style, linewidth=1)
        at = (min(curves), height)
        axes.annotate(name, at, textcoords="offset points", xytext=(0, 4), fontsize=8)
    axes.set(
        xscale="log",
        yscale="symlog",
        xlabel="comparisons",
        ylabel="scaled soft return",
        title="4 x 4 grids, random-action segments (thin lines: seeds)",
    )
    axes.set_yticks([-10, -5, -2, -1, 0, 1], ["−10", "−5", "−2", "−1", "0", "1"])
    axes.set_xticks(list(curves), [f"{n:,}" for n in curves])
    axes.minorticks_off()
    axes.legend(loc="lower right")


def draw_recorded(axes: Axes, recorded: dict[tuple[str, int], Recorded]) -> None:
    places, kept = np.arange(len(recorded)), [1 - world.lost for world in recorded.values()]
    soft = [world.soft for world in recorded.values()]
    for shift, heights, label in (
        (-0.2, soft, "learned policy, soft return\n(uniform 0, expert 1)"),
        (0.2, kept, "its most probable actions,\n1 − share of the optimal return lost"),
    ):
        bars = axes.bar(places + shift, heights, 0.36, label=label)
        axes.bar_label(bars, fmt="%.3f", fontsize=8, padding=2)
    axes.axhline(1.0, color="grey", linestyle="--", linewidth=1)
    axes.axhline(0.0, color="black", linewidth=0.8)
    axes.set_xticks(places, [f"{name.split('-')[0]}\n{n:,}" for name, n in recorded])
    axes.set(
        ylim=(min(0.0, *kept) - 0.1, 1.45),
        xlabel="environment and comparisons recorded in it",
        ylabel="1 is optimal",
        title="gymnasium: segments recorded in the environments",
    )
    axes.legend(loc="upper center", ncols=2, fontsize=8)
