"""The figure, and how to read it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from paper_repros.mdp.regret_preference.delivery import (
    EARLY,
    HUMAN_LOSSES,
    MODELS,
    Curve,
    People,
    Simulated,
    Taught,
    share_near_optimal,
)
from paper_repros.mdp.regret_preference.recorded import Recorded
from prefsim.papers import panels
from prefsim.papers.figures import BLUE, GREEN, ORANGE, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"partial return": ORANGE, EARLY: VERMILION, "regret": BLUE}


CAPTION = (
    "Where labels by people are at hand, they fill the first row. Left: how surprised each model is"
    " by labels that it was not fitted to; lower is better, the dashed line is a coin and diamonds"
    " are known values. Right: the share of learned rewards whose optimal policy earns more than .9"
    " of the optimum, by the number of labels. Bottom left: the same rewards fitted with values"
    " solved anew or taken from a library of policies; up and left is better. Bottom right: return"
    " lost in gymnasium's environments; 0 is optimal, and lines that lie there are on one another."
)


def draw(
    people: People | None,
    simulated: dict[str, Simulated],
    curves: dict[str, Curve],
    algorithms: list[dict[str, Taught]],
    recorded: dict[str, Recorded],
) -> Figure:
    of_people = ", people's by regret" if people else " (labels by people: not run, not at hand)"
    figure, axes = panels(
        3 if people else 2,
        2,
        title=(
            "Labels of segments are predicted best by the model that the rater has in mind"
            f"{of_people}"
        ),
        width=6.0,
    )
    if people:
        draw_losses(axes[0, 0], people)
        draw_shares(axes[0, 1], {"regret": people.curve}, title="Labels by people, delivery task")
    draw_simulated(axes[-2, 0], simulated)
    draw_shares(axes[-2, 1], curves, title="Labels by simulated raters, random 5 x 5 boards")
    draw_algorithms(axes[-1, 0], algorithms)
    draw_recorded(axes[-1, 1], recorded)
    return figure


def mark_losses(axes: Axes, places: np.ndarray, losses: list[float], model: str) -> None:
    """Mark losses with their values beside: bars would have to start at 0, far below them all."""
    axes.plot(places, losses, "o", color=COLOURS[model], ms=9, label=f"{model} model")
    for place, loss in zip(places, losses, strict=True):
        axes.annotate(
            f"{loss:.4f}", (place, loss), xytext=(0, -16), textcoords="offset points", ha="center"
        )


def draw_simulated(axes: Axes, simulated: dict[str, Simulated]) -> None:
    places = np.arange(len(simulated))
    for i, model in enumerate(MODELS):
        heights = [study.losses[model] for study in simulated.values()]
        mark_losses(axes, places + 0.3 * i - 0.15, heights, model)
    own = [study.surprise for study in simulated.values()]
    axes.scatter(places, own, marker="D", color="black", zorder=3, label="−log P of the rater")
    axes.axhline(math.log(2), color="grey", linestyle="--", label="uninformed (log 2)")
    axes.set_xticks(places, [f"rater by {source}" for source in simulated])
    axes.set(
        xlim=(-0.6, len(simulated) - 0.4),
        ylim=(0.5, 0.78),
        ylabel="held-out cross-entropy (nats)",
        title="Simulated raters on the board of the study",
    )
    axes.legend(fontsize=8, loc="upper right", ncols=2)


def draw_algorithms(axes: Axes, algorithms: list[dict[str, Taught]]) -> None:
    for model, colour in zip(algorithms[0], (ORANGE, BLUE, GREEN), strict=True):
        fits = [by_model[model] for by_model in algorithms]
        places = [fit.reported for fit in fits], [fit.scaled for fit in fits]
        axes.scatter(*places, color=colour, label=model, alpha=0.8)
    axes.axhline(0.9, color="grey", linestyle="--", linewidth=1)
    axes.set(
        xlabel="cross-entropy of 300 labels by regret (nats)",
        ylabel="scaled return (1 is optimal)",
        title="Random boards: values solved anew, or of a library",
    )
    axes.legend(fontsize=8)


def count_axis(axes: Axes, sizes: list[int], label: str) -> None:
    """Count labels on a logarithmic axis."""
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{n:,}" for n in sizes])
    axes.minorticks_off()
    axes.set_xlabel(label)


def draw_losses(axes: Axes, people: People) -> None:
    places, conditions = np.arange(len(people.losses)), list(people.losses)
    for i, model in enumerate(MODELS):
        at = places + 0.3 * i - 0.15
        heights = [losses[model] for losses, _ in people.losses.values()]
        mark_losses(axes, at, heights, model)
        expected = [HUMAN_LOSSES[condition][i] for condition in conditions]
        label = "computed by other code" if i else None
        axes.scatter(at, expected, marker="D", color="black", zorder=3, label=label)
    axes.axhline(math.log(2), color="grey", linestyle="--", label="uninformed (log 2)")
    axes.set_xticks(places, conditions)
    axes.set(
        xlim=(-0.6, len(conditions) - 0.4),
        ylim=(0.5, 0.78),
        ylabel="held-out cross-entropy (nats)",
        title="Labels by people: prediction, one scale fitted",
    )
    axes.legend(fontsize=8, loc="upper right", ncols=2)


def draw_shares(axes: Axes, curves: dict[str, Curve], *, title: str) -> None:
    several = len(curves) > 1
    for source, curve in curves.items():
        style: dict[str, Any] = {"ls": "-", "marker": "o", "alpha": 1.0}
        if source != "regret":
            style = {"ls": "--", "marker": "s", "alpha": 0.6}
        sizes = sorted(curve)
        for model, colour in COLOURS.items():
            if model not in curve[sizes[0]]:
                continue
            shares = [100 * share_near_optimal(curve[n][model]) for n in sizes]
            name = model if model == EARLY else f"{model} model"
            label = f"{name}, labels by {source}" if several else name
            axes.plot(sizes, shares, color=colour, label=label, clip_on=False, **style)
    count_axis(axes, sorted(next(iter(curves.values()))), "comparisons to learn from")
    axes.set(ylabel="policies with scaled return > 0.9 (%)", ylim=(0, 105), title=title)
    axes.legend(fontsize=8, loc="lower right" if several else "lower left")


def draw_recorded(axes: Axes, recorded: dict[str, Recorded]) -> None:
    for style, (name, world) in zip(("-o", "--s"), recorded.items(), strict=True):
        for model in MODELS:
            lost = [
                100 * (world.optimum - returns[model]) / abs(world.optimum)
                for returns in world.returns.values()
            ]
            label = f"{model} model, {name.split('-')[0]}"
            axes.plot(
                list(world.returns), lost, style, color=COLOURS[model], label=label, clip_on=False
            )
    sizes = sorted(next(iter(recorded.values())).returns)
    count_axis(axes, sizes, "comparisons recorded in the environment")
    axes.set(
        ylabel="return lost against the optimum (%)",
        ylim=(0, None),
        title="gymnasium, rater by regret: distance to the optimum",
    )
    axes.legend(fontsize=8, loc="upper right")
