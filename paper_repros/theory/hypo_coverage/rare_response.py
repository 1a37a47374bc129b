"""Three responses of which the reference hardly ever gives one: what can be learned about it."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.analysis.bandit import kl_to_reference, regularised_value
from prefsim.analysis.coverage import concentrability, in_distribution_reward_error
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.policies import TabularPolicy
from prefsim.solvers import gibbs_log_policy, gradient_descent
from prefsim.solvers.optimisers.penalties import kl_penalty
from prefsim.worlds import ContextualBandit

REWARD = np.array([[1.0, 0.0, 0.0]])
WORLD = ContextualBandit(reward=REWARD)


class Measures(NamedTuple):
    """Of a policy: its implicit reward's error on the data, its gap J* − J, and its coverage."""

    error: np.ndarray
    gap: np.ndarray
    coverage: np.ndarray


class Rare(NamedTuple):
    """A reference with mass δ on the third response, and half of the rest on each other one."""

    delta: float
    beta: float = 0.1

    @property
    def reference(self) -> TabularPolicy:
        """The reference policy."""
        return TabularPolicy.from_probs([[(1 - self.delta) / 2, (1 - self.delta) / 2, self.delta]])

    @property
    def log_reference(self) -> np.ndarray:
        """The reference's log-probabilities, ``(1, 3)``."""
        return to_numpy(self.reference.log_probs)

    def optimal_value(self) -> float:
        """Return J*."""
        _, log_partition = gibbs_log_policy(REWARD, self.log_reference, beta=self.beta)
        return float(self.beta * log_partition[0])

    def gap(self, log_policy: Any) -> np.ndarray:
        """Return J* − J of policies ``(..., 1, 3)``."""
        value = functools.partial(
            regularised_value, log_reference=self.log_reference, world=WORLD, beta=self.beta
        )
        best, _ = gibbs_log_policy(REWARD, self.log_reference, beta=self.beta)
        return np.asarray(value(best) - value(log_policy))

    def policy(self, mass: Any) -> TabularPolicy:
        """Put ``mass`` on the third response and divide the rest as the optimum does."""
        mass = np.asarray(mass, dtype=float)[..., None, None]
        split, _ = gibbs_log_policy(REWARD[:, :2], np.zeros((1, 2)), beta=self.beta)
        return TabularPolicy.from_probs(np.concatenate([(1 - mass) * np.exp(split), mass], axis=-1))

    def measure(self, mass: Any) -> Measures:
        """Return the measures of :meth:`policy`."""
        log_policy, log_reference = to_numpy(self.policy(mass).log_probs), self.log_reference
        # Where the reference has no mass there is no implicit reward, and no data either.
        with np.errstate(invalid="ignore"):
            implicit = self.beta * (log_policy - log_reference)
        return Measures(
            error=in_distribution_reward_error(implicit, REWARD, log_reference),
            gap=self.gap(log_policy),
            coverage=concentrability(log_policy, log_reference),
        )

    def gap_of_bounded_reward(self, error: float) -> float:
        """Return the gap of RLHF whose reward has this error on the data, kept in [0, 1]."""
        wrong = np.sqrt(error / (2 * self.delta * (1 - self.delta)))
        estimate = np.array([[1.0, 0.0, min(1.0, float(wrong))]])
        learned, _ = gibbs_log_policy(estimate, self.log_reference, beta=self.beta)
        return float(self.gap(learned))


# --- DPO with an online KL penalty, from a policy with half of its mass on the rare response ---

LEVELS = (0.0, 1e-4, 1e-3, 1e-2)
"""Weights λ of the penalty; 0 is DPO."""


class Paths(NamedTuple):
    """Gradient descent on HyPO's objective for every λ.

    Attributes
    ----------
    steps
        ``(records,)``.
    mass, gap, divergence
        On the third response, J* − J, and KL to the reference, each ``(records, λ)``.
    """

    steps: np.ndarray
    mass: np.ndarray
    gap: np.ndarray
    divergence: np.ndarray


def hybrid_paths(case: Rare, *, step: float, iterations: int) -> Paths:
    """Follow the exact gradient, for all λ at once."""
    every = iterations // 100
    _, path = gradient_descent(
        TabularPolicy.from_probs([[0.25, 0.25, 0.5]]),
        functools.partial(losses.dpo, beta=case.beta),
        Comparisons.population(WORLD, case.reference),
        reference=case.reference,
        penalty=kl_penalty(case.reference, weight=np.array(LEVELS)),
        step=step,
        iterations=iterations,
        record=lambda policy: to_numpy(policy.log_probs),
        record_every=every,
    )
    log_policies = np.stack(path)
    return Paths(
        steps=np.arange(len(path)) * every,
        mass=np.exp(log_policies[..., 0, 2]),
        gap=case.gap(log_policies),
        divergence=kl_to_reference(log_policies, case.log_reference, WORLD),
    )
