"""The figure, and how to read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paper_repros.mdp.adversarial_mdp.exact import (
    EMPIRICAL,
    RESAMPLED,
    SIMULATED_GAMMA,
    Simulated,
)
from paper_repros.mdp.adversarial_mdp.play import (
    BARRIER,
    LARGE,
    LAYERS,
    LEARNERS,
    METHODS,
    PLAIN,
    REDUCED,
    SETTINGS,
    SMALL,
    WORLDS,
    Runs,
)
from prefsim.papers import (
    panels,
)
from prefsim.papers.figures import BLUE, ORANGE, PURPLE, SKY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {BARRIER: BLUE, REDUCED: ORANGE, PLAIN: "0.45"}
MARKERS = {BARRIER: "o", REDUCED: "s", PLAIN: "^"}


CAPTION = (
    "Top left: regret against the best fixed policy by the number of episodes, on logarithmic axes;"
    " lower is better, and a slope below that of the dotted line is learning. Top right: the most"
    " negative estimate of a loss that was met; dotted, what theory allows. Bottom left: regret as"
    " a share of that of playing at random, by the strength of the bonus for exploring. Bottom"
    " right: how far two estimates of an inverse covariance are off, by the draws that they cost;"
    " the dotted line is what the bound allows, the dashed one how many draws it asks for."
)


def draw(runs: Runs, simulated: Simulated) -> Figure:
    shares = [runs.share(method, SMALL)[-1] for method in LEARNERS]
    figure, axes = panels(
        2,
        2,
        title=(
            "Losses seen on the visited path alone are learned: after"
            f" {runs.sizes[-1]:,} episodes the regret is {max(shares):.0%} of playing at random"
        ),
        width=5.6,
        height=4.4,
    )
    draw_regret(axes[0, 0], runs)
    draw_smallest(axes[0, 1], runs)
    draw_bonus(axes[1, 0], runs)
    draw_inverses(axes[1, 1], simulated)
    return figure


def draw_regret(axes: Axes, runs: Runs) -> None:
    sizes = list(runs.sizes)
    axes.loglog(sizes, list(runs.uniform.values()), ":", color="black", label="at random")
    for setting, style in ((LARGE, "--"), (SMALL, "-")):
        for method, shift in zip(LEARNERS, (1.015, 0.985), strict=True):  # their bars overlap
            axes.errorbar(
                np.multiply(sizes, shift),
                runs.regret(method, setting),
                yerr=runs.error(method, setting),
                fmt=style + MARKERS[method],
                color=COLOURS[method],
                mfc=COLOURS[method] if setting == SMALL else "white",
                capsize=3,
                label=f"{method}, {setting}",
            )
    axes.set(
        xlabel="episodes K",
        ylabel=f"regret, mean of {WORLDS} worlds ± s.e.",
        title="γ = 1/K leaves less bias than γ = 1/√K",
    )
    ticks = [each for each in (20, 50, 100, 200, 500, 1000, 2000) if each < runs.uniform[sizes[-1]]]
    axes.set_yticks(ticks, [f"{each:,}" for each in ticks])
    mark_sizes(axes, sizes)
    axes.legend(fontsize=8, loc="upper left")


def mark_sizes(axes: Axes, sizes: list[int]) -> None:
    axes.minorticks_off()
    axes.set_xticks(sizes, [f"{k:,}" for k in sizes])


def draw_smallest(axes: Axes, runs: Runs) -> None:
    sizes = np.array(runs.sizes)
    bounds = {PLAIN: ("HK", LAYERS * sizes), REDUCED: ("H√K/2", LAYERS * np.sqrt(sizes) / 2)}
    for method in (PLAIN, BARRIER, REDUCED):
        kind = "reduced" if method == REDUCED else "standard"
        if method in bounds:
            label, bound = bounds[method]
            axes.loglog(sizes, bound, ":", color=COLOURS[method], label=f"{kind}: bound {label}")
        least = -np.array(runs.smallest(method, SMALL))
        label = f"{kind}, {method.partition(',')[0]}"
        axes.loglog(sizes, least, "-" + MARKERS[method], color=COLOURS[method], label=label)
    low, high = axes.get_ylim()
    axes.set(
        xlabel="episodes K",
        ylabel="size of the most negative estimate",
        title="Reduced estimates are far less negative (γ = 1/K)",
        ylim=(low, high * 30),
    )
    mark_sizes(axes, list(runs.sizes))
    axes.legend(fontsize=8, loc="upper left")


def draw_bonus(axes: Axes, runs: Runs) -> None:
    ordered = ("no bonus", SMALL, "bonus times 15", "bonus times 150")
    names = ["0", *(f"{SETTINGS[name][1]:g}/√K" for name in ordered[1:])]
    places = np.arange(len(ordered))
    for shift, method in enumerate(METHODS):
        heights = [runs.share(method, setting)[-1] for setting in ordered]
        bars = axes.bar(
            places + 0.27 * (shift - 1), heights, 0.25, color=COLOURS[method], label=method
        )
        axes.bar_label(bars, fmt="%.2f", fontsize=7, padding=1)
    axes.axhline(1.0, color="black", ls=":", lw=1)
    axes.set_xticks(places, names)
    axes.set(
        xlabel="bonus β",
        ylabel=f"regret over that at random, K = {runs.sizes[-1]:,}",
        title="A large bonus, as theory has it, costs much of the gain",
        ylim=(0, 1.1),
    )
    axes.legend(fontsize=8, loc="upper left")


def draw_inverses(axes: Axes, found: Simulated) -> None:
    for kind, style, colour in ((RESAMPLED, "s-", PURPLE), (EMPIRICAL, "o-", SKY)):
        axes.loglog(found.sizes(kind), found.errors(kind), style, color=colour, label=kind)
    axes.axhline(found.allowed, color="black", ls=":", lw=1, label="2√γ, allowed by the bound")
    axes.axvline(found.needed, color="black", ls="--", lw=1, label="draws that it asks for")
    axes.set(
        xlabel="draws from the simulator",
        ylabel="farthest eigenvalue of Σ̂†(γI + Σ) from 1",
        title=f"The empirical inverse needs fewer draws (γ = {SIMULATED_GAMMA})",
    )
    axes.legend(fontsize=8, loc="lower left")
