"""Coverage where a policy can be drawn from and evaluated, and not enumerated."""

from __future__ import annotations

import math
from typing import Generic, NamedTuple

from prefsim.checks import as_floats, check_shape
from prefsim.numerics import array_namespace, logsumexp
from prefsim.typing import ArrayT

__all__ = ["SampledCoverage", "sampled_coverage"]


class SampledCoverage(NamedTuple, Generic[ArrayT]):
    r"""How far a policy's density ratio to the reference goes on what it says itself.

    Attributes
    ----------
    log_largest
        Largest log-ratio among the draws, ``(...,)`` nats: a lower bound of the logarithm of
        :func:`prefsim.analysis.concentrability`, which it approaches as draws are added.
    log_mean
        :math:`\log\frac1n\sum_i \pi(y_i)/\pi_{ref}(y_i)`, ``(...,)`` nats. It estimates
        :math:`\log E_\pi[\pi/\pi_{ref}] = \log(1 + \chi^2(\pi\|\pi_{ref}))`, from below where few
        draws have most of the mean.
    """

    log_largest: ArrayT
    log_mean: ArrayT


def sampled_coverage(log_ratio: ArrayT) -> SampledCoverage[ArrayT]:
    r"""Return the coverage coefficients of a policy from its own draws.

    Parameters
    ----------
    log_ratio
        :math:`\log\pi(y_i|x_i) - \log\pi_{ref}(y_i|x_i)` of draws :math:`y_i\sim\pi`,
        ``(..., n)`` nats, n >= 1.

    Returns
    -------
    SampledCoverage

    Raises
    ------
    ValueError
        If there is no draw or a ratio is NaN.

    References
    ----------
    Song et al. 2024, arXiv:2406.01462 (largest ratio); Huang et al. 2024, arXiv:2407.13399 (mean
    ratio, the single-policy concentrability of chi-squared preference optimisation).

    Examples
    --------
    >>> import numpy as np
    >>> found = sampled_coverage(np.log([2.0, 2.0, 0.5, 0.5]))
    >>> np.exp([found.log_largest, found.log_mean]).round(12)
    array([2.  , 1.25])
    """
    (log_ratio,) = as_floats(log_ratio=log_ratio)
    check_shape(log_ratio, "log_ratio", (None,))
    n = log_ratio.shape[-1]
    if n == 0:
        raise ValueError("log_ratio must hold at least one draw along its last axis, got none")
    xp = array_namespace(log_ratio)
    return SampledCoverage(
        log_largest=xp.max(log_ratio, axis=-1), log_mean=logsumexp(log_ratio) - math.log(n)
    )
