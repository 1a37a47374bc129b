"""Losses on single completions that are marked desirable or not, one value per completion."""

from __future__ import annotations

from prefsim.checks import (
    check_boolean,
    check_nonnegative,
    check_number,
    check_positive,
    check_same_shape,
)
from prefsim.containers import UnpairedLogps
from prefsim.losses.edge import checked
from prefsim.losses.pair_fields import needed
from prefsim.numerics import array_namespace, sigmoid, stop_gradient
from prefsim.typing import ArrayT, Number

__all__ = ["kto"]


@checked
def kto(
    logps: UnpairedLogps[ArrayT],
    *,
    beta: Number = 0.1,
    desirable_weight: Number = 1.0,
    undesirable_weight: Number = 1.0,
    reference_point: Number | None = None,
) -> ArrayT:
    r"""Kahneman–Tversky optimisation, one value per completion.

    .. math:: \lambda_D\,(1 - \sigma(\beta(a - z_0))) \text{ if desirable, else }
              \lambda_U\,(1 - \sigma(\beta(z_0 - a))),\qquad a = \log\pi/\pi_{ref}

    Parameters
    ----------
    logps
        Each ``(..., n)``, nats; ``desirable`` boolean.
    beta
        Risk aversion and strength of the KL penalty, > 0.
    desirable_weight, undesirable_weight
        λ_D and λ_U, >= 0.
    reference_point
        z₀ in nats, a constant of differentiation, for instance the exact ``KL(π‖π_ref)`` in an
        enumerable world. Unless given, the mean log-ratio of the batch (last axis), floored at 0,
        which couples the batch: that of the ``mismatched`` completions where the batch has them, as
        the method does, and otherwise that of its own completions, which is biased upwards because
        training raises them.

    Returns
    -------
    Array ``(..., n)``, in [0, max(λ_D, λ_U)].

    Raises
    ------
    ValueError
        If a parameter is out of range, shapes differ, ``desirable`` is not boolean, or one of the
        two log-probabilities of mismatched completions is missing.

    References
    ----------
    Ethayarajh et al. 2024, eq. 8 and section 4.1 (the estimate of z₀), arXiv:2402.01306.

    Examples
    --------
    >>> import numpy as np
    >>> batch = UnpairedLogps(
    ...     logp=np.asarray([-1.0, -2.0]),
    ...     ref_logp=np.asarray([-1.5, -2.0]),
    ...     desirable=np.asarray([True, False]),
    ...     mismatched=np.asarray([-9.0, -7.0]),
    ...     ref_mismatched=np.asarray([-9.4, -7.2]),
    ... )
    >>> kto(batch).round(6), kto(batch, reference_point=0.3).round(6)
    (array([0.495   , 0.492501]), array([0.495   , 0.492501]))
    """
    check_positive(arrays=True, beta=beta)
    check_nonnegative(
        arrays=True, desirable_weight=desirable_weight, undesirable_weight=undesirable_weight
    )
    check_same_shape(logp=logps.logp, ref_logp=logps.ref_logp, desirable=logps.desirable)
    # Marks of -1 and 1 would all be true.
    check_boolean(logps.desirable, "desirable")
    xp = array_namespace(logps.logp, logps.ref_logp)
    log_ratio = logps.logp - logps.ref_logp
    if reference_point is not None:
        check_number(arrays=True, reference_point=reference_point)
    else:
        moved = stop_gradient(_estimates_of_divergence(logps))
        mean = xp.sum(moved, axis=-1, keepdims=True) / max(moved.shape[-1], 1)
        # Asked as < 0 so that a NaN stays one.
        reference_point = xp.where(mean < 0, xp.zeros_like(mean), mean)
    gain = beta * (log_ratio - reference_point)
    # 1 − σ(z) = σ(−z) keeps its digits where σ(z) rounds to one.
    return xp.where(
        logps.desirable, desirable_weight * sigmoid(-gain), undesirable_weight * sigmoid(gain)
    )


def _estimates_of_divergence(logps: UnpairedLogps[ArrayT]) -> ArrayT:
    """Return the log-ratios of mismatched completions, or of the batch's own without them."""
    if logps.mismatched is None and logps.ref_mismatched is None:
        return logps.logp - logps.ref_logp
    mismatched = needed(logps.mismatched, "mismatched")
    ref_mismatched = needed(logps.ref_mismatched, "ref_mismatched")
    check_same_shape(logp=logps.logp, mismatched=mismatched, ref_mismatched=ref_mismatched)
    return mismatched - ref_mismatched
