"""The figure, and how to read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paper_repros.mdp.sparsepo.runs import (
    DEAD,
    DYING,
    Trained,
    best_rewards,
    mean_weights,
)
from paper_repros.mdp.sparsepo.token_world import (
    KEY_POSITIONS,
    LEARNED,
    LENGTH,
    TREE,
    WORTH,
    Setting,
)
from prefsim.papers import (
    panels,
)
from prefsim.papers.figures import BLUE, GREEN, ORANGE, PURPLE, SKY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Told apart in all common forms of colour blindness.
COLOURS = {
    "TDPO1": BLUE,
    "DPO": SKY,
    "MaPO": ORANGE,
    "common": GREEN,
    "independent": PURPLE,
}
SHADES = {0.0: ("0.65", "s"), 1e-3: (GREEN, "o"), 1e-2: ("black", "D")}


def caption(token: Trained) -> str:
    return (
        f"Mean of {len(token.worlds.pairs)} worlds. Left: expected reward and KL of what each"
        " method ends at, for every β and penalty; the line is the most that any policy earns at"
        " that KL, and nearer to it is better. Middle: learned weights of the log-ratios of"
        " tokens, by token, with what the token is worth below; a mask that finds the reward"
        " leaves weight on tokens 0 and 1 alone. Right: the same by position, where masks cannot"
        " see the token. Bars: least and largest world; 0 is a token without a say."
    )


def draw(token: Trained, prefix: Trained) -> Figure:
    figure, axes = panels(
        1,
        3,
        title="Sparse weights find the tokens that carry reward, and earn no more at equal KL",
        width=5.6,
        height=4.6,
    )
    draw_rewards(axes[0, 0], token)
    of_token = [TREE.sequences == v for v in range(len(WORTH))]
    names = [f"token {v}\n({worth:+.0f})".replace("+0", "0") for v, worth in enumerate(WORTH)]
    draw_weights(axes[0, 1], token, of_token, names)
    axes[0, 1].set_title("masks see the token: what is left\nis what carries reward")
    positions = [np.broadcast_to(t, TREE.sequences.shape) for t in np.eye(LENGTH, dtype=bool)]
    names = [f"{t + 1}\n({'±1' if key else 'nothing'})" for t, key in enumerate(KEY_POSITIONS)]
    draw_weights(axes[0, 2], prefix, positions, names)
    axes[0, 2].set(
        xlabel="position (what its tokens are worth)",
        title="masks see the prefix alone: what is left\nis where tokens carry reward",
    )
    return figure


def draw_rewards(axis: Axes, found: Trained) -> None:
    kls = np.geomspace(0.04, 5.0, 60)
    frontier = best_rewards(found.worlds, np.broadcast_to(kls, (len(found.worlds.pairs), 60)))
    axis.plot(kls, frontier.mean(axis=0), color="black", lw=1, label="largest at each KL")
    for method in COLOURS:
        own = [s for s in found.settings if s.method == method and s not in (DEAD, DYING)]
        at = np.array([[found.of(s, name).mean() for name in ("kl", "reward")] for s in own])
        marker = "o" if method in LEARNED else "s"
        # Where DPO ends beside TDPO1, both are to be seen.
        size = 11 if method == "TDPO1" else 7
        axis.plot(*at.T, marker, color=COLOURS[method], mec="white", ms=size, label=method)
    dead = [found.of(DEAD, name).mean() for name in ("kl", "reward")]
    axis.plot(*dead, "x", color=COLOURS["common"], ms=9, mew=2, label="common, all weights dead")
    axis.set(
        xscale="log",
        xlabel="KL(π‖π_ref) (nats)",
        ylabel="expected reward",
        title="every β and penalty, mean of the worlds:\nno mask comes nearer than TDPO1",
    )
    axis.legend(frameon=False, loc="upper left")


def draw_weights(axis: Axes, found: Trained, which: list[Any], names: list[str]) -> None:
    for k, (l1, (colour, marker)) in enumerate(SHADES.items()):
        if Setting("common", 3.0, l1) not in found.settings:
            continue
        m = found.settings.index(Setting("common", 3.0, l1))
        means = mean_weights(found.worlds, found.learnt.tokens.reward_weight[:, m], which)
        place = np.arange(len(which)) + 0.24 * (k - 1)
        label = f"penalty {l1:g}"
        axis.plot(place, means.mean(axis=0), marker, color=colour, ms=8, label=label)
        axis.vlines(place, means.min(axis=0), means.max(axis=0), color=colour, lw=1.5)
    axis.set_xticks(np.arange(len(which)), names)
    axis.set(xlabel="token (what it is worth)", ylabel="weight of its log-ratio, common, β = 3")
    axis.legend(frameon=False, loc="upper right")
