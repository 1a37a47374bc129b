"""Closed-form optima of divergence-regularised reward maximisation."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim.checks import (
    as_floats,
    as_log_policies,
    as_policies,
    check_broadcast,
    check_entries,
    check_positive,
    check_shape,
    is_array,
)
from prefsim.divergences import check_divergence, derivative, derivative_at_one, inverse_derivative
from prefsim.numerics import array_namespace, log_softmax, logsumexp, over_rows
from prefsim.typing import Array, ArrayT, Number

__all__ = [
    "RegularisedOptimum",
    "calibrated_reward",
    "calibrated_value",
    "gibbs_log_policy",
    "optimal_policy",
    "regularised_optimum",
]


class RegularisedOptimum(NamedTuple):
    """Log-probabilities ``(..., Y)``, KKT multiplier and residual, each ``(...,)``.

    The residual is ``|sum(policy) − 1|`` before normalisation.
    """

    log_policy: Array
    multiplier: Array
    residual: Array


def _problem(reward: Any, ref_log_probs: Any, beta: Any) -> tuple[Any, Any, Any]:
    """Return rewards and reference of one shape ``(..., Y)`` and β ``(..., 1)``, or a number."""
    check_positive(arrays=True, beta=beta)
    (ref_log_probs,) = as_log_policies(ref_log_probs=ref_log_probs)
    several = is_array(beta)
    reward, ref_log_probs, rows = as_floats(
        reward=reward, ref_log_probs=ref_log_probs, beta=over_rows(beta)
    )
    check_shape(reward, "reward", (ref_log_probs.shape[-1],))
    check_broadcast(reward=reward, ref_log_probs=ref_log_probs, beta=rows)
    given = (reward, ref_log_probs, rows) if several else (reward, ref_log_probs)
    reward, ref_log_probs, *_ = array_namespace(reward).broadcast_arrays(*given)
    return reward, ref_log_probs, rows if several else beta


def gibbs_log_policy(reward: Array, ref_log_probs: Array, *, beta: Number) -> tuple[Array, Array]:
    r"""Return ``log π*`` and ``log Z`` of the Gibbs tilt :math:`\pi^* = \pi_{ref} e^{r/\beta} / Z`.

    Parameters
    ----------
    reward, ref_log_probs
        ``(..., Y)``, any common leading axes; nats for the log-probabilities.
    beta
        Strength of the KL penalty, > 0, in units of the reward; a number or an array ``(...)``.

    References
    ----------
    Rafailov et al. 2023, eq. 4, arXiv:2305.18290.
    """
    reward, ref_log_probs, beta = _problem(reward, ref_log_probs, beta)
    tilted = ref_log_probs + reward / beta
    return log_softmax(tilted), logsumexp(tilted)


def calibrated_value(
    reward: ArrayT, ref_log_probs: Array, calibration: Array, *, beta: Number
) -> ArrayT:
    r"""Return what the best policy of a reward gains on a calibration policy, in each context.

    .. math:: J^*(r) - E_{\pi_{cal}} r = \beta\log\sum_y \pi_{ref}(y) e^{r(y)/\beta}
        - \sum_y \pi_{cal}(y) r(y)

    Preferences leave a reward open up to a shift, which changes the optimal value and not this. Its
    derivative in the reward is :math:`\pi_r - \pi_{cal}`.

    Parameters
    ----------
    reward, ref_log_probs
        ``(..., Y)``, any common leading axes; nats for the log-probabilities.
    calibration
        Probabilities ``(..., Y)``, or a policy.
    beta
        Strength of the KL penalty, > 0, in units of the reward; a number or an array ``(...)``.

    Returns
    -------
    Array ``(...)``, in units of the reward; negative at worst by what the calibration policy pays
    for its divergence from the reference.

    Raises
    ------
    ValueError
        If ``beta`` is out of range, a row is no distribution or the shapes do not fit.

    References
    ----------
    Cen et al. 2024, the calibrated class of rewards, arXiv:2405.19320 (number not confirmed).

    Examples
    --------
    >>> import numpy as np
    >>> uniform = np.full(2, 0.5)
    >>> reward = np.asarray([1.0, -1.0])
    >>> float(calibrated_value(reward, np.log(uniform), uniform, beta=1.0).round(6))
    0.433781
    """
    check_positive(arrays=True, beta=beta)
    (ref_log_probs,) = as_log_policies(ref_log_probs=ref_log_probs)
    (calibration,) = as_policies(calibration=calibration)
    reward, ref_log_probs, calibration, rows = as_floats(
        reward=reward, ref_log_probs=ref_log_probs, calibration=calibration, beta=over_rows(beta)
    )
    check_broadcast(reward=reward, ref_log_probs=ref_log_probs, calibration=calibration, beta=rows)
    xp = array_namespace(reward)
    optimal = rows * logsumexp(ref_log_probs + reward / rows, keepdims=True)
    return (optimal - xp.sum(calibration * reward, axis=-1, keepdims=True))[..., 0]


def calibrated_reward(
    log_policy: ArrayT, ref_log_probs: Array, calibration: Array, *, beta: Number
) -> ArrayT:
    r"""Return the reward whose best policy is given, with mean zero under a calibration policy.

    .. math:: r(y) = \beta\log\frac{\pi(y)}{\pi_{ref}(y)}
        - \beta E_{\pi_{cal}}\log\frac{\pi}{\pi_{ref}}

    Its optimal value is linear in log π: :math:`J^*(r) = -\beta E_{\pi_{cal}} \log(\pi/\pi_{ref})`.

    Parameters
    ----------
    log_policy, ref_log_probs
        ``(..., Y)``, nats, of full support.
    calibration, beta
        As for :func:`calibrated_value`.

    Returns
    -------
    Array ``(..., Y)``, in units of β.

    Raises
    ------
    ValueError
        As :func:`calibrated_value`.

    References
    ----------
    Cen et al. 2024, the step from rewards to policies, arXiv:2405.19320 (number not confirmed).

    Examples
    --------
    >>> import numpy as np
    >>> uniform = np.full(2, 0.5)
    >>> calibrated_reward(np.log([0.9, 0.1]), np.log(uniform), uniform, beta=0.5).round(6)
    array([ 0.549306, -0.549306])
    """
    check_positive(arrays=True, beta=beta)
    log_policy, ref_log_probs = as_log_policies(log_policy=log_policy, ref_log_probs=ref_log_probs)
    (calibration,) = as_policies(calibration=calibration)
    log_policy, ref_log_probs, calibration, rows = as_floats(
        log_policy=log_policy,
        ref_log_probs=ref_log_probs,
        calibration=calibration,
        beta=over_rows(beta),
    )
    check_broadcast(
        log_policy=log_policy, ref_log_probs=ref_log_probs, calibration=calibration, beta=rows
    )
    xp = array_namespace(log_policy)
    ratio = log_policy - ref_log_probs
    return rows * (ratio - xp.sum(calibration * ratio, axis=-1, keepdims=True))


def optimal_policy(
    reward: ArrayT,
    reference: Array,
    *,
    beta: Number,
    divergence: str = "reverse_kl",
    alpha: float = 0.5,
) -> ArrayT:
    r"""Return the policy that maximises :math:`E_\pi r - \beta D_f(\pi \| \pi_{ref})`.

    In closed form, but for one multiplier.

    Parameters
    ----------
    reward
        ``(..., Y)``.
    reference
        Probabilities ``(..., Y)``, or a policy; responses of probability 0 keep it.
    beta
        Strength of the penalty, > 0, in units of the reward: a number, or an array that broadcasts
        against the leading axes ``(...)``, for a whole frontier at once.
    divergence, alpha
        See :func:`prefsim.divergences.divergence_score`.

    Returns
    -------
    Array ``(..., Y)``, probabilities.

    Raises
    ------
    ValueError
        If ``beta``, ``divergence`` or ``alpha`` is out of range, ``reward`` is not finite, a row of
        ``reference`` is no distribution or the two have different numbers of responses.

    References
    ----------
    Wang et al. 2023, theorem 1, arXiv:2309.16240.

    Examples
    --------
    >>> import numpy as np
    >>> optimal_policy(np.asarray([1.0, 0.0, -1.0]), np.asarray([0.5, 0.3, 0.2]), beta=1.0).round(8)
    array([0.78439876, 0.17313851, 0.04246273])
    """
    (reference,) = as_policies(reference=reference)
    reward, reference = as_floats(nan=True, reward=reward, reference=reference)
    check_shape(reward, "reward", (reference.shape[-1],))
    check_entries(reward, "reward", "be finite", np.isfinite)
    xp = array_namespace(reward, reference)
    positive = reference > 0
    ref_log_probs = xp.where(
        positive, xp.log(xp.where(positive, reference, xp.ones_like(reference))), -xp.inf
    )
    return xp.exp(
        regularised_optimum(
            reward, ref_log_probs, beta=beta, divergence=divergence, alpha=alpha
        ).log_policy
    )


def regularised_optimum(
    reward: Array,
    ref_log_probs: Array,
    *,
    beta: Number,
    divergence: str = "reverse_kl",
    alpha: float = 0.5,
) -> RegularisedOptimum:
    r"""Return log-policy, multiplier and residual of the optimum.

    :math:`\pi^* = \pi_{ref} (f')^{-1}((r - \lambda)/\beta)`.

    The multiplier is found by bisection between the largest λ at which some response alone would
    have probability one or more and the smallest at which no response exceeds its reference, a
    bracket that never leaves the domain of the inverse derivative. Parameters as for
    :func:`optimal_policy`, with log-probabilities for the reference.
    """
    check_divergence(divergence, alpha)
    reward, ref_log_probs, beta = _problem(reward, ref_log_probs, beta)
    xp = array_namespace(reward)
    if divergence == "reverse_kl":
        tilted = ref_log_probs + reward / beta
        multiplier = beta * (logsumexp(tilted, keepdims=True) - 1.0)
        return RegularisedOptimum(
            log_softmax(tilted), multiplier[..., 0], xp.zeros_like(multiplier[..., 0])
        )
    supported = xp.isfinite(ref_log_probs)
    safe_ref = xp.where(supported, ref_log_probs, xp.zeros_like(ref_log_probs))
    masked = xp.where(supported, reward, xp.full_like(reward, -xp.inf))
    best = xp.max(masked, axis=-1, keepdims=True)
    reward = xp.where(supported, reward, best)
    alone = masked - beta * derivative(-safe_ref, divergence, alpha=alpha)
    low = xp.max(alone, axis=-1, keepdims=True)
    high = best - beta * derivative_at_one(divergence)

    def log_mass(multiplier: Array) -> Array:
        return ref_log_probs + inverse_derivative(
            (reward - multiplier) / beta, divergence, alpha=alpha
        )

    for _ in range(80):
        middle = 0.5 * (low + high)
        too_much = logsumexp(log_mass(middle), keepdims=True) > 0
        low = xp.where(too_much, middle, low)
        high = xp.where(too_much, high, middle)
    # ``high`` keeps the total at or below one, hence inside the domain.
    mass = log_mass(high)
    total = logsumexp(mass, keepdims=True)
    return RegularisedOptimum(
        mass - total, xp.squeeze(high, axis=-1), xp.squeeze(xp.abs(xp.expm1(total)), axis=-1)
    )
