"""Losses on a rejected response and a set of the model's own samples.

The samples anchor the policy in place of a chosen response.
"""

from __future__ import annotations

from prefsim.checks import (
    check_choice,
    check_entries,
    check_positive,
    check_same_shape,
)
from prefsim.containers import AnchoredLogps
from prefsim.losses.edge import checked
from prefsim.losses.links import soft_logistic
from prefsim.numerics import array_namespace, over_rows
from prefsim.typing import Array, ArrayT, Number

LEVELS = ("distribution", "instance")
# Weights may have been rounded in half precision, and others are off by more.
WEIGHT_TOLERANCE = 1e-2

__all__ = ["LEVELS", "anchor_log_ratio", "d2o"]


def _check(logps: AnchoredLogps[ArrayT]) -> None:
    check_same_shape(rejected=logps.rejected, ref_rejected=logps.ref_rejected)
    check_same_shape(
        samples=logps.samples, ref_samples=logps.ref_samples, sample_weight=logps.sample_weight
    )
    if logps.samples.ndim != logps.rejected.ndim + 1 or tuple(logps.samples.shape[:-1]) != tuple(
        logps.rejected.shape
    ):
        expected = (*tuple(logps.rejected.shape), "K")
        raise ValueError(
            f"samples must have shape {expected}, one more axis than rejected, got"
            f" {tuple(logps.samples.shape)}"
        )
    if logps.sample_weight is not None:
        check_entries(logps.sample_weight, "sample_weight", "be >= 0", lambda w: w >= 0)
        check_entries(
            array_namespace(logps.sample_weight).sum(logps.sample_weight, axis=-1),
            "sample_weight",
            "sum to 1 over the samples",
            lambda total: abs(total - 1) <= WEIGHT_TOLERANCE,
        )
    if logps.samples.shape[-1] == 0:
        raise ValueError(
            "samples must hold at least one sample along the last axis, got shape"
            f" {tuple(logps.samples.shape)}"
        )


def _expectation(values: Array, logps: AnchoredLogps[ArrayT]) -> ArrayT:
    weight = logps.sample_weight
    xp = array_namespace(values)
    return xp.mean(values, axis=-1) if weight is None else xp.sum(weight * values, axis=-1)


def anchor_log_ratio(logps: AnchoredLogps[ArrayT]) -> ArrayT:
    r"""Return the mean log-ratio of the samples, ``(..., n)`` in nats.

    :math:`\sum_i w_i \log\frac{\pi(y_i)}{\pi_{ref}(y_i)}`.

    Where the weights are all of :math:`\pi_{ref}`, it is :math:`-\mathrm{KL}(\pi_{ref} \| \pi)`.
    """
    _check(logps)
    return _expectation(logps.samples - logps.ref_samples, logps)


@checked
def d2o(
    logps: AnchoredLogps[ArrayT],
    *,
    beta: Number = 0.1,
    alpha: Number = 0.1,
    level: str = "distribution",
) -> ArrayT:
    r"""Distributional dispreference optimization.

    The rejected response against the distribution of the samples.

    .. math:: -\log\sigma\Big(\frac{\beta}{K}\sum_i \log\frac{\pi(y_i)}{\pi^-_{ref}(y_i)}
        - \alpha\log\frac{\pi(y_l)}{\pi^+_{ref}(y_l)}\Big)

    The mean is inside the link. Outside of it (``level="instance"``) it is DPO with each sample in
    turn as the chosen response, an upper bound. A sample may equal the rejected response; it
    counts.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats: rejected ``(..., n)``, samples ``(..., n, K)``; samples
        and references are constants.
    beta
        Strength of the anchor, > 0.
    alpha
        Strength of the dispreference, > 0. With exact expectations there is an optimum only for
        ``alpha < beta * π_ref(y_l)``.
    level
        ``"distribution"`` or ``"instance"``.

    Returns
    -------
    Array ``(..., n)``, nats.

    Raises
    ------
    ValueError
        If an option is out of range, there is no sample, or shapes differ.

    References
    ----------
    Duan et al. 2024, "Negating Negatives", arXiv:2403.03419 (equation number not confirmed).

    Examples
    --------
    >>> import numpy as np
    >>> zero = np.zeros(1)
    >>> d2o(
    ...     AnchoredLogps(
    ...         np.asarray([-0.4]), zero, np.asarray([[0.5, -0.2, 0.3]]), np.zeros((1, 3))
    ...     )
    ... ).round(8)
    array([0.66359711])
    """
    check_positive(arrays=True, beta=beta, alpha=alpha)
    check_choice(LEVELS, level=level)
    _check(logps)
    down = alpha * (logps.rejected - logps.ref_rejected)
    if level == "distribution":
        return soft_logistic(beta * anchor_log_ratio(logps) - down, 1)
    return _expectation(
        soft_logistic(over_rows(beta) * (logps.samples - logps.ref_samples) - down[..., None], 1),
        logps,
    )
