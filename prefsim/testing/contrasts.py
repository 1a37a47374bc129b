"""Hypothesis strategies for policies that learn from pairs of scored responses.

Examples
--------
>>> from hypothesis import given
>>> from prefsim import losses
>>> @given(contrasts())
... def test_the_optimum_has_no_loss(contrast):
...     loss = functools.partial(losses.copg, beta=contrast.beta)
...     assert contrast.expected_loss(loss, contrast.optimum()) < 1e-24
>>> test_the_optimum_has_no_loss()
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from prefsim.analysis.bandit import regularised_value
from prefsim.backend import like
from prefsim.containers import PairLogps
from prefsim.data.scored import ScoredPairs
from prefsim.gradients import gradient
from prefsim.losses.pair_fields import needed
from prefsim.numerics import log_softmax
from prefsim.policies.tabular import TabularPolicy
from prefsim.solvers.closed_forms.regularised import gibbs_log_policy
from prefsim.solvers.fit import objective
from prefsim.solvers.optimisers.policy_gradient import regularised_reward
from prefsim.testing.bandits import betas, tables
from prefsim.worlds.bandit import ContextualBandit

__all__ = ["Contrast", "contrasts", "regularised_reward_gap", "scored_pair_logps"]


class Contrast(NamedTuple):
    """A bandit in which a policy learns from pairs, each response from a law of its own.

    Attributes
    ----------
    reward
        ``(X, Y)``.
    log_reference, log_policy
        ``(X, Y)`` in nats: what the penalty is measured from, and the policy that learns.
    log_first, log_second
        ``(X, Y)`` in nats: the laws of the two responses.
    beta
        Strength of the KL penalty, in units of the reward.
    """

    reward: np.ndarray
    log_reference: np.ndarray
    log_policy: np.ndarray
    log_first: np.ndarray
    log_second: np.ndarray
    beta: float

    def on_policy(self) -> Contrast:
        """Return the same bandit with both responses from the policy itself."""
        return self._replace(log_first=self.log_policy, log_second=self.log_policy)

    def world(self) -> ContextualBandit:
        """Return the bandit, its contexts equally likely."""
        return ContextualBandit(reward=self.reward)

    def reference(self) -> TabularPolicy:
        """Return the reference policy."""
        return TabularPolicy.from_logits(self.log_reference)

    def pairs(self) -> ScoredPairs:
        """Return all pairs from the two laws, which are recorded as the behaviour policies."""
        first, second = (TabularPolicy(law) for law in (self.log_first, self.log_second))
        return ScoredPairs.population(self.world(), first, against=second)

    def optimum(self) -> np.ndarray:
        """Return the log-probabilities ``(X, Y)`` of the regularised optimum."""
        return np.asarray(gibbs_log_policy(self.reward, self.log_reference, beta=self.beta)[0])

    def advantage(self) -> np.ndarray:
        """Return the regularised reward ``(X, Y)`` of the policy."""
        return np.asarray(
            regularised_reward(self.reward, self.log_policy, self.log_reference, beta=self.beta)
        )

    def value_gradient(self) -> np.ndarray:
        """Return the gradient ``(X, Y)`` of the regularised value in the policy's logits."""
        world = self.world()
        return gradient(
            lambda logits: regularised_value(
                log_softmax(logits), like(self.log_reference, logits), world, beta=self.beta
            ),
            self.log_policy,
        )

    def expected_loss(self, loss: Callable[..., Any], log_policy: np.ndarray) -> float:
        """Return a loss of :class:`prefsim.losses.PairLogps` in expectation over the pairs."""
        policy, reference = TabularPolicy(log_policy), self.reference()
        return float(objective(policy, loss, self.pairs(), reference=reference))

    def descent(self, loss: Callable[..., Any], pairs: ScoredPairs | None = None) -> np.ndarray:
        """Return minus the gradient of an expected loss in the policy's logits, ``(X, Y)``.

        Over the :meth:`pairs` unless others are given.
        """
        data, reference = self.pairs() if pairs is None else pairs, self.reference()
        return -gradient(
            lambda logits: objective(TabularPolicy(logits), loss, data, reference=reference),
            self.log_policy,
        )


@functools.lru_cache(maxsize=64)
def _laws(shape: tuple[int, int], spread: float) -> st.SearchStrategy[np.ndarray]:
    return tables(shape, low=-spread, high=spread).map(log_softmax)


def contrasts(
    shape: tuple[int, int] = (2, 4),
    *,
    scale: float = 2.0,
    spread: float = 1.5,
    beta: tuple[float, float] = (0.2, 2.0),
) -> st.SearchStrategy[Contrast]:
    """Bandits whose policy learns from pairs.

    Parameters
    ----------
    shape
        Contexts and responses.
    scale
        Rewards lie in ``[-scale, scale]``.
    spread
        The logits of all policies lie in ``[-spread, spread]``.
    beta
        Range of the penalty, spread evenly over the orders of magnitude.
    """
    law = _laws(shape, spread)
    return st.builds(
        Contrast,
        reward=tables(shape, low=-scale, high=scale),
        log_reference=law,
        log_policy=law,
        log_first=law,
        log_second=law,
        beta=betas(*beta),
    )


def scored_pair_logps(
    n: int = 4, *, lowest: float = -20.0, scale: float = 3.0
) -> st.SearchStrategy[PairLogps[np.ndarray]]:
    """Log-probabilities of ``n`` pairs in ``[lowest, 0]`` nats, and rewards in either order.

    The rewards are the scores, in ``[-scale, scale]``.
    """
    logp = tables((n,), low=lowest, high=0.0)
    score = tables((n,), low=-scale, high=scale)
    # Hypothesis would make up the fields of a named tuple that ``builds`` is not given.
    fields = dict.fromkeys(("chosen", "rejected", "ref_chosen", "ref_rejected"), logp)
    fields |= dict.fromkeys(("chosen_score", "rejected_score"), score)
    return st.fixed_dictionaries(fields).map(lambda drawn: PairLogps(**drawn))


def regularised_reward_gap(logps: PairLogps[Any], *, beta: float) -> Any:
    r"""Return :math:`R_\beta(y) - R_\beta(y')` of scored pairs, ``(..., n)``.

    Nothing in it is a constant of differentiation; the losses that weigh by it detach it.

    Parameters
    ----------
    logps
        With the rewards as scores.
    beta
        Strength of the KL penalty in units of the reward, >= 0.

    Raises
    ------
    ValueError
        If a score is missing or ``beta`` is negative.

    Examples
    --------
    >>> pair = PairLogps(-2.0, -3.0, -2.5, -2.8, chosen_score=1.0, rejected_score=0.2)
    >>> round(regularised_reward_gap(pair, beta=0.1), 12)
    0.73
    """
    first = needed(logps.chosen_score, "chosen_score")
    second = needed(logps.rejected_score, "rejected_score")
    return regularised_reward(
        first, logps.chosen, logps.ref_chosen, beta=beta
    ) - regularised_reward(second, logps.rejected, logps.ref_rejected, beta=beta)
