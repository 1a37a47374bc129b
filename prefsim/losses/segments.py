"""Losses on compared trajectory segments: a contrast of two segment scores, one value per pair."""

from __future__ import annotations

from array_api_compat import device

from prefsim.checks import (
    as_floats,
    check_broadcast,
    check_interval,
    check_no_nan,
    check_nonnegative,
    check_positive,
    check_same_shape,
    names_shapes,
)
from prefsim.containers import ListLogps, TokenPairLogps
from prefsim.losses.edge import checked
from prefsim.numerics import array_namespace, over_rows, softplus
from prefsim.raters.regret import segment_return
from prefsim.typing import Array, ArrayT, Number

__all__ = [
    "cpl",
    "cpl_ranked",
    "regret",
    "segment_contrast",
    "segment_scores",
    "squared_error_logps",
]


def segment_contrast(
    chosen_score: ArrayT, rejected_score: Array, *, lambda_: Number = 1.0
) -> ArrayT:
    r"""Return the cost of preferring score :math:`v_w` over :math:`v_l`.

    :math:`\log(1 + e^{\lambda v_l - v_w})`.

    With λ = 1 this is the Bradley–Terry loss of the two scores; λ < 1 discounts the rejected score
    alone.

    Raises
    ------
    ValueError
        If ``lambda_`` lies outside (0, 1].

    References
    ----------
    Hejna et al. 2023, eqs. 4-5, arXiv:2310.13639 (equation numbers not confirmed).
    """
    check_interval(arrays=True, lambda_=lambda_, low=0.0, high=1.0, closed="right")
    return softplus(lambda_ * rejected_score - chosen_score)


def segment_scores(
    logps: TokenPairLogps[ArrayT], *, alpha: Number = 0.1, discount: float = 1.0
) -> tuple[ArrayT, ArrayT]:
    r"""Return the scores of chosen and rejected segments, each ``(..., n)``.

    :math:`v = \alpha \sum_t \gamma^t \log\frac{\pi(a_t|s_t)}{\pi_{ref}(a_t|s_t)}`.

    The sum is not divided by the number of steps, so that of two segments of unequal length the
    longer one starts with the lower score.

    Raises
    ------
    ValueError
        If ``alpha`` or ``discount`` is out of range, shapes differ, there is no step or a mask is
        not boolean.
    """
    check_positive(arrays=True, alpha=alpha)
    check_same_shape(**logps._asdict())
    chosen = segment_return(logps.chosen - logps.ref_chosen, logps.chosen_mask, discount=discount)
    rejected = segment_return(
        logps.rejected - logps.ref_rejected, logps.rejected_mask, discount=discount
    )
    return alpha * chosen, alpha * rejected


def _surprise(logps: ArrayT, mask: Array) -> tuple[ArrayT, ArrayT]:
    """Return the summed ``−log π`` of the scored steps and their number, each ``(..., n)``."""
    xp = array_namespace(logps)
    return -segment_return(logps, mask), xp.sum(xp.astype(mask, logps.dtype), axis=-1)


def _mean_over_steps(total: ArrayT, count: Array) -> ArrayT:
    xp = array_namespace(total)
    return total / xp.where(count > 0, count, xp.ones_like(count))


@checked
def cpl(
    logps: TokenPairLogps[ArrayT],
    *,
    alpha: Number = 0.1,
    lambda_: Number = 0.5,
    discount: float = 1.0,
    bc_coeff: Number = 0.0,
    bc_chosen_coeff: Number = 0.0,
) -> ArrayT:
    r"""Contrastive preference learning, one value per pair of segments.

    .. math:: \log\!\big(1 + e^{\lambda v_l - v_w}\big) + c\,\overline{-\log\pi},\qquad
              v = \alpha \sum_t \gamma^t \log\frac{\pi(a_t|s_t)}{\pi_{ref}(a_t|s_t)}

    Without a reference (log-probabilities of zero) this is CPL(λ), with one CPL-KL; with
    ``lambda_=1`` and ``bc_coeff=1`` it is CPL-BC.

    Parameters
    ----------
    logps
        Log-probabilities of each step, ``(..., n, T)`` in nats; masks mark the steps that are
        scored.
    alpha
        Temperature of the maximum-entropy expert, > 0, in units of reward per nat.
    lambda_
        Conservative bias in (0, 1] on the rejected score alone: below 1, raising the probability of
        *both* segments lowers the loss, which keeps the policy near the data.
    discount
        γ in [0, 1] inside a segment. The labels' own discount makes the loss consistent; the
        authors' release uses 1.
    bc_coeff
        Weight c >= 0 of behaviour cloning: the mean of ``−log π`` over the scored steps of both
        segments.
    bc_chosen_coeff
        The same over the scored steps of the preferred segment alone.

    Returns
    -------
    Array ``(..., n)``, nats.

    Raises
    ------
    ValueError
        If a parameter is out of range, shapes differ, there is no step or a mask is not boolean.

    References
    ----------
    Hejna et al. 2023, eqs. 4-7, arXiv:2310.13639 (equation numbers not confirmed).

    Examples
    --------
    >>> import numpy as np
    >>> chosen, rejected = np.asarray([[-0.5, -1.0, -0.2]]), np.asarray([[-0.9, -0.3, -1.4]])
    >>> zero, every = np.zeros((1, 3)), np.ones((1, 3), dtype=bool)
    >>> cpl(
    ...     TokenPairLogps(chosen, rejected, zero, zero, every, every), alpha=0.1, lambda_=0.5
    ... ).round(10)
    array([0.71334717])
    """
    check_nonnegative(arrays=True, bc_coeff=bc_coeff, bc_chosen_coeff=bc_chosen_coeff)
    chosen_score, rejected_score = segment_scores(logps, alpha=alpha, discount=discount)
    loss = segment_contrast(chosen_score, rejected_score, lambda_=lambda_)
    if _is_zero(bc_coeff) and _is_zero(bc_chosen_coeff):
        return loss
    chosen, n_chosen = _surprise(logps.chosen, logps.chosen_mask)
    rejected, n_rejected = _surprise(logps.rejected, logps.rejected_mask)
    both = _mean_over_steps(chosen + rejected, n_chosen + n_rejected)
    return loss + bc_coeff * both + bc_chosen_coeff * _mean_over_steps(chosen, n_chosen)


def _is_zero(coefficient: Number) -> bool:
    return isinstance(coefficient, int | float) and coefficient == 0


@checked
def cpl_ranked(logps: ListLogps[ArrayT], *, alpha: Number = 0.1, lambda_: Number = 0.5) -> ArrayT:
    r"""Contrastive preference learning on scored segments.

    The mean contrast over all pairs of a list, one value per list.

    .. math:: \binom{K}{2}^{-1} \sum_{s_j > s_i} \log\!\big(1 + e^{\lambda v_i - v_j}\big),\qquad
        v = \alpha\log\frac{\pi}{\pi_{ref}}

    Equal scores count half each way (the authors' release takes them in the order in which the sort
    leaves them).

    Parameters
    ----------
    logps
        Log-probabilities of whole segments, ``(..., n, K)`` in nats, and their ``scores``.
    alpha, lambda_
        As for :func:`cpl`.

    Returns
    -------
    Array ``(..., n)``, nats.

    Raises
    ------
    ValueError
        If a parameter is out of range, shapes differ or a list holds fewer than two segments.

    References
    ----------
    Hejna et al. 2023, arXiv:2310.13639, and its release (score mode).
    """
    check_positive(arrays=True, alpha=alpha)
    check_same_shape(**logps._asdict())
    # No comparison holds of a NaN, which would count for nothing.
    check_no_nan(logps.scores, "scores")
    k = logps.logps.shape[-1] if logps.logps.ndim else 0
    if k < 2:
        raise ValueError(
            "logps must hold at least two segments in each list, got shape"
            f" {tuple(logps.logps.shape)}"
        )
    value = over_rows(alpha) * (logps.logps - logps.ref_logps)
    contrast = segment_contrast(
        value[..., :, None], value[..., None, :], lambda_=over_rows(over_rows(lambda_))
    )
    better, worse = logps.scores[..., :, None], logps.scores[..., None, :]
    xp = array_namespace(contrast)
    one = xp.ones_like(contrast)
    weight = xp.where(
        better > worse, one, xp.where(better == worse, 0.5 * one, xp.zeros_like(contrast))
    )
    others = 1 - xp.eye(k, dtype=contrast.dtype, device=device(contrast))
    return xp.sum(weight * others * contrast, axis=(-2, -1)) / (k * (k - 1) / 2)


@names_shapes
def regret(
    advantages: ArrayT,
    mask: Array | None = None,
    *,
    prob: Array | float = 1.0,
    discount: float = 1.0,
) -> ArrayT:
    r"""Cross-entropy of the regret preference model, one value per pair of segments.

    .. math:: -\mu\log P - (1-\mu)\log(1-P),\qquad
        P = \sigma\Big(\sum_t \gamma^t A^*(s^1_t,a^1_t) - \sum_t \gamma^t A^*(s^2_t,a^2_t)\Big)

    With rewards in place of advantages it is the cross-entropy of the partial-return model.

    Parameters
    ----------
    advantages
        Optimal advantages (a critic's, or ``α log π``) of both segments, ``(..., n, 2, T)``, in
        log-odds.
    mask
        Boolean, of the same shape: which steps count; all unless given.
    prob
        μ = P(first segment preferred) in [0, 1], ``(..., n)`` or one number; ½ is a tie.
    discount
        γ in [0, 1] inside a segment.

    Returns
    -------
    Array ``(..., n)``, nats.

    Raises
    ------
    ValueError
        If the two segments are not in the second to last axis, there is no step, shapes differ or
        ``discount`` is out of range.

    References
    ----------
    Knox et al. 2022, section 3, arXiv:2206.02231.

    Examples
    --------
    >>> import numpy as np
    >>> regret(np.asarray([[[0.0, 0.0], [-1.0, -2.0]]])).round(6)
    array([0.048587])
    """
    advantages, prob = as_floats(nan=True, advantages=advantages, prob=prob)
    if len(advantages.shape) < 2 or advantages.shape[-2] != 2:
        raise ValueError(
            "advantages must have shape (..., 2, T), first and second segment, got"
            f" {tuple(advantages.shape)}"
        )
    check_interval(arrays=True, low=0.0, high=1.0, closed="both", prob=prob)
    if advantages.shape[-1] == 0:
        raise ValueError(f"advantages must have T >= 1 steps, got shape {tuple(advantages.shape)}")
    score = segment_return(advantages, mask, discount=discount)
    first, second = score[..., 0], score[..., 1]
    check_broadcast(advantages=first, prob=prob)
    return prob * segment_contrast(first, second) + (1 - prob) * segment_contrast(second, first)


def squared_error_logps(actions: ArrayT, means: Array) -> ArrayT:
    r"""Return :math:`-\lVert a - \mu(s)\rVert^2`, with neither ½ nor constant.

    It stands for ``log π`` in a policy with a deterministic mean.

    Parameters
    ----------
    actions, means
        ``(..., T, d)``, in the units of the actions.

    Returns
    -------
    Array ``(..., T)``, for the fields of :class:`~prefsim.losses.TokenPairLogps`.

    References
    ----------
    Hejna et al. 2023, arXiv:2310.13639, and its release (continuous control).
    """
    check_same_shape(actions=actions, means=means)
    return -array_namespace(actions).sum((actions - means) ** 2, axis=-1)
