r"""How much better than expected a drawn response, or each of its tokens, was.

An advantage is a constant of differentiation that a policy gradient weighs log-probabilities by.
With several responses to one prompt the others say what was to be expected; with a value function
that is what it says.
"""

from __future__ import annotations

from typing import Any

from prefsim.checks import (
    as_array,
    as_floats,
    as_one_library,
    check_flag,
    check_interval,
    check_nonnegative,
    check_number,
    check_same_shape,
)
from prefsim.numerics import array_namespace, host_values
from prefsim.typing import Array, ArrayT

__all__ = [
    "deviation",
    "finished_scores",
    "gae",
    "group_advantage",
    "kl_shaped_rewards",
    "leave_one_out",
    "rewards_to_go",
    "whitened",
]


def with_mask(mask: Any, *, name: str = "mask", **named: Any) -> tuple[Any, ...]:
    """Return real arrays in floating point and a boolean mask, all of one library, or raise."""
    found = dict(zip(named, as_floats(**named, nan=True), strict=True))
    together = as_one_library(found | {name: as_array(mask, name, "bool")})
    return tuple(together.values())


def leave_one_out(rewards: ArrayT) -> ArrayT:
    r"""Return what each of K rewards has above the mean of the others, ``(..., K)``.

    .. math:: A_i = R_i - \frac{1}{K-1}\sum_{j \ne i} R_j

    The mean of the others does not depend on response i, so that it biases no gradient.

    Parameters
    ----------
    rewards
        ``(..., K)`` with K >= 2.

    Raises
    ------
    ValueError
        If there are fewer than two.

    References
    ----------
    Kool, van Hoof and Welling 2019; Ahmadian et al. 2024, section 2.3, arXiv:2402.14740 (RLOO).

    Examples
    --------
    >>> import numpy as np
    >>> leave_one_out(np.asarray([1.0, 0.0, 0.5]))
    array([ 0.75, -0.75,  0.  ])
    """
    (rewards,) = as_floats(rewards=rewards, nan=True)
    centred = _centred(rewards)
    k = rewards.shape[-1]
    # What is above the mean of all is (K − 1)/K of what is above the mean of the others.
    return centred * (k / (k - 1))


def group_advantage(rewards: ArrayT, *, scale: bool = True) -> ArrayT:
    r"""Return K rewards less their mean, in units of their standard deviation, ``(..., K)``.

    .. math:: A_i = \frac{R_i - \bar R}{\mathrm{std}(R)}

    Parameters
    ----------
    rewards
        ``(..., K)`` with K >= 2.
    scale
        Whether to divide by the standard deviation, squares over K − 1 (equal rewards are left at
        zero). It makes prompts on which the policy almost always, or almost never, does well count
        more, and so changes what is maximised; without it the advantage is (K − 1)/K of
        :func:`leave_one_out`.

    Raises
    ------
    ValueError
        If there are fewer than two.

    References
    ----------
    Shao et al. 2024 (DeepSeekMath), section 4.1, arXiv:2402.03300; without the division Liu et al.
    2025 (Dr. GRPO), arXiv:2503.20783.

    Examples
    --------
    >>> import numpy as np
    >>> group_advantage(np.asarray([1.0, 0.0, 0.5])), group_advantage(np.ones(3))
    (array([ 1., -1.,  0.]), array([0., 0., 0.]))
    """
    check_flag(scale=scale)
    (rewards,) = as_floats(rewards=rewards, nan=True)
    centred = _centred(rewards)
    return centred / deviation(centred) if scale else centred


def _centred(rewards: ArrayT) -> ArrayT:
    """Return K >= 2 rewards less their mean: exactly 0 where they are equal."""
    k = rewards.shape[-1] if rewards.ndim else 0
    if k < 2:
        raise ValueError(
            "there must be at least two responses to a prompt to compare, got rewards of shape"
            f" {tuple(rewards.shape)}"
        )
    xp = array_namespace(rewards)
    # Relative to the first: the rounding of a mean of equal rewards, in units of its own size,
    # would be an advantage.
    beyond = rewards - rewards[..., :1]
    return beyond - xp.sum(beyond, axis=-1, keepdims=True) / k


def deviation(x: ArrayT) -> ArrayT:
    """Return the standard deviation along the last axis, kept as an axis, 1 where it is zero.

    Squares over n − 1, as torch's; of a single value there is none.
    """
    xp = array_namespace(x)
    n = max(x.shape[-1], 1)
    # Seen from the first: the mean of equal values may differ from them by a rounding.
    x = x - x[..., :1]
    mean = xp.sum(x, axis=-1, keepdims=True) / n
    variance = xp.sum((x - mean) ** 2, axis=-1, keepdims=True) / max(n - 1, 1)
    some = variance > 0
    one = xp.ones_like(variance)
    return xp.where(some, xp.sqrt(xp.where(some, variance, one)), one)


def finished_scores(scores: ArrayT, ended: Array, *, unfinished: float = -10.0) -> ArrayT:
    """Return the scores of responses, of which those that did not end get another in their place.

    What a reward model says of a response that was cut off is not read: the other score replaces it
    and is not added to it.

    Parameters
    ----------
    scores
        ``(...)``.
    ended
        Booleans ``(...)``, whether a response ended by itself.
    unfinished
        The score of one that did not.

    Raises
    ------
    ValueError
        If shapes differ or ``unfinished`` is not finite.

    References
    ----------
    Ivison et al. 2024, arXiv:2406.09279, as in the authors' public trainer.

    Examples
    --------
    >>> import numpy as np
    >>> finished_scores(np.asarray([1.3, 7.0]), np.asarray([True, False]))
    array([  1.3, -10. ])
    """
    check_number(unfinished=unfinished)
    scores, ended = with_mask(ended, name="ended", scores=scores)
    check_same_shape(scores=scores, ended=ended)
    xp = array_namespace(scores)
    return xp.where(ended, scores, xp.full_like(scores, unfinished))


def kl_shaped_rewards(
    scores: ArrayT, old_logp: ArrayT, ref_logp: ArrayT, mask: Array, *, beta: float
) -> ArrayT:
    r"""Return the rewards of tokens, ``(..., T)``: a KL penalty each, and the score at the last.

    .. math:: r_t = -\beta\log\frac{\pi_{old}(y_t)}{\pi_{ref}(y_t)} + 1\{t\ \text{last}\}\,R(y)

    Parameters
    ----------
    scores
        R, ``(...)``.
    old_logp, ref_logp
        ``(..., T)`` in nats, of the policy that drew the response and of the reference.
    mask
        ``(..., T)``, which tokens belong to the response; 0 is paid behind it.
    beta
        Strength of the KL penalty in units of the reward, >= 0.

    Raises
    ------
    ValueError
        If ``beta`` is out of range, shapes differ or a response has no token.

    References
    ----------
    Ziegler et al. 2019, arXiv:1909.08593; Ivison et al. 2024, arXiv:2406.09279.

    Examples
    --------
    >>> import numpy as np
    >>> old, ref = np.asarray([-1.0, -0.5, -2.0]), np.asarray([-1.2, -0.4, -1.5])
    >>> kl_shaped_rewards(np.asarray(1.3), old, ref, np.ones(3, bool), beta=0.05).round(12)
    array([-0.01 ,  0.005,  1.325])
    """
    check_nonnegative(beta=beta)
    scores, old_logp, ref_logp, mask = with_mask(
        mask, scores=scores, old_logp=old_logp, ref_logp=ref_logp
    )
    check_same_shape(old_logp=old_logp, ref_logp=ref_logp, mask=mask)
    check_same_shape(scores=scores, responses=old_logp[..., 0])
    check_responses(mask)
    xp = array_namespace(old_logp)
    zero = xp.zeros_like(old_logp)
    penalty = xp.where(mask, -beta * (old_logp - ref_logp), zero)
    return penalty + xp.where(_is_last(mask), scores[..., None] + zero, zero)


def _is_last(mask: Array) -> Array:
    """Return whether each token is the last that is scored."""
    xp = array_namespace(mask)
    counted = xp.astype(mask, xp.int64)
    so_far = xp.cumulative_sum(counted, axis=-1)
    return mask & (so_far == xp.sum(counted, axis=-1, keepdims=True))


def check_responses(mask: Array) -> None:
    """Raise where a response has no token, if values may be looked at."""
    seen = host_values(mask)
    if seen is not None and not seen.any(axis=-1).all():
        raise ValueError("mask must leave at least one token of every response, got one of none")


def rewards_to_go(rewards: ArrayT) -> ArrayT:
    """Return the sum of each reward and those after it along the last axis.

    Examples
    --------
    >>> import numpy as np
    >>> rewards_to_go(np.asarray([1.0, 2.0, 3.0]))
    array([6., 5., 3.])
    """
    (rewards,) = as_floats(rewards=rewards, nan=True)
    xp = array_namespace(rewards)
    return xp.flip(xp.cumulative_sum(xp.flip(rewards, axis=-1), axis=-1), axis=-1)


def gae(
    rewards: ArrayT,
    values: ArrayT,
    mask: Array,
    *,
    discount: float = 1.0,
    trace: float = 0.95,
) -> tuple[ArrayT, ArrayT]:
    r"""Return generalised advantage estimates and the returns that they imply, each ``(..., T)``.

    .. math:: \delta_t = r_t + \gamma V_{t+1} - V_t,\qquad
        A_t = \delta_t + \gamma\lambda A_{t+1},\qquad \text{return}_t = A_t + V_t

    with nothing behind the end of a response.

    Parameters
    ----------
    rewards, values
        ``(..., T)``, the reward of each token and the value of the state before it.
    mask
        ``(..., T)``, which tokens belong to the response, without holes.
    discount
        γ in [0, 1].
    trace
        λ in [0, 1]: 0 is the one-step error of the value function; 1 the rewards to go less the
        value, whose gradient does not depend on the value function.

    Raises
    ------
    ValueError
        If a number is out of range or shapes differ.

    References
    ----------
    Schulman et al. 2016, arXiv:1506.02438, eqs. 11–16.

    Examples
    --------
    >>> import numpy as np
    >>> rewards, values = np.asarray([-0.01, 0.005, 1.325]), np.asarray([0.2, 0.4, 0.6])
    >>> advantages, returns = gae(rewards, values, np.ones(3, bool))
    >>> advantages.round(10), returns.round(10)
    (array([1.0390625, 0.89375  , 0.725    ]), array([1.2390625, 1.29375  , 1.325    ]))
    """
    check_interval(low=0.0, high=1.0, closed="both", discount=discount, trace=trace)
    rewards, values, mask = with_mask(mask, rewards=rewards, values=values)
    check_same_shape(rewards=rewards, values=values, mask=mask)
    xp = array_namespace(rewards)
    zero = xp.zeros_like(rewards)
    rewards, values = xp.where(mask, rewards, zero), xp.where(mask, values, zero)
    if rewards.shape[-1] == 0:
        return zero, zero
    following = value_after = zero[..., 0]
    advantages: list[Any] = []
    for t in reversed(range(rewards.shape[-1])):
        error = rewards[..., t] + discount * value_after - values[..., t]
        following = error + discount * trace * following
        value_after = values[..., t]
        advantages.insert(0, following)
    found = xp.where(mask, xp.stack(advantages, axis=-1), zero)
    return found, found + values


def whitened(values: ArrayT, mask: Array, *, epsilon: float = 1e-6) -> ArrayT:
    r"""Return values shifted and scaled to mean 0 and variance 1 under a mask, 0 elsewhere.

    .. math:: (v - \bar v) / \sqrt{\mathrm{var}(v) + \epsilon}

    with squares over n − 1, over all tokens of the batch together: the last three axes of
    ``(..., n, K, T)``, or all there are.

    Parameters
    ----------
    values
        ``(..., n, K, T)``.
    mask
        Of the same shape.
    epsilon
        What is added to the variance, > 0.

    Raises
    ------
    ValueError
        If shapes differ, or fewer than two values are counted.

    References
    ----------
    Ivison et al. 2024, arXiv:2406.09279, as in the authors' public trainer.

    Examples
    --------
    >>> import numpy as np
    >>> whitened(np.asarray([1.0, 3.0, 9.0]), np.asarray([True, True, False])).round(4)
    array([-0.7071,  0.7071,  0.    ])
    """
    check_interval(low=0.0, high=float("inf"), epsilon=epsilon, closed="neither")
    values, mask = with_mask(mask, values=values)
    check_same_shape(values=values, mask=mask)
    xp = array_namespace(values)
    axes = tuple(range(-min(3, values.ndim), 0))
    zero = xp.zeros_like(values)
    count = xp.sum(xp.where(mask, xp.ones_like(values), zero), axis=axes, keepdims=True)
    seen = host_values(count)
    if seen is not None and not (seen >= 2).all():
        least = int(seen.min()) if seen.size else 0
        raise ValueError(f"mask must leave at least two tokens to whiten, got {least}")
    mean = xp.sum(xp.where(mask, values, zero), axis=axes, keepdims=True) / count
    centred = xp.where(mask, values - mean, zero)
    variance = xp.sum(centred**2, axis=axes, keepdims=True) / (count - 1)
    return centred / xp.sqrt(variance + epsilon)
