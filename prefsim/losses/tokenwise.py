"""Losses on pairs that look at single tokens; what lies behind a mask never matters."""

from __future__ import annotations

from prefsim.checks import (
    check_entries,
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

__all__ = ["ld_dpo", "sparse_po", "tdpo1", "tdpo2", "wpo"]


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


def token_score(
    log_ratio: ArrayT,
    kl: ArrayT,
    mask: Array,
    *,
    reward_weight: ArrayT | None = None,
    kl_weight: ArrayT | None = None,
) -> ArrayT:
    r"""Return the implied reward of responses in units of β, token by token.

    .. math:: \sum_t \Big(m_u(t) \log\frac{\pi(y_t|s_t)}{\pi_{ref}(y_t|s_t)}
        + m_d(t)\,\mathrm{KL}(\pi_{ref}(\cdot|s_t)\|\pi(\cdot|s_t))\Big)

    With equal weights :math:`m_u = m_d = m` a term is the advantage, over the reference, of the
    token for which π is optimal at the strength βm of the KL penalty.

    Parameters
    ----------
    log_ratio
        Of policy and reference, ``(..., T)`` in nats.
    kl
        At each token, ``(..., T)`` in nats.
    mask
        Which tokens belong to the response, ``(..., T)``; behind it there may be anything.
    reward_weight, kl_weight
        :math:`m_u` and :math:`m_d`, ``(..., T)``; ones unless given.

    Returns
    -------
    Array ``(...)``, nats.

    References
    ----------
    Christopoulou et al. 2024 (SparsePO), section 3, arXiv:2410.05102; with weights of one Zeng et
    al. 2024 (TDPO), arXiv:2404.11999.

    Examples
    --------
    >>> import numpy as np
    >>> log_ratio, kl = np.asarray([0.3, -0.2]), np.asarray([0.02, 0.1])
    >>> every = np.asarray([True, True])
    >>> sparse = np.asarray([1.0, 0.0])
    >>> token_score(log_ratio, kl, every).round(6)
    np.float64(0.22)
    >>> token_score(log_ratio, kl, every, reward_weight=sparse, kl_weight=sparse).round(6)
    np.float64(0.32)
    """
    xp = array_namespace(log_ratio)
    # Before the products: the derivative in a weight is what it weighs, behind the mask too.
    log_ratio, kl = (xp.where(mask, each, xp.zeros_like(each)) for each in (log_ratio, kl))
    rewarded = log_ratio if reward_weight is None else reward_weight * log_ratio
    held = kl if kl_weight is None else kl_weight * kl
    return masked_sum(rewarded + held, mask)


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
    check_token_pairs(logps)
    chosen = token_score(
        logps.chosen - logps.ref_chosen, needed(logps.chosen_kl, "chosen_kl"), logps.chosen_mask
    )
    rejected = token_score(
        logps.rejected - logps.ref_rejected,
        needed(logps.rejected_kl, "rejected_kl"),
        logps.rejected_mask,
    )
    return soft_logistic(beta * (chosen - rejected), 1)


@checked
def sparse_po(
    logps: TokenPairLogps[ArrayT],
    *,
    beta: Number = 0.1,
    reward_l1: Number = 0.0,
    kl_l1: Number = 0.0,
) -> ArrayT:
    r"""SparsePO: token-level DPO in which each token has a weight, of which many can be zero.

    .. math:: \ell\big(\beta[f(y^w) - f(y^l)]\big)
        + \lambda_u(\|m_u(y^w)\|_1 + \|m_u(y^l)\|_1)
        + \lambda_d(\|m_d(y^w)\|_1 + \|m_d(y^l)\|_1),\qquad
        f(y) = \sum_t (m_u d_t + m_d k_t)

    with log-ratios d and KL divergences k of the tokens (:func:`token_score`). Weights of one make
    it :func:`tdpo1`; weights of one on the log-ratios and of zero on the divergences, DPO. The
    weights are functions of the reference's activations
    (:func:`prefsim.losses.activation_weights`, MaPO) or are learned along with the policy
    (:func:`prefsim.losses.relu_weights`): derivatives go through both, and through both
    divergences.

    Parameters
    ----------
    logps
        Token log-probabilities in nats, both ``*_kl``, both ``*_reward_weight`` and both
        ``*_kl_weight``, each ``(..., n, T)``; the weights >= 0.
    beta
        Strength of the KL penalty, > 0. Scaling all weights changes it too.
    reward_l1, kl_l1
        Penalties λ of the sums of the weights over the tokens of both responses, >= 0. Without
        them weights that are learned grow wherever a pair is in order. Where the policy is still
        at the reference they act alone, and large ones turn weights off for good.

    Returns
    -------
    Array ``(..., n)``, nats.

    Raises
    ------
    ValueError
        If a parameter or a weight is out of range, a field is missing, or shapes differ.

    References
    ----------
    Christopoulou et al. 2024, section 3, arXiv:2410.05102.
    """
    check_positive(arrays=True, beta=beta)
    check_nonnegative(arrays=True, reward_l1=reward_l1, kl_l1=kl_l1)
    check_token_pairs(logps)
    chosen = _weighted(
        logps.chosen - logps.ref_chosen,
        logps.chosen_mask,
        chosen_kl=logps.chosen_kl,
        chosen_reward_weight=logps.chosen_reward_weight,
        chosen_kl_weight=logps.chosen_kl_weight,
    )
    rejected = _weighted(
        logps.rejected - logps.ref_rejected,
        logps.rejected_mask,
        rejected_kl=logps.rejected_kl,
        rejected_reward_weight=logps.rejected_reward_weight,
        rejected_kl_weight=logps.rejected_kl_weight,
    )
    of_reward, of_kl = (a + b for a, b in zip(chosen[1:], rejected[1:], strict=True))
    loss = soft_logistic(beta * (chosen[0] - rejected[0]), 1)
    return loss + reward_l1 * of_reward + kl_l1 * of_kl


def _weighted(
    log_ratio: ArrayT, mask: Array, **named: ArrayT | None
) -> tuple[ArrayT, ArrayT, ArrayT]:
    """Return the score of responses and the sums of both of their weights.

    ``named`` holds divergences, weights of the log-ratios and weights of the divergences.
    """
    kl, *weights = (needed(value, name) for name, value in named.items())
    for name, weight in zip(list(named)[1:], weights, strict=True):
        check_entries(weight, name, "be >= 0", lambda x: x >= 0, counted=mask)
    reward_weight, kl_weight = weights
    score = token_score(log_ratio, kl, mask, reward_weight=reward_weight, kl_weight=kl_weight)
    return score, masked_sum(reward_weight, mask), masked_sum(kl_weight, mask)


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
