"""Logistic regression of choices under a Laplace prior: the whole posterior of its weights.

With one or two weights it is integrated by quadrature, to rounding. With more it is integrated over
quasi-random draws that carry the ratio of the posterior to the law that they are drawn from, and
the result says how far it is from exact.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from prefsim.backend import Seed, random_generator
from prefsim.checks import (
    as_float_array,
    check_integer,
    check_interval,
    check_positive,
    check_shape,
)
from prefsim.numerics import logsumexp
from prefsim.solvers.likelihood.sparse_logistic import LogisticChoices, fit_sparse_logistic
from prefsim.solvers.results import warn_caller

__all__ = ["LogisticPosterior", "logistic_posterior"]

# Nats below the highest density: what lies farther out is below rounding.
NEGLIGIBLE = 45.0
# Nodes of a panel, which is at most so many times as wide as the likelihood can make the density
# deviate with all other weights held, and at most a quarter of its piece.
NODES, WIDEST, FEWEST_PANELS = 16, 3.0, 4
# Rounds in which the law of the draws is moved to the mean and covariance of the last ones, and how
# many effective draws a weight that is moved to must rest on: flatter ratios stand in until then.
ADAPTATIONS, EFFECTIVE_A_WEIGHT = 6, 20
# Independent scramblings of the draws, whose scatter is the error.
SCRAMBLINGS = 8
# Of Student's t: its tails are heavier than any log-concave density's.
DEGREES = 20.0
# Below this share of effective draws neither the mean nor its error can be trusted.
FEWEST_EFFECTIVE = 0.02
# Numbers in one block of logits.
BLOCK = 2**22


class LogisticPosterior(NamedTuple):
    """A posterior as points with weights, over which every expectation is a sum.

    Attributes
    ----------
    nodes
        Weights of properties, ``(m, p)``, in log-odds.
    weight
        Probabilities of the nodes, ``(m,)``.
    log_evidence
        Logarithm of the probability of the data, nats.
    error
        Standard error of each mean, ``(p,)``; 0 where the nodes are of quadrature.
    effective
        Share of draws that as many of the posterior itself would be worth, in (0, 1]; 1 for
        quadrature.
    """

    nodes: np.ndarray
    weight: np.ndarray
    log_evidence: float
    error: np.ndarray
    effective: float

    @property
    def mean(self) -> np.ndarray:
        """The posterior means, ``(p,)``: what the paper calls the preference of a judge."""
        return np.asarray(self.weight @ self.nodes)

    @property
    def deviation(self) -> np.ndarray:
        """The posterior standard deviations, ``(p,)``."""
        return np.asarray(np.sqrt(self.weight @ (self.nodes - self.mean) ** 2))

    def of(self, contrasts: Any) -> LogisticPosterior:
        """Return the posterior of sums of the weights.

        Parameters
        ----------
        contrasts
            Coefficients of q sums, ``(q, p)``.

        Raises
        ------
        ValueError
            If the shape does not fit, or a coefficient is not finite.
        """
        table = as_float_array(contrasts, "contrasts", ndim=2)
        check_shape(table, "contrasts", (self.nodes.shape[1],))
        # At most: the errors of two weights may add up.
        return self._replace(nodes=self.nodes @ table.T, error=np.abs(table) @ self.error)

    def quantile(self, level: float) -> np.ndarray:
        """Return the points ``(p,)`` below which so much of the posterior of each weight lies.

        Raises
        ------
        ValueError
            If ``level`` is not in (0, 1).
        """
        check_interval(level=level, low=0.0, high=1.0, closed="neither")
        found = np.empty(self.nodes.shape[1])
        for k, at in enumerate(self.nodes.T):
            order = np.argsort(at)
            # Half of a node's own probability lies below it.
            below = np.cumsum(self.weight[order]) - 0.5 * self.weight[order]
            found[k] = np.interp(level, below, at[order])
        return found

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends, ``(p,)`` each, between which so much of each weight lies."""
        check_interval(level=level, low=0.0, high=1.0, closed="neither")
        return self.quantile(0.5 - level / 2), self.quantile(0.5 + level / 2)


def logistic_posterior(
    features: Any,
    prob: Any,
    *,
    scale: float = 0.1,
    weight: Any = None,
    draws: int = 2**13,
    seed: Seed = 0,
) -> LogisticPosterior:
    r"""Return the posterior of what a judge looks at.

    .. math:: p(\alpha\mid D)\ \propto\ \prod_i \sigma(z_i)^{w_i p_i}\,\sigma(-z_i)^{w_i (1 - p_i)}
        \ \prod_k \frac{1}{2b}\,e^{-|\alpha_k|/b},\qquad z_i = \alpha\cdot x_i

    There is no intercept: swapping the two responses of any pair changes nothing. Its means are
    never exactly zero, unlike its mode (:func:`.fit_sparse_logistic`).

    Parameters
    ----------
    features
        How the first response of each pair differs from the second, ``(n, p)``. One or two columns
        are integrated by quadrature.
    prob
        Share of judgements for the first response, in [0, 1], ``(n,)``.
    scale
        b > 0 of the Laplace prior. It is a strong one at 0.1: compare judges at equal n only.
    weight
        How often a row counts, >= 0, ``(n,)``; once unless given.
    draws
        Number of draws where p > 2, at least 64; rounded up to a power of two.
    seed
        Of the draws.

    Returns
    -------
    LogisticPosterior

    Raises
    ------
    ValueError
        If shapes do not fit, or a number is out of range.

    Warns
    -----
    ConvergenceWarning
        If the draws are worth less than a fiftieth of draws from the posterior itself.

    References
    ----------
    Li et al. 2024, section on Bayesian logistic regression, arXiv:2402.11296 (there by NUTS).
    Cappé et al. 2008, "Adaptive importance sampling in general mixture classes".

    Examples
    --------
    >>> has = np.asarray([[1.0], [1.0], [1.0], [-1.0], [0.0], [1.0]])
    >>> found = logistic_posterior(has, [1, 1, 0, 0, 1, 1])
    >>> found.mean.round(10), found.deviation.round(10)
    (array([0.02886]), array([0.14142718]))
    """
    check_positive(scale=scale)
    check_integer(low=64, draws=draws)
    choices = LogisticChoices.checked(features, prob, weight)
    if choices.features.ndim != 2 or choices.prob.ndim != 1 or choices.weight.ndim != 1:
        raise ValueError(
            "features, prob and weight must be those of one fit, (n, p), (n,) and (n,), got"
            f" {choices.features.shape}, {choices.prob.shape} and {choices.weight.shape}"
        )
    choices = _distinct(choices)
    mode = fit_sparse_logistic(
        choices.features, choices.prob, scale=scale, weight=choices.weight
    ).weights
    p = mode.size

    def log_density(alpha: np.ndarray) -> np.ndarray:
        """Return the logarithm of likelihood times prior at points ``(m, p)``."""
        rows = max(1, BLOCK // len(choices.features))
        blocks = [alpha[i : i + rows] for i in range(0, len(alpha), rows)]
        likelihood = -np.concatenate([choices.loss(block) for block in blocks])
        return np.asarray(likelihood - np.abs(alpha).sum(axis=-1) / scale - p * math.log(2 * scale))

    if p <= 2:
        curvature = 0.25 * choices.weight @ choices.features**2
        return _by_quadrature(log_density, mode, 1 / np.sqrt(curvature + 1 / scale**2))
    # What the data leave open the prior decides: its variance is 2b².
    covariance = np.linalg.inv(choices.hessian(mode) + np.eye(p) / (2 * scale**2))
    found = _by_draws(log_density, mode, covariance, draws, random_generator(seed))
    if found.effective < FEWEST_EFFECTIVE:
        warn_caller(
            f"the {len(found.weight)} draws are worth {found.effective:.2%} of draws from the"
            " posterior itself: ask for more, or for fewer weights"
        )
    return found


def _distinct(choices: LogisticChoices) -> LogisticChoices:
    """Return the same likelihood with a row for every distinct difference of properties."""
    x, y, w = choices
    # Which response comes first is a convention: the first entry that is not zero is positive.
    leading = np.take_along_axis(x, np.argmax(x != 0, axis=-1)[:, None], axis=-1)[:, 0]
    turned = leading < 0
    x, y = np.where(turned[:, None], -x, x), np.where(turned, 1 - y, y)
    rows, where = np.unique(x, axis=0, return_inverse=True)
    total = np.bincount(where.ravel(), w, len(rows))
    for_first = np.bincount(where.ravel(), w * y, len(rows))
    share = np.divide(for_first, total, out=np.full(len(rows), 0.5), where=total > 0)
    return LogisticChoices(rows, share.clip(0.0, 1.0), total)


# --- one or two weights ---

LogDensity = Callable[[np.ndarray], np.ndarray]


def _by_quadrature(
    log_density: LogDensity, mode: np.ndarray, narrowest: np.ndarray
) -> LogisticPosterior:
    """Integrate over a box outside of which the density is negligible, panel by panel."""
    low, high = _box(log_density, mode, narrowest)
    axes = [_rule(*each) for each in zip(low, mode, high, narrowest, strict=True)]
    points = np.stack(np.meshgrid(*(at for at, _ in axes), indexing="ij"), axis=-1)
    points = points.reshape(-1, mode.size)
    log_widths = np.meshgrid(*(np.log(width) for _, width in axes), indexing="ij")
    log_mass = log_density(points) + np.sum(log_widths, axis=0).ravel()
    log_evidence = float(logsumexp(log_mass))
    weight = np.exp(log_mass - log_evidence)
    return LogisticPosterior(points, weight, log_evidence, np.zeros(mode.size), 1.0)


def _box(
    log_density: LogDensity, mode: np.ndarray, narrowest: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return a box on whose faces the density is negligible.

    It is log-concave, so that outside of the box it falls on at that rate or faster.
    """
    highest = float(log_density(mode[None])[0])
    half = np.tile(8 * narrowest, (2, 1))  # below the mode, and above it
    while True:
        low, high = mode - half[0], mode + half[1]
        within = np.linspace(low, high, 129)
        is_open = np.zeros(half.shape, dtype=bool)
        for side, ends in enumerate((low, high)):
            for k, end in enumerate(ends):
                face = within.copy()
                face[:, k] = end
                is_open[side, k] = log_density(face).max() > highest - NEGLIGIBLE
        if not is_open.any():
            return low, high
        half = np.where(is_open, 1.5 * half, half)


def _rule(low: float, mode: float, high: float, narrowest: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the nodes and widths of Gauss–Legendre panels that meet at the kink of the prior."""
    at, width = np.polynomial.legendre.leggauss(NODES)
    cuts = np.unique(np.clip([low, 0.0, mode, high], low, high))
    edges = []
    for begin, end in itertools.pairwise(cuts):
        count = max(FEWEST_PANELS, math.ceil((end - begin) / (WIDEST * narrowest)))
        edges.append(np.linspace(begin, end, count + 1))
    begin, end = (np.concatenate([e[side] for e in edges]) for side in (np.s_[:-1], np.s_[1:]))
    half = 0.5 * (end - begin)[:, None]
    return (begin[:, None] + half * (1 + at)).ravel(), (half * width).ravel()


# --- more weights ---


def _by_draws(
    log_density: LogDensity,
    centre: np.ndarray,
    covariance: np.ndarray,
    draws: int,
    rng: np.random.Generator,
) -> LogisticPosterior:
    """Integrate over draws of a Student law that has moved to where the posterior is."""
    each = 2 ** max(3, math.ceil(math.log2(draws / SCRAMBLINGS)))
    to_adapt = 2 ** math.ceil(math.log2(max(2 * each, 8 * EFFECTIVE_A_WEIGHT * centre.size)))
    for _ in range(ADAPTATIONS):
        points, log_ratio = _weighted_draws(log_density, centre, covariance, to_adapt, rng)
        weight = _tempered(log_ratio, at_least=EFFECTIVE_A_WEIGHT * centre.size)
        centre = weight @ points
        covariance = (weight[:, None] * (points - centre)).T @ (points - centre)
    parts = [
        _weighted_draws(log_density, centre, covariance, each, rng) for _ in range(SCRAMBLINGS)
    ]
    points = np.concatenate([nodes for nodes, _ in parts])
    log_ratio = np.stack([ratio for _, ratio in parts])
    means = [np.exp(ratio - logsumexp(ratio)) @ nodes for nodes, ratio in parts]
    total = float(logsumexp(log_ratio.ravel()))
    weight = np.exp(log_ratio.ravel() - total)
    return LogisticPosterior(
        points,
        weight,
        total - math.log(weight.size),
        np.std(means, axis=0, ddof=1) / math.sqrt(SCRAMBLINGS),
        float(1 / (weight.size * (weight @ weight))),
    )


def _tempered(log_ratio: np.ndarray, *, at_least: float) -> np.ndarray:
    """Return weights by the largest power of a ratio that leaves so many effective draws."""
    power = 1.0
    while True:
        weight = np.exp(power * log_ratio - logsumexp(power * log_ratio))
        if weight @ weight <= 1 / at_least:
            return np.asarray(weight)
        power *= 0.8


def _weighted_draws(
    log_density: LogDensity,
    centre: np.ndarray,
    covariance: np.ndarray,
    draws: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return quasi-random draws ``(m, p)`` of a Student law, and their log-density over its own."""
    from scipy.special import gammaln, ndtri
    from scipy.stats import chi2, qmc

    p = centre.size
    uniform = qmc.Sobol(p + 1, rng=rng).random(draws).clip(1e-15, 1 - 1e-15)
    stretched = np.sqrt(DEGREES / chi2.ppf(uniform[:, 0], DEGREES))
    standard = stretched[:, None] * ndtri(uniform[:, 1:])
    # Of the law with this covariance, whose scale matrix is smaller.
    root = np.linalg.cholesky(covariance * (DEGREES - 2) / DEGREES)
    log_own = (
        gammaln((DEGREES + p) / 2)
        - gammaln(DEGREES / 2)
        - 0.5 * p * math.log(DEGREES * math.pi)
        - np.log(np.diagonal(root)).sum()
        - 0.5 * (DEGREES + p) * np.log1p((standard**2).sum(axis=-1) / DEGREES)
    )
    points = centre + standard @ root.T
    return points, log_density(points) - log_own
