"""The figure: shortfalls by round and by divergence, two games, and DPO on sampled pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paper_repros.nash.apo.momentum import CYCLE, DOMINANCE, GAME_MOMENTA, MOMENTA, distance
from prefsim.numerics import categorical_kl, log_softmax
from prefsim.papers import panels
from prefsim.papers.figures import BLUE, GREEN, ORANGE, VERMILION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from paper_repros.nash.apo.momentum import Bandit
    from paper_repros.nash.apo.reproduction import RewardPath
    from prefsim.solvers import NashHistory

HUES = dict(zip(MOMENTA, (BLUE, ORANGE, GREEN, VERMILION), strict=True))
MARKERS = dict(zip(MOMENTA, "os^D", strict=True))
LAST = 20  # round that is shown, at most
LEAST = 1e-6
SHORTFALL = "best reward − expected reward"


def draw(
    bandit: Bandit,
    paths: dict[float, RewardPath],
    games: tuple[NashHistory, NashHistory],
    rounds: tuple[dict[float, np.ndarray], dict[float, np.ndarray]],
    replicates: int,
) -> Figure:
    """Draw rewards, the two games, and exact rounds beside sampled ones."""
    figure, axes = panels(
        2,
        2,
        title=(
            "Momentum α makes a round worth up to 1/(1 − α) plain ones; in a cycle it drives the"
            " last policy away faster"
        ),
        width=6.25,
        height=4.2,
    )
    (by_round, by_drift), (played, fitted) = axes
    draw_rounds(by_round, bandit, paths)
    draw_drift(by_drift, bandit, paths)
    draw_games(played, *games)
    draw_fitted(fitted, *rounds, replicates)
    return figure


def draw_rounds(axis: Any, bandit: Bandit, paths: dict[float, RewardPath]) -> None:
    """Draw shortfalls and their bounds by round."""
    for alpha, path in paths.items():
        rounds = np.arange(1, len(path.shortfall) + 1)
        bound = "bounds β log n / c$_T$" if alpha == 0 else None
        style = {"color": HUES[alpha], "marker": MARKERS[alpha], "ms": 4}
        axis.plot(rounds, path.shortfall, label=f"α = {alpha:g}", **style)
        axis.plot(rounds, path.bound, color=HUES[alpha], ls=":", lw=1, label=bound)
    # Where the best reward is far ahead, even plain rounds take only a few.
    last = min(LAST, int((paths[0.0].shortfall > LEAST).sum()) + 1)
    axis.set(
        yscale="log",
        ylim=(LEAST, 20),
        xlim=(0.5, last + 0.5),
        xticks=range(1, last + 1, 1 + last // 12),
        xlabel="round T",
        ylabel=SHORTFALL,
        title=f"Bradley–Terry rewards, {bandit.reward.size} responses: faster in rounds",
    )
    axis.legend(fontsize=8, ncols=3, loc="upper right")


def draw_drift(axis: Any, bandit: Bandit, paths: dict[float, RewardPath]) -> None:
    """Draw shortfalls by divergence, on the curve of all tilted references."""
    tilts = log_softmax(np.log(bandit.reference) + np.linspace(0, 40, 800)[:, None] * bandit.reward)
    drift = categorical_kl(tilts, np.log(bandit.reference))
    label = "all policies ∝ π$_{ref}$ exp(c r)"
    axis.plot(drift, bandit.shortfall(tilts), color="0.6", lw=1, label=label)
    for alpha, path in paths.items():
        style = {"color": HUES[alpha], "marker": MARKERS[alpha], "ms": 6, "ls": "", "mfc": "none"}
        axis.plot(path.drift, path.shortfall, **style, label=f"α = {alpha:g}, a marker a round")
    # The slowest on the left of the curve, the fastest on its right.
    for alpha, side in ((min(paths), "right"), (max(paths), "left")):
        place = (-7, -4) if side == "right" else (7, 0)
        for t in (2, 3, 4):
            at = (paths[alpha].drift[t - 1], paths[alpha].shortfall[t - 1])
            axis.annotate(
                str(t),
                at,
                place,
                textcoords="offset points",
                ha=side,
                color=HUES[alpha],
                fontsize=8,
                annotation_clip=True,
            )
    axis.set(
        yscale="log",
        ylim=(1e-4, 10),
        xlabel="KL from the reference (nats)",
        ylabel=SHORTFALL,
        title="the same path, only faster",
    )
    axis.legend(fontsize=8, loc="lower left")


def draw_games(axis: Any, dominance: NashHistory, cycle: NashHistory) -> None:
    """Draw how far the last policies are from equilibrium, by momentum and game."""
    for i, alpha in enumerate(GAME_MOMENTA):
        far = distance(dominance, DOMINANCE)[1:, i]
        axis.plot(dominance.iteration[1:], far, color=HUES[alpha], label=f"α = {alpha:g}")
    for i, alpha in enumerate(GAME_MOMENTA):
        spiral = distance(cycle, CYCLE)[1:, i]
        axis.plot(cycle.iteration[1:], spiral, color=HUES[alpha], ls="--")
        axis.annotate(
            f" α = {alpha:g}", (cycle.iteration[-1], spiral[-1]), color=HUES[alpha], va="center"
        )
    axis.plot([], [], "k-", label="a response beats all others")
    axis.plot([], [], "k--", label="a cycle")
    axis.set(
        xscale="log",
        yscale="log",
        xlim=(1, 1e5),
        ylim=(1e-3, 10),
        xlabel="round T",
        ylabel="KL of the last policy from equilibrium (nats)",
        title="in games: faster to a dominant response, faster away in a cycle",
    )
    axis.legend(fontsize=8, loc="lower right")


def draw_fitted(
    axis: Any, exact: dict[float, np.ndarray], sampled: dict[float, np.ndarray], replicates: int
) -> None:
    """Draw shortfalls of exact rounds and of rounds on sampled pairs."""
    for alpha, of_samples in sampled.items():
        rounds = np.arange(1, of_samples.size + 1)
        style = {"color": HUES[alpha], "marker": MARKERS[alpha]}
        axis.plot(rounds, exact[alpha], color=HUES[alpha], ls="--", label=f"α = {alpha:g}, exact")
        axis.plot(rounds, of_samples, label=f"α = {alpha:g}, 1000 pairs a round", **style)
        axis.set_xticks(rounds)
    axis.set(
        ylim=(0, None),
        xlabel="round T",
        ylabel=SHORTFALL,
        title=f"DPO fitted to sampled pairs in each round, mean of {replicates} draws",
    )
    axis.legend(fontsize=8, loc="lower left")
