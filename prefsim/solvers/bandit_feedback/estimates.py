r"""Estimates of all action values from the losses of one episode.

A layer has n pairs of a state and an action with features φ. The estimate of pair i takes the share
:math:`x_i = \phi_i^\top \hat\Sigma^\dagger \phi_j` of the loss L that followed the pair j that was
played (:func:`estimate_weights`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim._readable import readable
from prefsim.checks import alike, as_array, check_places, check_positive, check_shape, names_shapes
from prefsim.numerics import array_namespace, like, over_rows
from prefsim.solvers.bandit_feedback.covariance import check_square
from prefsim.typing import Array, ArrayT, Number

__all__ = [
    "EstimateMoments",
    "estimate_moments",
    "estimate_weights",
    "expected_negative_part",
    "magnitude_reduced",
    "reduced_estimate",
    "standard_estimate",
]


@names_shapes
def estimate_weights(features: ArrayT, inverse: Array) -> ArrayT:
    r"""Return :math:`x_{ij} = \phi_i^\top \hat\Sigma^\dagger \phi_j`, ``(..., n, n)``.

    The diagonal holds the squared norms :math:`\|\phi_i\|^2_{\hat\Sigma^\dagger}`.

    Parameters
    ----------
    features
        ``(..., n, d)``.
    inverse
        ``(..., d, d)``, of any kind in :mod:`prefsim.solvers.bandit_feedback.covariance`.

    Examples
    --------
    >>> estimate_weights(np.array([[1.0, 0.0], [0.5, 0.5]]), np.diag([2.0, 4.0]))
    array([[2. , 1. ],
           [1. , 1.5]])
    """
    features, inverse = alike(features=features, inverse=inverse)
    check_shape(features, "features", (None, None))
    check_shape(inverse, "inverse", (features.shape[-1], features.shape[-1]))
    xp = array_namespace(features, inverse)
    return xp.matmul(features, xp.matmul(inverse, xp.matrix_transpose(features)))


def _column(weights: Any, played: Any) -> Any:
    """Return the weights ``(..., n)`` of the pairs that were played ``(...,)``."""
    check_square(weights, "weights")
    xp = array_namespace(weights)
    n = weights.shape[-1]
    places = as_array(played, "played", "integral")
    check_places(places, "played", size=n)
    lead = np.broadcast_shapes(tuple(weights.shape[:-2]), tuple(places.shape))
    index = like(places, weights, integer=True)[..., None, None]
    columns = xp.take_along_axis(
        xp.broadcast_to(weights, (*lead, n, n)), xp.broadcast_to(index, (*lead, n, 1)), axis=-1
    )
    return columns[..., 0]


@names_shapes
def standard_estimate(weights: ArrayT, played: Array, loss: Array) -> ArrayT:
    r"""Return the estimate :math:`\hat Q_i = x_i L` of every pair, ``(..., n)``.

    Its mean is :math:`\phi_i^\top \hat\Sigma^\dagger \Sigma \theta` where
    :math:`E[L \mid j] = \phi_j^\top \theta`. It can be as low as :math:`-H / \gamma`.

    Parameters
    ----------
    weights
        ``(..., n, n)``, see :func:`estimate_weights`.
    played
        ``(...,)`` integers in [0, n): the pair that was played.
    loss
        ``(...,)``: L, the losses from this layer to the end, at most H.

    References
    ----------
    Dai, Luo, Wei and Zimmert 2023, arXiv:2301.12942, algorithm 1.

    Examples
    --------
    >>> weights = np.array([[2.0, -1.0], [-1.0, 1.5]])
    >>> standard_estimate(weights, np.array(1), np.array(2.0))
    array([-2.,  3.])
    """
    weights, loss = alike(weights=weights, loss=loss)
    return _column(weights, played) * loss[..., None]


@names_shapes
def expected_negative_part(weights: ArrayT, law: Array) -> ArrayT:
    r"""Return :math:`E_j (x_{ij})_-`, ``(..., n)``, with :math:`(z)_- = \min(z, 0)`.

    Parameters
    ----------
    weights
        ``(..., n, n)``.
    law
        ``(..., n)``: how often each pair is played.

    Examples
    --------
    >>> expected_negative_part(np.array([[2.0, -1.0], [-1.0, 1.5]]), np.array([0.25, 0.75]))
    array([-0.75, -0.25])
    """
    weights, law = alike(weights=weights, law=law)
    check_square(weights, "weights")
    check_shape(law, "law", (weights.shape[-1],))
    xp = array_namespace(weights, law)
    return xp.matmul(xp.clip(weights, None, 0.0), law[..., None])[..., 0]


@names_shapes
def reduced_estimate(
    weights: ArrayT, law: Array, played: Array, loss: Array, *, bound: Number
) -> ArrayT:
    r"""Return the magnitude-reduced estimate of every pair, ``(..., n)``.

    .. math:: \hat Q_i = x_i L - H (x_i)_- + H\, E_{j \sim law} (x_{ij})_-

    It has the mean of :func:`standard_estimate`, as the two last terms cancel on average. The two
    first add up to no less than 0 for every L in [0, H], so that it is at least the last, and

    .. math:: H\, E (x_i)_- \ge -\frac{H}{2\sqrt\gamma},

    as :math:`E x_i^2 = \phi_i^\top \hat\Sigma^\dagger \Sigma \hat\Sigma^\dagger \phi_i` is at most
    :math:`\max_\sigma \sigma / (\gamma + \sigma)^2`.

    Parameters
    ----------
    weights, played, loss
        As in :func:`standard_estimate`.
    law
        ``(..., n)``: how often the policy plays each pair.
    bound
        H, the largest L that there can be; a number, or an array that broadcasts with ``loss``.

    References
    ----------
    Dai, Luo, Wei and Zimmert 2023, arXiv:2301.12942, the magnitude-reduced estimator.

    Examples
    --------
    >>> weights, law = np.array([[2.0, -1.0], [-1.0, 1.5]]), np.array([0.25, 0.75])
    >>> reduced_estimate(weights, law, np.array(1), np.array(2.0), bound=2.0)
    array([-1.5,  2.5])
    """
    weights, law, loss = alike(weights=weights, law=law, loss=loss)
    check_positive(arrays=True, bound=bound)
    limit = bound if isinstance(bound, int | float) else over_rows(like(bound, loss))
    share = _column(weights, played)
    xp = array_namespace(weights, law, loss)
    suffered = loss[..., None]
    # Where the share is negative, the loss counts as what it falls short of the bound.
    met = share * xp.where(share < 0, suffered - limit, suffered + xp.zeros_like(share))
    return met + limit * expected_negative_part(weights, law)


@names_shapes
def magnitude_reduced(values: ArrayT, law: Array) -> ArrayT:
    r"""Return :math:`\hat Z = Z - (Z)_- + E (Z)_-` of a variable with finitely many values.

    It has the same mean, a variance that is not larger, and no value below :math:`E (Z)_-`.

    Parameters
    ----------
    values
        ``(..., m)``: the values of Z.
    law
        ``(..., m)``: their probabilities.

    Returns
    -------
    Array ``(..., m)``: the values of the reduced variable, of the same probabilities.

    References
    ----------
    Dai, Luo, Wei and Zimmert 2023, arXiv:2301.12942, the magnitude-reduced estimator.

    Examples
    --------
    >>> magnitude_reduced(np.array([-8.0, 2.0]), np.array([0.25, 0.75]))
    array([-2.,  0.])
    """
    values, law = alike(values=values, law=law)
    check_shape(values, "values", (None,))
    check_shape(law, "law", (values.shape[-1],))
    xp = array_namespace(values, law)
    below = xp.sum(law * xp.clip(values, None, 0.0), axis=-1, keepdims=True)
    return xp.clip(values, 0.0, None) + below


@readable
class EstimateMoments(NamedTuple):
    """Exact moments of estimates over all episodes.

    Attributes
    ----------
    mean, square
        ``(..., n)``: the mean, and that of the square.
    smallest
        ``(..., n)``: the least value that has a positive probability.
    """

    mean: Array
    square: Array
    smallest: Array


@names_shapes
def estimate_moments(estimates: Array, prob: Array) -> EstimateMoments:
    """Return the exact moments of estimates, from their values in every episode.

    Parameters
    ----------
    estimates
        ``(..., m, n)``: of n pairs, in each of m episodes.
    prob
        ``(..., m)``: the probabilities of the episodes.

    Examples
    --------
    >>> estimate_moments(np.array([[1.0], [-3.0]]), np.array([0.75, 0.25])).square
    array([3.])
    """
    estimates, prob = alike(estimates=estimates, prob=prob)
    check_shape(estimates, "estimates", (None, None))
    check_shape(prob, "prob", (estimates.shape[-2],))
    xp = array_namespace(estimates, prob)
    weight = prob[..., None, :]
    possible = prob[..., None] > 0
    smallest = xp.where(possible, estimates, xp.full_like(estimates, xp.inf))
    return EstimateMoments(
        xp.matmul(weight, estimates)[..., 0, :],
        xp.matmul(weight, estimates**2)[..., 0, :],
        xp.min(smallest, axis=-2),
    )
