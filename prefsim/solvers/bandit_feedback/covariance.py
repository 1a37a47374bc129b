r"""Inverses of the covariance of the features that a policy plays: exact, or from a simulator.

All of them stand for :math:`(\gamma I + \Sigma)^{-1}` with :math:`\Sigma = E\,\phi\phi^\top`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from prefsim.checks import (
    alike,
    as_float_array,
    as_floats,
    as_probabilities,
    check_entries,
    check_integer,
    check_interval,
    check_positive,
    check_shape,
    names_shapes,
)
from prefsim.numerics import array_namespace, like
from prefsim.typing import Array, ArrayT, Number

__all__ = [
    "check_square",
    "draws_for_relative_bound",
    "empirical_inverse",
    "expected_empirical_inverse",
    "expected_resampled_inverse",
    "feature_covariance",
    "regularised_inverse",
    "relative_spectrum",
    "resampled_inverse",
]

MAX_OUTCOMES = 100_000
"""Most counts of draws that are enumerated."""


@names_shapes
def feature_covariance(features: ArrayT, law: Array) -> ArrayT:
    r"""Return :math:`\Sigma = \sum_i w_i \phi_i \phi_i^\top`, ``(..., d, d)``.

    Parameters
    ----------
    features
        ``(..., n, d)``: of the n pairs of a state and an action of a layer.
    law
        ``(..., n)``: how often each is played.

    Examples
    --------
    >>> feature_covariance(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([0.5, 0.5]))
    array([[0.625, 0.125],
           [0.125, 0.125]])
    """
    features, law = alike(features=features, law=law)
    check_shape(features, "features", (None, None))
    check_shape(law, "law", (features.shape[-2],))
    xp = array_namespace(features, law)
    return xp.matmul(xp.matrix_transpose(features), law[..., None] * features)


@names_shapes
def regularised_inverse(covariance: ArrayT, *, gamma: Number) -> ArrayT:
    r"""Return :math:`(\gamma I + \Sigma)^{-1}`, ``(..., d, d)``.

    Parameters
    ----------
    covariance
        Σ, ``(..., d, d)``: symmetric, no eigenvalue below 0.
    gamma
        γ > 0, a number or an array that broadcasts with ``(...,)``: a policy that leaves a
        direction out has a singular Σ.

    References
    ----------
    Dai, Luo, Wei and Zimmert 2023, arXiv:2301.12942, algorithm 1.

    Examples
    --------
    >>> regularised_inverse(np.diag([0.75, 0.0]), gamma=0.25)
    array([[1., 0.],
           [0., 4.]])
    """
    check_positive(arrays=True, gamma=gamma)
    (covariance,) = alike(covariance=covariance)
    xp = array_namespace(covariance)
    return xp.linalg.inv(_shifted(covariance, gamma))


def check_square(array: Any, name: str) -> None:
    """Raise unless the last two axes of an array are of one length."""
    check_shape(array, name, (None, None))
    check_shape(array, name, (array.shape[-1], array.shape[-1]))


def _shifted(covariance: ArrayT, gamma: Number) -> ArrayT:
    """Return γI + Σ."""
    xp = array_namespace(covariance)
    check_square(covariance, "covariance")
    identity = xp.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    if isinstance(gamma, int | float):
        shifted: ArrayT = gamma * identity + covariance
        return shifted
    weight: Any = like(gamma, covariance)
    shifted = weight[..., None, None] * identity + covariance
    return shifted


# --- matrix geometric resampling ---


@names_shapes
def resampled_inverse(draws: ArrayT, *, gamma: float, scale: float) -> ArrayT:
    r"""Return the inverse by matrix geometric resampling, ``(..., d, d)``.

    .. math:: \hat\Sigma^\dagger = c I + c \sum_{n=1}^N \Pi_n,\qquad
        \Pi_n = \Pi_{n-1} \left(I - c (\gamma I + \phi_n \phi_n^\top)\right),\quad \Pi_0 = I

    averaged over M repeats. It is not symmetric.

    Parameters
    ----------
    draws
        Features of fresh pairs of a state and an action, ``(..., M, N, d)``.
    gamma
        γ > 0.
    scale
        c > 0; at most 1 / (1 + γ), where features are no longer than 1.

    References
    ----------
    Neu and Olkhovskaya 2020, arXiv:2002.00287; Dai, Luo, Wei and Zimmert 2023, arXiv:2301.12942.

    Examples
    --------
    Two steps with a single feature, γ = 1/2 and c = 1/2: 1/2 + 1/2 (1/4 + 1/16).

    >>> resampled_inverse(np.ones((1, 2, 1)), gamma=0.5, scale=0.5)
    array([[0.65625]])
    """
    check_positive(gamma=gamma, scale=scale)
    (draws,) = as_floats(nan=True, draws=draws)
    check_shape(draws, "draws", (None, None, None))
    xp = array_namespace(draws)
    dim = draws.shape[-1]
    identity = xp.eye(dim, dtype=draws.dtype, device=draws.device)
    power = xp.broadcast_to(identity, (*draws.shape[:-2], dim, dim))
    total = power
    for n in range(draws.shape[-2]):
        feature = draws[..., n, :]
        along = xp.matmul(power, feature[..., None]) * feature[..., None, :]
        power = (1.0 - scale * gamma) * power - scale * along
        total = total + power
    return scale * xp.mean(total, axis=-3)


@names_shapes
def expected_resampled_inverse(
    covariance: ArrayT, *, gamma: float, scale: float, length: int
) -> ArrayT:
    r"""Return what :func:`resampled_inverse` is on average, ``(..., d, d)``.

    .. math:: E \hat\Sigma^\dagger = (\gamma I + \Sigma)^{-1}
        \left(I - (I - c(\gamma I + \Sigma))^{N+1}\right)

    Parameters
    ----------
    covariance
        Σ, ``(..., d, d)``.
    gamma, scale
        As there.
    length
        N >= 0, draws of one repeat.

    Examples
    --------
    >>> expected_resampled_inverse(np.eye(1), gamma=0.5, scale=0.5, length=2)
    array([[0.65625]])
    """
    check_positive(gamma=gamma, scale=scale)
    check_integer(low=0, length=length)
    (covariance,) = as_floats(covariance=covariance)
    xp = array_namespace(covariance)
    values, vectors = xp.linalg.eigh(_shifted(covariance, gamma))
    kept = scale * values
    # Of small eigenvalues the difference from one would be rounding.
    small = kept < 0.5
    logs = (length + 1) * xp.log1p(-xp.where(small, kept, xp.zeros_like(kept)))
    plain = 1.0 - xp.where(small, xp.zeros_like(kept), 1.0 - kept) ** (length + 1)
    inverse = xp.where(small, -xp.expm1(logs), plain) / values
    return xp.matmul(vectors * inverse[..., None, :], xp.matrix_transpose(vectors))


# --- the empirical covariance ---


def empirical_inverse(features: ArrayT, counts: Array, *, gamma: Number) -> ArrayT:
    r"""Return the inverse of the covariance of draws from a simulator, ``(..., d, d)``.

    :math:`(\gamma I + \frac1W \sum_w \phi_w \phi_w^\top)^{-1}` of W draws.

    Parameters
    ----------
    features
        ``(..., n, d)``.
    counts
        ``(..., n)``: how many of the W draws fell on each pair, of which at least one in every row.
    gamma
        As in :func:`regularised_inverse`.

    References
    ----------
    Dai, Luo, Wei and Zimmert 2023, arXiv:2301.12942, the relative bound of
    :func:`relative_spectrum`.

    Examples
    --------
    >>> empirical_inverse(np.eye(2), np.array([3, 1]), gamma=0.25)
    array([[1., 0.],
           [0., 2.]])
    """
    features, counts = as_floats(features=features, counts=counts)
    check_shape(features, "features", (None, None))
    check_shape(counts, "counts", (features.shape[-2],))
    check_entries(counts, "counts", "be >= 0", lambda n: n >= 0)
    xp = array_namespace(features, counts)
    total = xp.sum(counts, axis=-1, keepdims=True)
    check_entries(total, "the sum of counts", "be > 0", lambda n: n > 0)
    return regularised_inverse(feature_covariance(features, counts / total), gamma=gamma)


def expected_empirical_inverse(features: Any, law: Any, *, gamma: float, draws: int) -> np.ndarray:
    r"""Return what :func:`empirical_inverse` is on average, by enumeration of all counts.

    The inverse is convex: the average is larger than :math:`(\gamma I + \Sigma)^{-1}`, in the order
    of symmetric matrices.

    Parameters
    ----------
    features
        ``(n, d)``.
    law
        ``(n,)`` probabilities of the pairs.
    gamma
        γ > 0.
    draws
        W >= 1; the counts of W draws of n pairs are at most 100,000.

    Raises
    ------
    ValueError
        If an argument is out of range, or there are more counts than that.

    Examples
    --------
    >>> expected_empirical_inverse(np.eye(1), np.ones(1), gamma=0.5, draws=3)
    array([[0.66666667]])
    """
    check_integer(low=1, draws=draws)
    table = as_float_array(features, "features", ndim=2)
    probs = as_probabilities(law, "law", ndim=1)
    check_shape(probs, "law", (table.shape[-2],))
    outcomes = math.comb(draws + probs.size - 1, draws)
    if outcomes > MAX_OUTCOMES:
        raise ValueError(
            f"at most {MAX_OUTCOMES} counts are enumerated, got {outcomes} of {draws} draws; draw"
            " some instead"
        )
    counts = _compositions(draws, probs.size)
    from scipy.special import gammaln, xlogy

    # SciPy's law of counts is NaN for probabilities whose sum is one but for rounding.
    ways = gammaln(draws + 1) - gammaln(counts + 1).sum(axis=1)
    weight = np.exp(ways + xlogy(counts, probs / probs.sum()).sum(axis=1))
    inverses = empirical_inverse(table, counts, gamma=gamma)
    return np.asarray(np.tensordot(weight, inverses, axes=1))


def _compositions(total: int, parts: int) -> np.ndarray:
    """Return every way to write ``total`` as an ordered sum of ``parts`` integers >= 0."""
    found = np.zeros((1, 0), dtype=np.int64)
    for _ in range(parts - 1):
        left = total - found.sum(axis=1)
        parent = np.repeat(np.arange(left.size), left + 1)
        first = np.cumsum(left + 1) - left - 1
        found = np.column_stack([found[parent], np.arange(parent.size) - first[parent]])
    return np.column_stack([found, total - found.sum(axis=1)])


def draws_for_relative_bound(dim: int, *, gamma: float, failure: float) -> int:
    r"""Return how many draws the relative bound asks for: :math:`4 d \ln(d/\delta) \gamma^{-2}`.

    Parameters
    ----------
    dim
        d >= 1.
    gamma
        γ in (0, 1].
    failure
        δ in (0, 1), the probability that is allowed to fail.

    Examples
    --------
    >>> draws_for_relative_bound(3, gamma=0.1, failure=0.01)
    6845
    """
    check_integer(low=1, dim=dim)
    check_interval(gamma=gamma, low=0.0, high=1.0, closed="right")
    check_interval(failure=failure, low=0.0, high=1.0, closed="neither")
    return math.ceil(4 * dim * math.log(dim / failure) / gamma**2)


@names_shapes
def relative_spectrum(inverse: ArrayT, covariance: Array, *, gamma: Number) -> ArrayT:
    r"""Return the eigenvalues of :math:`\hat\Sigma^\dagger (\gamma I + \Sigma)`, ``(..., d)``.

    All are 1 for the exact inverse. With enough draws (:func:`draws_for_relative_bound`) those of
    an empirical inverse lie in :math:`[1 - 2\sqrt\gamma, 1 + 2\sqrt\gamma]` with probability
    :math:`1 - \delta`: an error in proportion to the size in every direction, where a bound on the
    difference of the matrices would be spoilt by the directions that are seldom played.

    Parameters
    ----------
    inverse
        A symmetric estimate of the inverse, ``(..., d, d)``.
    covariance
        Σ, ``(..., d, d)``.
    gamma
        As in :func:`regularised_inverse`.

    Returns
    -------
    Array ``(..., d)``, ascending.

    References
    ----------
    Dai, Luo, Wei and Zimmert 2023, arXiv:2301.12942, the concentration of covariances.

    Examples
    --------
    >>> exact = regularised_inverse(np.diag([0.9, 0.1]), gamma=0.1)
    >>> relative_spectrum(1.25 * exact, np.diag([0.9, 0.1]), gamma=0.1)
    array([1.25, 1.25])
    """
    check_positive(arrays=True, gamma=gamma)
    inverse, covariance = as_floats(nan=True, inverse=inverse, covariance=covariance)
    check_square(inverse, "inverse")
    xp = array_namespace(inverse, covariance)
    root = xp.linalg.cholesky(_shifted(covariance, gamma))
    return xp.linalg.eigvalsh(xp.matmul(xp.matrix_transpose(root), xp.matmul(inverse, root)))
