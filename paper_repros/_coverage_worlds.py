"""Two worlds in which coverage decides, and gradient descent in them: for the reproduction of arXiv:2406.01462."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.analysis.bandit import kl_to_reference, regularised_value
from prefsim.analysis.coverage import concentrability, in_distribution_reward_error
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.policies import InMemoryPolicy, LogLinearPolicy, TabularPolicy
from prefsim.solvers import gibbs_log_policy, gradient_descent
from prefsim.solvers.optimisers.penalties import kl_penalty
from prefsim.worlds import ContextualBandit

LEVELS = (0.0, 1e-4, 1e-3, 1e-2)


REWARD = np.array([[1.0, 0.0, 0.0]])


class Unseen(NamedTuple):
    """Three responses of which the reference hardly ever gives the third, and policies that put mass on it nevertheless."""

    delta: float
    beta: float = 0.1
    weight: float = 0.0

    @property
    def world(self) -> ContextualBandit:
        """Only the first response is any good."""
        return ContextualBandit(reward=REWARD)

    @property
    def reference(self) -> TabularPolicy:
        """Half of 1 − δ on each of the first two."""
        return TabularPolicy.from_probs([[(1 - self.delta) / 2, (1 - self.delta) / 2, self.delta]])

    @property
    def log_reference(self) -> np.ndarray:
        """The reference's log-probabilities, ``(1, 3)``."""
        return to_numpy(self.reference.log_probs)

    def gap(self, log_policy: np.ndarray) -> np.ndarray:
        """Return J* − J of policies ``(..., 1, 3)``."""
        value = functools.partial(
            regularised_value, log_reference=self.log_reference, world=self.world, beta=self.beta
        )
        return value(gibbs_log_policy(REWARD, self.log_reference, beta=self.beta)[0]) - value(
            log_policy
        )

    def policy(self, mass: Any) -> TabularPolicy:
        """Put ``mass`` on the third response and divide the rest as the optimum does."""
        mass = np.asarray(mass, dtype=float)[..., None, None]
        split, _ = gibbs_log_policy(np.array([[1.0, 0.0]]), np.zeros((1, 2)), beta=self.beta)
        return TabularPolicy.from_probs(np.concatenate([(1 - mass) * np.exp(split), mass], axis=-1))

    def measure(self, mass: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the in-distribution error of the implicit reward, the gap J* − J and the coverage of :meth:`policy`."""
        log_policy, log_reference = to_numpy(self.policy(mass).log_probs), self.log_reference
        with np.errstate(invalid="ignore"):
            implicit = self.beta * (log_policy - log_reference)
        error = in_distribution_reward_error(implicit, REWARD, log_reference)
        return error, self.gap(log_policy), concentrability(log_policy, log_reference)


def separation_value(case: Unseen) -> float:
    """Return J*."""
    _, log_partition = gibbs_log_policy(REWARD, case.log_reference, beta=case.beta)
    return float(case.beta * log_partition[0])


def worst_gaps(case: Unseen) -> tuple[float, float]:
    """Return the gap of the policy with half its mass on the rare response, and that of RLHF with the same reward error, kept in [0, 1]."""
    error, gap, _ = case.measure(0.5)
    wrong = np.sqrt(error / (2 * case.delta * (1 - case.delta)))
    estimate = np.array([[1.0, 0.0, min(1.0, float(wrong))]])
    learned, _ = gibbs_log_policy(estimate, case.log_reference, beta=case.beta)
    return float(gap), float(case.gap(learned))


class Paths(NamedTuple):
    """Gradient descent on HyPO's objective for every λ: steps, mass on the third response, gap and divergence, each ``(records, λ)``."""

    steps: np.ndarray
    mass: np.ndarray
    gap: np.ndarray
    divergence: np.ndarray


def hybrid_paths(case: Unseen, *, step: float, iterations: int) -> Paths:
    """Start with half of the mass on the rare response and follow the exact gradient, all λ at once."""
    reference = case.reference
    _, path = gradient_descent(
        TabularPolicy.from_probs([[0.25, 0.25, 0.5]]),
        functools.partial(losses.dpo, beta=case.beta),
        Comparisons.population(case.world, reference),
        reference=reference,
        penalty=kl_penalty(reference, weight=np.array(LEVELS)),
        step=step,
        iterations=iterations,
        record=lambda p: to_numpy(p.log_probs),
        record_every=iterations // 100,
    )
    table = np.stack(path)
    steps = np.arange(len(path)) * (iterations // 100)
    return Paths(
        steps,
        np.exp(table[..., 0, 2]),
        case.gap(table),
        kl_to_reference(table, case.log_reference, case.world),
    )


class Extrapolation(NamedTuple):
    """One context with a linear reward; the data never show the best response."""

    features: np.ndarray
    weights: np.ndarray
    beta: float
    tabular: bool = False

    @property
    def world(self) -> ContextualBandit:
        """The reward is in the span of the features."""
        return ContextualBandit(reward=(self.features @ self.weights)[None])

    @property
    def best(self) -> int:
        """The response that is never shown."""
        return int((self.features @ self.weights).argmax())

    @property
    def data(self) -> Comparisons:
        """Pairs of all other responses, uniformly."""
        shown = np.where(
            np.arange(len(self.features)) == self.best, 0.0, 1.0 / (len(self.features) - 1)
        )
        return Comparisons.population(self.world, TabularPolicy.from_probs(shown[None]))

    @property
    def start(self) -> InMemoryPolicy:
        """The uniform reference, log-linear or tabular."""
        return (
            TabularPolicy.uniform(1, len(self.features))
            if self.tabular
            else LogLinearPolicy.from_features(self.features[None])
        )

    def optimum(self) -> np.ndarray:
        """Return ``log π*``, ``(1, Y)``."""
        uniform = np.full((1, len(self.features)), -np.log(len(self.features)))
        return gibbs_log_policy((self.features @ self.weights)[None], uniform, beta=self.beta)[0]


# The instance of the extrapolation experiment: default_rng(1) draws eight feature vectors in three
# dimensions, then θ*/2.
_rng = np.random.default_rng(1)
LINEAR = Extrapolation(_rng.standard_normal((8, 3)), 2.0 * _rng.standard_normal(3), beta=1.0)


def extrapolation_path(case: Extrapolation, *, iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and the records of gradient descent: ``log π`` of the unseen best response, and means over chosen and over rejected."""
    data = case.data
    chosen, rejected = data.weight * data.prob, data.weight * (1 - data.prob)

    def record(policy: Any) -> tuple[float, ...]:
        log_policy = to_numpy(policy.log_probs)[0]
        first, second = log_policy[data.chosen], log_policy[data.rejected]
        return (
            log_policy[case.best],
            chosen @ first + rejected @ second,
            chosen @ second + rejected @ first,
        )

    _, path = gradient_descent(
        case.start,
        functools.partial(losses.dpo, beta=case.beta),
        data,
        reference=case.start,
        step=2.0,
        iterations=iterations,
        record=record,
        record_every=iterations // 50,
    )
    return np.arange(len(path)) * (iterations // 50), np.asarray(path)
