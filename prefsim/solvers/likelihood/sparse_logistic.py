"""Logistic regression of choices on how two responses differ, under a Laplace prior: its mode."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim.checks import (
    as_float_array,
    check_broadcast,
    check_integer,
    check_positive,
    check_unit_interval,
)
from prefsim.numerics import sigmoid, softplus
from prefsim.solvers.results import warn_caller

__all__ = ["LogisticChoices", "SparseLogisticFit", "fit_sparse_logistic"]

# Gradient steps before the zeros that they left are tried as the zeros of the mode.
STEPS_BETWEEN_TRIALS = 50
# Newton steps on the other weights: they are quadratic once the zeros are right.
NEWTON_STEPS = 12


class LogisticChoices(NamedTuple):
    """Choices between two responses, and how these differ.

    Attributes
    ----------
    features
        First less second response, ``(..., n, p)``.
    prob
        Share of choices of the first one, in [0, 1], ``(..., n)``.
    weight
        How often the row counts, >= 0, ``(..., n)``.
    """

    features: np.ndarray
    prob: np.ndarray
    weight: np.ndarray

    @classmethod
    def checked(cls, features: Any, prob: Any, weight: Any) -> LogisticChoices:
        """Return choices whose shapes fit, or raise; rows count once unless weighted."""
        x = as_float_array(features, "features", min_ndim=2)
        y = as_float_array(prob, "prob", min_ndim=1)
        check_unit_interval(y, "prob")
        w = np.ones(y.shape[-1]) if weight is None else as_float_array(weight, "weight", min_ndim=1)
        if (w < 0).any():
            raise ValueError(f"weight must be >= 0, got {w.min()}")
        if not x.shape[-2] == y.shape[-1] == w.shape[-1] or x.size == 0:
            raise ValueError(
                "features, prob and weight must have one length >= 1 and at least one feature,"
                f" got {x.shape}, {y.shape} and {w.shape}"
            )
        check_broadcast(features=x[..., 0], prob=y, weight=w)
        return cls(x, y, w)

    def logits(self, alpha: np.ndarray) -> np.ndarray:
        """Return the log-odds ``(..., n)`` of the first response at weights ``(..., p)``."""
        if self.features.ndim == 2:
            return np.asarray(alpha @ self.features.T)  # one product, however many points
        return np.asarray((self.features @ alpha[..., None])[..., 0])

    def loss(self, alpha: np.ndarray) -> np.ndarray:
        """Return the negative log-likelihood at weights ``(..., p)``, ``(...,)`` nats."""
        z = self.logits(alpha)
        return np.asarray((self.weight * (softplus(z) - self.prob * z)).sum(axis=-1))

    def gradient(self, alpha: np.ndarray) -> np.ndarray:
        """Return the derivative of the loss, ``(..., p)``."""
        excess = self.weight * (sigmoid(self.logits(alpha)) - self.prob)
        return np.asarray((excess[..., None, :] @ self.features)[..., 0, :])

    def hessian(self, alpha: np.ndarray) -> np.ndarray:
        """Return the second derivative of the loss, ``(..., p, p)``."""
        q = np.asarray(sigmoid(self.logits(alpha)))
        curvature = self.weight * q * (1 - q)
        return np.asarray(self.features.swapaxes(-1, -2) @ (curvature[..., None] * self.features))


class SparseLogisticFit(NamedTuple):
    """The mode of the weights under a Laplace prior.

    Attributes
    ----------
    weights
        α, ``(..., p)``, in log-odds; exactly 0 where the data pull less than 1/b.
    value
        Negative log-likelihood plus ``|α|₁/b``, ``(...,)`` nats.
    residual
        Largest entry of the least subgradient there, as a share of ``1/b + Σ w|x|``, what its terms
        sum to: ``(...,)``, 0 at the mode.
    """

    weights: np.ndarray
    value: np.ndarray
    residual: np.ndarray


def fit_sparse_logistic(
    features: Any,
    prob: Any,
    *,
    scale: float = 0.1,
    weight: Any = None,
    tolerance: float = 1e-9,
    max_iterations: int = 20_000,
) -> SparseLogisticFit:
    r"""Find what a judge looks at: the mode of the posterior of its weights.

    .. math:: \min_\alpha\ \sum_i w_i\,\big(\log(1 + e^{z_i}) - p_i z_i\big)
        + \tfrac1b\,\|\alpha\|_1,\qquad z_i = \alpha\cdot x_i

    There is no intercept, so that it does not matter which response of a pair is called the first.

    Parameters
    ----------
    features
        How the first response of each pair differs from the second, ``(..., n, p)``.
    prob
        Share of judgements for the first response, in [0, 1], ``(..., n)``.
    scale
        b > 0 of the Laplace prior of every weight; its standard deviation is :math:`b\sqrt2`.
    weight
        How often a row counts, >= 0, ``(..., n)``; once unless given. Leading axes are separate
        fits, of resampled data for instance.
    tolerance
        Largest residual.
    max_iterations
        Largest number of gradient steps.

    Returns
    -------
    SparseLogisticFit

    Raises
    ------
    ValueError
        If shapes do not fit, a number is out of range, or there is no row or no feature.

    Warns
    -----
    ConvergenceWarning
        If the residual is larger than the tolerance at the end.

    References
    ----------
    Li et al. 2024, section on Bayesian logistic regression, arXiv:2402.11296. Beck and Teboulle
    2009 (accelerated proximal gradient); O'Donoghue and Candès 2015 (its restarts).

    Examples
    --------
    Four of six judgements are for the response that has the property. The default prior holds the
    weight at zero; a wide one leaves the log-odds 2, less what it asks:

    >>> has = np.asarray([[1.0], [1.0], [1.0], [1.0], [1.0], [1.0]])
    >>> first = [1, 1, 1, 1, 0, 0]
    >>> fit_sparse_logistic(has, first).weights
    array([0.])
    >>> fit_sparse_logistic(has, first, scale=1e6).weights.round(5)
    array([0.69315])
    """
    check_positive(scale=scale, tolerance=tolerance)
    check_integer(low=1, max_iterations=max_iterations)
    choices = LogisticChoices.checked(features, prob, weight)
    batch = np.broadcast_shapes(
        choices.features.shape[:-2], choices.prob.shape[:-1], choices.weight.shape[:-1]
    )
    alpha = np.zeros((*batch, choices.features.shape[-1]))
    # The curvature of the loss is at most a quarter of the squared features'.
    squares = choices.features.swapaxes(-1, -2) @ (choices.weight[..., None] * choices.features)
    curvature = 0.25 * np.linalg.eigvalsh(squares)[..., -1:]
    # Where no feature ever differs, any step will do.
    step = np.broadcast_to(1.0 / np.where(curvature > 0, curvature, 1.0), (*batch, 1))
    for _ in range(0, max_iterations, STEPS_BETWEEN_TRIALS):
        alpha = _proximal_steps(choices, alpha, step, scale)
        alpha = _newton_on_support(choices, alpha, scale)
        residual = _residual(choices, alpha, scale)
        if (residual <= tolerance).all():
            break
    else:
        warn_caller(
            f"the mode has a residual of {residual.max():.3g} after {max_iterations} steps, more"
            f" than the tolerance {tolerance:g}"
        )
    value = choices.loss(alpha) + np.abs(alpha).sum(axis=-1) / scale
    return SparseLogisticFit(alpha, value, residual)


def _proximal_steps(
    choices: LogisticChoices, alpha: np.ndarray, step: np.ndarray, scale: float
) -> np.ndarray:
    """Take accelerated proximal steps, each fit of a batch starting anew where it turns back."""
    ahead, momentum = alpha, np.ones((*alpha.shape[:-1], 1))
    for _ in range(STEPS_BETWEEN_TRIALS):
        moved = ahead - step * choices.gradient(ahead)
        after = np.sign(moved) * np.maximum(np.abs(moved) - step / scale, 0.0)
        turned = ((ahead - after) * (after - alpha)).sum(axis=-1, keepdims=True) > 0
        momentum = np.where(turned, 1.0, momentum)
        following = 0.5 * (1 + np.sqrt(1 + 4 * momentum**2))
        ahead = after + np.where(turned, 0.0, (momentum - 1) / following) * (after - alpha)
        alpha, momentum = after, following
    return alpha


def _newton_on_support(choices: LogisticChoices, alpha: np.ndarray, scale: float) -> np.ndarray:
    """Return the stationary point with the zeros and signs of ``alpha``, where it has them."""
    sign = np.sign(alpha)
    moving = sign != 0
    both = moving[..., :, None] & moving[..., None, :]
    at = alpha
    for _ in range(NEWTON_STEPS):
        slope = np.where(moving, choices.gradient(at) + sign / scale, 0.0)
        # Weights of equal columns have one sum only: the least step that reaches it.
        inverse = np.linalg.pinv(np.where(both, choices.hessian(at), 0.0), hermitian=True)
        at = at - (inverse @ slope[..., None])[..., 0]
    kept = (np.sign(at) == sign).all(axis=-1) & np.isfinite(at).all(axis=-1)
    at = np.where(kept[..., None], at, alpha)
    better = _residual(choices, at, scale) < _residual(choices, alpha, scale)
    return np.where(better[..., None], at, alpha)


def _residual(choices: LogisticChoices, alpha: np.ndarray, scale: float) -> np.ndarray:
    """Return the largest share of its terms that is left of the least subgradient, ``(...,)``."""
    slope = choices.gradient(alpha)
    at_zero = np.maximum(np.abs(slope) - 1 / scale, 0.0)
    left = np.where(alpha == 0, at_zero, np.abs(slope + np.sign(alpha) / scale))
    terms = (choices.weight[..., None] * np.abs(choices.features)).sum(axis=-2) + 1 / scale
    return np.asarray((left / terms).max(axis=-1))
