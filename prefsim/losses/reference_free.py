"""Losses on pairs that need no reference model.

The reference fields are checked for shape and otherwise unused.
"""

from __future__ import annotations

from prefsim.checks import check_nonnegative, check_positive, check_within
from prefsim.containers import PairLogps
from prefsim.losses.edge import checked
from prefsim.losses.links import positive_part, soft_logistic
from prefsim.losses.pair_fields import check_shapes
from prefsim.losses.pairwise import mean_logps
from prefsim.numerics import log_odds, log_sigmoid
from prefsim.typing import ArrayT, Number

__all__ = ["asft", "cpo", "gradient_ascent", "orpo", "rrhf", "simpo", "slic"]


def check_log_probabilities(logps: PairLogps[ArrayT]) -> None:
    """Raise where a log-probability is positive: what has a complement is no density."""
    for name in ("chosen", "rejected"):
        check_within(
            getattr(logps, name), name, "be the logarithm of a probability, at most 0", high=0.0
        )


@checked
def slic(logps: PairLogps[ArrayT], *, delta: Number = 1.0, lambda_: Number = 0.1) -> ArrayT:
    r"""Sequence likelihood calibration.

    :math:`\max(0, \delta - \log\pi_w + \log\pi_l) - \lambda\log\pi_w`.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``.
    delta
        Margin in nats, >= 0.
    lambda_
        Weight of the SFT term, >= 0.

    Returns
    -------
    Array ``(..., n)``, nats.

    References
    ----------
    Zhao et al. 2023, eq. 5, arXiv:2305.10425 (equation number not confirmed).
    """
    check_nonnegative(arrays=True, delta=delta, lambda_=lambda_)
    check_shapes(logps)
    return positive_part(delta - logps.chosen + logps.rejected) - lambda_ * logps.chosen


@checked
def rrhf(logps: PairLogps[ArrayT], *, lambda_: Number = 1.0) -> ArrayT:
    r"""Rank responses, :math:`\max(0, \bar\ell_l - \bar\ell_w) - \lambda\log\pi_w`.

    With mean token log-probabilities :math:`\bar\ell`.

    Parameters
    ----------
    logps
        Log-probabilities in nats and both lengths, each ``(..., n)``.
    lambda_
        Weight of the SFT term, >= 0.

    Returns
    -------
    Array ``(..., n)``, nats.

    References
    ----------
    Yuan et al. 2023, eqs. 2–4, arXiv:2304.05302.
    """
    check_nonnegative(arrays=True, lambda_=lambda_)
    chosen, rejected = mean_logps(logps)
    return positive_part(rejected - chosen) - lambda_ * logps.chosen


@checked
def orpo(logps: PairLogps[ArrayT], *, lambda_: Number = 0.1) -> ArrayT:
    r"""Odds-ratio preference optimisation.

    .. math:: -\bar\ell_w
        + \lambda\,\ell(\mathrm{logodds}(\bar\ell_w) - \mathrm{logodds}(\bar\ell_l))

    Parameters
    ----------
    logps
        Log-probabilities in nats and both lengths, each ``(..., n)``; :math:`\bar\ell` is the mean
        of a scored token.
    lambda_
        Weight of the odds-ratio term, >= 0 (called ``beta`` in TRL).

    Returns
    -------
    Array ``(..., n)``, nats.

    References
    ----------
    Hong, Lee and Thorne 2024, eqs. 6–7, arXiv:2403.07691.
    """
    check_nonnegative(arrays=True, lambda_=lambda_)
    check_log_probabilities(logps)
    chosen, rejected = mean_logps(logps)
    return -(chosen + lambda_ * log_sigmoid(log_odds(chosen) - log_odds(rejected)))


@checked
def asft(
    logps: PairLogps[ArrayT], *, lambda_: Number = 1.0, beta: Number = 1.0, sft_weight: Number = 1.0
) -> ArrayT:
    r"""Aligned supervised fine-tuning.

    .. math:: -c\,\bar\ell_w + \lambda[\ell(\beta\,\mathrm{logodds}(\bar\ell_w))
        + \ell(-\beta\,\mathrm{logodds}(\bar\ell_l))]

    Parameters
    ----------
    logps
        Log-probabilities in nats and both lengths, each ``(..., n)``; :math:`\bar\ell` is the mean
        of a scored token.
    lambda_
        Weight of the alignment term, >= 0; 1 in the paper.
    beta
        Scale of the log-odds, > 0; 1 in the paper.
    sft_weight
        Weight c of the SFT term, >= 0; 0 leaves the alignment term alone.

    Returns
    -------
    Array ``(..., n)``, nats. Since σ(logodds p) = p, the alignment term at β = 1 is
    :math:`-\bar\ell_w - \log(1 - e^{\bar\ell_l})`.

    References
    ----------
    Wang et al. 2024, arXiv:2409.10571.

    Examples
    --------
    Two tokens each, likely to ½ and ⅕: log 2 of the chosen and −log ⅘ of the rejected response.

    >>> import numpy as np
    >>> lengths = {"chosen_length": np.array([2]), "rejected_length": np.array([2])}
    >>> logps = PairLogps(np.log([0.25]), np.log([0.04]), np.zeros(1), np.zeros(1), **lengths)
    >>> asft(logps, sft_weight=0.0).round(6)
    array([0.916291])
    """
    check_nonnegative(arrays=True, lambda_=lambda_, sft_weight=sft_weight)
    check_positive(arrays=True, beta=beta)
    check_log_probabilities(logps)
    chosen, rejected = mean_logps(logps)
    if isinstance(beta, int | float) and beta == 1:
        # log σ(logodds p) = log p, and log σ(−logodds p) = log(1 − p) = log p − logodds p: no
        # rounding of p near one.
        alignment = log_odds(rejected) - rejected - chosen
    else:
        alignment = soft_logistic(beta * log_odds(chosen), 1) + soft_logistic(
            -beta * log_odds(rejected), 1
        )
    return -sft_weight * chosen + lambda_ * alignment


@checked
def cpo(logps: PairLogps[ArrayT], *, beta: Number = 0.1, alpha: Number = 1.0) -> ArrayT:
    r"""Contrastive preference optimisation.

    :math:`\ell(\beta(\log\pi_w - \log\pi_l)) - \alpha\bar\ell_w`.

    Parameters
    ----------
    logps
        Log-probabilities in nats and both lengths, each ``(..., n)``.
    beta
        Scale of the margin, > 0.
    alpha
        Weight of the SFT term (mean over the scored tokens), >= 0.

    Returns
    -------
    Array ``(..., n)``, nats.

    References
    ----------
    Xu et al. 2024, eqs. 4–6, arXiv:2401.08417.
    """
    check_positive(arrays=True, beta=beta)
    check_nonnegative(arrays=True, alpha=alpha)
    chosen, _ = mean_logps(logps)
    return soft_logistic(beta * (logps.chosen - logps.rejected), 1) - alpha * chosen


@checked
def gradient_ascent(logps: PairLogps[ArrayT]) -> ArrayT:
    r"""Gradient ascent on the negative log-likelihood of the rejected response.

    The loss is :math:`\log\pi_l`.

    The plainest unlearning, unbounded below; the limit of :func:`prefsim.losses.npo` as its β → 0,
    up to a constant.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``; the chosen response is not used.

    Returns
    -------
    Array ``(..., n)``, nats, <= 0.

    References
    ----------
    Zhang et al. 2024, section 2, arXiv:2404.05868.

    Examples
    --------
    >>> import numpy as np
    >>> one = np.asarray([-1.5])
    >>> gradient_ascent(PairLogps(one, 2 * one, one, one))
    array([-3.])
    """
    check_shapes(logps)
    return 1 * logps.rejected


@checked
def simpo(logps: PairLogps[ArrayT], *, beta: Number = 2.0, gamma: Number = 0.5) -> ArrayT:
    r"""SimPO, simple preference optimisation.

    :math:`\ell(\beta(\bar\ell_w - \bar\ell_l) - \gamma)`.

    Parameters
    ----------
    logps
        Log-probabilities in nats and both lengths, each ``(..., n)``; :math:`\bar\ell` is the mean
        of a scored token.
    beta
        Scale, > 0.
    gamma
        Target margin after β, >= 0 (the authors' code stores γ/β).

    Returns
    -------
    Array ``(..., n)``, nats.

    References
    ----------
    Meng, Xia and Chen 2024, eq. 6, arXiv:2405.14734.
    """
    check_positive(arrays=True, beta=beta)
    check_nonnegative(arrays=True, gamma=gamma)
    chosen, rejected = mean_logps(logps)
    return soft_logistic(beta * (chosen - rejected) - gamma, 1)
