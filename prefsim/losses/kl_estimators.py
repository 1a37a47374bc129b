r"""Estimators of :math:`\mathrm{KL}(\pi_\theta \| \pi_{ref})` from samples of :math:`\pi_\theta`.

One value a sample. Those of :func:`token_kl` estimate the divergence. The others stand for their
gradients alone: their mean over samples is no estimate of it.
"""

from __future__ import annotations

import numpy as np

from prefsim.checks import as_floats, check_broadcast, check_choice, check_entries, check_same_shape
from prefsim.losses.advantages import leave_one_out
from prefsim.numerics import bounded_exp, stop_gradient
from prefsim.typing import Array, ArrayT

__all__ = ["ESTIMATORS", "rloo_kl", "score_function_kl", "token_kl"]

ESTIMATORS = ("k1", "k2", "k3")


def token_kl(logps: ArrayT, ref_logps: Array, *, estimator: str = "k3") -> ArrayT:
    r"""Return an estimate of the divergence at each sample, differentiable in its log-probability.

    With :math:`d = \log\pi(y) - \log\pi_{ref}(y)` and y drawn from π:

    .. math:: k_1 = d,\qquad k_2 = \tfrac12 d^2,\qquad k_3 = e^{-d} - 1 + d

    The values of :math:`k_1` and :math:`k_3` are right on average, that of :math:`k_2` nearly where
    the policies are close. As part of a loss their gradients count, and those are others: that of
    :math:`k_1` is 0 on average, that of :math:`k_2` is that of :math:`\mathrm{KL}(\pi\|\pi_{ref})`,
    and that of :math:`k_3` is that of :math:`\mathrm{KL}(\pi_{ref}\|\pi)`, the other way round.

    Parameters
    ----------
    logps, ref_logps
        Log-probabilities of samples, or of their tokens, ``(...)`` in nats.
    estimator
        ``"k1"``, ``"k2"`` or ``"k3"``.

    Returns
    -------
    Array ``(...)``, in nats.

    Raises
    ------
    ValueError
        If ``estimator`` is unknown or the shapes differ.

    References
    ----------
    Schulman 2020, "Approximating KL divergence"; k3 in the loss: Shao et al. 2024, eq. 4,
    arXiv:2402.03300.

    Examples
    --------
    >>> import numpy as np
    >>> policy, reference = np.log([0.5, 0.25]), np.log([0.25, 0.25])
    >>> [token_kl(policy, reference, estimator=k).round(4).tolist() for k in ("k1", "k2", "k3")]
    [[0.6931, 0.0], [0.2402, 0.0], [0.1931, 0.0]]
    """
    check_choice(ESTIMATORS, estimator=estimator)
    logps, ref_logps = as_floats(logps=logps, ref_logps=ref_logps)
    check_same_shape(logps=logps, ref_logps=ref_logps)
    ratio = logps - ref_logps
    if estimator == "k1":
        return ratio
    if estimator == "k2":
        return 0.5 * ratio**2
    return bounded_exp(-ratio) - 1 + ratio


def score_function_kl(logps: ArrayT, ref_logps: Array, *, baseline: Array | float = 0.0) -> ArrayT:
    r"""Return :math:`\mathrm{sg}[c_i - b]\,\log\pi(y_i)`, one value a sample.

    With :math:`c_i = \log\pi(y_i) - \log\pi_{ref}(y_i)`.

    The gradient of its expectation over :math:`y_i \sim \pi` is that of the divergence, for any
    baseline that does not depend on ``y_i``. Without the stop-gradient it would gain
    :math:`-\nabla H(\pi)`.

    Parameters
    ----------
    logps, ref_logps
        Sequence log-probabilities of samples from the current policy, ``(..., k)`` nats.
    baseline
        Taken from every log-ratio, a number or an array that broadcasts to ``(..., k)``.

    Returns
    -------
    Array ``(..., k)``.

    Raises
    ------
    ValueError
        If the shapes differ.

    References
    ----------
    Williams 1992 (REINFORCE); Song et al. 2024, arXiv:2406.01462, HyPO.
    """
    logps, ref_logps, baseline = as_floats(logps=logps, ref_logps=ref_logps, baseline=baseline)
    check_entries(baseline, "baseline", "be finite", np.isfinite)
    check_same_shape(logps=logps, ref_logps=ref_logps)
    check_broadcast(logps=logps, baseline=baseline)
    return stop_gradient(logps - ref_logps - baseline) * logps


def rloo_kl(logps: ArrayT, ref_logps: Array) -> ArrayT:
    r"""Return the leave-one-out estimator.

    :func:`score_function_kl` with the mean log-ratio of the other samples as baseline.

    Parameters
    ----------
    logps, ref_logps
        Sequence log-probabilities of k >= 2 samples for each prompt from the current policy,
        ``(..., k)`` nats.

    Returns
    -------
    Array ``(..., k)``; its mean has the gradient of the divergence in expectation.

    Raises
    ------
    ValueError
        If the shapes differ or there are fewer than two samples.

    References
    ----------
    Kool, van Hoof and Welling 2019; Song et al. 2024, arXiv:2406.01462, HyPO's online term.

    Examples
    --------
    >>> import numpy as np
    >>> rloo_kl(np.log([0.5, 0.25]), np.log([0.25, 0.25])).round(6)
    array([-0.480453,  0.960906])
    """
    logps, ref_logps = as_floats(logps=logps, ref_logps=ref_logps)
    check_same_shape(logps=logps, ref_logps=ref_logps)
    k = logps.shape[-1] if logps.ndim else 0
    if k < 2:
        raise ValueError(
            "logps must hold at least two samples on its last axis to leave one out, got shape"
            f" {tuple(logps.shape)}"
        )
    ratio = logps - ref_logps
    return score_function_kl(logps, ref_logps, baseline=ratio - leave_one_out(ratio))
