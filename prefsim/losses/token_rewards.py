r"""Rewards of tokens: what a trained policy says of each of them, beside a score of the whole.

The log-ratio of a policy to the reference that it was trained from is a reward of tokens: with
:math:`\pi^*` the optimum of :math:`E\,r - \beta\,\mathrm{KL}`,

.. math:: \beta\log\frac{\pi^*(a|s)}{\pi_{ref}(a|s)} = r(s,a) + V^*(s a) - V^*(s)

which has the same optimum as r, and says at once what r says at the end.
"""

from __future__ import annotations

import math
from typing import Any

from prefsim.checks import (
    check_entries,
    check_interval,
    check_no_nan,
    check_nonnegative,
    check_positive,
    check_same_shape,
)
from prefsim.losses.advantages import check_responses, kl_shaped_rewards, with_mask
from prefsim.numerics import array_namespace, host_values
from prefsim.typing import Array, ArrayT

__all__ = ["log_ratio_rewards", "rto_rewards"]


def check_unbroken(mask: Array) -> None:
    """Raise where the tokens of a response do not follow one another, if values may be looked at.

    What is paid behind a hole would be credited to tokens that do not lead to it.
    """
    seen = host_values(mask)
    if seen is None:
        return
    starts = seen[..., 1:] & ~seen[..., :-1]
    if (starts.sum(axis=-1) + seen[..., :1].sum(axis=-1) > 1).any():
        raise ValueError("mask must leave no hole between the tokens of a response, got one")


def log_ratio_rewards(
    logp: ArrayT, ref_logp: ArrayT, mask: Array, *, scale: float = 1.0, clip: float = math.inf
) -> ArrayT:
    r"""Return the log-ratio of two policies as a reward of each token, ``(..., T)``.

    .. math:: r_t = \mathrm{clip}\Big(\beta_1\log\frac{\pi(y_t)}{\pi_{ref}(y_t)}, \pm c\Big)

    Parameters
    ----------
    logp, ref_logp
        ``(..., T)`` in nats, of a trained policy (by DPO, say) and of the reference of its
        training.
    mask
        ``(..., T)``, which tokens belong to the response, without holes; 0 is paid elsewhere.
    scale
        β₁, in units of the reward, > 0: the β that the policy was trained with makes it the reward
        that the policy is optimal for, shaped by its values.
    clip
        c, the most that a token is paid or fined, in (0, inf]; after the scale.

    Raises
    ------
    ValueError
        If an option is out of range, shapes differ, a response has no token or a hole, or a token
        has no log-ratio.

    References
    ----------
    Zhong et al. 2024 (RTO), arXiv:2404.18922; Rafailov et al. 2024, arXiv:2404.12358.

    Examples
    --------
    >>> import numpy as np
    >>> trained, ref = np.asarray([-0.7, -0.9, -0.3]), np.asarray([-1.2, -0.4, -1.5])
    >>> log_ratio_rewards(trained, ref, np.ones(3, bool), scale=0.05, clip=0.05).round(12)
    array([ 0.025, -0.025,  0.05 ])
    """
    check_positive(scale=scale)
    check_interval(low=0.0, high=math.inf, closed="right", clip=clip)
    logp, ref_logp, mask = with_mask(mask, logp=logp, ref_logp=ref_logp)
    check_same_shape(logp=logp, ref_logp=ref_logp, mask=mask)
    check_responses(mask)
    check_unbroken(mask)
    xp = array_namespace(logp)
    check_no_nan(logp, "logp", counted=mask)
    check_no_nan(ref_logp, "ref_logp", counted=mask)
    check_entries(
        xp.where(logp > -math.inf, logp, ref_logp),
        "logp and ref_logp",
        "not both be -inf at a token",
        lambda x: x > -math.inf,
        counted=mask,
    )
    ratio = xp.where(mask, logp - ref_logp, xp.zeros_like(logp))
    return xp.clip(scale * ratio, -clip, clip)


def rto_rewards(
    scores: ArrayT,
    old_logp: ArrayT,
    ref_logp: ArrayT,
    dpo_logp: ArrayT,
    mask: Array,
    *,
    scale: float = 0.05,
    clip: float = 0.05,
    beta: float = 0.01,
    score_scale: float = 1.0,
    score_clip: float = 10.0,
) -> ArrayT:
    r"""Return the rewards of reinforced token optimisation, ``(..., T)``.

    .. math:: r_t = \mathrm{clip}\Big(\beta_1\log\frac{\pi_{dpo}(y_t)}{\pi_{ref}(y_t)}, \pm c\Big)
        - \beta_2\log\frac{\pi_{old}(y_t)}{\pi_{ref}(y_t)}
        + 1\{t\ \text{last}\}\,\beta_3\,\mathrm{clip}(R(y), \pm C)

    What :func:`log_ratio_rewards` and :func:`kl_shaped_rewards` pay together. Without clipping the
    optimum is, of whole responses,

    .. math:: \propto \pi_{ref}\,(\pi_{dpo}/\pi_{ref})^{\beta_1/\beta_2}\,e^{\beta_3 R/\beta_2}

    so that the defaults raise the ratio to the fifth power.

    Parameters
    ----------
    scores
        R, ``(...)``, of whole responses.
    old_logp, ref_logp, dpo_logp
        ``(..., T)`` in nats: of the policy that drew the response, which is not the one that is
        being trained once that has moved; of the reference; of the policy trained by DPO from it.
    mask
        ``(..., T)``, which tokens belong to the response, without holes; 0 is paid elsewhere.
    scale
        β₁ > 0.
    clip
        c in (0, inf], after the scale.
    beta
        β₂ >= 0, strength of the KL penalty in units of the reward.
    score_scale
        β₃ >= 0.
    score_clip
        C in (0, inf], before the scale of the score.

    Raises
    ------
    ValueError
        If an option is out of range, shapes differ, or a response has no token or a hole.

    References
    ----------
    Zhong et al. 2024, arXiv:2404.18922, with the defaults of the authors' release.

    Examples
    --------
    >>> import numpy as np
    >>> old, ref = np.asarray([-1.0, -0.5, -2.0]), np.asarray([-1.2, -0.4, -1.5])
    >>> dpo = np.asarray([-0.7, -0.9, -0.3])
    >>> rto_rewards(np.asarray(1.3), old, ref, dpo, np.ones(3, bool)).round(12)
    array([ 0.023, -0.024,  1.355])
    """
    check_nonnegative(beta=beta, score_scale=score_scale)
    check_interval(low=0.0, high=math.inf, closed="right", score_clip=score_clip)
    scores, old_logp, ref_logp, dpo_logp, mask = with_mask(
        mask, scores=scores, old_logp=old_logp, ref_logp=ref_logp, dpo_logp=dpo_logp
    )
    # Here, for below it goes by another name.
    check_same_shape(old_logp=old_logp, ref_logp=ref_logp, dpo_logp=dpo_logp, mask=mask)
    check_no_nan(dpo_logp, "dpo_logp", counted=mask)
    tokens = log_ratio_rewards(dpo_logp, ref_logp, mask, scale=scale, clip=clip)
    xp: Any = array_namespace(scores)
    paid = score_scale * xp.clip(scores, -score_clip, score_clip)
    return tokens + kl_shaped_rewards(paid, old_logp, ref_logp, mask, beta=beta)
