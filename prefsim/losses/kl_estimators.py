r"""Estimators of the gradient of :math:`\mathrm{KL}(\pi_\theta \| \pi_{ref})`.

From samples of :math:`\pi_\theta`, one value a sample.

The values stand for their gradients alone: their mean over samples is no estimate of the
divergence.
"""

from __future__ import annotations

import numpy as np

from prefsim.checks import as_floats, check_entries, check_same_shape
from prefsim.numerics import array_namespace, stop_gradient
from prefsim.typing import Array, ArrayT

__all__ = ["rloo_kl", "score_function_kl"]


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
    xp = array_namespace(ratio)
    others = (xp.sum(ratio, axis=-1, keepdims=True) - ratio) / (k - 1)
    return score_function_kl(logps, ref_logps, baseline=others)
