"""Follow the regularised leader with the log-barrier, which takes costs of any size and sign."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim._readable import readable
from prefsim.backend import to_numpy
from prefsim.checks import alike, check_positive, check_shape, names_shapes
from prefsim.numerics import array_namespace, like, over_rows, widened
from prefsim.solvers.results import ConvergenceWarning, warn_caller
from prefsim.typing import Array, ArrayT, Number

__all__ = ["LogBarrierStep", "log_barrier", "log_barrier_step"]

ITERATIONS = 100
"""Newton steps at most; the root is found to rounding in about five, in thirty at worst."""

ROUNDING_UNITS = 16
"""Probabilities that sum to one within so many units in the last place do so to rounding."""


@readable
class LogBarrierStep(NamedTuple):
    """A policy of the regularised leader, with its certificate.

    Attributes
    ----------
    policy
        Probabilities ``(..., A)``, all > 0.
    level
        The multiplier λ of ``sum(policy) = 1``, ``(...,)`` in ``[1, A]``.
    residual
        Distance of the sum of the probabilities from one, ``(...,)``. Nothing else can be wrong:
        the other conditions of optimality hold by the form of the solution.
    converged
        Whether every residual is rounding.
    """

    policy: Array
    level: Array
    residual: Array
    converged: bool


def log_barrier(policy: ArrayT) -> ArrayT:
    r"""Return :math:`\Psi(p) = \sum_a \ln(1 / p_a)` of probabilities ``(..., A)``, ``(...,)``.

    ``inf`` where a probability is 0.

    Examples
    --------
    >>> float(log_barrier(np.array([0.5, 0.5])).round(6))
    1.386294
    """
    (policy,) = alike(policy=policy)
    check_shape(policy, "policy", (None,))
    xp = array_namespace(policy)
    # The barrier is infinite at the boundary: no reason for a warning of the logarithm.
    with np.errstate(divide="ignore"):
        return -xp.sum(xp.log(policy), axis=-1)


@names_shapes
def log_barrier_step(costs: Array, *, step: Number) -> LogBarrierStep:
    r"""Return the policy of the leader, regularised by the log-barrier.

    .. math:: p = \arg\min_{p \in \Delta}\; \eta \langle p, C \rangle + \sum_a \ln\frac{1}{p_a},
        \qquad p_a = \frac{1}{\eta (C_a - \min C) + \lambda}

    with λ in [1, A] the root of :math:`\sum_a p_a = 1`. Newton's method runs on
    :math:`1 / \sum_a p_a - 1`, which is concave and rises in λ: from λ = 1 it comes to the root
    from below and cannot pass it.

    Parameters
    ----------
    costs
        Sums of costs so far, C, ``(..., A)``: finite, of any size and sign.
    step
        η > 0, a number or an array that broadcasts with ``(...,)``.

    Returns
    -------
    LogBarrierStep

    Raises
    ------
    ValueError
        If the step is not > 0 or its shape does not fit.

    Warns
    -----
    ConvergenceWarning
        If the probabilities of a row do not sum to one, as where a cost is not finite.

    References
    ----------
    Dai, Luo, Wei and Zimmert 2023, arXiv:2301.12942, algorithm 1; Foster et al. 2016,
    arXiv:1606.06244.

    Examples
    --------
    >>> log_barrier_step(np.array([0.0, 0.5, 1.5]), step=1.0).policy.round(4)
    array([0.408 , 0.3389, 0.2531])
    """
    check_positive(arrays=True, step=step)
    (costs,) = alike(costs=costs)
    check_shape(costs, "costs", (None,))
    if not isinstance(step, int | float):
        step = like(step, costs)
    xp = array_namespace(costs)
    wide = widened(costs)
    # One cost more than all others is none: only differences matter.
    excess = over_rows(step) * (wide - xp.min(wide, axis=-1, keepdims=True))
    policy, level, residual = _root(excess)
    units = ROUNDING_UNITS * float(xp.finfo(wide.dtype).eps)
    converged = bool(np.all(to_numpy(residual) <= units))
    if not converged:
        warn_caller(
            f"log_barrier_step: probabilities sum to one within {float(xp.max(residual)):.3g}, not"
            f" within {units:.3g}",
            ConvergenceWarning,
        )
    kept: Any = costs.dtype
    policy, level, residual = (xp.astype(each, kept) for each in (policy, level, residual))
    return LogBarrierStep(policy, level, residual, converged)


def _root(excess: Any) -> tuple[Any, Any, Any]:
    """Return probabilities ``1 / (excess + level)``, the level, and how far their sum is from 1."""
    xp = array_namespace(excess)
    enough = 2 * float(xp.finfo(excess.dtype).eps)
    level = xp.ones_like(excess[..., :1])
    for _ in range(ITERATIONS):
        policy = 1.0 / (excess + level)
        total = xp.sum(policy, axis=-1, keepdims=True)
        residual = xp.abs(total - 1.0)
        slope = xp.sum(policy**2, axis=-1, keepdims=True)
        higher = xp.clip(level + total * (total - 1.0) / slope, 1.0, float(excess.shape[-1]))
        # Where a step no longer raises the level, rounding decides and another would change it.
        done = (residual <= enough) | ~(higher > level)
        if bool(xp.all(done)):
            break
        level = xp.where(done, level, higher)
    return policy, level[..., 0], residual[..., 0]
