r"""The optimum under a pure χ² penalty, which may drop responses altogether.

The derivative of χ² is finite at zero, and no barrier.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from prefsim.checks import (
    as_floats,
    as_policies,
    check_broadcast,
    check_entries,
    check_positive,
    check_shape,
    is_array,
)
from prefsim.numerics import array_namespace, over_rows
from prefsim.typing import Array, Number

__all__ = ["ChiSquaredOptimum", "chi_squared_optimum"]


class ChiSquaredOptimum(NamedTuple):
    """Probabilities ``(..., Y)``, KKT multiplier ``(...,)`` and residual ``|sum(policy) − 1|``."""

    policy: Array
    multiplier: Array
    residual: Array


def chi_squared_optimum(reward: Array, reference: Array, *, beta: Number) -> ChiSquaredOptimum:
    r"""Return the optimal policy under a penalty of β times the χ² divergence.

    It maximises :math:`E_\pi r - \beta \sum_y \pi_{ref}(y) (\pi(y)/\pi_{ref}(y) - 1)^2`.

    .. math:: \pi^*(y) = \pi_{ref}(y)\,\max\!\left(0,\ 1 + \frac{r(y) - \lambda}{2\beta}\right)

    Exact, by sorting the rewards. Responses of low reward are dropped once β is small; their reward
    cannot be read off the policy any more, which is why :func:`prefsim.losses.f_dpo` does not offer
    this divergence (``mixed_chi_squared`` adds the barrier it lacks).

    Parameters
    ----------
    reward
        ``(..., Y)``.
    reference
        Probabilities ``(..., Y)``, or a policy.
    beta
        Strength of the penalty, > 0, in units of the reward; a number or an array that broadcasts
        against ``(...)``.

    Returns
    -------
    ChiSquaredOptimum

    Raises
    ------
    ValueError
        If ``beta`` is not positive, a reward is not finite, a row of ``reference`` is no
        distribution or the numbers of responses differ.

    References
    ----------
    Wang et al. 2023, section 3 (why f'(0) must be −∞), arXiv:2309.16240.

    Examples
    --------
    >>> import numpy as np
    >>> chi_squared_optimum(
    ...     np.asarray([1.0, 0.0, -1.0]), np.asarray([0.5, 0.3, 0.2]), beta=0.4
    ... ).policy.round(6)
    array([0.859375, 0.140625, 0.      ])
    """
    check_positive(arrays=True, beta=beta)
    (reference,) = as_policies(reference=reference)
    several = is_array(beta)
    reward, reference, rows = as_floats(reward=reward, reference=reference, beta=over_rows(beta))
    check_shape(reward, "reward", (reference.shape[-1],))
    check_entries(reward, "reward", "be finite", np.isfinite)
    xp = array_namespace(reward, reference)
    check_broadcast(reward=reward, reference=reference, beta=rows)
    given = (reward, reference, rows) if several else (reward, reference)
    reward, reference, *_ = xp.broadcast_arrays(*given)
    beta = rows if several else beta
    # A response that the reference never gives is never kept and sorts last.
    order = xp.argsort(xp.where(reference > 0, -reward, xp.full_like(reward, xp.inf)), axis=-1)
    r, q = xp.take_along_axis(reward, order, axis=-1), xp.take_along_axis(reference, order, axis=-1)
    # With the k best responses kept, λ follows from the total; the right k is the last at which the
    # worst response keeps a positive share.
    multipliers = (xp.cumulative_sum(q * (2 * beta + r), axis=-1) - 2 * beta) / xp.cumulative_sum(
        q, axis=-1
    )
    kept = (2 * beta + r - multipliers > 0) & (q > 0)
    last = xp.sum(xp.astype(kept, xp.int64), axis=-1, keepdims=True) - 1
    multiplier = xp.take_along_axis(multipliers, last, axis=-1)
    share = 1 + (reward - multiplier) / (2 * beta)
    policy = reference * xp.where(share > 0, share, xp.zeros_like(share))
    residual = xp.abs(xp.sum(policy, axis=-1) - 1)
    return ChiSquaredOptimum(policy, xp.squeeze(multiplier, axis=-1), residual)
