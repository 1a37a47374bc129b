"""Pairs that noisy people and a biased model labelled, and the reward models trained on them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from prefsim.data.routing import feature_counts, route_above, route_top, routed_labels
from prefsim.numerics import sigmoid
from prefsim.solvers.likelihood.sparse_logistic import LogisticChoices
from prefsim.solvers.performance_model import (
    LearnedPerformance,
    learn_performance,
    route_simulated,
)

TRUE = np.array([1.0, -1.0, 0.5, 0.5, 0.0])
MISLED = np.array([-1.0, 1.0, 0.5, 0.5, 0.0])  # the model's weights on pairs with the first tag
HUMAN_BETA, MODEL_BETA = 1.2, 4.0  # how consistent they are
TAGS, TAG_RATE = 3, 0.35
NEWTON_STEPS = 9  # of a ridge-regularised logistic regression: quadratic after the first few
TESTED = 5000


class Pool(NamedTuple):
    """Pairs to be labelled.

    Attributes
    ----------
    differences
        Of what describes the two responses, ``(n, 5)``.
    features
        Three tags and their negations, zeros and ones ``(n, 6)``.
    human, model
        Labels, 1 for the first response, ``(n,)`` each.
    test
        Differences of the pairs that reward models are tested on, ``(5000, 5)``.
    """

    differences: np.ndarray
    features: np.ndarray
    human: np.ndarray
    model: np.ndarray
    test: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, n: int = 400, human_beta: float = HUMAN_BETA) -> Pool:
        """Draw pairs and tags, and let people (as consistent as said) and the model label them."""
        x = rng.standard_normal((n, TRUE.size))
        tags = (rng.random((n, TAGS)) < TAG_RATE) * 1.0
        believed = np.where(tags[:, :1] == 1, x * MISLED, x * TRUE).sum(axis=-1)
        human = rng.random(n) < sigmoid(human_beta * (x @ TRUE))
        model = rng.random(n) < sigmoid(MODEL_BETA * believed)
        features = np.concatenate([tags, 1 - tags], axis=1)
        test = rng.standard_normal((TESTED, TRUE.size))
        return cls(x, features, human * 1.0, model * 1.0, test)

    def score(self, labels: np.ndarray) -> np.ndarray:
        """Return the percentage of test pairs that models trained on labels ``(T, n)`` order."""
        weights = ridge_weights(self.differences, labels)
        right = np.sign(weights @ self.test.T) == np.sign(self.test @ TRUE)
        return np.asarray(100 * right.mean(axis=-1))

    def score_of(self, routed: np.ndarray) -> np.ndarray:
        """Return the scores of routings ``(..., n)``."""
        return self.score(routed_labels(self.human, self.model, routed))


def ridge_weights(differences: np.ndarray, labels: np.ndarray, ridge: float = 1.0) -> np.ndarray:
    """Return the weights of reward models by logistic regression on labels ``(..., n)``."""
    choices = LogisticChoices(differences, labels, np.ones(labels.shape[-1]))
    weights = np.zeros((*labels.shape[:-1], differences.shape[-1]))
    for _ in range(NEWTON_STEPS):
        slope = choices.gradient(weights) + ridge * weights
        curvature = choices.hessian(weights) + ridge * np.eye(weights.shape[-1])
        weights = weights - np.linalg.solve(curvature, slope[..., None])[..., 0]
    return weights


class Routed(NamedTuple):
    """What was learned on one pool, and the scores of its routings.

    Attributes
    ----------
    rank_correlation
        Of predicted and measured scores of the routings that the performance model has not seen.
    error
        Root mean square difference of the two, in points.
    unexplained
        Distance of the score predicted of the largest gains from the intercept and their sum.
    scores
        Of each routing, by name; half of the pairs are labelled by people where it is not said
        otherwise.
    biased
        Share of pairs with the first tag among those that people label, and among all.
    curves
        Scores of hybrid and random routing, by the share that people label.
    """

    rank_correlation: float
    error: float
    unexplained: float
    scores: dict[str, float]
    biased: tuple[float, float]
    curves: dict[str, dict[float, float]]


RANDOM, HYBRID, WORTHWHILE, SIMULATED = "random", "largest gains", "all gains > 0", "simulated"
MODEL_ONLY, HUMAN_ONLY = "model alone", "people alone"


def learn(pool: Pool, rng: np.random.Generator, candidates: int = 200) -> LearnedPerformance:
    """Learn a linear performance model on one pool."""
    return learn_performance(
        pool.features, pool.human, pool.model, pool.score, candidates=candidates, seed=rng
    )


def predict_unseen(learned: LearnedPerformance, pool: Pool) -> tuple[float, float]:
    """Return how well routings that were held out are predicted.

    Spearman's correlation with what was measured, and the root mean square error.
    """
    from scipy.stats import spearmanr

    unseen = learned.routed[len(learned.scores) - learned.held_out :]
    predicted = learned.model.predict(feature_counts(pool.features, unseen))
    measured = pool.score_of(unseen)
    error = float(np.sqrt(np.mean((predicted - measured) ** 2)))
    return float(spearmanr(predicted, measured).statistic), error


def route(
    rng: np.random.Generator, shares: tuple[float, ...], human_beta: float = HUMAN_BETA
) -> Routed:
    """Draw a pool, learn what people's labels are worth, and route by it."""
    pool = Pool.draw(rng, human_beta=human_beta)
    n = len(pool.human)
    learned = learn(pool, rng)
    gains = learned.model.gains(pool.features)
    ordered, half = rng.permutation(n), n // 2

    def first(count: int) -> np.ndarray:
        """Return a random routing; larger ones contain the smaller."""
        return np.isin(np.arange(n), ordered[:count])

    routings = {
        MODEL_ONLY: np.zeros(n, dtype=bool),
        RANDOM: first(half),
        HYBRID: route_top(gains, half),
        SIMULATED: route_simulated(learned.model, pool.features, half, seed=rng),
        WORTHWHILE: route_above(gains),
        HUMAN_ONLY: np.ones(n, dtype=bool),
    }
    scores = pool.score_of(np.stack(list(routings.values())))
    at = [round(share * n) for share in shares]
    curves = {
        name: dict(zip(shares, map(float, map(pool.score_of, routed)), strict=True))
        for name, routed in (
            (HYBRID, [route_top(gains, count) for count in at]),
            (RANDOM, [first(count) for count in at]),
        )
    }
    tagged = pool.features[:, 0]
    predicted = learned.model.predict(feature_counts(pool.features, routings[HYBRID]))
    return Routed(
        *predict_unseen(learned, pool),
        float(np.abs(predicted - learned.model.intercept - gains[routings[HYBRID]].sum())),
        dict(zip(routings, scores.tolist(), strict=True)),
        (float(tagged[routings[HYBRID]].mean()), float(tagged.mean())),
        curves,
    )
