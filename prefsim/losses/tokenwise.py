"""Losses on pairs that look at single tokens; what lies behind a mask never matters."""

from __future__ import annotations

from prefsim.checks import (
    check_flag,
    check_interval,
    check_nonnegative,
    check_positive,
    check_same_shape,
)
from prefsim.containers import TokenPairLogps, fields_of
from prefsim.losses.edge import checked
from prefsim.losses.links import soft_logistic
from prefsim.losses.pair_fields import needed
from prefsim.numerics import array_namespace, stop_gradient
from prefsim.typing import Array, ArrayT, Number

__all__ = ["ld_dpo", "tdpo1", "tdpo2", "wpo"]


def masked_sum(values: ArrayT, mask: Array) -> ArrayT:
    """Return the sum over the last axis of the values under the mask.

    What lies behind it may hold anything.
    """
    xp = array_namespace(values)
    return xp.sum(xp.where(mask, values, xp.zeros_like(values)), axis=-1)


def check_token_pairs(logps: TokenPairLogps[ArrayT]) -> None:
    """Raise unless the fields of each response have one shape, and both the same rows."""
    check_same_shape(**fields_of(logps, "chosen"))
    check_same_shape(**fields_of(logps, "rejected"))
    if tuple(logps.chosen.shape[:-1]) != tuple(logps.rejected.shape[:-1]):
        raise ValueError(
            f"chosen and rejected must agree before the last axis, got {logps.chosen.shape} and"
            f" {logps.rejected.shape}"
        )


def _sequence_margin(logps: TokenPairLogps[ArrayT]) -> ArrayT:
    check_token_pairs(logps)
    chosen = masked_sum(logps.chosen - logps.ref_chosen, logps.chosen_mask)
    return chosen - masked_sum(logps.rejected - logps.ref_rejected, logps.rejected_mask)


def _sequence_kls(logps: TokenPairLogps[ArrayT]) -> tuple[ArrayT, ArrayT]:
    chosen = masked_sum(needed(logps.chosen_kl, "chosen_kl"), logps.chosen_mask)
    return chosen, masked_sum(needed(logps.rejected_kl, "rejected_kl"), logps.rejected_mask)


@checked
def tdpo1(logps: TokenPairLogps[ArrayT], *, beta: Number = 0.1) -> ArrayT:
    r"""Token-level DPO, first form.

    :math:`\ell(\beta[h - (S_l - S_w)])` with sequential KL :math:`S = \sum_t KL(\pi_{ref}\|\pi)`.

    Parameters
    ----------
    logps
        Token log-probabilities in nats and both ``*_kl``, each ``(..., n, T)``.
    beta
        Strength of the KL penalty, > 0.

    Returns
    -------
    Array ``(..., n)``, nats.

    References
    ----------
    Zeng et al. 2024, eq. 14, arXiv:2404.11999 (equation number not confirmed).
    """
    check_positive(arrays=True, beta=beta)
    margin = _sequence_margin(logps)
    winner, loser = _sequence_kls(logps)
    return soft_logistic(beta * (margin - (loser - winner)), 1)


@checked
def tdpo2(logps: TokenPairLogps[ArrayT], *, beta: Number = 0.1, alpha: Number = 0.5) -> ArrayT:
    r"""Token-level DPO, second form: :math:`\ell(\beta[h - \alpha(S_l - \mathrm{sg}(S_w))])`.

    Parameters
    ----------
    logps
        Token log-probabilities in nats and both ``*_kl``, each ``(..., n, T)``.
    beta
        Strength of the KL penalty, > 0.
    alpha
        Weight of the sequential KL, >= 0.

    Returns
    -------
    Array ``(..., n)``, nats.

    References
    ----------
    Zeng et al. 2024, eq. 17, arXiv:2404.11999 (equation number not confirmed).
    """
    check_positive(arrays=True, beta=beta)
    check_nonnegative(arrays=True, alpha=alpha)
    margin = _sequence_margin(logps)
    winner, loser = _sequence_kls(logps)
    return soft_logistic(beta * (margin - alpha * (loser - stop_gradient(winner))), 1)


@checked
def wpo(logps: TokenPairLogps[ArrayT], *, beta: Number = 0.01, clamp: bool = True) -> ArrayT:
    r"""Weighted preference optimisation.

    DPO weighted by how likely the pair is under the current policy.

    .. math:: w_w w_l\,\ell(\beta h),\qquad
        w = \exp\big(\mathrm{mean}_t[\log\pi(y_t) - \log\textstyle\sum_v \pi(v)^2]\big)

    The weights are constants of differentiation.

    Parameters
    ----------
    logps
        Token log-probabilities in nats and both ``*_collision``, each ``(..., n, T)``.
    beta
        Strength of the KL penalty, > 0.
    clamp
        Cap the weight of a pair at 1, as the authors do and TRL does not.

    Returns
    -------
    Array ``(..., n)``, nats.

    References
    ----------
    Zhou et al. 2024, eq. 4, arXiv:2406.11827 (equation number not confirmed).
    """
    check_positive(arrays=True, beta=beta)
    check_flag(clamp=clamp)
    margin = _sequence_margin(logps)
    xp = array_namespace(margin)

    def log_weight(token_logps: Array, collision: Array, mask: Array) -> Array:
        count = xp.sum(xp.astype(mask, token_logps.dtype), axis=-1)
        return masked_sum(token_logps - collision, mask) / xp.where(
            count > 0, count, xp.ones_like(count)
        )

    total = log_weight(
        logps.chosen, needed(logps.chosen_collision, "chosen_collision"), logps.chosen_mask
    )
    total = total + log_weight(
        logps.rejected, needed(logps.rejected_collision, "rejected_collision"), logps.rejected_mask
    )
    if clamp:
        total = xp.where(total > 0, xp.zeros_like(total), total)
    return stop_gradient(xp.exp(total)) * soft_logistic(beta * margin, 1)


@checked
def ld_dpo(logps: TokenPairLogps[ArrayT], *, beta: Number = 0.1, alpha: float = 0.5) -> ArrayT:
    r"""Length-desensitised DPO.

    Tokens beyond the shorter response's length count α, in policy and reference alike.

    Parameters
    ----------
    logps
        Token log-probabilities in nats, each ``(..., n, T)``.
    beta
        Strength of the KL penalty, > 0.
    alpha
        Weight of the excess tokens, in [0, 1]: 1 is DPO.

    Returns
    -------
    Array ``(..., n)``, nats.

    References
    ----------
    Liu et al. 2024, eq. 9, arXiv:2409.06411 (equation number not confirmed).
    """
    check_positive(arrays=True, beta=beta)
    check_interval(alpha=alpha, low=0.0, high=1.0, closed="both")
    check_token_pairs(logps)
    xp = array_namespace(logps.chosen)
    dtype = logps.chosen.dtype
    scored = xp.astype(logps.chosen_mask, dtype), xp.astype(logps.rejected_mask, dtype)
    chosen_count, rejected_count = (xp.sum(each, axis=-1, keepdims=True) for each in scored)
    shorter = xp.minimum(chosen_count, rejected_count)

    def weighted(log_ratio: ArrayT, mask: Array) -> ArrayT:
        count = xp.astype(mask, dtype)
        position = xp.cumulative_sum(count, axis=-1)
        share = xp.where(position <= shorter, xp.ones_like(count), xp.full_like(count, alpha))
        return masked_sum(log_ratio * share, mask)

    chosen = weighted(logps.chosen - logps.ref_chosen, logps.chosen_mask)
    rejected = weighted(logps.rejected - logps.ref_rejected, logps.rejected_mask)
    return soft_logistic(beta * (chosen - rejected), 1)
