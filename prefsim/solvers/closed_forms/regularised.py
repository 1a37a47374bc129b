"""Closed-form optima of divergence-regularised reward maximisation."""

from __future__ import annotations

from typing import NamedTuple

from prefsim.backend import to_numpy
from prefsim.checks import (
    check_finite,
    check_positive,
    check_probabilities,
    check_shape,
    tolerance_of,
)
from prefsim.divergences import check_divergence, derivative, derivative_at_one, inverse_derivative
from prefsim.numerics import array_namespace, log_softmax, logsumexp
from prefsim.typing import Array, ArrayT

__all__ = ["RegularisedOptimum", "gibbs_log_policy", "optimal_policy", "regularised_optimum"]


class RegularisedOptimum(NamedTuple):
    """Log-probabilities ``(..., Y)``, KKT multiplier and residual, each ``(...,)``.

    The residual is ``|sum(policy) − 1|`` before normalisation.
    """

    log_policy: Array
    multiplier: Array
    residual: Array


def gibbs_log_policy(reward: Array, ref_log_probs: Array, *, beta: float) -> tuple[Array, Array]:
    r"""Return ``log π*`` and ``log Z`` of the Gibbs tilt :math:`\pi^* = \pi_{ref} e^{r/\beta} / Z`.

    Parameters
    ----------
    reward, ref_log_probs
        ``(..., Y)``, any common leading axes; nats for the log-probabilities.
    beta
        Strength of the KL penalty, > 0, in units of the reward.

    References
    ----------
    Rafailov et al. 2023, eq. 4, arXiv:2305.18290.
    """
    check_positive(beta=beta)
    tilted = ref_log_probs + reward / beta
    return log_softmax(tilted), logsumexp(tilted)


def optimal_policy(
    reward: ArrayT,
    reference: Array,
    *,
    beta: float,
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
        Probabilities ``(..., Y)``; responses of probability 0 keep it.
    beta
        Strength of the penalty, > 0, in units of the reward.
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
    check_probabilities(to_numpy(reference), "reference", tolerance=tolerance_of(reference))
    check_shape(reward, "reward", (reference.shape[-1],))
    check_finite(to_numpy(reward), "reward")
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
    beta: float,
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
    check_positive(beta=beta)
    check_divergence(divergence, alpha)
    xp = array_namespace(reward, ref_log_probs)
    reward, ref_log_probs = xp.broadcast_arrays(reward, ref_log_probs)
    if divergence == "reverse_kl":
        log_policy, log_partition = gibbs_log_policy(reward, ref_log_probs, beta=beta)
        return RegularisedOptimum(
            log_policy, beta * (log_partition - 1.0), xp.zeros_like(log_partition)
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
