r"""Losses of self-play on sampled responses that a judge compared with an opponent's."""

from __future__ import annotations

from typing import Any, NamedTuple

from prefsim._validate import check_choice, check_nonnegative, check_same_shape
from prefsim.losses.containers import JudgedLogps
from prefsim.numerics import array_namespace, stop_gradient

Array = Any

__all__ = ["Judgement", "antisymmetrised", "nash_md_pg"]


class Judgement(NamedTuple):
    """Probabilities ``(...,)`` that the first response is preferred, and which of them to keep: an abstention says nothing."""

    win_prob: Array
    kept: Array


def antisymmetrised(forward: Array, backward: Array) -> Judgement:
    r"""Return the judge's probability freed from the order in which it saw the pair, :math:`\tfrac12 (P(y,y') + 1 - P(y',y))`.

    Parameters
    ----------
    forward, backward
        ``(...,)``: the judge's probability that the response shown first is preferred, for the pair and for the pair in reverse order. A
        value outside [0, 1], such as -1, is an abstention.

    Examples
    --------
    >>> import numpy as np
    >>> antisymmetrised(np.array([0.75, -1.0]), np.array([0.5, 0.25]))
    Judgement(win_prob=array([0.625, 0.5  ]), kept=array([ True, False]))
    """
    check_same_shape(forward=forward, backward=backward)
    xp = array_namespace(forward, backward)
    kept = (forward >= 0) & (forward <= 1) & (backward >= 0) & (backward <= 1)
    return Judgement(xp.where(kept, 0.5 * (forward + 1.0 - backward), xp.full_like(forward, 0.5)), kept)


def nash_md_pg(logps: JudgedLogps, *, tau: float = 0.1, kl: str = "sequence") -> Array:
    r"""Nash-MD-PG loss, one value per response; its gradient is the negative of the policy-gradient estimate.

    .. math:: -\operatorname{sg}\big[P(y \succ y') - \tfrac12 - \tau\textstyle\sum_t r_t\big] \sum_t \log\pi(y_t),\qquad
        r_t = \log\frac{\pi(y_t)}{\mu(y_t)}

    with y drawn from the policy and y' from the opponent, both constants of differentiation (sg stops the gradient).

    Parameters
    ----------
    logps
        Token log-probabilities of sampled responses and the judge's verdict.
    tau
        Strength of the KL penalty, >= 0.
    kl
        ``"sequence"``: every token is weighted by the log-ratio of the whole response, an unbiased gradient of the penalty. ``"token"``:
        every token by its own, :math:`\tau\sum_t \operatorname{sg}[r_t]\log\pi(y_t) - (P - \tfrac12)\sum_t\log\pi(y_t)`, of lower
        variance but biased: it misses what a token does to the log-ratios after it.

    Returns
    -------
    Array ``(..., n)``.

    Raises
    ------
    ValueError
        If ``tau`` or ``kl`` is out of range, or shapes differ.

    References
    ----------
    Munos et al. 2023, arXiv:2312.00886; the ``"token"`` form is that of ``NashMDTrainer`` in the TRL library.
    """
    check_nonnegative(tau=tau)
    check_choice(("sequence", "token"), kl=kl)
    check_same_shape(logp=logps.logp, ref_logp=logps.ref_logp, mask=logps.mask)
    check_same_shape(win_prob=logps.win_prob, responses=logps.logp[..., 0])
    xp = array_namespace(logps.logp)
    zero = xp.zeros_like(logps.logp)
    logp = xp.where(logps.mask, logps.logp, zero)
    log_ratio = stop_gradient(logp - xp.where(logps.mask, logps.ref_logp, zero))
    total = xp.sum(logp, axis=-1)
    advantage = stop_gradient(logps.win_prob) - 0.5
    if kl == "sequence":
        return -(advantage - tau * xp.sum(log_ratio, axis=-1)) * total
    return tau * xp.sum(log_ratio * logp, axis=-1) - advantage * total
