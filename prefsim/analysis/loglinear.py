"""What comparisons say about a log-linear policy.

Covariances of features, their relative condition number, the law of the estimate.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from prefsim.backend import like
from prefsim.checks import (
    as_context_probs,
    as_floats,
    as_log_policies,
    check_entries,
    check_graph_kept,
    check_interval,
    check_kind,
    check_nonnegative,
    check_places,
    check_positive,
    check_shape,
    names_shapes,
)
from prefsim.data.comparisons import Comparisons
from prefsim.numerics import (
    array_namespace,
    widened,
)
from prefsim.raters.noise import flip_labels
from prefsim.typing import Array, ArrayT

RANK_TOLERANCE = 1e-11  # eigenvalues below this share of the largest count as zero

__all__ = [
    "difference_covariance",
    "estimate_covariance",
    "estimation_bound",
    "feature_differences",
    "policy_covariance",
    "relative_condition_number",
]


def _features(features: Array) -> Any:
    """Return features ``(X, Y, d)`` as finite numbers, or raise."""
    (table,) = as_floats(features=features)
    check_shape(table, "features", (None, None, None))
    check_entries(table, "features", "be finite", np.isfinite)
    return table


def feature_differences(data: Comparisons, features: Array) -> Array:
    r"""Return :math:`\phi(x, y_w) - \phi(x, y_l)` of every comparison, ``(..., n, d)``.

    Features are ``(X, Y, d)``.
    """
    check_kind(Comparisons, data=data)
    features = _features(features)
    xp = array_namespace(features)
    x, y, d = features.shape
    check_places(data.prompt, "prompt", size=x)
    check_places(data.chosen, "chosen", size=y)
    check_places(data.rejected, "rejected", size=y)
    flat = xp.reshape(features, (-1, d))
    prompt = like(data.prompt, features, integer=True)

    def rows(response: Any) -> Array:
        index = prompt * y + like(response, features, integer=True)
        return xp.reshape(xp.take(flat, xp.reshape(index, (-1,)), axis=0), (*index.shape, d))

    return rows(data.chosen) - rows(data.rejected)


def _second_moment(weight: ArrayT, x: Array) -> ArrayT:
    """Return ``Σ_i w_i x_i x_iᵀ`` over the last axis of ``weight (..., n)``."""
    xp = array_namespace(x)
    return xp.matmul(xp.matrix_transpose(x * weight[..., :, None]), x)


def difference_covariance(data: Comparisons, features: Array) -> Array:
    r"""Return the covariance of the comparisons' feature differences, ``(..., d, d)``.

    :math:`\Sigma = \sum_i w_i\,(\phi_w - \phi_l)(\phi_w - \phi_l)^\top`.

    Examples
    --------
    >>> import numpy as np
    >>> difference_covariance(
    ...     Comparisons([0, 0], [0, 1], [1, 2]), np.array([[[0.0], [1.0], [3.0]]])
    ... )
    array([[2.5]])
    """
    differences = feature_differences(data, features)
    return _second_moment(like(data.weight, differences), differences)


def policy_covariance(log_policy: ArrayT, features: Array, *, context_probs: Any = None) -> ArrayT:
    r"""Return :math:`\Sigma_\pi = E_x\,\mathrm{Cov}_{y\sim\pi}(\phi(x, y))`, ``(..., d, d)``.

    It is the Hessian of a log-linear policy's log-partition function.

    Parameters
    ----------
    log_policy
        ``(..., X, Y)``, nats.
    features
        ``(X, Y, d)``.
    context_probs
        ``(X,)``, uniform unless given.

    Returns
    -------
    Array ``(..., d, d)``.
    """
    features = _features(features)
    contexts, responses, d = features.shape
    (log_policy,) = as_log_policies(tail=(contexts, responses), log_policy=log_policy)
    xp = array_namespace(log_policy)
    probs = xp.exp(log_policy)
    check_graph_kept(features, "features", log_policy)
    phi = like(features, log_policy)
    centred = phi - xp.sum(probs[..., None] * phi, axis=-2, keepdims=True)
    weight = like(as_context_probs(context_probs, contexts), log_policy)[:, None] * probs
    lead = tuple(log_policy.shape[:-2])
    return _second_moment(
        xp.reshape(weight, (*lead, -1)), xp.reshape(centred, (*lead, contexts * responses, d))
    )


@names_shapes
def relative_condition_number(target: ArrayT, covering: Array) -> ArrayT:
    r"""Return :math:`\kappa = \sup_v v^\top A v / v^\top B v` of two covariances.

    ``A`` (target) and ``B`` (covering) are ``(..., d, d)``.

    Returns
    -------
    Array ``(...)``; ``inf`` where ``A`` varies in a direction in which ``B`` does not.

    References
    ----------
    Ray Chowdhury et al. 2024, section 4 (relative condition number), arXiv:2403.00409. Agarwal et
    al. 2021, arXiv:1908.00261.

    Examples
    --------
    >>> import numpy as np
    >>> covering = np.stack([np.diag([2.0, 0.5]), np.diag([1.0, 0.0])])
    >>> relative_condition_number(np.eye(2), covering).round(8)
    array([ 2., inf])
    """
    target, covering = as_floats(target=target, covering=covering)
    # There is no linear algebra in half precision.
    target, covering = widened(target), widened(covering)
    check_shape(covering, "covering", (None, None))
    check_shape(target, "target", (covering.shape[-1], covering.shape[-1]))
    check_shape(covering, "covering", (covering.shape[-1], covering.shape[-1]))
    xp = array_namespace(target, covering)
    values, vectors = xp.linalg.eigh(covering)
    seen = values > RANK_TOLERANCE * xp.max(values, axis=-1, keepdims=True)
    rotated = xp.matmul(xp.matmul(xp.matrix_transpose(vectors), target), vectors)
    scale = xp.where(
        seen, xp.where(seen, values, xp.ones_like(values)) ** -0.5, xp.zeros_like(values)
    )
    whitened = scale[..., :, None] * rotated * scale[..., None, :]
    unseen = xp.max(xp.where(seen, xp.zeros_like(values), xp.linalg.diagonal(rotated)), axis=-1)
    missed = unseen > RANK_TOLERANCE * xp.max(xp.abs(target), axis=(-2, -1))
    largest = xp.linalg.eigvalsh(whitened)[..., -1]
    return xp.where(missed, xp.full_like(largest, xp.inf), largest)


def estimate_covariance(
    data: Comparisons, features: Array, *, beta: float, flip_rate: float = 0.0
) -> Array:
    r"""Return the asymptotic covariance of robust DPO on flipped labels, ``H⁻¹ V H⁻¹``.

    That of :math:`\sqrt n\,(\hat\theta - \theta^\star)`.

    .. math:: H = \beta^2 E[p(1-p) XX^\top],\quad
        V = \frac{\beta^2 E[q(1-q) XX^\top]}{(1-2\epsilon)^2},\quad q = \epsilon + (1-2\epsilon)p

    Parameters
    ----------
    data
        The population of clean comparisons, unbatched: weights that sum to one, and Bradley–Terry
        probabilities p of a log-linear policy in these features.
    features
        ``(X, Y, d)``; their differences X must span all of the d dimensions.
    beta
        Strength of the KL penalty, > 0.
    flip_rate
        ε in [0, 0.5); 0 is plain DPO on clean labels.

    Returns
    -------
    Array ``(d, d)``.

    References
    ----------
    The sandwich formula for M-estimators (Huber 1967) at the loss of Ray Chowdhury et al. 2024,
    arXiv:2403.00409.
    """
    check_positive(beta=beta)
    check_interval(flip_rate=flip_rate, low=0.0, high=0.5)
    # There is no linear algebra in half precision.
    x = widened(feature_differences(data, features))
    xp = array_namespace(x)
    weight, p = like(data.weight, x), like(data.prob, x)
    q = flip_labels(p, flip_rate)
    curvature = beta**2 * _second_moment(weight * p * (1 - p), x)
    spread = xp.linalg.eigvalsh(curvature)
    check_entries(
        spread[..., 0] - RANK_TOLERANCE * spread[..., -1],
        "features",
        "differ in every direction where preferences are uncertain",
        lambda least: least > 0,
    )
    bread = xp.linalg.inv(curvature)
    filling = beta**2 * _second_moment(weight * q * (1 - q), x) / (1 - 2 * flip_rate) ** 2
    return xp.matmul(xp.matmul(bread, filling), bread)


def estimation_bound(
    n: int,
    dimension: int,
    *,
    beta: float,
    flip_rate: float,
    curvature: float,
    radius: float,
    ridge: float,
    chance: float,
) -> float:
    r"""Return a bound on the error that n flipped labels exceed with chance at most δ.

    The error is :math:`\|\hat\theta - \theta^\star\|_{\hat\Sigma + \lambda I}`.

    .. math:: \frac{1}{2\gamma\beta(1-2\epsilon)}
        \sqrt{\frac{d + 2\sqrt{d\log(1/\delta)} + 2\log(1/\delta)}{n}} + 2B\sqrt\lambda

    Parameters
    ----------
    n, dimension
        Comparisons, and d.
    beta, flip_rate
        Of the robust loss; ε in [0, 0.5).
    curvature
        γ, the least derivative of the logistic function over the margins that occur, > 0.
    radius
        B, a bound on the norms of the estimate and of the truth.
    ridge
        λ >= 0.
    chance
        δ in (0, 1).

    Notes
    -----
    The form of the paper's theorem with constants derived here (the paper's own are not confirmed).
    The loss is :math:`\gamma\beta^2`-strongly convex in the norm of Σ̂, so that the error in it is
    at most the gradient at θ* over :math:`\gamma\beta^2`. That gradient is a sum of independent
    terms, each of two values :math:`\beta/(1-2\epsilon)` apart, which makes them sub-Gaussian with
    half of that; their quadratic form in :math:`(\hat\Sigma + \lambda I)^{-1}` is bounded by the
    inequality of Hsu et al. (2012, arXiv:1110.2842). At even preferences γ is ¼, and nothing is
    lost but what that inequality gives away: the mean square of the error is
    :math:`d/(d + 2\sqrt{d\log(1/\delta)} + 2\log(1/\delta))` of the squared bound.

    References
    ----------
    Ray Chowdhury et al. 2024, theorem 4.2, arXiv:2403.00409 (number not confirmed).
    """
    check_positive(n=n, dimension=dimension, beta=beta, curvature=curvature)
    check_interval(flip_rate=flip_rate, low=0.0, high=0.5)
    check_interval(chance=chance, low=0.0, high=1.0, closed="neither")
    check_nonnegative(radius=radius, ridge=ridge)
    t = math.log(1 / chance)
    noise = math.sqrt((dimension + 2 * math.sqrt(dimension * t) + 2 * t) / n) / (
        2 * curvature * beta * (1 - 2 * flip_rate)
    )
    return noise + 2 * radius * math.sqrt(ridge)
