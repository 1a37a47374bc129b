"""A random bandit with a reference, a policy and a wrong reward, and what is asked of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from prefsim.analysis.bandit import kl_to_reference, regularised_value
from prefsim.analysis.coverage import concentrability, kl_ball_coverage
from prefsim.numerics import log_softmax
from prefsim.policies import TabularPolicy
from prefsim.solvers import gibbs_log_policy
from prefsim.testing.bandits import bandits_with_reference, policies, tables
from prefsim.worlds import ContextualBandit


class Instance(NamedTuple):
    """A bandit, its reference, any policy, and any estimate of the reward in [-2, 2]."""

    world: ContextualBandit
    reference: TabularPolicy
    policy: TabularPolicy
    estimate: np.ndarray

    @property
    def reward(self) -> np.ndarray:
        """The true reward, ``(X, Y)``."""
        return np.asarray(self.world.reward)

    @property
    def rho(self) -> np.ndarray:
        """The distribution of the prompts."""
        return np.asarray(self.world.context_probs)

    def optimum(self, reward: np.ndarray, beta: float) -> np.ndarray:
        """Return ``log π``, ``(X, Y)``, of the best policy for a reward."""
        return np.asarray(gibbs_log_policy(reward, self.reference.log_probs, beta=beta)[0])

    def value(self, log_policy: Any, beta: float) -> float:
        """Return J."""
        log_reference = self.reference.log_probs
        return float(regularised_value(log_policy, log_reference, self.world, beta=beta))

    def divergence(self, log_policy: np.ndarray) -> np.ndarray:
        """Return the mean KL to the reference."""
        return kl_to_reference(log_policy, self.reference.log_probs, self.world)

    def coverage(self, log_policy: np.ndarray) -> np.ndarray:
        """Return the largest ratio to the reference."""
        return concentrability(log_policy, self.reference.log_probs, context_probs=self.rho)

    def ball_coverage(self, radius: float) -> float:
        """Return the largest ratio to the reference in a KL ball."""
        ball = kl_ball_coverage(self.reference.log_probs, radius, context_probs=self.rho)
        return float(ball.value)


LIMIT = 2.0  # of the estimates: R'


@st.composite
def instances(draw: st.DrawFn) -> Instance:
    """Up to three contexts and five responses."""
    world, reference = draw(bandits_with_reference(max_responses=5, scale=2.0, spread=1.5))
    shape = (world.n_contexts, world.n_responses)
    estimate = draw(tables(shape, low=-LIMIT, high=LIMIT))
    return Instance(world, reference, draw(policies(*shape)), estimate)


def strongly_rewarded(instance: Instance) -> Instance:
    """Return the instance with a reward of 4 for one response to each prompt, and 0 for others."""
    reward = 4.0 * (np.arange(instance.world.n_responses) == 0) + 0 * instance.reward
    world = ContextualBandit(reward=reward, context_probs=instance.rho)
    uniform = TabularPolicy.uniform(world.n_contexts, world.n_responses)
    return instance._replace(world=world, reference=uniform)


def farthest_in_ball(instance: Instance, radius: float) -> np.ndarray:
    """Return the log-policies at the edge of a KL ball, ``(directions, X, Y)``, by bisection.

    The logits move from the reference's towards each single response, and in 60 random directions.
    """
    log_reference = np.asarray(instance.reference.log_probs)
    single = np.eye(log_reference.size).reshape(-1, *log_reference.shape)
    others = np.random.default_rng(0).standard_normal((60, *log_reference.shape))
    directions = np.concatenate([single, others])
    # Logits so far apart leave nothing to any other response; 60 halvings reach rounding.
    low, high = np.zeros((len(directions), 1, 1)), np.full((len(directions), 1, 1), 400.0)
    for _ in range(60):
        middle = 0.5 * (low + high)
        spent = instance.divergence(log_softmax(log_reference + middle * directions))
        inside = (spent <= radius)[:, None, None]
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return log_softmax(log_reference + low * directions)
