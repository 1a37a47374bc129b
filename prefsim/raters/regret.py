"""Raters of trajectory segments.

By the rewards seen on the way (partial return) or by what was given away (regret).
"""

from __future__ import annotations

from typing import Any

from array_api_compat import device

from prefsim.checks import (
    NUMBERS,
    as_array,
    as_floats,
    as_one_library,
    check_broadcast,
    check_entries,
    check_interval,
    check_nonnegative,
    check_positive,
    check_same_shape,
    in_floats,
)
from prefsim.numerics import array_namespace, sigmoid
from prefsim.typing import Array, ArrayT, Number

__all__ = [
    "deterministic_regret",
    "noiseless_preference",
    "partial_return_preference",
    "regret_preference",
    "segment_regret",
    "segment_return",
]


def _steps(values: Any, mask: Any, name: str) -> tuple[Any, Any]:
    """Return the numbers of steps and the mask, of one library, or raise."""
    given = as_one_library(
        {
            # Padding may hold anything.
            name: in_floats(as_array(values, name, *NUMBERS)),
            "mask": None if mask is None else as_array(mask, "mask", "bool"),
        }
    )
    values, mask = given.values()
    if len(values.shape) == 0 or values.shape[-1] == 0:
        raise ValueError(
            f"{name} must have shape (..., T) with T >= 1 steps, got {tuple(values.shape)}"
        )
    if mask is not None:
        check_same_shape(**{name: values, "mask": mask})
    return values, mask


def _discounted_sum(values: ArrayT, mask: Array | None, discount: float, name: str) -> ArrayT:
    check_interval(discount=discount, low=0.0, high=1.0, closed="both")
    values, mask = _steps(values, mask, name)
    xp = array_namespace(values)
    # Padding may hold anything, NaN included: select, do not multiply.
    kept = values if mask is None else xp.where(mask, values, xp.zeros_like(values))
    if discount != 1:
        kept = kept * discount ** xp.arange(
            values.shape[-1], dtype=values.dtype, device=device(values)
        )
    return xp.sum(kept, axis=-1)


def segment_return(rewards: ArrayT, mask: Array | None = None, *, discount: float = 1.0) -> ArrayT:
    r"""Return the partial return :math:`\sum_t \gamma^t r_t` of each segment.

    Parameters
    ----------
    rewards
        ``(..., T)``, one entry a step; any unit of reward.
    mask
        Boolean ``(..., T)``: which steps count; all unless given. Step t keeps the factor
        ``discount ** t`` of its place.
    discount
        In [0, 1].

    Returns
    -------
    Array ``(...,)``.

    Raises
    ------
    ValueError
        If there is no step, shapes differ, the mask is not boolean or ``discount`` is out of range.

    References
    ----------
    Knox et al. 2022, section 2.2, arXiv:2206.02231.

    Examples
    --------
    >>> import numpy as np
    >>> segment_return(np.asarray([[1.0, 2.0, 4.0]]), discount=0.5)
    array([3.])
    """
    return _discounted_sum(rewards, mask, discount, "rewards")


def segment_regret(
    advantages: ArrayT, mask: Array | None = None, *, discount: float = 1.0
) -> ArrayT:
    r"""Return the regret of each segment, from the advantages of its steps.

    :math:`\sum_t \gamma^t [V^*(s_t) - Q^*(s_t, a_t)] = -\sum_t \gamma^t A^*(s_t, a_t)`.

    Parameters
    ----------
    advantages
        Optimal advantages ``(..., T)``, each <= 0 for an exact optimum (``α log π*`` under maximum
        entropy).
    mask, discount
        As for :func:`segment_return`.

    Returns
    -------
    Array ``(...,)``, >= 0 for advantages of the optimal policy.

    Raises
    ------
    ValueError
        If there is no step, shapes differ, the mask is not boolean or ``discount`` is out of range.

    References
    ----------
    Knox et al. 2022, section 3, general form, arXiv:2206.02231.
    """
    return -_discounted_sum(advantages, mask, discount, "advantages")


def deterministic_regret(
    rewards: ArrayT,
    start_value: Array,
    end_value: Array,
    mask: Array | None = None,
    *,
    discount: float = 1.0,
) -> ArrayT:
    r"""Return the regret of each segment in a deterministic process.

    :math:`V^*(s_0) - \big(\sum_t \gamma^t r_t + \gamma^T V^*(s_T)\big)`.

    Equal to :func:`segment_regret` where transitions are deterministic and both use the discount of
    the values; where they are not, it is a random number with that mean.

    Parameters
    ----------
    rewards
        ``(..., T)``, one entry a step.
    start_value, end_value
        Optimal values ``(...,)`` of the first state and of the state after the last counted step (0
        if terminal).
    mask
        Boolean ``(..., T)``: which steps count; the first ``T`` of a segment, so that its length is
        their number.
    discount
        In [0, 1].

    Returns
    -------
    Array ``(...,)``.

    Raises
    ------
    ValueError
        If there is no step, shapes differ, the mask is not boolean or skips a step, or ``discount``
        is out of range.

    References
    ----------
    Knox et al. 2022, section 3, deterministic form, arXiv:2206.02231.
    """
    rewards, mask = _steps(rewards, mask, "rewards")
    rewards, start_value, end_value = as_floats(
        nan=True, rewards=rewards, start_value=start_value, end_value=end_value
    )
    rewards, mask = _steps(rewards, mask, "rewards")
    seen = segment_return(rewards, mask, discount=discount)
    check_same_shape(start_value=start_value, end_value=end_value, segments=seen)
    if mask is None:
        return start_value - (seen + discount ** rewards.shape[-1] * end_value)
    xp = array_namespace(mask)
    check_entries(
        mask[..., 1:] & ~mask[..., :-1],
        "mask",
        "count the first steps of a segment without a gap",
        lambda resumed: ~resumed,
    )
    length = xp.sum(xp.astype(mask, rewards.dtype), axis=-1)
    return start_value - (seen + discount**length * end_value)


def _logistic_choice(margin: ArrayT, beta: Number) -> ArrayT:
    check_positive(arrays=True, beta=beta)
    return sigmoid(beta * margin)


def partial_return_preference(
    return_first: ArrayT, return_second: Array, *, beta: Number = 1.0
) -> ArrayT:
    r"""Return the chance that the first segment is preferred, by its partial return.

    :math:`\sigma(\beta [G(\sigma_1) - G(\sigma_2)])`.

    Parameters
    ----------
    return_first, return_second
        Partial returns ``(...,)`` from :func:`segment_return`.
    beta
        Rationality (inverse temperature), > 0, per unit of reward.

    Raises
    ------
    ValueError
        If ``beta`` is out of range.

    References
    ----------
    Christiano et al. 2017, eq. 1, arXiv:1706.03741; Knox et al. 2022, section 2.2,
    arXiv:2206.02231.
    """
    return_first, return_second = as_floats(return_first=return_first, return_second=return_second)
    check_broadcast(return_first=return_first, return_second=return_second, beta=beta)
    return _logistic_choice(return_first - return_second, beta)


def regret_preference(regret_first: ArrayT, regret_second: Array, *, beta: Number = 1.0) -> ArrayT:
    r"""Return the chance that the first segment is preferred, by its regret.

    :math:`\sigma(\beta [\rho(\sigma_2) - \rho(\sigma_1)])` of regrets ρ.

    Parameters
    ----------
    regret_first, regret_second
        Regrets ``(...,)`` from :func:`segment_regret` or :func:`deterministic_regret`.
    beta
        Rationality (inverse temperature), > 0, per unit of reward.

    Raises
    ------
    ValueError
        If ``beta`` is out of range.

    References
    ----------
    Knox et al. 2022, section 3, arXiv:2206.02231.

    Examples
    --------
    The way that gives nothing away is preferred, even where the other one collected more on the
    way.

    >>> import numpy as np
    >>> gives_nothing, gives_two = segment_regret(np.asarray([[0.0, 0.0], [-1.0, -1.0]]))
    >>> regret_preference(gives_nothing, gives_two).round(4)
    np.float64(0.8808)
    """
    regret_first, regret_second = as_floats(regret_first=regret_first, regret_second=regret_second)
    check_broadcast(regret_first=regret_first, regret_second=regret_second, beta=beta)
    return _logistic_choice(regret_second - regret_first, beta)


def noiseless_preference(score_first: ArrayT, score_second: Array, *, tie: float = 0.0) -> ArrayT:
    """Return 1 where the first score is higher, 0 where it is lower, and ½ for a tie.

    A tie is a difference of at most ``tie``.

    Scores are partial returns, or regrets with a minus sign. This is the limit ``beta`` → ∞ of the
    two models above; ``tie`` absorbs the rounding of computed scores.

    Raises
    ------
    ValueError
        If ``tie`` is negative.
    """
    check_nonnegative(tie=tie)
    score_first, score_second = as_floats(score_first=score_first, score_second=score_second)
    check_broadcast(score_first=score_first, score_second=score_second)
    margin = score_first - score_second
    xp = array_namespace(margin)
    half = xp.full_like(margin, 0.5)
    return xp.where(
        margin > tie, xp.ones_like(margin), xp.where(margin < -tie, xp.zeros_like(margin), half)
    )
