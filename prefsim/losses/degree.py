"""Preference degrees without labels.

A head on the policy's representation tells how much of a response's key content was removed.

The graded versions come from :mod:`prefsim.data.degradation`; the head's scores of their degree are
the logits here. The degree loss is added to any loss on pairs, and its gradient flows into the
representation; the head is thrown away afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefsim.checks import as_floats, check_callable, check_entries, check_nonnegative
from prefsim.containers import ClassLogits, DegreeLogits, DegreePairLogps, PairLogps
from prefsim.losses.classification import cross_entropy
from prefsim.losses.edge import checked
from prefsim.losses.pairwise import dpo
from prefsim.numerics import array_namespace, log1mexp, log_sigmoid
from prefsim.typing import Array, ArrayT, Number

__all__ = ["ordinal_logits", "preference_degree", "spo_degree"]


@checked
def preference_degree(graded: DegreeLogits[ArrayT]) -> ArrayT:
    r"""Preference degree loss over the V graded versions of each response.

    :math:`-\frac1V\sum_v \log\mathrm{softmax}(o_v)_{k_v}`.

    With one version a response, its degree drawn uniformly, it estimates the loss of all versions
    without bias. The classes have no order to it: any relabelling of degrees and head together
    leaves it as it is (see :func:`ordinal_logits`).

    Parameters
    ----------
    graded
        The head's scores ``(..., n, V, C)`` and the degrees ``(..., n, V)`` in [0, C). Versions of
        negative degree are left out.

    Returns
    -------
    Array ``(..., n)``, nats; 0 where every version is left out.

    Raises
    ------
    ValueError
        If shapes do not fit, or a degree is no class.

    References
    ----------
    Li et al. 2024, the preference degree loss, arXiv:2409.17791 (form and weights not confirmed).

    Examples
    --------
    >>> import numpy as np
    >>> logits = np.asarray([[[0.45, 0.6, -0.7], [0.45, 0.6, -0.7]]])
    >>> preference_degree(DegreeLogits(logits, np.asarray([[0, 2]]))).round(8)
    array([1.48264184])
    """
    return _mean_over_versions(graded)


def _mean_over_versions(graded: DegreeLogits[ArrayT], *, whose: str = "") -> ArrayT:
    """Return the degree loss of responses whose fields are named with a prefix."""
    xp = array_namespace(graded.logits)
    if tuple(graded.degree.shape) != tuple(graded.logits.shape[:-1]):
        raise ValueError(
            f"{whose}degree must have shape {tuple(graded.logits.shape[:-1])}, that of"
            f" {whose}logits without the classes, got {tuple(graded.degree.shape)}"
        )
    present = graded.degree >= 0
    label = xp.where(present, graded.degree, xp.zeros_like(graded.degree))
    each = cross_entropy(ClassLogits(graded.logits, label))
    zero = xp.zeros_like(each)
    count = xp.sum(xp.where(present, zero + 1, zero), axis=-1)
    return xp.sum(xp.where(present, each, zero), axis=-1) / xp.where(
        count > 0, count, xp.ones_like(count)
    )


def ordinal_logits(score: ArrayT, thresholds: Array) -> ArrayT:
    r"""Return the class log-probabilities of the cumulative logit model.

    :math:`P(k \ge j) = \sigma(s - c_j)`: a head that knows the order.

    Parameters
    ----------
    score
        s, any shape ``(...)``.
    thresholds
        :math:`c_1 < \dots < c_K`, ``(K,)``.

    Returns
    -------
    Array ``(..., K + 1)``, nats, normalised: logits for :func:`preference_degree` and
    :func:`~prefsim.losses.cross_entropy`.

    Raises
    ------
    ValueError
        If the thresholds are no rising vector.

    References
    ----------
    McCullagh 1980, "Regression models for ordinal data"; an alternative to the classes of
    arXiv:2409.17791.

    Examples
    --------
    >>> import numpy as np
    >>> np.exp(ordinal_logits(np.asarray(0.0), np.asarray([0.0, np.log(3.0)])))
    array([0.5 , 0.25, 0.25])
    """
    score, thresholds = as_floats(score=score, thresholds=thresholds)
    xp = array_namespace(score, thresholds)
    if thresholds.ndim != 1 or thresholds.shape[0] == 0:
        raise ValueError(
            "thresholds must be a vector of at least one number, got shape"
            f" {tuple(thresholds.shape)}"
        )
    steps = thresholds[1:] - thresholds[:-1]
    check_entries(steps, "thresholds", "rise strictly", lambda step: step > 0)
    above = score[..., None] - thresholds
    # σ(a) − σ(b) = σ(a) σ(−b) (1 − e^{−(a − b)}), with a − b the step between two thresholds
    inner = log_sigmoid(above[..., :-1]) + log_sigmoid(-above[..., 1:]) + log1mexp(-steps)
    return xp.concat([log_sigmoid(-above[..., :1]), inner, log_sigmoid(above[..., -1:])], axis=-1)


@checked
def spo_degree(
    logps: DegreePairLogps[ArrayT],
    *,
    align: Callable[[PairLogps], Array] = dpo,
    gamma_chosen: Number = 0.1,
    gamma_rejected: Number = 0.1,
) -> ArrayT:
    r"""Self-supervised preference optimisation.

    A loss on pairs plus the degree losses of both responses.

    .. math:: L_{\mathrm{align}}(y_w, y_l) + \gamma_w L_{\deg}(y_w) + \gamma_l L_{\deg}(y_l)

    The degraded versions enter the degree losses alone. Other methods named SPO (self-play, soft)
    are different.

    Parameters
    ----------
    logps
        Sequence log-probabilities of the whole responses in nats, ``(..., n)``, and the degree
        head's scores of their graded versions.
    align
        Any loss on :class:`~prefsim.losses.PairLogps`, configured with :func:`functools.partial`.
    gamma_chosen, gamma_rejected
        Weights of the degree losses, >= 0 (the paper's values are not confirmed).

    Returns
    -------
    Array ``(..., n)``, nats.

    Raises
    ------
    ValueError
        If a weight is out of range, ``align`` is no function, or shapes differ.

    References
    ----------
    Li et al. 2024, arXiv:2409.17791.
    """
    check_nonnegative(arrays=True, gamma_chosen=gamma_chosen, gamma_rejected=gamma_rejected)
    check_callable(align=align)
    pair: Any = align(logps.pair())
    chosen, rejected = (
        _mean_over_versions(DegreeLogits(logits, degree), whose=whose)
        for logits, degree, whose in (
            (logps.chosen_logits, logps.chosen_degree, "chosen_"),
            (logps.rejected_logits, logps.rejected_degree, "rejected_"),
        )
    )
    return pair + gamma_chosen * chosen + gamma_rejected * rejected
