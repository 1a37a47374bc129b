"""A linear reward and data that never show the best response: who finds it nevertheless."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from prefsim import losses
from prefsim.analysis.bandit import regularised_value
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.policies import InMemoryPolicy, LogLinearPolicy, TabularPolicy
from prefsim.solvers import fit, gibbs_log_policy, gradient_descent
from prefsim.worlds import ContextualBandit

KINDS = ("log-linear", "tabular")


class Extrapolation(NamedTuple):
    """One context with a linear reward, a uniform reference, and pairs without the best response.

    Attributes
    ----------
    features
        ``(Y, d)``.
    weights
        ``(d,)``: the reward is ``features @ weights``.
    beta
        Strength of the KL penalty.
    """

    features: np.ndarray
    weights: np.ndarray
    beta: float

    @property
    def reward(self) -> np.ndarray:
        """The reward ``(1, Y)``, in the span of the features."""
        return (self.features @ self.weights)[None]

    @property
    def world(self) -> ContextualBandit:
        """The bandit."""
        return ContextualBandit(reward=self.reward)

    @property
    def best(self) -> int:
        """The response that is never shown."""
        return int(self.reward.argmax())

    @property
    def data(self) -> Comparisons:
        """Pairs of all other responses, uniformly."""
        others = np.arange(len(self.features)) != self.best
        shown = TabularPolicy.from_probs((others / others.sum())[None])
        return Comparisons.population(self.world, shown)

    @property
    def log_reference(self) -> np.ndarray:
        """The uniform reference's log-probabilities, ``(1, Y)``."""
        return np.full((1, len(self.features)), -np.log(len(self.features)))

    def optimum(self) -> np.ndarray:
        """Return ``log π*``, ``(1, Y)``."""
        return np.asarray(gibbs_log_policy(self.reward, self.log_reference, beta=self.beta)[0])

    def value(self, log_policy: np.ndarray) -> float:
        """Return J of a policy ``(1, Y)``."""
        value = regularised_value(log_policy, self.log_reference, self.world, beta=self.beta)
        return float(value)

    def start(self, kind: str) -> InMemoryPolicy:
        """Return the reference as a policy of one of :data:`KINDS`."""
        starts: dict[str, InMemoryPolicy] = {
            "log-linear": LogLinearPolicy.from_features(self.features[None]),
            "tabular": TabularPolicy.uniform(1, len(self.features)),
        }
        return starts[kind]

    def trained(self, kind: str) -> np.ndarray:
        """Return the log-probabilities ``(1, Y)`` that minimise DPO's loss."""
        start, dpo = self.start(kind), functools.partial(losses.dpo, beta=self.beta)
        return to_numpy(fit(start, dpo, self.data, reference=start).policy.log_probs)

    def path(self, kind: str, *, iterations: int) -> tuple[np.ndarray, np.ndarray]:
        """Return step numbers, and :meth:`mean_log_probs` along gradient descent."""
        start, every = self.start(kind), iterations // 50
        _, path = gradient_descent(
            start,
            functools.partial(losses.dpo, beta=self.beta),
            self.data,
            reference=start,
            step=2.0,
            iterations=iterations,
            record=lambda policy: self.mean_log_probs(to_numpy(policy.log_probs)),
            record_every=every,
        )
        return np.arange(len(path)) * every, np.asarray(path)

    def mean_log_probs(self, log_policy: np.ndarray) -> np.ndarray:
        """Return ``log π`` of the unseen best response, and means over chosen and over rejected."""
        data, log_probs = self.data, log_policy[0]
        wins, defeats = data.weight * data.prob, data.weight * (1 - data.prob)
        first, second = log_probs[data.chosen], log_probs[data.rejected]
        chosen, rejected = wins @ first + defeats @ second, wins @ second + defeats @ first
        return np.array([log_probs[self.best], chosen, rejected])


def drawn(seed: int) -> Extrapolation:
    """Return eight responses with features in three dimensions, β = 1."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((8, 3))
    return Extrapolation(features, 2.0 * rng.standard_normal(3), beta=1.0)


class Found(NamedTuple):
    """What DPO finds in one drawn world.

    Attributes
    ----------
    distance
        Largest difference from a probability of π*.
    best
        Probability of the best response, which is in no pair.
    gap
        J* − J.
    changes
        Of the mean log π of chosen and of rejected responses.
    """

    distance: float
    best: float
    gap: float
    changes: np.ndarray


def found_in(world: Extrapolation, kind: str) -> Found:
    trained, optimum = world.trained(kind), world.optimum()
    _, *changes = world.mean_log_probs(trained - world.log_reference)
    return Found(
        float(np.abs(np.exp(trained) - np.exp(optimum)).max()),
        float(np.exp(trained[0, world.best])),
        world.value(optimum) - world.value(trained),
        np.array(changes),
    )
