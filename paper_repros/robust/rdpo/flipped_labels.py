"""Log-linear policies that learn from comparisons whose labels are flipped at a known rate."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.analysis.bandit import suboptimality
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.data.replicates import replicated_comparisons
from prefsim.policies import LogLinearPolicy, TabularPolicy
from prefsim.raters.noise import flip_labels
from prefsim.solvers import fit
from prefsim.worlds import ContextualBandit
from prefsim.worlds.bandit import bradley_terry_matrix

NAMES = ("DPO", "cDPO", "rDPO")
# Of the ridge on the parameters, over β²: a robust loss of a separable sample is unbounded below.
RIDGE = 0.5e-3


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
            self.world(self.flip_rate), n, repeats, seed=seed, policy=self.sampling
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
