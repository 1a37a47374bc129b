"""The figure: regret against time where models fail, in all families, and of trained layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paper_repros.mdp.llm_regret.agents import ADAPTIVE, NAMES
from paper_repros.mdp.llm_regret.layers import BEST, LEADER, ON_BALL, SHORT
from prefsim.papers import panels
from prefsim.papers.figures import BLUE, GREEN, ORANGE, PURPLE, VERMILION
from prefsim.solvers.online_learning.hedge import hedge_bound

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Of Okabe and Ito, to be told apart by all.
COLOURS = {
    "FTL": VERMILION,
    "recency": PURPLE,
    "quantal": ORANGE,
    "Hedge": BLUE,
    "FTPL": GREEN,
}
MARKERS = {"FTL": "v", "recency": "s", "quantal": "D", "Hedge": "o", "FTPL": "^"}
HOW = {
    "FTL": "leader (FTL)",
    "recency": "last round alone",
    "quantal": "noise of one scale",
    "Hedge": "Hedge",
    "FTPL": "growing noise (FTPL)",
}


def caption(rounds: int) -> str:
    return (
        "Regret is the loss met less that of the best fixed action; lower is better, and growth in"
        " proportion to the rounds is failure. Top left: regret round by round where the adversary"
        " hits the likelier action. Top right: mean regret on seven families of losses; right of"
        " the dotted line, more than Hedge can have. Bottom left: the largest regret of linear"
        f" attention trained on random losses, T = {rounds}, on families that it never saw. Bottom"
        " right: linear layers by their mean squared and their largest regret; crosses are trained"
        " ones, dots are known algorithms."
    )


def draw(found: Any, taught: Any, learned: Any, rounds: int) -> Figure:
    figure, axes = panels(
        2,
        2,
        title=(
            "Noise that grows with time keeps regret low on every family; leaders and agents that"
            " look at the last round regret half of all rounds, and a loss without labels teaches"
            " a layer not to"
        ),
        width=6.6,
        height=4.6,
    )
    draw_paths(axes[0, 0], found)
    draw_families(axes[0, 1], found)
    draw_taught(axes[1, 0], taught, rounds)
    draw_signs(axes[1, 1], learned)
    return figure


def draw_paths(axis: Axes, found: Any) -> None:
    rounds = next(iter(found.values())).path.shape[-1]
    time = np.arange(1, rounds + 1)
    place = NAMES.index(ADAPTIVE)
    # FTL and the agent of the last round lie on one line.
    above = {"FTL": 3, "recency": -7, "quantal": 3, "Hedge": 4, "FTPL": -3}
    for name, each in found.items():
        path = each.path[place, 0]
        axis.plot(time, path, color=COLOURS[name], ls="--" if name == "recency" else "-", lw=1.8)
        axis.text(
            rounds + 1.5, path[-1] + 0.4 * above[name], HOW[name], color=COLOURS[name], va="center"
        )
    axis.plot(time, np.sqrt(time * np.log(2) / 2), color="0.4", ls=":", lw=1.5)
    axis.text(rounds * 0.5, 7.0, "bound of Hedge √(T ln 2 / 2)", color="0.3", fontsize=9)
    axis.set(
        xlim=(0, 1.45 * rounds),
        ylim=(-3, 55),
        xlabel="round",
        ylabel="regret",
        title="Against losses of 1 on the most likely action",
        xticks=np.linspace(0, rounds, 5),
    )


def draw_families(axis: Axes, found: Any) -> None:
    for i, (name, each) in enumerate(found.items()):
        mean = each.path[..., -1].mean(axis=-1)
        shift = 0.17 * (i - 2)
        axis.plot(
            mean,
            np.arange(len(NAMES)) + shift,
            MARKERS[name],
            color=COLOURS[name],
            # Larger ones would lie on one another.
            ms=6,
            label=HOW[name],
        )
    rounds = found["Hedge"].path.shape[-1]
    bound = hedge_bound(rounds, 2)
    axis.axvline(bound, color="0.4", ls=":", lw=1.5)
    axis.text(bound + 0.8, -0.62, "bound of Hedge", color="0.3", fontsize=9)
    axis.set_yticks(range(len(NAMES)), NAMES)
    axis.set(
        xlabel=f"mean regret at T = {rounds}",
        title="Seven families of losses",
        ylim=(len(NAMES) - 0.5, -0.9),
    )
    axis.legend(frameon=False, loc="upper right", bbox_to_anchor=(1.0, 0.72))


def draw_taught(axis: Axes, taught: Any, rounds: int) -> None:
    styles = {"fair coins": (BLUE, "o"), "uniform": (ORANGE, "D")}
    for i, (name, each) in enumerate(taught.items()):
        colour, marker = styles[name]
        height = np.arange(len(NAMES)) + 0.2 * (i - 0.5)
        # The largest of all runs.
        axis.plot(
            each.path[..., -1].max(axis=-1),
            height,
            marker,
            color=colour,
            ms=7,
            label=f"taught on {name}",
        )
    bound = hedge_bound(rounds, 2)
    axis.axvline(bound, color="0.4", ls=":", lw=1.5)
    axis.text(bound + 0.08, -0.62, "bound of Hedge", color="0.3", fontsize=9)
    axis.axvline(rounds / 2 - 0.25, color=VERMILION, ls="--", lw=1.2)
    axis.text(
        rounds / 2 - 0.4, 5.5, "leader, on\nthe last two", color=VERMILION, ha="right", fontsize=9
    )
    axis.set_yticks(range(len(NAMES)), NAMES)
    axis.set(
        xlabel=f"largest regret at T = {rounds}",
        title="Layers taught by the regret-loss, without labels",
        ylim=(len(NAMES) - 0.5, -0.9),
    )
    axis.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.65, 0.85))


def draw_signs(axis: Axes, learned: Any) -> None:
    trained, best = learned.trained, learned.loss[BEST]
    axis.plot(trained.loss, trained.worst, "x", color=VERMILION, ms=11, mew=1.6)
    close = int(np.sum(np.abs(trained.loss / best - 1) < 1e-3))
    axis.annotate(
        f"trained: {close} of {trained.loss.size} starts end here",
        (best, learned.worst[BEST]),
        xytext=(14, 16),
        textcoords="offset points",
        color=VERMILION,
    )
    places = {
        BEST: ((12, -4), "left"),
        ON_BALL: ((-6, -16), "center"),
        SHORT: ((10, 6), "left"),
        LEADER: ((-10, 0), "right"),
    }
    for name, (place, side) in places.items():
        point = learned.loss[name], learned.worst[name]
        axis.plot(*point, "o", color="0.35", ms=6)
        axis.annotate(name, point, xytext=place, textcoords="offset points", ha=side)
    axis.set(
        xlim=(6.27, 6.52),
        ylim=(2.7, 3.5),
        xlabel="mean squared regret over all sequences of signs (of doing nothing: 8)",
        ylabel="largest regret (of doing nothing: 5.66)",
        title="One linear layer learns −a*L (T = 4, unit ball)",
    )
