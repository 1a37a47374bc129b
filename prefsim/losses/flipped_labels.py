r"""Losses on pairs whose labels were flipped with a known chance, unbiased for the clean loss.

A label that is flipped with probability ε turns a loss L of a pair into the mixture
:math:`(1-\epsilon)L(w, l) + \epsilon L(l, w)`. :func:`flip_corrected` inverts that, whatever L is.
"""

from __future__ import annotations

from prefsim.checks import as_floats, check_broadcast, check_interval, check_positive
from prefsim.containers import PairLogps
from prefsim.losses.edge import checked
from prefsim.losses.links import soft_logistic
from prefsim.losses.margins import probit
from prefsim.losses.pairwise import hinge, ipo, reward_margin
from prefsim.typing import ArrayT, Number

__all__ = ["flip_corrected", "rdpo", "robust_hinge", "robust_ipo", "robust_probit"]


def flip_corrected(as_labelled: ArrayT, exchanged: ArrayT, *, flip_rate: Number) -> ArrayT:
    r"""Return what is unbiased for the clean value of any loss when labels are flipped.

    .. math:: \frac{(1-\epsilon)\,L(w, l) - \epsilon\,L(l, w)}{1-2\epsilon}

    Its mean over the flip of the label is ``L(w, l)`` exactly, and its variance is larger by
    :math:`1/(1-2\epsilon)^2`. As one of the two weights is negative, a loss that grows without
    bound for a wrong pair becomes unbounded below, and a convex one stays convex only where its
    second derivative is an even function of the margin.

    Parameters
    ----------
    as_labelled
        Values of the loss on the pairs as they are labelled, any shape.
    exchanged
        Values on the same pairs with the two responses exchanged, of the same shape.
    flip_rate
        Known label flip rate ε in [0, 0.5).

    Returns
    -------
    Array of the shape of the values.

    Raises
    ------
    ValueError
        If ``flip_rate`` is out of range.

    References
    ----------
    Natarajan, Dhillon, Ravikumar and Tewari 2013, lemma 1; Ray Chowdhury, Kini and Natarajan 2024,
    section 3 (the correction uses nothing of the loss), arXiv:2403.00409.

    Examples
    --------
    A reward model by the same correction:

    >>> import numpy as np
    >>> from prefsim.containers import PairRewards
    >>> from prefsim.losses.reward import bradley_terry
    >>> pairs = PairRewards(np.asarray([1.0]), np.asarray([0.0]))
    >>> swapped = PairRewards(pairs.rejected, pairs.chosen)
    >>> flip_corrected(bradley_terry(pairs), bradley_terry(swapped), flip_rate=0.2).round(8)
    array([-0.02007165])
    """
    check_interval(arrays=True, flip_rate=flip_rate, low=0.0, high=0.5)
    as_labelled, exchanged = as_floats(nan=True, as_labelled=as_labelled, exchanged=exchanged)
    check_broadcast(as_labelled=as_labelled, exchanged=exchanged, flip_rate=flip_rate)
    target = (1 - flip_rate) / (1 - 2 * flip_rate)
    return target * as_labelled + (1 - target) * exchanged


@checked
def rdpo(logps: PairLogps[ArrayT], *, beta: Number = 0.1, flip_rate: Number = 0.1) -> ArrayT:
    r"""Provably robust DPO.

    Unbiased for the clean DPO loss when labels are flipped with probability ``flip_rate``.

    .. math:: \frac{(1-\epsilon)\,\ell(\beta h) - \epsilon\,\ell(-\beta h)}{1-2\epsilon},\qquad
        \ell(z) = -\log\sigma(z)

    Unbounded below for ε > 0: on separable data the minimiser is at infinity.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``.
    beta
        Strength of the KL penalty, > 0.
    flip_rate
        Known label flip rate ε in [0, 0.5).

    Returns
    -------
    Array ``(..., n)``, nats; may be negative.

    Raises
    ------
    ValueError
        If a parameter is out of range, or shapes differ.

    References
    ----------
    Ray Chowdhury, Kini and Natarajan 2024, eq. 11, arXiv:2403.00409 (equation number not
    confirmed).
    """
    check_positive(arrays=True, beta=beta)
    margin = beta * reward_margin(logps)
    return flip_corrected(soft_logistic(margin, 1), soft_logistic(-margin, 1), flip_rate=flip_rate)


@checked
def robust_ipo(
    logps: PairLogps[ArrayT], *, tau: Number = 0.1, flip_rate: Number = 0.1, average: bool = False
) -> ArrayT:
    r"""Identity preference optimisation, unbiased when labels are flipped.

    :func:`flip_corrected` of :func:`prefsim.losses.ipo`, which is

    .. math:: h^2 - \frac{h}{\tau(1-2\epsilon)} + \frac{1}{4\tau^2}

    with the margin ``h`` of :func:`prefsim.losses.reward_margin`. A square's second derivative is
    even, so that this one stays convex and bounded below, and its free minimiser on flipped labels
    is that of the clean ones.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``.
    tau
        Strength of the KL penalty, > 0.
    flip_rate
        Known label flip rate ε in [0, 0.5).
    average
        Divide each log-ratio by its sequence's scored tokens; needs both lengths.

    Returns
    -------
    Array ``(..., n)``; may be negative.

    Raises
    ------
    ValueError
        If a parameter is out of range, shapes differ, or ``average`` lacks lengths.

    References
    ----------
    Ray Chowdhury, Kini and Natarajan 2024, section 3, arXiv:2403.00409, on Azar et al. 2023, eq.
    17, arXiv:2310.12036.

    Examples
    --------
    >>> import numpy as np
    >>> zero = np.zeros(1)
    >>> robust_ipo(PairLogps(zero, zero - 2, zero, zero), tau=0.5, flip_rate=0.2).round(12)
    array([-1.66666667])
    """
    return flip_corrected(
        ipo(logps, tau=tau, average=average),
        ipo(logps.swapped(), tau=tau, average=average),
        flip_rate=flip_rate,
    )


@checked
def robust_hinge(
    logps: PairLogps[ArrayT], *, beta: Number = 0.1, flip_rate: Number = 0.1
) -> ArrayT:
    r"""Hinge loss on the implicit reward, unbiased when labels are flipped.

    :func:`flip_corrected` of :func:`prefsim.losses.hinge`. Its slope in ``βh`` is
    :math:`-\frac{1-\epsilon}{1-2\epsilon}` below −1, :math:`-\frac{1}{1-2\epsilon}` up to 1 and
    :math:`-\frac{\epsilon}{1-2\epsilon}` beyond: neither convex nor bounded below for ε > 0.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``.
    beta
        Inverse of the margin in nats, > 0.
    flip_rate
        Known label flip rate ε in [0, 0.5).

    Returns
    -------
    Array ``(..., n)``; may be negative.

    Raises
    ------
    ValueError
        If a parameter is out of range, or shapes differ.

    References
    ----------
    Ray Chowdhury, Kini and Natarajan 2024, section 3, arXiv:2403.00409, on Liu et al. 2023, eq. 9,
    arXiv:2309.06657.

    Examples
    --------
    >>> import numpy as np
    >>> zero = np.zeros(1)
    >>> robust_hinge(PairLogps(zero, zero - 2, zero, zero), beta=0.25, flip_rate=0.2).round(12)
    array([0.16666667])
    """
    return flip_corrected(
        hinge(logps, beta=beta), hinge(logps.swapped(), beta=beta), flip_rate=flip_rate
    )


@checked
def robust_probit(
    logps: PairLogps[ArrayT], *, beta: Number = 0.1, flip_rate: Number = 0.1
) -> ArrayT:
    r"""Probit loss on the implicit reward, unbiased when labels are flipped.

    :func:`flip_corrected` of :func:`prefsim.losses.probit`: what DPO is to Bradley–Terry raters,
    for raters of Thurstone's kind. Unbounded below for ε > 0, as the square of the margin.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``.
    beta
        Strength of the KL penalty, > 0.
    flip_rate
        Known label flip rate ε in [0, 0.5).

    Returns
    -------
    Array ``(..., n)``, nats; may be negative.

    Raises
    ------
    ValueError
        If a parameter is out of range, or shapes differ.

    References
    ----------
    Ray Chowdhury, Kini and Natarajan 2024, section 3 (other preference models), arXiv:2403.00409.

    Examples
    --------
    >>> import numpy as np
    >>> zero = np.zeros(1)
    >>> robust_probit(PairLogps(zero, zero - 2, zero, zero), beta=0.5, flip_rate=0.2).round(8)
    array([-0.38333551])
    """
    return flip_corrected(
        probit(logps, beta=beta), probit(logps.swapped(), beta=beta), flip_rate=flip_rate
    )
