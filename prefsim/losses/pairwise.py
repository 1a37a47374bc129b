"""Losses on compared pairs.

A link of an implicit-reward margin, one value per pair, no reduction.
"""

from __future__ import annotations

from prefsim.checks import (
    check_choice,
    check_flag,
    check_interval,
    check_nonnegative,
    check_positive,
)
from prefsim.containers import PairLogps
from prefsim.divergences import divergence_score
from prefsim.losses.edge import checked
from prefsim.losses.links import positive_part, soft_logistic, squared
from prefsim.losses.pair_fields import (
    check_shapes,
    check_win_probability,
    length_of,
    lengths_of,
    needed,
)
from prefsim.numerics import stop_gradient
from prefsim.typing import ArrayT, Number

__all__ = [
    "dpo",
    "f_dpo",
    "hinge",
    "ipo",
    "log_ratios",
    "reward_margin",
    "rpo",
    "sft",
    "soft",
    "spce",
]


@checked
def log_ratios(logps: PairLogps[ArrayT]) -> tuple[ArrayT, ArrayT]:
    r"""Return :math:`\log\pi/\pi_{ref}` of chosen and rejected, each ``(..., n)`` in nats.

    The shapes are checked.
    """
    check_shapes(logps)
    return logps.chosen - logps.ref_chosen, logps.rejected - logps.ref_rejected


@checked
def reward_margin(logps: PairLogps[ArrayT]) -> ArrayT:
    r"""Return the implicit-reward margin over β, ``(..., n)`` in nats.

    :math:`h = \log\frac{\pi(y_w)}{\pi_{ref}(y_w)} - \log\frac{\pi(y_l)}{\pi_{ref}(y_l)}`.
    """
    chosen, rejected = log_ratios(logps)
    return chosen - rejected


def mean_logps(logps: PairLogps[ArrayT]) -> tuple[ArrayT, ArrayT]:
    """Return the mean log-probability of a token of chosen and rejected, each ``(..., n)``."""
    check_shapes(logps)
    chosen_length, rejected_length = lengths_of(logps)
    return logps.chosen / chosen_length, logps.rejected / rejected_length


def mean_log_ratios(logps: PairLogps[ArrayT]) -> tuple[ArrayT, ArrayT]:
    """Return the mean log-ratio of a token of chosen and rejected, each ``(..., n)``."""
    chosen, rejected = log_ratios(logps)
    chosen_length, rejected_length = lengths_of(logps)
    return chosen / chosen_length, rejected / rejected_length


@checked
def sft(logps: PairLogps[ArrayT], *, reduction: str = "sum") -> ArrayT:
    r"""Negative log-likelihood of the chosen response, :math:`-\log\pi(y_w)`, one value per pair.

    Parameters
    ----------
    logps
        Each ``(..., n)``, nats.
    reduction
        ``"sum"`` over the tokens of the sequence or their ``"mean"`` (needs ``chosen_length``).
    """
    check_choice(("sum", "mean"), reduction=reduction)
    check_shapes(logps)
    if reduction == "sum":
        return -logps.chosen
    return -logps.chosen / length_of(logps, "chosen_length")


@checked
def soft(logps: PairLogps[ArrayT], *, beta: Number = 0.1, target: Number = 0.7) -> ArrayT:
    r"""Soft-label DPO.

    .. math:: t\,\ell(\beta h) + (1-t)\,\ell(-\beta h),\qquad \ell(z) = -\log\sigma(z)

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``.
    beta
        Strength of the KL penalty, > 0.
    target
        Probability t in [0, 1] that the chosen response is the better one.

    Returns
    -------
    Array ``(..., n)``, nats; its free minimiser is ``βh = logit t``.

    Raises
    ------
    ValueError
        If a parameter is out of range, or shapes differ.

    References
    ----------
    The soft preference cross-entropy that cDPO, rDPO and soft labels share; survey arXiv:2503.11701
    (row from derivation).
    """
    check_positive(arrays=True, beta=beta)
    check_interval(arrays=True, target=target, low=0.0, high=1.0, closed="both")
    return soft_logistic(beta * reward_margin(logps), target)


@checked
def spce(logps: PairLogps[ArrayT], *, beta: Number = 0.1) -> ArrayT:
    r"""Soft-preference cross-entropy, :math:`p\,\ell(\beta h) + (1-p)\,\ell(-\beta h)`.

    With each pair's own judged probability p.

    The KL divergence of σ(βh) from p, plus the entropy of p: pairs teach according to their
    strength, and a margin ends at logit p.

    Parameters
    ----------
    logps
        Log-probabilities in nats and, as ``chosen_score``, the probability p in [0, 1] that the
        response named first (``chosen``) is preferred to the other; each ``(..., n)``. It is a
        constant, and may be below ½.
    beta
        Strength of the KL penalty, > 0.

    Returns
    -------
    Array ``(..., n)``, nats; DPO where p = 1.

    Raises
    ------
    ValueError
        If ``beta`` is out of range, the probabilities are missing or not in [0, 1], or shapes
        differ.

    References
    ----------
    Zhai et al. 2024, soft-preference cross-entropy loss, arXiv:2405.14103 (equation number not
    confirmed).

    Examples
    --------
    >>> import numpy as np
    >>> zero = np.zeros(1)
    >>> spce(PairLogps(np.ones(1), zero, zero, zero, chosen_score=np.asarray([0.7]))).round(8)
    array([0.67439666])
    """
    check_positive(arrays=True, beta=beta)
    prob = stop_gradient(needed(logps.chosen_score, "chosen_score"))
    check_win_probability(prob, "chosen_score")
    return soft_logistic(beta * reward_margin(logps), prob)


@checked
def dpo(logps: PairLogps[ArrayT], *, beta: Number = 0.1, label_smoothing: Number = 0.0) -> ArrayT:
    r"""Direct preference optimization loss, one value per pair.

    .. math:: -(1-\epsilon)\log\sigma(\beta h) - \epsilon\log\sigma(-\beta h)

    with the implicit reward margin ``h`` of :func:`reward_margin`.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``.
    beta
        Strength of the KL penalty, > 0.
    label_smoothing
        Assumed label flip rate ε in [0, 0.5); conservative DPO when > 0.

    Returns
    -------
    Array ``(..., n)``, nats.

    Raises
    ------
    ValueError
        If ``beta`` or ``label_smoothing`` is out of range, or shapes differ.

    References
    ----------
    Rafailov et al. 2023, eq. 7, arXiv:2305.18290. Mitchell 2023, "A note on DPO with noisy
    preferences".

    Examples
    --------
    >>> import numpy as np
    >>> zero = np.zeros(1)
    >>> dpo(
    ...     PairLogps(
    ...         np.asarray([-12.5]), np.asarray([-14.0]), np.asarray([-13.0]), np.asarray([-13.5])
    ...     )
    ... ).round(8)
    array([0.64439666])
    """
    check_positive(arrays=True, beta=beta)
    check_interval(arrays=True, label_smoothing=label_smoothing, low=0.0, high=0.5)
    return soft_logistic(beta * reward_margin(logps), 1 - label_smoothing)


@checked
def ipo(logps: PairLogps[ArrayT], *, tau: Number = 0.1, average: bool = False) -> ArrayT:
    r"""Identity preference optimisation, :math:`(h - \frac{1}{2\tau})^2`, one value per pair.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``.
    tau
        Strength of the KL penalty, > 0 (called ``beta`` in TRL).
    average
        Divide each log-ratio by its sequence's scored tokens, as TRL does; needs both lengths. The
        two differ by orders of magnitude.

    Returns
    -------
    Array ``(..., n)``.

    Raises
    ------
    ValueError
        If ``tau`` is out of range, shapes differ, or ``average`` lacks lengths.

    References
    ----------
    Azar et al. 2023, eq. 17, arXiv:2310.12036.
    """
    check_positive(arrays=True, tau=tau)
    check_flag(average=average)
    chosen, rejected = mean_log_ratios(logps) if average else log_ratios(logps)
    return squared(chosen - rejected, tau)


@checked
def hinge(logps: PairLogps[ArrayT], *, beta: Number = 0.1) -> ArrayT:
    r"""Hinge loss on the implicit reward, :math:`\max(0, 1 - \beta h)`, one value per pair.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``.
    beta
        Inverse of the margin in nats, > 0.

    Returns
    -------
    Array ``(..., n)``.

    Raises
    ------
    ValueError
        If ``beta`` is out of range, or shapes differ.

    References
    ----------
    Liu et al. 2023, "hinge-norm", eq. 9, arXiv:2309.06657.
    """
    check_positive(arrays=True, beta=beta)
    return positive_part(1 - beta * reward_margin(logps))


@checked
def f_dpo(
    logps: PairLogps[ArrayT],
    *,
    beta: Number = 0.1,
    divergence: str = "reverse_kl",
    alpha: float = 0.5,
) -> ArrayT:
    r"""DPO under an f-divergence penalty.

    .. math:: -\log\sigma\big(\beta f'(u_w) - \beta f'(u_l)\big),\qquad u = \pi/\pi_{ref}

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``.
    beta
        Strength of the divergence penalty, > 0.
    divergence
        ``"reverse_kl"`` (DPO), ``"forward_kl"``, ``"jensen_shannon"``, ``"alpha"`` or
        ``"mixed_chi_squared"`` (χPO).
    alpha
        Order of the alpha divergence, in (0, 1); the paper's α, which is one minus TRL's
        coefficient. Without effect on the others.

    Returns
    -------
    Array ``(..., n)``, nats.

    Raises
    ------
    ValueError
        If a parameter is out of range, or shapes differ.

    References
    ----------
    Wang et al. 2023, eq. 8, arXiv:2309.16240. Huang et al. 2024, arXiv:2407.13399 (mixed
    chi-squared).
    """
    check_positive(arrays=True, beta=beta)
    chosen, rejected = log_ratios(logps)
    winner = divergence_score(chosen, divergence, alpha=alpha)
    loser = divergence_score(rejected, divergence, alpha=alpha)
    return soft_logistic(beta * (winner - loser), 1)


@checked
def rpo(
    logps: PairLogps[ArrayT],
    *,
    beta: Number = 0.1,
    eta: Number = 0.005,
    reduction: str = "sum",
    scale_by_beta: bool | None = None,
) -> ArrayT:
    r"""Regularised preference optimization.

    DPO plus η(β) times the SFT loss of the chosen response.

    .. math:: \ell(\beta h) - \eta\beta\log\pi(y_w) \quad\text{(sum)},\qquad
              \ell(\beta h) - \eta\,\frac{\log\pi(y_w)}{|y_w|} \quad\text{(mean)}

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``.
    beta
        Strength of the KL penalty, > 0.
    eta
        Weight of the SFT term, >= 0. The two reductions want very different values (0.005 for the
        sum, 0.2 for the mean).
    reduction
        ``"sum"`` or ``"mean"`` over the tokens of the chosen response (the latter needs
        ``chosen_length``).
    scale_by_beta
        Multiply the SFT term by β; unless given, as the authors do: with the sum yes, with the mean
        no.

    Returns
    -------
    Array ``(..., n)``, nats.

    Raises
    ------
    ValueError
        If a parameter is out of range, shapes differ, or the mean lacks lengths.

    References
    ----------
    Liu et al. 2024, eq. 4.5, arXiv:2405.16436 (equation number not confirmed).
    """
    check_positive(arrays=True, beta=beta)
    check_nonnegative(arrays=True, eta=eta)
    if scale_by_beta is not None:
        check_flag(scale_by_beta=scale_by_beta)
    scaled = reduction == "sum" if scale_by_beta is None else scale_by_beta
    regulariser = sft(logps, reduction=reduction)
    return (
        soft_logistic(beta * reward_margin(logps), 1)
        + (eta * beta if scaled else eta) * regulariser
    )
