"""The study in small: twenty prompts of which ten are labelled, and four factors at two levels."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.analysis.factorial import Contrast, Factorial, contrast, full_factorial
from prefsim.data import Comparisons
from prefsim.numerics import sigmoid
from prefsim.policies import LogLinearPolicy, TabularPolicy
from prefsim.raters.noise import flip_labels
from prefsim.solvers import fit, optimal_policy
from prefsim.solvers.closed_forms.regularised import gibbs_log_policy
from prefsim.solvers.likelihood.linear_reward import fit_linear_reward
from prefsim.solvers.optimisers.log_linear_optimum import log_linear_optimum

PROMPTS, LABELLED, RESPONSES, FEATURES = 20, 10, 8, 6
BETA = 0.1  # DPO's β and PPO's κ, the same, so that the algorithms aim at one policy
RIDGE = 1e-3  # on rewards and implicit rewards alike: a table of few labels has no finite optimum
REFERENCE = np.full((PROMPTS, RESPONSES), -np.log(RESPONSES))

FACTORS: dict[str, tuple[Any, ...]] = {
    "flips": (0.05, 0.3),
    "algorithm": ("DPO", "PPO"),
    "reward_features": (4, 6),
    "prompts": ("labelled", "all"),
}
TABLE, SHARED, RICH = "a table", "4 features", "6 features"
CLASSES: dict[str, int | None] = {TABLE: None, SHARED: 4, RICH: 6}
"""What policies may be: free at every prompt, or log-linear in the first so many features."""

NAMES = {
    "flips": "data (5 % or 30 % flipped)",
    "algorithm": "algorithm (PPO less DPO)",
    "reward_features": "reward model (6 or 4 features)",
    "prompts": "prompts of PPO (all or labelled)",
}
BETTER = {
    "flips": (0.05, 0.3),
    "algorithm": ("PPO", "DPO"),
    "reward_features": (6, 4),
    "prompts": ("all", "labelled"),
}


class Replicates(NamedTuple):
    """Worlds with their labelled pairs, S of them.

    Attributes
    ----------
    features, reward
        ``(S, X, Y, d)`` and ``(S, X, Y)``, in log-odds.
    prompt, one, other
        The pairs, ``(S, n)``; prompts are labelled ones.
    level
        Uniform numbers ``(S, n)``: ``one`` is preferred where its chance exceeds them, so that
        other noise is another reading of the same draws.
    """

    features: np.ndarray
    reward: np.ndarray
    prompt: np.ndarray
    one: np.ndarray
    other: np.ndarray
    level: np.ndarray

    @classmethod
    def draw(
        cls, count: int, rng: np.random.Generator, *, pairs: int = 200, non_linear: float = 0.3
    ) -> Replicates:
        """Draw worlds; what is not linear of a reward has deviation ``non_linear``."""
        features = rng.standard_normal((count, PROMPTS, RESPONSES, FEATURES))
        weights = rng.standard_normal((count, FEATURES)) / np.sqrt(FEATURES)
        reward = np.einsum("sxyd,sd->sxy", features, weights)
        reward += non_linear * rng.standard_normal(reward.shape)
        prompt, first = (rng.integers(0, n, (count, pairs)) for n in (LABELLED, RESPONSES))
        second = (first + rng.integers(1, RESPONSES, (count, pairs))) % RESPONSES
        return cls(features, reward, prompt, first, second, rng.random((count, pairs)))

    def first(self, count: int) -> Replicates:
        """Return some first worlds."""
        return Replicates(*(column[:count] for column in self))

    def at(self, table: np.ndarray, response: np.ndarray) -> np.ndarray:
        """Return the rows of ``(S, X, Y, ...)`` that belong to responses of the pairs."""
        return table[np.arange(len(table))[:, None], self.prompt, response]

    def labelled(self, flips: float) -> tuple[np.ndarray, np.ndarray]:
        """Return chosen and rejected responses ``(S, n)`` where labels are flipped so often."""
        margin = self.at(self.reward, self.one) - self.at(self.reward, self.other)
        wins = self.level < flip_labels(sigmoid(margin), flips)
        return np.where(wins, self.one, self.other), np.where(wins, self.other, self.one)

    def excess_of_right(self, flips: float) -> list[float]:
        """Return the share of labels that follow the reward, less what the flips leave of it.

        Of pairs whose better response comes first, and of the others: what favours the first ones
        leaves the share of all as it is.
        """
        chosen, rejected = self.labelled(flips)
        lead = self.at(self.reward, chosen) - self.at(self.reward, rejected)
        excess = (lead > 0) - (flips + (1 - 2 * flips) * sigmoid(np.abs(lead)))
        better_first = (chosen == self.one) == (lead > 0)
        return [float(np.mean(excess[order])) for order in (better_first, ~better_first)]

    def features_of(self, kind: int | None) -> np.ndarray:
        """Return the features of a class, ``(S, X, Y, d)``: one for every response of a table."""
        if kind is not None:
            return self.features[..., :kind]
        one_each = np.eye(PROMPTS * RESPONSES).reshape(PROMPTS, RESPONSES, -1)
        return np.broadcast_to(one_each, (len(self.reward), *one_each.shape))

    def fitted_reward(self, flips: float, kind: int | None) -> np.ndarray:
        """Return the reward of a class by maximum likelihood with a ridge, ``(S, X, Y)``."""
        chosen, rejected = self.labelled(flips)
        if kind is None:
            return self.fitted_table(chosen, rejected)
        features = self.features[..., :kind]
        differences = self.at(features, chosen) - self.at(features, rejected)
        weights = fit_linear_reward(differences, ridge=RIDGE).weights
        return np.einsum("sxyd,sd->sxy", features, weights)

    def fitted_table(self, chosen: np.ndarray, rejected: np.ndarray) -> np.ndarray:
        """Return the reward of a table by how often each pair came out so, ``(S, X, Y)``."""
        size = LABELLED * RESPONSES
        one_each = np.eye(size).reshape(LABELLED, RESPONSES, size)
        pairs = (one_each[:, :, None] - one_each[:, None]).reshape(-1, size)
        cell = (self.prompt * RESPONSES + chosen) * RESPONSES + rejected
        count = np.stack([np.bincount(row, minlength=len(pairs)) for row in cell])
        weights = fit_linear_reward(pairs, weight=count, ridge=RIDGE).weights
        # Nothing is said of the other prompts, and their parameters stay at zero.
        fitted = np.zeros(self.reward.shape)
        fitted[:, :LABELLED] = weights.reshape(-1, LABELLED, RESPONSES)
        return fitted

    def ppo(self, reward: np.ndarray, kind: int | None, *, prompts: str) -> np.ndarray:
        """Return log π of the best policy of a class for a fitted reward, ``(S, X, Y)``."""
        asked = asked_prompts(prompts)
        if kind is None:
            best = np.log(optimal_policy(reward, np.exp(REFERENCE), beta=BETA))
            return np.where(asked[:, None], best, REFERENCE)
        return log_linear_optimum(
            reward,
            self.features_of(kind),
            REFERENCE,
            beta=BETA,
            context_probs=asked / asked.sum(),
        ).log_policy

    def gain(self, log_policy: np.ndarray) -> np.ndarray:
        """Return the true reward above the reference's, over the most there is, ``(S,)``."""
        start = self.reward.mean(axis=(-2, -1))
        reached = (np.exp(log_policy) * self.reward).sum(axis=-1).mean(axis=-1)
        return (reached - start) / (self.reward.max(axis=-1).mean(axis=-1) - start)


def asked_prompts(prompts: str) -> np.ndarray:
    """Return which prompts PPO is trained on."""
    return np.arange(PROMPTS) < (LABELLED if prompts == "labelled" else PROMPTS)


def dpo_of(implicit_reward: np.ndarray) -> np.ndarray:
    """Return log π of DPO ``(..., X, Y)`` from its implicit reward, fitted as a reward is."""
    return np.asarray(gibbs_log_policy(implicit_reward, REFERENCE, beta=BETA)[0])


def factorial_of(worlds: Replicates, kind: int | None) -> Factorial:
    """Return the gains of all cells, of policies of one class.

    DPO reads neither a reward model nor further prompts: it is the same there.
    """
    # Most cells share their fits.
    fitted = functools.cache(lambda flips, kind: worlds.fitted_reward(flips, kind))

    def measure(flips: float, algorithm: str, reward_features: int, prompts: str) -> np.ndarray:
        if algorithm == "DPO":
            return worlds.gain(dpo_of(fitted(flips, kind)))
        reward = fitted(flips, reward_features)
        return worlds.gain(worlds.ppo(reward, kind, prompts=prompts))

    return full_factorial(measure, FACTORS)


class Curve(NamedTuple):
    """PPO less DPO on the same labelled prompts, by the number of pairs, ``(labels, S)``."""

    non_linear: float
    labels: tuple[int, ...]
    difference: np.ndarray


def curve_of(
    rng: np.random.Generator, non_linear: float, labels: tuple[int, ...], count: int
) -> Curve:
    """Measure tables of labels: PPO with the good reward model against DPO."""
    differences = []
    for pairs in labels:
        worlds = Replicates.draw(count, rng, pairs=pairs, non_linear=non_linear)
        ppo = worlds.ppo(worlds.fitted_reward(0.05, 6), None, prompts="labelled")
        dpo = dpo_of(worlds.fitted_reward(0.05, None))
        differences.append(worlds.gain(ppo) - worlds.gain(dpo))
    return Curve(non_linear, labels, np.array(differences))


def distance_of_dpo(worlds: Replicates) -> float:
    """Return how far fits of DPO's loss are from the implicit rewards of the tables, at most.

    One world, each kind of policy, with the same ridge on the implicit reward.
    """
    one = worlds.first(1)
    chosen, rejected = one.labelled(0.3)
    data = Comparisons(one.prompt[0], chosen[0], rejected[0])
    reference = TabularPolicy(REFERENCE)
    apart = []
    for kind in CLASSES.values():
        policy = LogLinearPolicy.from_features(one.features_of(kind)[0])
        fitted = fit(
            policy,
            functools.partial(losses.dpo, beta=BETA),
            data,
            reference=reference,
            penalty=lambda here: RIDGE * ((BETA * here.parameters) ** 2).sum(-1),
        ).policy
        table = np.exp(dpo_of(one.fitted_reward(0.3, kind))[0])
        apart.append(np.abs(np.asarray(fitted.probs) - table).max())
    return float(np.max(apart))


def effect(found: Factorial, factor: str) -> Contrast:
    """Return the signed main effect of a factor: of the level that should be better."""
    return contrast(found, {factor: BETTER[factor]})
