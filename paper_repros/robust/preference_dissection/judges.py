"""Judges with known weights: what they choose, how alike they are, and how they are won over."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from prefsim.analysis import judge_similarity, property_attribution
from prefsim.data.properties import compare_lengths, compare_scores
from prefsim.numerics import sigmoid
from prefsim.raters import order_free_margin
from prefsim.solvers.likelihood.logistic_posterior import logistic_posterior
from prefsim.solvers.likelihood.sparse_logistic import fit_sparse_logistic

PROPERTIES = 29  # the last one is length
PAIRS = 500  # of a scenario
SCENARIOS, MEMBERS = 3, 3  # of the study of two families of judges
VARIATION = 0.1  # standard deviation of a weight within a family
BIAS = 0.2  # that a judge adds to the probability of the response that stands first
CHANGED = 3  # properties that a manipulator adds to a response
FEW = 12  # properties of the judge that is won over: all their combinations can be counted

# A property of two responses that have it half of the time: both, one, the other, neither.
HAS, OTHER_HAS = np.array([1.0, 1.0, 0.0, 0.0]), np.array([1.0, 0.0, 1.0, 0.0])


def drawn_weights(shape: tuple[int, ...], rng: np.random.Generator, active: float) -> np.ndarray:
    """Return weights of judges: a share of them Laplace(0.4), the others 0."""
    return np.where(rng.random(shape) < active, rng.laplace(0.0, 0.4, shape), 0.0)


def drawn_features(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return how pairs of responses with ratings from 0 to 3 and some words compare."""
    first, second = (rng.binomial(3, 0.5, (*shape, PROPERTIES - 1)) for _ in range(2))
    words = rng.integers(20, 200, (2, *shape))
    lengths = compare_lengths(*words)
    return np.concatenate([compare_scores(first, second), lengths[..., None]], axis=-1)


def choices(log_odds: np.ndarray, rng: np.random.Generator, *, bias: float = BIAS) -> np.ndarray:
    """Return 1 where a judge that is asked in both orders is for the first response, 0 elsewhere.

    What the properties leave open is logistic, so that the first response is chosen with
    probability σ(log-odds) whatever stands first.
    """
    liking = sigmoid(log_odds + rng.logistic(size=log_odds.shape))
    both = np.stack([liking, 1 - liking], axis=-1)
    margin = order_free_margin(both + np.array([bias, 0.0]), both + np.array([0.0, bias]))
    return (np.asarray(margin) > 0) * 1.0


class Families(NamedTuple):
    """Two families of judges, each judging the same pairs in each scenario.

    Attributes
    ----------
    weights
        True ones, ``(judges, p)``; the first half of the judges are one family.
    found
        By the fit in each scenario, ``(scenarios, judges, p)``.
    """

    weights: np.ndarray
    found: np.ndarray

    def alike(self) -> np.ndarray:
        """Return how alike the judges are found to be, in the mean of the scenarios."""
        return np.asarray(judge_similarity(self.found).mean(axis=0))


def study_families(rng: np.random.Generator) -> Families:
    """Draw two families, let them judge, and fit what each looks at in each scenario."""
    families = np.repeat(drawn_weights((2, PROPERTIES), rng, active=0.4), MEMBERS, axis=0)
    weights = families + VARIATION * rng.standard_normal(families.shape)
    features = drawn_features((SCENARIOS, 1, PAIRS), rng)
    log_odds = (features @ weights[..., None])[..., 0]
    return Families(weights, fit_sparse_logistic(features, choices(log_odds, rng)).weights)


def within_and_between(similarity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the similarities of two judges of one family, and of judges of two."""
    family = np.arange(len(similarity)) // MEMBERS
    pair = np.triu_indices(len(similarity), 1)
    same = family[pair[0]] == family[pair[1]]
    return similarity[pair][same], similarity[pair][~same]


def win_rate(weights: np.ndarray, added: np.ndarray) -> float:
    """Return how often a response wins to which properties were added, by all combinations.

    Parameters
    ----------
    weights
        Of the judge, ``(p,)``; both responses have each property half of the time.
    added
        Which properties the first response is made to have, ``(p,)`` booleans.
    """
    before, after = compare_scores(HAS, OTHER_HAS), compare_scores(np.ones(4), OTHER_HAS)
    odds, mass = np.zeros(1), np.ones(1)
    for weight, changed in zip(weights, added, strict=True):
        values, counts = np.unique(after if changed else before, return_counts=True)
        odds = np.add.outer(odds, weight * values).ravel()
        mass = np.multiply.outer(mass, counts / counts.sum()).ravel()
    return float(mass @ sigmoid(odds))


class WonOver(NamedTuple):
    """One judge of twelve properties.

    Attributes
    ----------
    weights
        True ones, ``(p,)``.
    mean, low, high
        Of the posterior, with the ends of its 90 % intervals.
    wins
        Win rates of responses with the three properties added that the fit likes least, with none,
        and with the three that it likes most.
    unexplained
        Largest distance of the sum of attributions from the log-odds less their mean.
    left
        What is left of the pulls of the data at the mode.
    """

    weights: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    wins: np.ndarray
    unexplained: float
    left: float


def win_over(rng: np.random.Generator) -> WonOver:
    """Draw a judge, fit what it looks at, and add to responses what it likes least and most."""
    # Sizes from the law that the fit takes for granted, so that its intervals contain what they
    # promise; half of the properties are liked, so that there is something to add.
    sign = np.where(np.arange(FEW) % 2 == 0, 1.0, -1.0)
    weights = sign * np.abs(drawn_weights((FEW,), rng, active=1.0))
    features = drawn_features((PAIRS,), rng)[:, -FEW:]
    prob = choices(features @ weights, rng)
    posterior = logistic_posterior(features, prob, scale=0.4, draws=2**11, seed=rng)
    mode = fit_sparse_logistic(features, prob, scale=0.4).weights
    order = np.argsort(mode)
    added = [
        np.isin(np.arange(FEW), some) for some in (order[:CHANGED], order[:0], order[-CHANGED:])
    ]
    odds = features @ posterior.mean
    parts = np.asarray(property_attribution(posterior.mean, features))
    return WonOver(
        weights,
        posterior.mean,
        *posterior.interval(0.9),
        np.array([win_rate(weights, which) for which in added]),
        float(np.abs(parts.sum(axis=-1) - (odds - odds.mean())).max()),
        left_at(mode, features, prob, 0.4),
    )


def left_at(weights: np.ndarray, features: np.ndarray, prob: np.ndarray, scale: float) -> float:
    """Return the largest part of a pull that the prior does not hold, in units of 1/b."""
    pull = scale * (prob - sigmoid(features @ weights)) @ features
    held = np.where(weights == 0, np.clip(pull, -1, 1), np.sign(weights))
    return float(np.abs(pull - held).max())


def shapley_values(log_odds_of: np.ndarray) -> np.ndarray:
    """Return Shapley values from the value of every coalition ``(2,) * p``, ``(p,)``."""
    p = log_odds_of.ndim
    values = np.zeros(p)
    orders = list(itertools.permutations(range(p)))
    for order in orders:
        present = [0] * p
        for k in order:
            before = log_odds_of[tuple(present)]
            present[k] = 1
            values[k] += log_odds_of[tuple(present)] - before
    return values / len(orders)
