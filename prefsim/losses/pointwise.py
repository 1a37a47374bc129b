"""Losses of a pair that judge each response on its own, by a link of its implicit reward."""

from __future__ import annotations

from prefsim.checks import check_nonnegative, check_number, check_positive
from prefsim.containers import PairLogps
from prefsim.losses.edge import checked
from prefsim.losses.links import soft_logistic
from prefsim.losses.pairwise import log_ratios, mean_logps
from prefsim.losses.response_regression import sppo_hard
from prefsim.numerics import array_namespace, sigmoid, stop_gradient
from prefsim.typing import ArrayT, Number

__all__ = ["apo_down", "apo_zero", "bco", "bco_pair", "cal_dpo", "nca_pair", "npo", "simnpo"]


@checked
def apo_zero(logps: PairLogps[ArrayT], *, beta: Number = 0.1) -> ArrayT:
    r"""Anchored preference optimisation, zero variant.

    :math:`1 - \sigma(\beta a) + \sigma(\beta b)`.

    Raises the chosen and lowers the rejected log-ratio: KTO on a pair with reference point zero.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``.
    beta
        Scale, > 0.

    Returns
    -------
    Array ``(..., n)``, in [0, 2].

    References
    ----------
    D'Oosterlinck et al. 2024, eq. 3, arXiv:2408.06266 (equation number not confirmed).
    """
    check_positive(arrays=True, beta=beta)
    chosen, rejected = log_ratios(logps)
    return sigmoid(-beta * chosen) + sigmoid(beta * rejected)


@checked
def apo_down(logps: PairLogps[ArrayT], *, beta: Number = 0.1) -> ArrayT:
    r"""Anchored preference optimisation, down variant.

    :math:`\sigma(\beta a) + 1 - \sigma(\beta h)`.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``.
    beta
        Scale, > 0.

    Returns
    -------
    Array ``(..., n)``, in [0, 2].

    References
    ----------
    D'Oosterlinck et al. 2024, eq. 4, arXiv:2408.06266 (equation number not confirmed).
    """
    check_positive(arrays=True, beta=beta)
    chosen, rejected = log_ratios(logps)
    return sigmoid(beta * chosen) + sigmoid(-beta * (chosen - rejected))


@checked
def nca_pair(logps: PairLogps[ArrayT], *, beta: Number = 0.1) -> ArrayT:
    r"""Noise-contrastive alignment of a pair.

    :math:`\ell(\beta a) + \frac12\ell(-\beta a) + \frac12\ell(-\beta b)`.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``.
    beta
        Scale, > 0.

    Returns
    -------
    Array ``(..., n)``, nats.

    References
    ----------
    Chen et al. 2024, eq. 11, arXiv:2402.05369 (equation number not confirmed).
    """
    check_positive(arrays=True, beta=beta)
    chosen, rejected = log_ratios(logps)
    a = beta * chosen
    # ℓ(a) + ½ℓ(−a) with ℓ(−a) = ℓ(a) + a
    return 1.5 * soft_logistic(a, 1) + 0.5 * a + 0.5 * soft_logistic(-beta * rejected, 1)


@checked
def bco_pair(logps: PairLogps[ArrayT], *, beta: Number = 0.1, shift: Number = 0.0) -> ArrayT:
    r"""Binary classifier optimisation of a pair.

    :math:`\ell(\beta a - \delta) + \ell(-(\beta b - \delta))`.

    An upper bound of DPO for every δ.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``.
    beta
        Scale, > 0.
    shift
        Reward shift δ.

    Returns
    -------
    Array ``(..., n)``, nats.

    References
    ----------
    Jung et al. 2024, eq. 7, arXiv:2404.04656 (equation number not confirmed).
    """
    check_positive(arrays=True, beta=beta)
    check_number(arrays=True, shift=shift)
    chosen, rejected = log_ratios(logps)
    return soft_logistic(beta * chosen - shift, 1) + soft_logistic(shift - beta * rejected, 1)


@checked
def bco(logps: PairLogps[ArrayT], *, beta: Number = 0.1) -> ArrayT:
    r"""Binary classifier optimisation with the reward shift of the batch.

    δ is the mean of all βa and βb.

    The shift couples the batch (last axis) and is a constant of differentiation.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``.
    beta
        Scale, > 0.

    Returns
    -------
    Array ``(..., n)``, nats.

    References
    ----------
    Jung et al. 2024, eqs. 7–8, arXiv:2404.04656 (equation numbers not confirmed).
    """
    check_positive(arrays=True, beta=beta)
    chosen, rejected = log_ratios(logps)
    xp = array_namespace(chosen)
    shift = stop_gradient(
        0.5 * beta * xp.sum(chosen + rejected, axis=-1, keepdims=True) / max(chosen.shape[-1], 1)
    )
    return soft_logistic(beta * chosen - shift, 1) + soft_logistic(shift - beta * rejected, 1)


@checked
def cal_dpo(logps: PairLogps[ArrayT], *, beta: Number = 0.1, lambda_: Number = 1.0) -> ArrayT:
    r"""Calibrated DPO.

    :math:`\ell(h) + \lambda[(a - \frac{1}{2\beta})^2 + (b + \frac{1}{2\beta})^2]`, with no β inside
    the link.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``.
    beta
        Strength of the KL penalty, > 0.
    lambda_
        Weight of the calibration, >= 0 (1 in the paper, ½ in the released code).

    Returns
    -------
    Array ``(..., n)``.

    References
    ----------
    Xiao et al. 2024, eq. 9, arXiv:2412.14516 (equation number not confirmed).
    """
    check_nonnegative(arrays=True, lambda_=lambda_)
    chosen, rejected = log_ratios(logps)
    return soft_logistic(chosen - rejected, 1) + lambda_ * sppo_hard(logps, beta=beta)


@checked
def npo(logps: PairLogps[ArrayT], *, beta: Number = 0.1) -> ArrayT:
    r"""Negative preference optimisation, on the rejected response alone.

    .. math:: \frac{2}{\beta}\,\ell(-\beta b),\qquad b = \log\frac{\pi(y_l)}{\pi_{ref}(y_l)}

    Tends to gradient ascent on the rejected log-probability as β → 0.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``; the chosen response is not used.
    beta
        Inverse temperature, > 0.

    Returns
    -------
    Array ``(..., n)``.

    References
    ----------
    Zhang et al. 2024, eq. 3, arXiv:2404.05868 (equation number not confirmed).
    """
    check_positive(arrays=True, beta=beta)
    _, rejected = log_ratios(logps)
    return 2 / beta * soft_logistic(-beta * rejected, 1)


@checked
def simnpo(logps: PairLogps[ArrayT], *, beta: Number = 2.5, gamma: Number = 0.0) -> ArrayT:
    r"""Reference-free, length-normalised NPO.

    :math:`\frac{2}{\beta}\ell(-\beta\bar\ell_l - \gamma)`.

    Parameters
    ----------
    logps
        Log-probabilities in nats and both lengths, each ``(..., n)``; :math:`\bar\ell` is the mean
        of a scored token.
    beta
        Inverse temperature, > 0.
    gamma
        Margin, >= 0.

    Returns
    -------
    Array ``(..., n)``.

    References
    ----------
    Fan et al. 2024, eq. 4, arXiv:2410.07163 (equation number not confirmed).
    """
    check_positive(arrays=True, beta=beta)
    check_nonnegative(arrays=True, gamma=gamma)
    _, rejected = mean_logps(logps)
    return 2 / beta * soft_logistic(-beta * rejected - gamma, 1)
