"""The figure: two samplers, finite samples, revisions, and win rates after shifted behaviours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paper_repros.nash.srpo.shifted import draw_shift
from prefsim.papers import panels
from prefsim.papers.figures import BLUE, VERMILION

if TYPE_CHECKING:
    from paper_repros.nash.srpo.reproduction import Chain, Robustness, Samples
    from paper_repros.nash.srpo.shifted import Shifted

SRPO, IPO = BLUE, VERMILION


def draw(
    robustness: Robustness, samples: Samples, chains: dict[str, Chain], shifted: Shifted
) -> Any:
    """Draw what the samplers change, what revisions do, and what a shift costs."""
    figure, axes = panels(
        2,
        3,
        title="SRPO's solution does not depend on who drew the training pairs; IPO's does",
        width=5,
        height=4.2,
    )
    games, sizes, once, cycle = axes[:, :2].flat
    draw_games(games, robustness)
    draw_samples(sizes, samples)
    draw_chain(once, chains["transitive"])
    once.set_title("transitive preferences: one revision is enough")
    once.legend(fontsize=8, loc="center right")
    draw_chain(cycle, chains["cyclic"])
    cycle.set(title="cyclic preferences: revisions chase the last draft", ylim=(None, 0.56))
    cycle.legend(fontsize=8, loc="upper right")
    draw_shift(axes[:, 2], shifted)
    return figure


def draw_games(axis: Any, robustness: Robustness) -> None:
    """Draw how far the solutions from two samplers are apart, game by game."""
    order = np.argsort(robustness.ipo)
    rank = np.arange(1, order.size + 1)
    axis.plot(rank, robustness.ipo[order], "s", color=IPO, label="IPO")
    # A distance of zero has no place on a logarithmic axis.
    shown = np.maximum(robustness.srpo[order], 1e-17)
    axis.plot(rank, shown, "o", color=SRPO, label="SRPO (generator)")
    axis.set(
        yscale="log",
        ylim=(3e-18, 3),
        xticks=rank,
        xlabel="game, ordered by IPO's distance",
        ylabel="total variation of two solutions",
        title="trained on all pairs from two samplers",
    )
    axis.legend(fontsize=8, loc="center right")


def draw_samples(axis: Any, samples: Samples) -> None:
    """Draw the distance from the solution under sampler A, by comparisons."""
    for (name, line), style in zip(samples.srpo.items(), ("o-", "^--"), strict=True):
        label = f"SRPO, sampler {name}: slope {samples.slope(name):.2f}".replace("-", "−")
        axis.plot(samples.sizes, line, style, color=SRPO, label=label)
    for (name, line), style in zip(samples.ipo.items(), ("s-", "D--"), strict=True):
        axis.plot(samples.sizes, line, style, color=IPO, label=f"IPO, sampler {name}")
    axis.set(
        xscale="log",
        yscale="log",
        ylim=(4e-4, 0.5),
        xlabel="labelled comparisons",
        ylabel="total variation from A's solution, mean",
        title="trained on finite data of one cyclic game",
    )
    axis.legend(fontsize=8, loc="lower left")


def draw_chain(axis: Any, chain: Chain) -> None:
    """Draw win rates by the number of revisions."""
    rounds = np.arange(len(chain.from_reference))
    label = "revisions of drafts of the reference"
    axis.plot(rounds, chain.from_reference, "s-", color="0.4", label=label)
    label = "revisions of drafts of SRPO's generator"
    axis.plot(rounds, chain.from_generator, "^-", color=SRPO, label=label)
    axis.axhline(chain.ipo, color=IPO, ls="--", label="IPO, no revision")
    axis.axhline(0.5, color="grey", lw=0.8)
    axis.set(xlabel="number of revisions", ylabel="win rate against the reference", xticks=rounds)
