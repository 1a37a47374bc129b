"""Rewards with a spread: pairs of segments, worlds of noisy labels, and what is learned in them."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import spearmanr

from prefsim.losses import GaussianRewards, gaussian_bradley_terry
from prefsim.papers import Run
from prefsim.raters import partial_return_preference
from prefsim.raters.logistic_normal import logistic_normal_preference
from prefsim.solvers.likelihood.linear_reward import fit_linear_reward
from prefsim.solvers.likelihood.reward_heads import fit_reward_heads

SEGMENTS, STEPS, FEATURES, FRESH = 30, 5, 6, 200
FIRST, SECOND = np.triu_indices(SEGMENTS, 1)
FLIPS = (0.0, 0.1, 0.2, 0.3, 0.4)
# Where labels are noisy, or the reward is not of the form that is fitted.
ELSEWHERE = (
    "rater's noise\ngrows with a feature",
    "labels at random\nwhere a feature is large",
    "reward not linear",
)
RIDGE = 1e-3
# Log-deviations start where five steps of two segments make a narrow law.
START = -1.25

ROBUST = functools.partial(gaussian_bradley_terry, mean_weight=0.0)
"""Robust reward learning: the expected loss and the floor on the entropy."""
MARGINAL = functools.partial(gaussian_bradley_terry, mean_weight=0.0, form="marginal")
"""The same rewards by the likelihood of a rater whose log-odds are drawn for each comparison."""
PLAIN = functools.partial(gaussian_bradley_terry, spread_weight=0.0, entropy_weight=0.0)
"""Bradley–Terry on the means."""


def pair_of(
    seed: int, mean: float, deviations: np.ndarray, draws: int | None = None
) -> GaussianRewards[np.ndarray]:
    """Return a pair of one mean lead for each row of deviations, of half as many steps a segment.

    Parameters
    ----------
    seed
        Of the means of the steps, and of the draws.
    mean
        By how much the chosen segment is ahead.
    deviations
        Of the steps of both segments, ``(n, 2 T)``.
    draws
        How many errors each step comes with; none unless given.
    """
    rng = np.random.default_rng(seed)
    rows, steps = deviations.shape[0], deviations.shape[1] // 2
    means = rng.standard_normal((2, steps))
    means[0, 0] += mean - (means[0].sum() - means[1].sum())
    logs = np.log(deviations)
    mask = np.ones((rows, steps), dtype=bool)
    won, lost = (np.broadcast_to(each, (rows, steps)) for each in means)
    pairs = GaussianRewards(won, lost, logs[:, :steps], logs[:, steps:], mask, mask)
    if draws is None:
        return pairs
    chosen, rejected = rng.standard_normal((2, rows, draws, steps))
    return pairs._replace(chosen_noise=chosen, rejected_noise=rejected)


def softplus_by_panels(mean: float, deviation: float) -> float:
    """Return the mean of log(1 + e^x) under a normal law, by many panels of equal width."""
    error = np.linspace(-12.0, 12.0, 4801)
    density = np.exp(-0.5 * error**2) / np.sqrt(2 * np.pi)
    return float(np.sum(np.logaddexp(0.0, mean + deviation * error) * density) * 0.005)


class World(NamedTuple):
    """Segments with labels, and fresh ones with their true returns.

    Attributes
    ----------
    steps
        Features ``(K, T, F)``.
    first_wins
        Labels of all pairs, 1 or 0, ``(n,)``.
    fresh
        Features summed over the steps of fresh segments, ``(200, F)``.
    returns
        What these truly pay, ``(200,)``.
    """

    steps: np.ndarray
    first_wins: np.ndarray
    fresh: np.ndarray
    returns: np.ndarray


def world(seed: int, flip_rate: float = 0.0, kind: str = "") -> World:
    """Return segments of which all pairs are labelled, by a rater of one kind.

    Parameters
    ----------
    seed
        Of all that is drawn: worlds of one seed differ by their labels alone.
    flip_rate
        Of all labels.
    kind
        One of :data:`ELSEWHERE`, or a rater of Bradley–Terry with a linear reward.
    """
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal((SEGMENTS, STEPS, FEATURES))
    fresh = rng.standard_normal((FRESH, STEPS, FEATURES))
    weights, way = rng.standard_normal((2, FEATURES))
    way = way / np.linalg.norm(way)

    def paid(features: np.ndarray) -> np.ndarray:
        each = features @ weights
        if kind == ELSEWHERE[2]:
            each = each + features[..., 0] * features[..., 1] + features[..., 2] ** 2
        return each.sum(axis=-1)

    returns = paid(steps)
    ahead = returns[FIRST] - returns[SECOND]
    prob = partial_return_preference(returns[FIRST], returns[SECOND])
    if kind == ELSEWHERE[0]:
        # In the direction of the first feature, which also pays.
        variance = np.exp(3 * steps[..., 0]).sum(axis=-1)
        prob = logistic_normal_preference(ahead, np.sqrt(variance[FIRST] + variance[SECOND]))
    if kind == ELSEWHERE[1]:
        along = (steps @ way).sum(axis=-1)
        there = np.maximum(along[FIRST], along[SECOND]) > np.quantile(along, 0.6)
        prob = np.where(there, 0.5, prob)
    label = rng.random(ahead.size) < prob
    flipped = rng.random(ahead.size) < flip_rate
    return World(steps, (label != flipped) * 1.0, fresh.sum(axis=1), paid(fresh))


def learned_weights(worlds: list[World], loss: Any = None) -> np.ndarray:
    """Return the weights of linear rewards, one row for each world.

    Parameters
    ----------
    worlds
        Learned from all at once.
    loss
        Of :class:`prefsim.losses.GaussianRewards`; Bradley–Terry unless given.
    """
    steps, wins = (np.stack(part) for part in list(zip(*worlds, strict=True))[:2])
    if loss is None:
        total = steps.sum(axis=2)
        signs = (2 * wins - 1)[..., None]
        differences = signs * (total[:, FIRST] - total[:, SECOND])
        return fit_linear_reward(differences, ridge=RIDGE).weights
    networks = len(worlds)
    start = [np.zeros((networks, FEATURES, 2)), np.tile([0.0, START], (networks, 1, 1))]
    pairs = np.stack([FIRST, SECOND], axis=-1)
    found = fit_reward_heads(start, steps, pairs, wins, loss=loss, ridge=RIDGE, max_iterations=30)
    return np.asarray(found.layers[0][..., 0])


def rank_correlations(worlds: list[World], loss: Any = None) -> np.ndarray:
    """Return how well what :func:`learned_weights` finds ranks fresh segments, for each world."""
    weights = learned_weights(worlds, loss)
    return np.array(
        [
            spearmanr(each.fresh @ learned, each.returns).statistic
            for each, learned in zip(worlds, weights, strict=True)
        ]
    )


class Spreads(NamedTuple):
    """Rank correlations ``(seeds,)`` with the true return, of each world by its name.

    Attributes
    ----------
    plain, robust, marginal
        Of Bradley–Terry, of robust reward learning, and of the likelihood of a noisy rater.
    at_the_mean
        How far the weights of the loss at the mean are from those of Bradley–Terry, over the length
        of the latter, ``(seeds,)``, where a fifth of the labels are flipped.
    """

    plain: dict[str, np.ndarray]
    robust: dict[str, np.ndarray]
    marginal: dict[str, np.ndarray]
    at_the_mean: np.ndarray


def compare_spreads(run: Run) -> Spreads:
    """Return what three losses learn in worlds with flips, and with noise or rewards elsewhere."""
    seeds, others = (2, 6) if run.quick else (10, 20)
    rates = FLIPS[::2] if run.quick else FLIPS
    kinds = ELSEWHERE[1:2] if run.quick else ELSEWHERE
    worlds = {
        name_of(rate): [world(seeds * run.seed + s, rate) for s in range(seeds)] for rate in rates
    } | {kind: [world(others * run.seed + s, kind=kind) for s in range(others)] for kind in kinds}
    losses = {"plain": None, "robust": ROBUST, "marginal": MARGINAL}
    found: dict[str, dict[str, np.ndarray]] = {name: {} for name in losses}
    for world_name in run.progress(list(worlds), "worlds"):
        for name, loss in losses.items():
            if name != "marginal" or world_name in ELSEWHERE:
                found[name][world_name] = rank_correlations(worlds[world_name], loss)
    some = worlds[name_of(0.2)]
    expected = learned_weights(some)
    off = np.linalg.norm(learned_weights(some, PLAIN) - expected, axis=-1)
    return Spreads(**found, at_the_mean=off / np.linalg.norm(expected, axis=-1))


def name_of(rate: float) -> str:
    return f"{rate:.0%} flipped"
