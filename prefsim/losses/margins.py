"""Losses of a pair whose margin carries an offset or another link than the logistic one."""

from __future__ import annotations

import math
from typing import Any

from prefsim.checks import check_entries, check_interval, check_nonnegative, check_positive
from prefsim.containers import PairLogps
from prefsim.divergences import divergence_score
from prefsim.losses.edge import checked
from prefsim.losses.links import soft_logistic
from prefsim.losses.pair_fields import lengths_of, scores_of
from prefsim.losses.pairwise import log_ratios, mean_log_ratios, reward_margin
from prefsim.numerics import (
    array_namespace,
    bounded_exp,
    log_sigmoid,
    normal_log_cdf,
    sigmoid,
)
from prefsim.typing import ArrayT, Number

__all__ = [
    "chipo",
    "discopop",
    "dpop",
    "exo_pair",
    "flex_dpo",
    "odpo",
    "probit",
    "rdpo_length",
    "sigmoid_norm",
]


@checked
def sigmoid_norm(logps: PairLogps[ArrayT], *, beta: Number = 0.1) -> ArrayT:
    r"""DPO on log-ratios per scored token, :math:`\ell(\beta(a/|y_w| - b/|y_l|))`.

    Parameters
    ----------
    logps
        Log-probabilities in nats and both lengths, each ``(..., n)``.
    beta
        Strength, > 0; per-token ratios are small, so that useful values are 2 to 10.

    Returns
    -------
    Array ``(..., n)``, nats.

    References
    ----------
    TRL ``loss_type="sigmoid_norm"``, which divides by the unshifted mask; here by the scored
    tokens.
    """
    check_positive(arrays=True, beta=beta)
    chosen, rejected = mean_log_ratios(logps)
    return soft_logistic(beta * (chosen - rejected), 1)


@checked
def rdpo_length(logps: PairLogps[ArrayT], *, beta: Number = 0.1, alpha: Number = 0.05) -> ArrayT:
    r"""Length-regularised DPO, :math:`\ell(\beta h + \alpha(|y_w| - |y_l|))`.

    Parameters
    ----------
    logps
        Log-probabilities in nats and both lengths, each ``(..., n)``.
    beta
        Strength of the KL penalty, > 0.
    alpha
        Price of one token in reward, >= 0. The sign is plus: it asks less of a pair whose winner is
        longer.

    Returns
    -------
    Array ``(..., n)``, nats.

    References
    ----------
    Park et al. 2024, eq. 9, arXiv:2403.19159 (equation number not confirmed).
    """
    check_positive(arrays=True, beta=beta)
    check_nonnegative(arrays=True, alpha=alpha)
    chosen_length, rejected_length = lengths_of(logps)
    margin = reward_margin(logps)
    return soft_logistic(beta * margin + alpha * (chosen_length - rejected_length), 1)


@checked
def odpo(logps: PairLogps[ArrayT], *, beta: Number = 0.1, alpha: Number = 1.0) -> ArrayT:
    r"""DPO with an offset, :math:`\ell(\beta h - \alpha\log(s_w - s_l))`.

    Parameters
    ----------
    logps
        Log-probabilities in nats and both scores, each ``(..., n)``; every chosen score must exceed
        its rejected one.
    beta
        Strength of the KL penalty, > 0.
    alpha
        Weight of the offset, >= 0.

    Returns
    -------
    Array ``(..., n)``, nats.

    Raises
    ------
    ValueError
        If scores are missing, or a chosen score does not exceed the rejected one.

    References
    ----------
    Amini, Vieira and Cotterell 2024, eq. 8, arXiv:2402.10571 (equation number not confirmed).
    """
    check_positive(arrays=True, beta=beta)
    check_nonnegative(arrays=True, alpha=alpha)
    margin = reward_margin(logps)
    chosen, rejected = scores_of(logps)
    gap = chosen - rejected
    check_entries(gap, "chosen_score", "exceed rejected_score by more than 0", lambda x: x > 0)
    return soft_logistic(beta * margin - alpha * array_namespace(gap).log(gap), 1)


@checked
def dpop(logps: PairLogps[ArrayT], *, beta: Number = 0.3, penalty: Number = 50.0) -> ArrayT:
    r"""DPO-positive (Smaug), :math:`\ell(\beta(h - \lambda\max(0, -a)))`.

    It pays for a falling chosen log-probability.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``.
    beta
        Strength of the KL penalty, > 0.
    penalty
        λ >= 0.

    Returns
    -------
    Array ``(..., n)``, nats.

    References
    ----------
    Pal et al. 2024, eq. 3, arXiv:2402.13228 (equation number not confirmed).
    """
    check_positive(arrays=True, beta=beta)
    check_nonnegative(arrays=True, penalty=penalty)
    chosen, rejected = log_ratios(logps)
    fall = array_namespace(chosen).clip(-chosen, 0.0, None)
    return soft_logistic(beta * (chosen - rejected - penalty * fall), 1)


@checked
def flex_dpo(
    logps: PairLogps[ArrayT], *, beta: Number = 0.1, beta_rejected: Number = 0.08
) -> ArrayT:
    r"""DPO with a strength for each response, :math:`\ell(\beta a - \beta^- b)`.

    With the log-ratios a of the chosen and b of the rejected response.

    A smaller strength of the rejected response pushes it down less hard, by :math:`\beta^-/\beta`
    of the pull on the chosen one; at 0 only the chosen response is left.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``.
    beta
        Strength of the KL penalty as the chosen response sees it, > 0.
    beta_rejected
        That of the rejected response, >= 0; DPO where both are equal.

    Returns
    -------
    Array ``(..., n)``, nats.

    Raises
    ------
    ValueError
        If a strength is out of range, or shapes differ.

    References
    ----------
    Yan et al. 2024, Flex-DPO, section 5 (number not confirmed), arXiv:2406.07327.

    Examples
    --------
    >>> import numpy as np
    >>> pair = PairLogps(*(np.log([p]) for p in (0.4, 0.1, 0.4, 0.3)))
    >>> flex_dpo(pair, beta=0.1, beta_rejected=0.02).round(8)
    array([0.6822214])
    """
    check_positive(arrays=True, beta=beta)
    check_nonnegative(arrays=True, beta_rejected=beta_rejected)
    chosen, rejected = log_ratios(logps)
    return soft_logistic(beta * chosen - beta_rejected * rejected, 1)


@checked
def exo_pair(logps: PairLogps[ArrayT], *, beta: Number = 0.1, epsilon: Number = 1e-3) -> ArrayT:
    r"""Efficient exact optimisation on pairs.

    :math:`KL(q \| (1-\epsilon, \epsilon))` with :math:`q = \sigma(\beta h)`.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``.
    beta
        Strength of the KL penalty, > 0.
    epsilon
        Smoothing of the target, in (0, 0.5).

    Returns
    -------
    Array ``(..., n)``, nats, >= 0.

    References
    ----------
    Ji et al. 2024, eq. 14, arXiv:2402.00856 (equation number not confirmed).
    """
    check_positive(arrays=True, beta=beta)
    check_interval(arrays=True, epsilon=epsilon, low=0.0, high=0.5, closed="neither")
    z = beta * reward_margin(logps)
    q, other = sigmoid(z), sigmoid(-z)
    log_target, log_rest = _log_shares(epsilon)
    return q * (log_sigmoid(z) - log_target) + other * (log_sigmoid(-z) - log_rest)


def _log_shares(epsilon: Any) -> tuple[Any, Any]:
    """Return the logarithms of 1 − ε and ε."""
    if isinstance(epsilon, int | float):
        return math.log1p(-epsilon), math.log(epsilon)
    xp = array_namespace(epsilon)
    return xp.log1p(-epsilon), xp.log(epsilon)


@checked
def discopop(logps: PairLogps[ArrayT], *, beta: Number = 0.05, tau: Number = 0.05) -> ArrayT:
    r"""Discovered preference optimisation (log-ratio modulated loss).

    .. math:: (1-s)\,\ell(z) + s\,e^{-z},\qquad s = \sigma(z/\tau),\quad z = \beta h

    Not monotone in the margin for small τ, and written so that no exponential overflows.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``.
    beta
        Strength of the KL penalty, > 0.
    tau
        Temperature of the modulation, > 0.

    Returns
    -------
    Array ``(..., n)``.

    References
    ----------
    Lu et al. 2024, eq. 6, arXiv:2406.08414 (equation number not confirmed).
    """
    check_positive(arrays=True, beta=beta, tau=tau)
    z = beta * reward_margin(logps)
    exponent = log_sigmoid(z / tau) - z
    # For τ <= 1 the exponent is never positive.
    bounded = isinstance(tau, int | float) and tau <= 1
    modulated = array_namespace(z).exp(exponent) if bounded else bounded_exp(exponent)
    return -sigmoid(-z / tau) * log_sigmoid(z) + modulated


@checked
def chipo(logps: PairLogps[ArrayT], *, beta: Number = 0.1, clip: float | None = None) -> ArrayT:
    r"""χPO: DPO with the score :math:`\phi(a) = a + e^a` of the mixed chi-squared divergence.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``.
    beta
        Strength of the divergence penalty, > 0.
    clip
        Bound 2R_max of the scaled margin, > 0; none unless given.

    Returns
    -------
    Array ``(..., n)``, nats.

    References
    ----------
    Huang et al. 2024, eq. 8, arXiv:2407.13399 (equation number not confirmed).
    """
    check_positive(arrays=True, beta=beta)
    chosen, rejected = log_ratios(logps)
    margin = beta * (
        divergence_score(chosen, "mixed_chi_squared")
        - divergence_score(rejected, "mixed_chi_squared")
    )
    if clip is not None:
        check_positive(clip=clip)
        margin = array_namespace(margin).clip(margin, -clip, clip)
    return soft_logistic(margin, 1)


@checked
def probit(logps: PairLogps[ArrayT], *, beta: Number = 0.1) -> ArrayT:
    r"""Probit loss on the implicit reward, :math:`-\log\Phi(\beta h)`.

    With the distribution function Φ of the standard normal: what DPO is for Bradley–Terry raters,
    for raters whose judgement is a normal error around the reward (Thurstone's case V). A pair that
    is wrong by far costs the square of its margin, not the margin.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``.
    beta
        Strength of the KL penalty, > 0, in units of the raters' error.

    Returns
    -------
    Array ``(..., n)``, nats.

    Raises
    ------
    ValueError
        If ``beta`` is out of range, or shapes differ.

    References
    ----------
    Thurstone 1927, case V; as a preference model beside Bradley–Terry in Ray Chowdhury, Kini and
    Natarajan 2024, section 3, arXiv:2403.00409.

    Examples
    --------
    >>> import numpy as np
    >>> zero = np.zeros(1)
    >>> probit(PairLogps(zero, zero - 2, zero, zero), beta=0.5).round(8)
    array([0.17275378])
    """
    check_positive(arrays=True, beta=beta)
    return -normal_log_cdf(beta * reward_margin(logps))
