"""The loss of online IPO on enumerated pairs, its gradient, and a round of play with it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from paper_repros.nash.egpo.noise import one_gradient_step
from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.gradients import gradient
from prefsim.loops.rounds import play_rounds
from prefsim.policies import TabularPolicy
from prefsim.solvers import objective
from prefsim.testing.games import Play


def as_policy(probs: np.ndarray) -> TabularPolicy:
    """Return a policy ``(n,)`` as one of a single prompt."""
    return TabularPolicy.from_probs(probs[None])


def against(play: Play, opponent: np.ndarray, sampler: np.ndarray) -> Comparisons:
    """Enumerate the pairs of a sampler, with their expected wins against the opponent."""
    # The loss is the same for both orders of a pair.
    pairs = Comparisons.population(play.world(), as_policy(sampler)).relabelled(1.0)
    return Comparisons.self_play(play.world(), as_policy(opponent), pairs=pairs)


def against_each_other(play: Play, policy: np.ndarray) -> Comparisons:
    """Enumerate pairs of a policy's responses, each the opponent of the other: online IPO 2."""
    pairs = Comparisons.population(play.world(), as_policy(policy))
    return Comparisons(
        pairs.prompt,
        pairs.chosen,
        pairs.rejected,
        1.0,
        pairs.weight,
        chosen_score=pairs.prob,
        rejected_score=np.full(len(pairs), 0.5),
    )


def online_ipo(play: Play) -> Callable[..., Any]:
    """Return the loss with the penalty of a play."""
    return functools.partial(losses.online_ipo, tau=play.tau)


def value(play: Play, policy: np.ndarray, data: Comparisons) -> float:
    """Return online IPO's loss of a policy."""
    reference = as_policy(play.reference)
    return float(objective(as_policy(policy), online_ipo(play), data, reference=reference))


def slope(play: Play, policy: np.ndarray, data: Comparisons) -> np.ndarray:
    """Return the gradient of online IPO's loss in the logits, ``(n,)``."""
    reference = as_policy(play.reference)
    return gradient(
        lambda logits: objective(
            TabularPolicy(logits), online_ipo(play), data, reference=reference
        ),
        np.log(policy)[None],
    )[0]


Sampler = Callable[[np.ndarray], np.ndarray]
"""What draws the pairs of a playing policy: the policy in, a policy out."""


def round_with_a_trial(play: Play, size: float, sampler: Sampler) -> np.ndarray:
    """Return the policy ``(n,)`` after a round of two gradient steps of a size."""

    def drawn(policy: Any, opponent: Any, rng: np.random.Generator) -> Comparisons:
        playing, other = (to_numpy(each.probs)[0] for each in (policy, opponent))
        return against(play, other, sampler(playing))

    (made,) = play_rounds(
        as_policy(play.policy),
        drawn,
        online_ipo(play),
        rounds=1,
        seed=0,
        reference=as_policy(play.reference),
        extragradient=True,
        train=one_gradient_step(size),
    )
    return np.asarray(made.policy.probs[0])
