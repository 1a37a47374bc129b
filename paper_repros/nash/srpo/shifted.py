"""Policies learnt from behaviours that are not the reference: how well they do without them."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from paper_repros.nash.srpo.fitted import fit_ipo, fit_loss, fit_srpo, pairs_of
from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.papers import Criterion, at_most, below
from prefsim.papers.figures import BLUE, PURPLE, VERMILION
from prefsim.solvers import revision_chain
from prefsim.solvers.games.certificates import expected_preference
from prefsim.worlds import PreferenceGame

RESPONSES, BEHAVIOURS, REVISIONS = 6, 4, 5
# The smallest share of a response is this over the number of responses: pairs reach all of them.
FLOOR = 0.05


class Shifted(NamedTuple):
    """What is learnt from several behaviours in the same games, each ``(behaviours, games)``.

    Attributes
    ----------
    wins
        Probability to win against the reference, by method.
    least
        Probability to win against the response that wins most often, by method.
    """

    wins: dict[str, np.ndarray]
    least: dict[str, np.ndarray]

    def worst_wins(self, method: str) -> float:
        """Return the probability to win after the behaviour that serves a method least, mean."""
        return float(self.wins[method].min(axis=0).mean())

    def mean_least(self, method: str) -> float:
        """Return the mean of the smallest probability to win."""
        return float(self.least[method].mean())


GENERATOR = "SRPO, not revised"
REVISED = tuple(f"SRPO, {k} revision{'s' if k > 1 else ''}" for k in range(1, REVISIONS + 1))
RIVALS = ("IPO", "DPO")


def learn_from_behaviours(games: int, rng: np.random.Generator, *, beta: float) -> Shifted:
    """Learn from all pairs of each of several behaviours in random games, cycles included.

    All labels are there: what differs between behaviours is how often a pair is met.
    """
    drawn = PreferenceGame.random(RESPONSES, seed=rng, batch_shape=(games,))
    table = to_numpy(drawn.preference)
    preference = np.broadcast_to(table, (BEHAVIOURS, *table.shape))
    reference = rng.dirichlet(np.ones(RESPONSES), size=games)
    spiky = rng.dirichlet(np.full(RESPONSES, 0.5), size=(BEHAVIOURS, games))
    behaviour = (1 - FLOOR) * spiky + FLOOR / RESPONSES
    behind = np.broadcast_to(reference, behaviour.shape)
    pairs = pairs_of(preference, behaviour)
    srpo = fit_srpo(pairs, behind, beta=beta)
    chain = revision_chain(srpo.generator, srpo.improver, revisions=REVISIONS)
    policies = dict(zip((GENERATOR, *REVISED), chain, strict=True)) | {
        "IPO": fit_ipo(pairs, behind, beta=beta),
        "DPO": fit_loss(functools.partial(losses.dpo, beta=beta), pairs, behind),
    }
    return Shifted(
        {
            name: to_numpy(expected_preference(preference, policy, behind))
            for name, policy in policies.items()
        },
        {
            name: np.einsum("kgi,kgij->kgj", policy, preference).min(axis=-1)
            for name, policy in policies.items()
        },
    )


def criteria_of_shift(shifted: Shifted) -> tuple[Criterion, ...]:
    """Return what is expected of policies that learnt from one of several behaviours."""
    wins = shifted.wins
    return (
        at_most(
            "shifted behaviour: win rates of SRPO, revised or not, range over behaviours",
            [np.ptp(wins[name], axis=0).max() for name in (GENERATOR, *REVISED)],
            1e-6,
            stated="derived",
            paper="independent of the behaviour policy",
        ),
        below(
            "shifted behaviour: win rate against the reference after the worst behaviour, IPO and"
            " DPO, below SRPO's",
            [shifted.worst_wins(name) for name in RIVALS],
            shifted.worst_wins(GENERATOR),
            by=0.01,
            stated="chosen",
            paper="out of distribution 15 points above DPO, after five revisions",
        ),
        below(
            "shifted behaviour: win rate against the strongest response, IPO and DPO, below SRPO's",
            [shifted.mean_least(name) for name in RIVALS],
            shifted.mean_least(GENERATOR),
            stated="chosen",
        ),
        below(
            "shifted behaviour, cycles among preferences: win rate of five revisions below that of"
            " none",
            wins[REVISED[-1]].mean(),
            wins[GENERATOR].mean(),
            stated="chosen",
            paper="revisions improve the win rate, on summaries",
        ),
    )


def draw_shift(axes: Any, shifted: Shifted) -> None:
    """Draw both win rates, a mark for the mean over games of each behaviour."""
    names = (GENERATOR, REVISED[0], REVISED[-1], *RIVALS)
    styles = (("o", BLUE), ("o", BLUE), ("o", BLUE), ("s", VERMILION), ("D", PURPLE))
    titles = ("shift: against the reference", "shift: against the strongest response")
    for axis, by_name, title in zip(axes, (shifted.wins, shifted.least), titles, strict=True):
        for x, (name, (marker, colour)) in enumerate(zip(names, styles, strict=True)):
            means = by_name[name].mean(axis=-1)
            axis.plot(np.full(means.size, x), means, marker, color=colour, alpha=0.7)
        axis.set(xlim=(-0.5, len(names) - 0.5), ylabel="mean win rate of random games", title=title)
        axis.set_xticks(range(len(names)), [name.replace(", ", ",\n") for name in names])
        axis.tick_params(axis="x", labelsize="small")
