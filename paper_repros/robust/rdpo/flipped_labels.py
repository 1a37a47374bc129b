"""Log-linear policies that learn from comparisons whose labels are flipped at a known rate."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.analysis.bandit import suboptimality
from prefsim.analysis.loglinear import (
    difference_covariance,
    estimate_covariance,
    estimation_bound,
    policy_covariance,
    relative_condition_number,
)
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.data.replicates import replicated_comparisons
from prefsim.numerics import categorical_kl, sigmoid
from prefsim.policies import LogLinearPolicy, TabularPolicy
from prefsim.raters.noise import flip_labels
from prefsim.solvers import fit
from prefsim.worlds import ContextualBandit
from prefsim.worlds.bandit import bradley_terry_matrix

NAMES = ("DPO", "cDPO", "rDPO")
# Of the ridge on the parameters, over β²: a robust loss of a separable sample is unbounded below.
RIDGE = 0.5e-3
NEARLY_EVEN = 0.02  # scale of weights whose preferences are all near one half


class LinearTask(NamedTuple):
    """Rewards ``β⟨φ, θ*⟩`` and labels flipped at a rate; pairs are drawn from ``sampling``.

    An ``offset`` adds rewards that no weights can express.
    """

    features: np.ndarray
    weights: np.ndarray
    beta: float
    flip_rate: float
    sampling: TabularPolicy
    offset: float = 0.0

    @classmethod
    def draw(
        cls,
        seed: int,
        flip_rate: float,
        beta: float = 0.5,
        *,
        offset: float = 0.0,
        covered: bool = True,
        scale: float = 1.0,
        contexts: int = 5,
    ) -> LinearTask:
        """Draw four responses with three features; β⟨φ, θ*⟩ grows with ``scale``, not with β."""
        rng = np.random.default_rng(seed)
        features = rng.standard_normal((contexts, 4, 3)) / math.sqrt(3)
        weights = scale * rng.standard_normal(3) / beta
        sampling = TabularPolicy.uniform(contexts, 4)
        if not covered:
            # Only the last response says anything about the last weight, and it is never compared.
            features[:, :-1, -1] = 0.0
            sampling = TabularPolicy.from_probs(np.tile([1 / 3, 1 / 3, 1 / 3, 0.0], (contexts, 1)))
        return cls(features, weights, beta, flip_rate, sampling, offset)

    @classmethod
    def study(cls, seed: int) -> LinearTask:
        """Draw the task of the reproduction: ten prompts, rewards that differ by several nats."""
        features = np.random.default_rng(seed).standard_normal((10, 5, 4)) / 2
        weights = 4 * np.asarray([1.5, -1.0, 0.5, 2.0])
        return cls(features, weights, 0.5, 0.0, TabularPolicy.uniform(10, 5))

    def with_two_responses(self) -> LinearTask:
        """Return the task of the first two responses to each prompt alone."""
        contexts = self.features.shape[0]
        return self._replace(
            features=self.features[:, :2], sampling=TabularPolicy.uniform(contexts, 2)
        )

    def world(self, flip_rate: float = 0.0) -> ContextualBandit:
        """Return the bandit whose rater's labels are flipped at this rate."""
        reward = self.beta * (self.features @ self.weights)
        reward = reward + self.offset * np.cos(np.arange(reward.size)).reshape(reward.shape)
        return ContextualBandit(
            reward=reward, preference=flip_labels(bradley_terry_matrix(reward), flip_rate)
        )

    def population(self, flip_rate: float = 0.0) -> Comparisons:
        """Return all comparisons of different responses, with the labels flipped at this rate."""
        return Comparisons.population(self.world(flip_rate), self.sampling, distinct=True)

    def samples(self, n: int, repeats: int, seed: int) -> Comparisons:
        """Draw data sets of n comparisons with flipped labels."""
        return replicated_comparisons(
            self.world(self.flip_rate),
            n,
            repeats,
            seed=seed,
            policy=self.sampling,
            distinct=True,
        )

    def loss(self, name: str) -> functools.partial[Any]:
        """Return the loss of this name, told the true rate."""
        if name == "rDPO":
            return functools.partial(losses.rdpo, beta=self.beta, flip_rate=self.flip_rate)
        smoothing = {"DPO": 0.0, "cDPO": self.flip_rate}[name]
        return functools.partial(losses.dpo, beta=self.beta, label_smoothing=smoothing)

    def fit(self, name: str, data: Comparisons, **options: Any) -> LogLinearPolicy:
        """Fit the log-linear policy to the data."""
        start = LogLinearPolicy.from_features(self.features)
        return fit(start, self.loss(name), data, reference=start, **options).policy

    def free_margins(self, name: str) -> np.ndarray:
        """Return the margins that a policy without features learns on the flipped population."""
        data = self.population(self.flip_rate)
        policy = fit(self.sampling, self.loss(name), data, reference=self.sampling).policy
        chosen, rejected = data.log_probs(policy)
        return to_numpy(chosen - rejected)

    @property
    def optimum(self) -> LogLinearPolicy:
        """The policy that the clean population teaches."""
        return LogLinearPolicy.from_features(self.features, weights=self.weights)

    def reward_lost(
        self, names: tuple[str, ...], n: int, repeats: int, seed: int
    ) -> dict[str, np.ndarray]:
        """Return the reward lost against π*, ``(repeats,)``, of each loss on the same data sets."""
        data = self.samples(n, repeats, seed)

        def ridge(policy: Any) -> Any:
            return RIDGE * self.beta**2 * (policy.parameters**2).sum(-1)

        lost = {}
        for name in names:
            policy = self.fit(name, data, penalty=ridge)
            lost[name] = to_numpy(
                suboptimality(policy.log_probs, self.world(), comparator=self.optimum.log_probs)
            )
        return lost


class Estimates(NamedTuple):
    """Estimates of θ* from many data sets of one size, and the law that they should follow.

    Distances are in the norm of Σ̂ + λI, the covariance of each data set, with λ = 1/n.

    Attributes
    ----------
    task, n
        What was estimated, from so many comparisons.
    policy
        The fitted policies, one a data set.
    covariance
        Σ̂ + λI, ``(sets, d, d)``.
    """

    task: LinearTask
    n: int
    policy: LogLinearPolicy
    covariance: np.ndarray

    @classmethod
    def draw(cls, task: LinearTask, n: int, sets: int, seed: int) -> Estimates:
        """Fit robust DPO to data sets of n flipped comparisons."""
        data = task.samples(n, sets, seed)
        policy = task.fit("rDPO", data)
        covariance = to_numpy(difference_covariance(data, task.features))
        return cls(task, n, policy, covariance + np.eye(task.weights.size) / n)

    @property
    def error(self) -> np.ndarray:
        """θ̂ − θ*, ``(sets, d)``."""
        return to_numpy(self.policy.parameters) - self.task.weights

    @property
    def distance(self) -> np.ndarray:
        """Norms of the errors, ``(sets,)``."""
        return np.sqrt(_form(self.error, self.covariance))

    def bound(self, *, chance: float, flip_rate: float | None = None) -> float:
        """Return what distances exceed with chance at most ``chance``, by theorem 4.2.

        For labels flipped at the task's rate, unless another is given.
        """
        task = self.task
        norms = np.linalg.norm(np.vstack([self.policy.parameters, task.weights]), axis=-1)
        # The smallest ball that holds the truth and every estimate.
        radius = float(norms.max())
        steepest = 2 * task.beta * radius * np.linalg.norm(task.features, axis=-1).max()
        curvature = sigmoid(np.asarray(steepest)) * sigmoid(np.asarray(-steepest))
        return estimation_bound(
            self.n,
            task.weights.size,
            beta=task.beta,
            flip_rate=task.flip_rate if flip_rate is None else flip_rate,
            curvature=float(curvature),
            radius=radius,
            ridge=1 / self.n,
            chance=chance,
        )

    def normal_share(self, *, chance: float) -> float:
        """Return the mean squared distance over that which the bound implies for normal errors.

        Near 1 where preferences are even, and the least curvature a quarter.
        """
        task, t = self.task, math.log(1 / chance)
        d = task.weights.size
        noise = estimation_bound(
            self.n,
            d,
            beta=task.beta,
            flip_rate=task.flip_rate,
            curvature=0.25,
            radius=0.0,
            ridge=0.0,
            chance=chance,
        )
        quantile = d + 2 * math.sqrt(d * t) + 2 * t
        return float(np.mean(self.distance**2) / noise**2 * quantile / d)

    def whitened(self) -> float:
        """Return n times the mean squared error in the norm of the inverse sandwich, over d.

        It tends to 1.
        """
        task = self.task
        sandwich = estimate_covariance(
            task.population(), task.features, beta=task.beta, flip_rate=task.flip_rate
        )
        squares = _form(self.error, np.linalg.inv(sandwich))
        return float(self.n * np.mean(squares) / task.weights.size)

    def on_the_way(self) -> list[np.ndarray]:
        """Return log-policies between θ* and θ̂, each ``(sets, X, Y)``."""
        # The mean-value theorem leaves open where on the way a covariance counts.
        steps = np.linspace(0, 1, 6)[:, None, None]
        weights = self.task.weights + steps * self.error
        return [to_numpy(self.policy.with_parameters(w).log_probs) for w in weights]

    def condition_number(self) -> np.ndarray:
        """Return κ, the largest on the way from θ* to θ̂, ``(sets,)``."""
        found = [
            relative_condition_number(policy_covariance(table, self.task.features), self.covariance)
            for table in self.on_the_way()
        ]
        return np.max(found, axis=0)

    def gap_share(self) -> np.ndarray:
        """Return |E_π* r − E_π̂ r| over its bound, ``(sets,)``.

        That is √κ times the distance and the standard deviation of the reward, the largest on the
        way from θ* to θ̂.
        """
        task, best = self.task, self.task.optimum.log_probs
        gap = to_numpy(suboptimality(self.policy.log_probs, task.world(), comparator=best))
        reward = task.features @ task.weights[:, None] * task.beta
        spread = [policy_covariance(table, reward)[..., 0, 0] for table in self.on_the_way()]
        steepest = np.sqrt(np.max(spread, axis=0) * self.condition_number())
        return np.asarray(np.abs(gap) / (steepest * self.distance))

    def divergence_share(self) -> np.ndarray:
        """Return KL(π*‖π̂) over its bound, κ times half the squared distance, ``(sets,)``."""
        divergence = categorical_kl(self.task.optimum.log_probs, self.policy.log_probs)
        kl = to_numpy(divergence).mean(axis=-1)
        return np.asarray(2 * kl / (self.condition_number() * self.distance**2))


def _form(vector: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return np.asarray(np.einsum("...i,...ij,...j->...", vector, matrix, vector))
