r"""Posteriors of parameters: on a grid of points, and of Gaussians with independent coordinates.

A mixture of priors becomes the mixture of their posteriors, whose weights have moved by how well
each prior had said what was seen. Everything broadcasts over leading axes, and on torch it carries
its graph.
"""

from __future__ import annotations

import math
from typing import Any, Generic, NamedTuple

from prefsim.checks import (
    as_floats,
    as_log_policies,
    check_broadcast,
    check_number,
    check_policy,
    check_positive,
    check_shape,
)
from prefsim.checks.values import check_entries
from prefsim.numerics import array_namespace, logsumexp
from prefsim.typing import Array, ArrayT

__all__ = [
    "DiagonalGaussian",
    "GridPosterior",
    "gaussian_posterior",
    "grid_posterior",
    "mixture_log_prob",
    "mixture_moments",
    "posterior_weights",
]


class GridPosterior(NamedTuple, Generic[ArrayT]):
    """Posterior probabilities of the points of a grid, and how well the prior had said the data.

    Attributes
    ----------
    log_prob
        Log-probabilities of the points, ``(..., G)`` nats.
    log_evidence
        Logarithm of the probability of the data under the prior, ``(...,)`` nats.
    """

    log_prob: ArrayT
    log_evidence: ArrayT


class DiagonalGaussian(NamedTuple, Generic[ArrayT]):
    """Independent normal coordinates: means and standard deviations, ``(..., d)`` each."""

    mean: ArrayT
    deviation: ArrayT


def grid_posterior(log_prior: ArrayT, log_likelihood: Array) -> GridPosterior[Any]:
    r"""Return Bayes' rule on a grid: :math:`q(\theta)\propto p(\theta)\,L(\theta)`.

    Parameters
    ----------
    log_prior
        Log-probabilities of the points, ``(..., G)`` nats; ``-inf`` is probability zero.
    log_likelihood
        Of the data at each point, ``(..., G)`` nats, below infinity.

    Returns
    -------
    GridPosterior

    Raises
    ------
    ValueError
        If shapes do not fit, a row of the prior does not sum to one, or no point with prior
        probability can have led to the data.

    Examples
    --------
    >>> import numpy as np
    >>> found = grid_posterior(np.log([0.5, 0.5]), np.log([0.9, 0.1]))
    >>> np.exp(found.log_prob).round(12), np.exp(found.log_evidence).round(12)
    (array([0.9, 0.1]), np.float64(0.5))
    """
    log_prior, log_likelihood = as_floats(log_prior=log_prior, log_likelihood=log_likelihood)
    as_log_policies(log_prior=log_prior)
    check_shape(log_likelihood, "log_likelihood", (log_prior.shape[-1],))
    check_broadcast(log_prior=log_prior, log_likelihood=log_likelihood)
    check_entries(log_likelihood, "log_likelihood", "be below infinity", lambda x: x < math.inf)
    joint = log_prior + log_likelihood
    evidence = logsumexp(joint, keepdims=True)
    check_entries(
        evidence,
        "log_likelihood",
        "be above -inf at a point that has prior probability",
        lambda x: x > -math.inf,
    )
    return GridPosterior(joint - evidence, evidence[..., 0])


def mixture_log_prob(log_prob: ArrayT, weight: Array) -> ArrayT:
    r"""Return the logarithm of a mixture, :math:`\log\sum_j w_j\,q_j`.

    Parameters
    ----------
    log_prob
        Log-probabilities (or log-densities) of n components, ``(..., n, G)`` nats.
    weight
        Weights of the components, ``(..., n)``, which sum to one.

    Returns
    -------
    Array ``(..., G)`` in nats.

    Raises
    ------
    ValueError
        If shapes do not fit, or the weights are no distribution.

    Examples
    --------
    >>> import numpy as np
    >>> components = np.log([[0.9, 0.1], [0.5, 0.5]])
    >>> np.exp(mixture_log_prob(components, np.asarray([0.25, 0.75]))).round(12)
    array([0.6, 0.4])
    """
    log_prob, weight = as_floats(log_prob=log_prob, weight=weight)
    check_shape(log_prob, "log_prob", (None, None))
    _check_weights(weight, log_prob.shape[-2])
    check_broadcast(log_prob=log_prob[..., 0], weight=weight)
    check_entries(log_prob, "log_prob", "be below infinity", lambda x: x < math.inf)
    return logsumexp(log_prob + _log(weight)[..., None], axis=-2)


def posterior_weights(weight: ArrayT, log_evidence: Array) -> ArrayT:
    r"""Return the weights of posteriors in the posterior of a mixture of priors.

    .. math:: w'_j = \frac{w_j\,m_j}{\sum_l w_l\,m_l}

    with the evidence m of each component: the posterior of :math:`\sum_j w_j q_j` is
    :math:`\sum_j w'_j q'_j`. So updating the components updates all of their mixtures.

    Parameters
    ----------
    weight
        Weights of the priors, ``(..., n)``, which sum to one.
    log_evidence
        Of the data under each prior, ``(..., n)`` nats.

    Returns
    -------
    Array ``(..., n)``, weights that sum to one.

    Raises
    ------
    ValueError
        If shapes do not fit, the weights are no distribution, or no component with weight can have
        led to the data.

    Examples
    --------
    >>> import numpy as np
    >>> posterior_weights(np.asarray([0.5, 0.5]), np.log([0.03, 0.01])).round(12)
    array([0.75, 0.25])
    """
    weight, log_evidence = as_floats(weight=weight, log_evidence=log_evidence)
    check_shape(log_evidence, "log_evidence", (None,))
    _check_weights(weight, log_evidence.shape[-1])
    check_broadcast(weight=weight, log_evidence=log_evidence)
    check_entries(log_evidence, "log_evidence", "be below infinity", lambda x: x < math.inf)
    joint = _log(weight) + log_evidence
    total = logsumexp(joint, keepdims=True)
    check_entries(
        total, "log_evidence", "be above -inf where there is weight", lambda x: x > -math.inf
    )
    return array_namespace(joint).exp(joint - total)


def gaussian_posterior(
    mean: ArrayT, deviation: Array, observations: Array, *, noise: float = 1.0
) -> DiagonalGaussian[Any]:
    r"""Return the posterior of a normal mean under a normal prior, coordinate by coordinate.

    Of :math:`y_i\sim N(\theta, \sigma^2 I)` and :math:`\theta\sim N(\mu, \mathrm{diag}(s^2))`:

    .. math:: s'^{-2} = s^{-2} + n\sigma^{-2},\qquad
        \mu' = s'^2\Big(s^{-2}\mu + \sigma^{-2}\sum_i y_i\Big)

    Parameters
    ----------
    mean, deviation
        Of the prior, ``(..., d)`` each, the deviations > 0.
    observations
        y, ``(..., n, d)`` with n >= 1; leading axes are separate data.
    noise
        Standard deviation σ > 0 of an observation.

    Returns
    -------
    DiagonalGaussian

    Raises
    ------
    ValueError
        If shapes do not fit, or a number is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> found = gaussian_posterior([0.0], [1.0], np.asarray([[0.8], [1.2], [1.0]]))
    >>> found.mean.round(12), (found.deviation**2).round(12)
    (array([0.75]), array([0.25]))
    """
    check_positive(noise=noise)
    mean, deviation, observations = as_floats(
        mean=mean, deviation=deviation, observations=observations
    )
    _check_gaussian(mean, deviation)
    check_shape(observations, "observations", (None, mean.shape[-1]))
    n = observations.shape[-2]
    if n == 0:
        raise ValueError("observations must hold at least one row, got none")
    check_number(arrays=True, observations=observations)
    check_broadcast(mean=mean, deviation=deviation, observations=observations[..., 0, :])
    xp = array_namespace(mean)
    prior_precision = 1 / deviation**2
    precision = prior_precision + n / noise**2
    total = xp.sum(observations, axis=-2) / noise**2
    posterior_mean = (prior_precision * mean + total) / precision
    # An array of the same shape, whatever came in with fewer axes.
    return DiagonalGaussian(posterior_mean, 0 * posterior_mean + 1 / xp.sqrt(precision))


def mixture_moments(mean: ArrayT, deviation: Array, weight: Array) -> DiagonalGaussian[Any]:
    r"""Return mean and standard deviation of each coordinate of a mixture of diagonal Gaussians.

    .. math:: \bar\mu = \sum_j w_j\mu_j,\qquad
        \bar s^2 = \sum_j w_j\big(s_j^2 + (\mu_j - \bar\mu)^2\big)

    Parameters
    ----------
    mean, deviation
        Of the n components, ``(..., n, d)`` each, the deviations > 0.
    weight
        Of the components, ``(..., n)``, which sum to one.

    Returns
    -------
    DiagonalGaussian
        The Gaussian with these moments, which the mixture itself is not.

    Raises
    ------
    ValueError
        If shapes do not fit, a deviation is not positive, or the weights are no distribution.

    Examples
    --------
    >>> import numpy as np
    >>> found = mixture_moments([[-1.0], [1.0]], [[1.0], [1.0]], np.asarray([0.5, 0.5]))
    >>> found.mean, (found.deviation**2).round(12)
    (array([0.]), array([2.]))
    """
    mean, deviation, weight = as_floats(mean=mean, deviation=deviation, weight=weight)
    check_components(mean, deviation, weight)
    xp = array_namespace(mean)
    each = weight[..., None]
    centre = xp.sum(each * mean, axis=-2)
    spread = deviation**2 + (mean - centre[..., None, :]) ** 2
    return DiagonalGaussian(centre, xp.sqrt(xp.sum(each * spread, axis=-2)))


# --- checks ---


def check_components(mean: Any, deviation: Any, weight: Any) -> None:
    """Raise unless there are means and deviations ``(..., n, d)`` with weights ``(..., n)``."""
    check_shape(mean, "mean", (None, None))
    _check_gaussian(mean, deviation, axes=2)
    _check_weights(weight, mean.shape[-2])
    check_broadcast(mean=mean[..., 0], deviation=deviation[..., 0], weight=weight)


def _check_gaussian(mean: Any, deviation: Any, axes: int = 1) -> None:
    check_shape(mean, "mean", (None,) * axes)
    check_shape(deviation, "deviation", tuple(mean.shape[-axes:]))
    if math.prod(mean.shape[-axes:]) == 0:
        raise ValueError(f"mean must hold at least one entry, got shape {tuple(mean.shape)}")
    check_number(arrays=True, mean=mean)
    check_positive(arrays=True, deviation=deviation)
    check_broadcast(mean=mean, deviation=deviation)


def _check_weights(weight: Any, n: int) -> None:
    check_shape(weight, "weight", (n,))
    check_policy(weight, "weight")


def _log(weight: Any) -> Any:
    """Return the logarithms of weights, -inf of those that are zero."""
    xp = array_namespace(weight)
    some = weight > 0
    logs = xp.log(xp.where(some, weight, xp.ones_like(weight)))
    return xp.where(some, logs, xp.full_like(weight, -math.inf))
