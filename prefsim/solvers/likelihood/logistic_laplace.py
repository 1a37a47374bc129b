"""Logistic regression under a Gaussian prior: the Gaussian that touches its posterior at the mode.

Where tasks come one after another, what one leaves is the prior of the next.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim.checks import (
    as_float_array,
    check_broadcast,
    check_integer,
    check_positive,
    check_shape,
)
from prefsim.solvers.likelihood.sparse_logistic import LogisticChoices
from prefsim.solvers.results import warn_caller

__all__ = ["LogisticLaplace", "logistic_laplace"]

# Halvings of a step that would not descend: after so many it moves nothing in float64.
HALVINGS = 40
# Beyond the tolerance: they double the digits, and these reach rounding.
POLISHING_STEPS = 2


class LogisticLaplace(NamedTuple):
    r"""A Gaussian with independent weights in the place of the posterior.

    Attributes
    ----------
    mean
        The mode of the posterior, ``(..., p)``, in log-odds.
    deviation
        :math:`1/\sqrt{H_{kk}}`, ``(..., p)``, with the curvature H of the posterior there.
    residual
        Largest entry of the gradient at the mode, times its deviation: ``(...,)``, 0 at the mode.
    """

    mean: np.ndarray
    deviation: np.ndarray
    residual: np.ndarray


def logistic_laplace(
    features: Any,
    prob: Any,
    *,
    mean: Any,
    deviation: Any,
    weight: Any = None,
    tolerance: float = 1e-10,
    max_iterations: int = 100,
) -> LogisticLaplace:
    r"""Return the diagonal Laplace approximation of a logistic regression.

    .. math:: \min_\theta\ \sum_i w_i\,\big(\log(1 + e^{z_i}) - p_i z_i\big)
        + \sum_k \frac{(\theta_k - \mu_k)^2}{2 s_k^2},\qquad z_i = \theta\cdot x_i

    by Newton's steps, shortened where they would not descend. With the Hessian H at the minimum the
    Gaussian has the precisions :math:`H_{kk}`: of all with independent weights it is the nearest to
    :math:`N(\theta, H^{-1})` in KL(own‖other), as the one that variational inference finds.

    Parameters
    ----------
    features
        Inputs, ``(..., n, p)``. Leading axes are separate fits.
    prob
        Labels, or shares of positive ones, in [0, 1], ``(..., n)``.
    mean, deviation
        Of the prior of every weight, ``(..., p)`` each, the deviations > 0; a number for all.
    weight
        How often a row counts, >= 0, ``(..., n)``; once unless given.
    tolerance
        Largest residual.
    max_iterations
        Largest number of steps.

    Returns
    -------
    LogisticLaplace

    Raises
    ------
    ValueError
        If shapes do not fit, or a number is out of range.

    Warns
    -----
    ConvergenceWarning
        If the residual is above the tolerance.

    References
    ----------
    MacKay 1992, "The evidence framework applied to classification networks".

    Examples
    --------
    >>> found = logistic_laplace([[1.0], [1.0], [1.0]], [1, 1, 0], mean=0.0, deviation=1.0)
    >>> found.mean.round(6), found.deviation.round(6)
    (array([0.286548]), array([0.759231]))
    """
    check_integer(low=1, max_iterations=max_iterations)
    check_positive(tolerance=tolerance)
    choices = LogisticChoices.checked(features, prob, weight)
    p = choices.features.shape[-1]
    centre, spread = _prior(mean, "mean", p), _prior(deviation, "deviation", p)
    if (spread <= 0).any():
        raise ValueError(f"deviation must be > 0, got {spread.min()}")
    check_broadcast(features=choices.features[..., 0, :], mean=centre, deviation=spread)
    batch = np.broadcast_shapes(
        choices.features.shape[:-2],
        choices.prob.shape[:-1],
        choices.weight.shape[:-1],
        centre.shape[:-1],
        spread.shape[:-1],
    )
    precision, rows = 1 / spread**2, _with_axis(choices)

    def value(theta: np.ndarray) -> np.ndarray:
        pull = 0.5 * (precision * (theta - centre) ** 2).sum(axis=-1)
        return np.asarray(rows.loss(theta[..., None, :])[..., 0] + pull)

    theta = np.array(np.broadcast_to(centre, (*batch, p)))
    reached = 0
    for _ in range(max_iterations):
        gradient, hessian = _derivatives(rows, theta, centre, precision)
        residual = _residual(gradient, hessian)
        reached = reached + 1 if residual.max() <= tolerance else 0
        if reached > POLISHING_STEPS:
            break
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        theta = theta - _length(value, theta, step)[..., None] * step
    gradient, hessian = _derivatives(rows, theta, centre, precision)
    residual = _residual(gradient, hessian)
    if residual.max() > tolerance:
        warn_caller(f"the residual is {residual.max():.3g} after {max_iterations} steps")
    return LogisticLaplace(theta, 1 / np.sqrt(_diagonal(hessian)), residual)


def _prior(value: Any, name: str, p: int) -> np.ndarray:
    given = as_float_array(value, name)
    if given.ndim == 0:
        return np.full(p, float(given))
    check_shape(given, name, (p,))
    return given


def _with_axis(choices: LogisticChoices) -> LogisticChoices:
    """Return choices with an axis of one point before those of rows, as their methods take it."""
    return LogisticChoices(
        choices.features[..., None, :, :],
        choices.prob[..., None, :],
        choices.weight[..., None, :],
    )


def _derivatives(
    choices: LogisticChoices, theta: np.ndarray, centre: np.ndarray, precision: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    at = theta[..., None, :]
    gradient = choices.gradient(at)[..., 0, :] + precision * (theta - centre)
    hessian = choices.hessian(at)[..., 0, :, :]
    return gradient, hessian + precision[..., None] * np.eye(theta.shape[-1])


def _diagonal(hessian: np.ndarray) -> np.ndarray:
    return np.diagonal(hessian, axis1=-2, axis2=-1)


def _residual(gradient: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(gradient / np.sqrt(_diagonal(hessian))).max(axis=-1))


def _length(value: Any, theta: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Return the share of each step that is taken: halved until it does not ascend."""
    before = value(theta)
    # Near the minimum differences of values are rounding.
    slack = 1e-12 * (1 + np.abs(before))
    length = np.ones(before.shape)
    for _ in range(HALVINGS):
        ascends = value(theta - length[..., None] * step) > before + slack
        if not ascends.any():
            break
        length = np.where(ascends, 0.5 * length, length)
    return length
