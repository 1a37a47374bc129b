r"""Losses of self-play that look at each response by itself, without a partner.

The log-ratio to the last iterate is regressed on what the response is worth against it. Over all
responses of that iterate their minimisers are steps of multiplicative weights, up to the logarithm
of the normaliser, which regressions on differences in pairs
(:func:`prefsim.losses.mirror_descent` with ``tau = 0``) do not need.
"""

from __future__ import annotations

from typing import Any

from prefsim.checks import check_positive
from prefsim.containers import JudgedLogps, PairLogps
from prefsim.losses.edge import checked
from prefsim.losses.pair_fields import check_judged, scores_of, win_probabilities
from prefsim.losses.pairwise import log_ratios
from prefsim.losses.tokenwise import masked_sum
from prefsim.numerics import stop_gradient
from prefsim.typing import ArrayT, Number

__all__ = ["gpo", "sppo", "sppo_hard", "sppo_single"]


def _regressed(logps: PairLogps[ArrayT], chosen_target: Any, rejected_target: Any) -> ArrayT:
    """Return half the squared distances of both log-ratios from their targets."""
    chosen, rejected = log_ratios(logps)
    return 0.5 * ((chosen - chosen_target) ** 2 + (rejected - rejected_target) ** 2)


@checked
def sppo_hard(logps: PairLogps[ArrayT], *, beta: Number = 0.1) -> ArrayT:
    r"""Self-play preference optimisation with hard labels.

    :math:`(a - \frac{1}{2\beta})^2 + (b + \frac{1}{2\beta})^2`.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``; the reference is the previous
        iterate.
    beta
        Inverse step size 1/η, > 0.

    Returns
    -------
    Array ``(..., n)``; twice the authors' reduction, as in TRL.

    References
    ----------
    Wu et al. 2024, eq. 4.7, arXiv:2405.00675 (equation number not confirmed).
    """
    check_positive(arrays=True, beta=beta)
    target = 1 / (2 * beta)
    return 2 * _regressed(logps, target, -target)


@checked
def sppo(logps: PairLogps[ArrayT], *, beta: Number = 0.1) -> ArrayT:
    r"""Self-play preference optimisation with win probabilities.

    .. math:: \frac12\Big[\Big(a - \frac{P_w - 1/2}{\beta}\Big)^2
        + \Big(b - \frac{P_l - 1/2}{\beta}\Big)^2\Big]

    Parameters
    ----------
    logps
        Log-probabilities in nats and, as scores, the probabilities of both responses to win against
        the previous iterate, which is also the reference; each ``(..., n)``.
    beta
        Inverse step size 1/η, > 0.

    Returns
    -------
    Array ``(..., n)``.

    Raises
    ------
    ValueError
        If ``beta`` is out of range, a win probability is missing or outside [0, 1], or shapes
        differ.

    References
    ----------
    Wu et al. 2024, eq. 4.4, arXiv:2405.00675 (equation number not confirmed).
    """
    check_positive(arrays=True, beta=beta)
    chosen_win, rejected_win = win_probabilities(logps)
    return _regressed(logps, (chosen_win - 0.5) / beta, (rejected_win - 0.5) / beta)


@checked
def gpo(logps: PairLogps[ArrayT], *, beta: Number = 0.1) -> ArrayT:
    r"""General preference optimisation: regression of log-ratios on the scores of a preference.

    .. math:: \frac12\Big[\Big(a - \frac{s_w}{\beta}\Big)^2
        + \Big(b - \frac{s_l}{\beta}\Big)^2\Big]

    It is :func:`prefsim.losses.sppo` with scores of any size, such as the log-odds of a general
    preference model, in place of win probabilities less one half. The log-ratio of the update
    :math:`\pi \propto \pi_t e^{s/\beta}` is :math:`s/\beta - \log Z`; log Z is left out, as the
    mean of s under :math:`\pi_t` is 0 and log Z of second order. With scores less β log Z the
    minimum is 0, at the update itself.

    Parameters
    ----------
    logps
        Log-probabilities in nats, whose reference is the last iterate, and as scores
        :math:`s(y \succ \pi_t)` of both responses; each ``(..., n)``.
    beta
        Inverse step size in units of the score, > 0.

    Returns
    -------
    Array ``(..., n)``. Exchanging the two responses changes nothing.

    Raises
    ------
    ValueError
        If ``beta`` is out of range, a score is missing, or shapes differ.

    References
    ----------
    Zhang et al. 2024, section 5, arXiv:2410.02197.

    Examples
    --------
    >>> import numpy as np
    >>> pair = PairLogps(
    ...     *np.asarray([[-1.0], [-2.0], [-1.5], [-1.8]]),
    ...     chosen_score=np.asarray([0.4]),
    ...     rejected_score=np.asarray([-0.3]),
    ... )
    >>> gpo(pair, beta=0.5).round(12)
    array([0.125])
    """
    check_positive(arrays=True, beta=beta)
    chosen, rejected = map(stop_gradient, scores_of(logps))
    return _regressed(logps, chosen / beta, rejected / beta)


@checked
def sppo_single(logps: JudgedLogps[ArrayT], *, beta: Number = 0.1) -> ArrayT:
    r"""Self-play preference optimisation of single responses, one value per response.

    .. math:: \Big(\log\frac{\pi(y)}{\pi_t(y)} - \frac{P(y \succ \pi_t) - 1/2}{\beta}\Big)^2

    The mean of the two responses of a pair is :func:`prefsim.losses.sppo`.

    Parameters
    ----------
    logps
        Token log-probabilities of responses of the last iterate, which is also the reference, and
        their probabilities to win against it.
    beta
        Inverse step size 1/η, > 0.

    Returns
    -------
    Array ``(..., n)``.

    Raises
    ------
    ValueError
        If ``beta`` or a win probability is out of range, or shapes differ.

    References
    ----------
    Wu et al. 2024, eq. 4.4, arXiv:2405.00675 (equation number not confirmed).

    Examples
    --------
    >>> import numpy as np
    >>> judged = JudgedLogps(
    ...     logp=np.asarray([[-0.2, -0.3]]),
    ...     ref_logp=np.asarray([[-0.4, -0.4]]),
    ...     mask=np.asarray([[True, True]]),
    ...     win_prob=np.asarray([0.6]),
    ... )
    >>> sppo_single(judged, beta=0.5).round(12)
    array([0.01])
    """
    check_positive(arrays=True, beta=beta)
    check_judged(logps)
    log_ratio = masked_sum(logps.logp - logps.ref_logp, logps.mask)
    return (log_ratio - (stop_gradient(logps.win_prob) - 0.5) / beta) ** 2
