"""The game on the population of all pairs, and a response that is never compared."""

from __future__ import annotations

import functools
import warnings
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.numerics import log_softmax
from prefsim.policies import TabularPolicy
from prefsim.solvers import ConvergenceWarning, fit, objective
from prefsim.solvers.games.pessimism import PessimisticGame, win_weights
from prefsim.solvers.optimisers.penalties import Penalty, cross_entropy_penalty
from prefsim.worlds import ContextualBandit

SHAPE = (2, 4)  # contexts and responses


class Population(NamedTuple):
    """All pairs of a bandit, and what the game between a policy and a reward asks besides."""

    world: ContextualBandit
    reference: TabularPolicy
    sampling: TabularPolicy
    base: TabularPolicy
    beta: float
    eta: float

    def data(self) -> Comparisons:
        """Return all pairs of responses of the sampling policy."""
        return Comparisons.population(self.world, self.sampling)

    def game(self, bound: float = np.inf) -> PessimisticGame:
        """Return the game with rewards in the box ``[-bound, bound]``."""
        return PessimisticGame(
            self.data(),
            self.reference,
            self.base.probs,
            beta=self.beta,
            eta=self.eta,
            bound=bound,
            context_probs=self.world.context_probs,
        )

    def pair_weight(self, data: Comparisons) -> np.ndarray:
        """Return the probability of each prompt with an ordered pair, ``(X, Y, Y)``."""
        return win_weights(data, *SHAPE)

    def sft(self, weight: float) -> Penalty:
        """Return supervised fine-tuning on the baseline."""
        rho = self.world.context_probs
        return cross_entropy_penalty(self.base.probs, weight=weight, context_probs=rho)

    def over_base(self, table: Any) -> float:
        """Return the mean of a table ``(X, Y)`` over prompts and the baseline's responses."""
        return float(self.world.context_probs @ np.sum(self.base.probs * table, axis=-1))


def min_max(game: PessimisticGame, rewards: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the Gibbs policy of the min–max reward, and the value.

    R is the box of the game, or the given rewards alone, which are no convex class.
    """
    if rewards is None:
        solution = game.solve()
        return to_numpy(solution.log_policy), to_numpy(solution.value)
    best_replies = log_softmax(game.log_reference + rewards / game.beta)
    values = np.asarray(game.objective(best_replies, rewards))
    return best_replies[values.argmin()], values.min()


def guaranteed(game: PessimisticGame, log_policy: np.ndarray, rewards: Any = None) -> np.ndarray:
    """Return min φ(π, r) over R, of policies ``(..., X, Y)``."""
    if rewards is None:
        return np.asarray(game.worst_reward(log_policy).value)
    return np.min(game.objective(log_policy[..., None, :, :], rewards), axis=-1)


# --- a response that is never compared: the last of three, under a uniform reference ---

UNIFORM = TabularPolicy.uniform(1, 3)


def losses_of_unseen_mass(
    unseen: np.ndarray, *, prob: float, share: float, beta: float
) -> np.ndarray:
    """Return DPO's losses of policies with these masses on the unseen response.

    ``prob`` is the probability that the first response beats the second, ``share`` its share of the
    other mass.
    """
    table = np.stack([(1 - unseen) * share, (1 - unseen) * (1 - share), unseen], axis=-1)
    data, dpo = Comparisons([0], [0], [1], prob=prob), functools.partial(losses.dpo, beta=beta)
    policy = TabularPolicy(np.log(table)[:, None])
    return to_numpy(objective(policy, dpo, data, reference=UNIFORM))


def optima_with_unseen(
    *, prob: float, share: float, beta: float, eta: float, leak: float = 0.0
) -> np.ndarray:
    """Return RPO's optima from five starts, ``(5, 3)``.

    The baseline has mass ``leak`` on the unseen response and ``share`` of the rest on the first.
    """
    base = np.array([[(1 - leak) * share, (1 - leak) * (1 - share), leak]])
    starts = TabularPolicy(np.random.default_rng(0).standard_normal((5, 1, 3)))
    data, dpo = Comparisons([0], [0], [1], prob=prob), functools.partial(losses.dpo, beta=beta)
    penalty = cross_entropy_penalty(base, weight=eta * beta)
    with warnings.catch_warnings():
        if leak == 0:
            # The optimum has no mass on the unseen response: its logit falls for ever.
            warnings.simplefilter("ignore", ConvergenceWarning)
        return fit(starts, dpo, data, reference=UNIFORM, penalty=penalty).policy.probs[:, 0]
