"""The figure, and how to read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paper_repros.mdp.constrained_rlhf.experiments import (
    NAMES,
    SCALES,
    DrawnWorlds,
    Exact,
    Searches,
    Trained,
)
from paper_repros.mdp.constrained_rlhf.overoptimised import MIXINGS, STEPS, STRONGEST
from prefsim.papers import (
    panels,
)
from prefsim.papers.figures import BLUE, ORANGE, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (BLUE, ORANGE, VERMILION)


CAPTION = (
    "Gold is the true reward, higher is better; colours say how much the two proxies share (ρ),"
    " but for the bottom left and bottom middle."
    " Top left: gold along the optima of growing weights; a dot is the joint proxy point, from"
    " where more weight is harmful. Top middle: gold of each method's optimum. Top right: gold"
    " while policies are trained. Bottom left: how far a reward is from its threshold while"
    " multipliers are learned; 0 is meant. Bottom middle: gold gained (right) or lost (left)"
    " against thresholds at the proxy point, a dot for each drawn world; beyond ±0.1 the axis is"
    " logarithmic. Bottom right: the best gold among the thresholds tried so far."
)


def draw(
    exact: Exact, drawn: DrawnWorlds, trained: Trained, searches: dict[float, Searches]
) -> Figure:
    figure, axes = panels(
        2,
        3,
        title="Rewards held at their joint proxy points keep the gold that fixed weights lose",
        width=5.4,
    )
    draw_paths(axes[0, 0], exact)
    draw_methods(axes[0, 1], exact)
    draw_training(axes[0, 2], trained)
    draw_normalised(axes[1, 0], trained)
    draw_drawn(axes[1, 1], drawn)
    draw_searches(axes[1, 2], searches, exact)
    return figure


def draw_paths(axes: Axes, exact: Exact) -> None:
    strength = np.linspace(0.0, STRONGEST, STEPS)
    for k, (mixing, colour) in enumerate(zip(MIXINGS, COLOURS, strict=True)):
        axes.plot(strength, exact.joint.along[k], color=colour, lw=2)
        at = strength[exact.joint.step[k]]
        axes.plot(at, exact.joint.gold[k], "o", color=colour, ms=8)
        label = f"ρ = {mixing:g}"
        place = (STRONGEST, exact.joint.along[k, -1])
        axes.annotate(
            label, place, xytext=(4, 0), textcoords="offset points", color=colour, va="center"
        )
    axes.set(
        xlabel="weight of the two rewards together (β = 1)",
        ylabel="expected gold",
        xlim=(0, STRONGEST * 1.16),
        title="Gold falls beyond a joint proxy point (dots),\nearlier if rewards share more (ρ)",
    )


def draw_methods(axes: Axes, exact: Exact) -> None:
    place = np.arange(len(NAMES))[::-1]
    for k, (mixing, colour) in enumerate(zip(MIXINGS, COLOURS, strict=True)):
        axes.plot(
            [exact.gold[name][k] for name in NAMES],
            place,
            "osD"[k],
            color=colour,
            ms=7,
            label=f"ρ = {mixing:g}",
        )
    axes.set_yticks(place, NAMES)
    axes.set(
        xlabel="expected gold",
        title="Constraints beat fixed weights;\nrewards that saturate beat both here",
    )
    axes.legend(loc="center left")


def draw_training(axes: Axes, trained: Trained) -> None:
    styles = {"ξ-PPO": "-", "μ-PPO": ":", "fixed weights": "--"}
    for name, style in styles.items():
        run = trained.runs[name]
        gold = trained.by_world(run.gold).mean(axis=-1)
        for k, colour in enumerate(COLOURS):
            axes.plot(run.steps, gold[:, k], style, color=colour, lw=1.6)
        axes.plot([], [], style, color="0.3", label=name)
    axes.set(
        xlabel="steps of training (β = 0.2)",
        ylabel="expected gold, mean of seeds",
        title="Learned multipliers stay at the proxy point\n(colours as on the left)",
    )
    # Between the lines of the two worlds.
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.12))


def draw_normalised(axes: Axes, trained: Trained) -> None:
    threshold = trained.thresholds[-1, 0]
    for name, colour in (("ξ-PPO, normalised", VERMILION), ("ξ-PPO", BLUE)):
        run = trained.runs[name]
        label = "each advantage normalised" if "normalised" in name else "advantages as they are"
        axes.plot(run.steps, run.achieved[:, -1, 0] - threshold, color=colour, lw=1.4, label=label)
    axes.axhline(0.0, color="0.4", lw=1)
    axes.set(
        xlabel="steps of training",
        ylabel="first reward less its threshold",
        ylim=(-1.2, 1.6),
        title="ρ = 0.9, one seed: normalised advantages\nforget the penalty, and do not settle",
    )
    axes.legend(loc="upper right")


def draw_drawn(axes: Axes, drawn: DrawnWorlds) -> None:
    names = ("fixed weights", *(f"ξ-PPO × {scale}" for scale in SCALES), "PPO-SAT")
    for y, name in enumerate(reversed(names)):
        change = drawn.change[name]
        axes.plot(change, np.full(len(change), y), "o", color=BLUE, alpha=0.35, ms=5)
        axes.plot(change.mean(), y, "k|", ms=22, mew=2)
    axes.axvline(0.0, color="0.4", lw=1)
    axes.set_yticks(range(len(names)), reversed(names))
    axes.set(
        xlabel="gold less that of the joint proxy point (bar: mean)",
        ylim=(-0.5, len(names) - 0.5),
        title=f"{len(change)} drawn worlds: lower thresholds hurt,\nhigher ones mostly help",
    )
    axes.set_xscale("symlog", linthresh=0.1)
    ticks = (-3.0, -1.0, -0.3, -0.1, 0.0, 0.1, 0.3)
    axes.set_xticks(ticks, [f"{tick:g}".replace("-", "−") for tick in ticks])
    axes.minorticks_off()


def draw_searches(axes: Axes, searches: dict[float, Searches], exact: Exact) -> None:
    for mixing, found in searches.items():
        colour = COLOURS[MIXINGS.index(mixing)]
        for scores, style in ((found.exact.scores, "-"), (found.single.found.scores, ":")):
            best = np.maximum.accumulate(scores)
            axes.plot(np.arange(1, len(best) + 1), best, style, color=colour, lw=1.8)
        axes.axhline(exact.joint.gold[MIXINGS.index(mixing)], color=colour, lw=0.8, ls="--")
    for label, style in (
        ("every trial solved exactly", "-"),
        ("trials within one training", ":"),
        ("joint proxy point", "--"),
    ):
        axes.plot([], [], style, color="0.3", label=label)
    axes.set(
        xlabel="trials of thresholds",
        ylabel="best expected gold so far",
        ylim=(-1.6, 0.05),
        title="Nelder–Mead finds thresholds that\nno weights on the path have (colours: ρ)",
    )
    axes.legend(loc="lower right")
