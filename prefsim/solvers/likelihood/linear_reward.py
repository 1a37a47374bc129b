"""Linear reward models of compared pairs: Bradley–Terry with a ridge, fitted exactly, many at once.

Labels may be treated before: flipped, smoothed or given a margin. What the pairs say little of may
be valued at the least that fits them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim.checks import (
    as_float_array,
    check_broadcast,
    check_integer,
    check_nonnegative,
    check_positive,
    check_shape,
    trusted_values,
)
from prefsim.containers import PairRewards
from prefsim.data.strength import LabelTreatment
from prefsim.losses.reward import bradley_terry
from prefsim.numerics import as_tensor, to_numpy
from prefsim.solvers.optimisers.newton import minimise
from prefsim.solvers.results import warn_caller

__all__ = ["LinearReward", "fit_linear_reward", "pessimistic_reward"]


class LinearReward(NamedTuple):
    """Weights of linear reward models.

    Attributes
    ----------
    weights
        θ, ``(..., d)``, log-odds for a unit of each feature.
    value
        Weighted mean of the loss plus the ridge, ``(...,)``.
    grad_norm
        Largest entry of its gradient there, ``(...,)``.
    """

    weights: np.ndarray
    value: np.ndarray
    grad_norm: np.ndarray


def fit_linear_reward(
    differences: Any,
    *,
    ridge: float = 1e-2,
    weight: Any = None,
    treatment: LabelTreatment[Any] | None = None,
    tolerance: float = 1e-9,
    max_iterations: int = 100,
) -> LinearReward:
    r"""Fit linear rewards to compared pairs: the minimiser of a Bradley–Terry loss with a ridge.

    .. math:: \min_\theta\ \frac{\sum_n w_n\,\ell_n(\theta\cdot x_n)}{\sum_n w_n}
        + \lambda\|\theta\|^2

    with :math:`\ell_n` as :func:`prefsim.losses.bradley_terry`, its label treated as asked for.

    Parameters
    ----------
    differences
        x, features of the chosen less those of the rejected response, ``(..., n, d)``.
    ridge
        λ > 0, which keeps weights finite where the pairs can be separated.
    weight
        How much a pair counts, >= 0, ``(..., n)``; equally unless given. Leading axes are separate
        models: half-samples, say, where it is 1 or 0.
    treatment
        What is done to the labels, ``(..., n)``, of :func:`prefsim.data.strength.treat_labels`.
    tolerance
        Largest gradient.
    max_iterations
        Newton steps.

    Returns
    -------
    LinearReward

    Raises
    ------
    ValueError
        If shapes do not fit, a number is out of range, or all pairs of a model have no weight.

    Warns
    -----
    ConvergenceWarning
        If a gradient is larger than the tolerance at the end.

    Examples
    --------
    Three of four pairs are for the response that has the feature:

    >>> pairs = np.asarray([[1.0], [1.0], [1.0], [-1.0]])
    >>> fit_linear_reward(pairs, ridge=1e-12).weights.round(6)
    array([1.098612])
    """
    import torch

    check_positive(ridge=ridge, tolerance=tolerance)
    check_integer(low=1, max_iterations=max_iterations)
    x = as_float_array(differences, "differences", min_ndim=2)
    if x.size == 0:
        raise ValueError(f"differences must hold a pair and a feature, got shape {x.shape}")
    w = np.ones(x.shape[-2]) if weight is None else as_float_array(weight, "weight", min_ndim=1)
    check_broadcast(differences=x[..., 0], weight=w)
    if (w < 0).any() or not (w.sum(axis=-1) > 0).all():
        raise ValueError("weight must be >= 0, and more than 0 for some pair of every model")
    if treatment is None:
        none = np.zeros(x.shape[-2])
        treatment = LabelTreatment(none > 0, none, none)
    treated = LabelTreatment(*(np.asarray(to_numpy(part)) for part in treatment))
    check_broadcast(differences=x[..., 0], **treated._asdict())
    batch = np.broadcast_shapes(x.shape[:-2], w.shape[:-1], *(part.shape[:-1] for part in treated))
    n, d = x.shape[-2:]

    def rows(array: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(np.broadcast_to(array, (*batch, n)).reshape(-1, n).copy())

    share = rows(w / w.sum(axis=-1, keepdims=True))
    labels = LabelTreatment(*map(rows, treated))
    # One table of features for all models, or one each.
    shared = x.ndim == 2
    features = as_tensor(
        x if shared else np.broadcast_to(x, (*batch, n, d)).reshape(-1, n, d).copy()
    )

    def ahead(theta: torch.Tensor) -> torch.Tensor:
        if shared:
            return theta @ features.mT
        return (features @ theta[..., None])[..., 0]

    def loss(margin: torch.Tensor) -> torch.Tensor:
        pairs = labels.apply(PairRewards(margin, torch.zeros_like(margin)))
        return bradley_terry(pairs, label_smoothing=labels.label_smoothing)

    def objective(theta: torch.Tensor) -> torch.Tensor:
        return (share * loss(ahead(theta))).sum(dim=-1) + ridge * (theta**2).sum(dim=-1)

    def hessian(theta: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            margin = ahead(theta).detach().requires_grad_()
            (slope,) = torch.autograd.grad(loss(margin).sum(), margin, create_graph=True)
            # The loss of a pair depends on its own margin alone.
            (curvature,) = torch.autograd.grad(slope.sum(), margin)
        weighted = (share * curvature)[..., None] * features
        return weighted.mT @ features + 2 * ridge * torch.eye(d, dtype=theta.dtype)

    start = torch.zeros(share.shape[0], d, dtype=torch.float64)
    with trusted_values():
        found = minimise(
            objective,
            start,
            tolerance=tolerance,
            max_iterations=max_iterations,
            hessian=hessian if d <= 400 else None,
        )
    norm = to_numpy(found.grad_norm)
    if not (norm <= tolerance).all():
        warn_caller(
            f"the gradient is {norm.max():.3g} after {found.iterations} steps, more than the"
            f" tolerance {tolerance:g}"
        )
    return LinearReward(
        to_numpy(found.parameters).reshape(*batch, d),
        to_numpy(found.value).reshape(batch),
        norm.reshape(batch),
    )


def pessimistic_reward(
    features: Any,
    weights: Any,
    differences: Any,
    *,
    radius: float,
    ridge: float = 1.0,
    baseline: Any = None,
) -> np.ndarray:
    r"""Return linear rewards less what compared pairs leave uncertain of them, ``(..., m)``.

    .. math:: \underline r_i = \phi_i\cdot\theta - \varrho\,\|\phi_i - \nu\|_{\Sigma^{-1}},\qquad
        \Sigma = \lambda I + \sum_n x_n x_n^\top

    Without a baseline it is the least reward of all weights within ϱ of θ in the norm of Σ.

    Parameters
    ----------
    features
        φ, ``(..., m, d)``: of actions or of tokens, say.
    weights
        θ, ``(..., d)``, as :func:`fit_linear_reward` finds them.
    differences
        x, features of the chosen less those of the rejected, ``(..., n, d)``; of sequences, the
        sums over their tokens.
    radius
        ϱ >= 0.
    ridge
        λ > 0.
    baseline
        ν, ``(..., d)``, at whose feature nothing is uncertain; 0 unless given.

    Raises
    ------
    ValueError
        If shapes do not fit or a number is out of range.

    References
    ----------
    Zhu, Jiao and Jordan 2023, arXiv:2301.11270; of tokens Zhong et al. 2024, arXiv:2404.18922.

    Examples
    --------
    The second feature was never compared:

    >>> pairs = np.asarray([[1.0, 0.0]] * 3)
    >>> pessimistic_reward(np.eye(2), [1.0, 1.0], pairs, radius=0.5)
    array([0.75, 0.5 ])
    """
    check_nonnegative(radius=radius)
    check_positive(ridge=ridge)
    phi = as_float_array(features, "features", min_ndim=2)
    theta = as_float_array(weights, "weights", min_ndim=1)
    x = as_float_array(differences, "differences", min_ndim=2)
    d = phi.shape[-1]
    check_shape(theta, "weights", (d,))
    check_shape(x, "differences", (None, d))
    nu = np.zeros(d) if baseline is None else as_float_array(baseline, "baseline", min_ndim=1)
    check_shape(nu, "baseline", (d,))
    check_broadcast(
        features=phi[..., 0, 0],
        weights=theta[..., 0],
        differences=x[..., 0, 0],
        baseline=nu[..., 0],
    )
    sigma = ridge * np.eye(d) + x.mT @ x
    off = phi - nu[..., None, :]
    doubt = np.sum(off * np.linalg.solve(sigma, off.mT).mT, axis=-1)
    return (phi @ theta[..., None])[..., 0] - radius * np.sqrt(np.maximum(doubt, 0.0))
