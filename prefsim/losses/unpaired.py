"""Losses on single completions that are marked desirable or not, one value per completion."""

from __future__ import annotations

from prefsim.checks import check_boolean, check_nonnegative, check_positive, check_same_shape
from prefsim.containers import UnpairedLogps
from prefsim.numerics import array_namespace, sigmoid, stop_gradient
from prefsim.typing import Array, ArrayT

__all__ = ["kto"]


def kto(
    logps: UnpairedLogps[ArrayT],
    *,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    reference_point: float | Array | None = None,
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
        z₀ in nats, a constant of differentiation: the exact ``KL(π‖π_ref)`` in an enumerable world,
        an estimate from mismatched pairs in a language model. Unless given, the mean log-ratio of
        the batch (last axis), floored at 0: this couples the batch, and is biased upwards because
        it pairs prompts with their own completions.

    Returns
    -------
    Array ``(..., n)``, in [0, max(λ_D, λ_U)].

    Raises
    ------
    ValueError
        If a parameter is out of range, shapes differ, or ``desirable`` is not boolean.

    References
    ----------
    Ethayarajh et al. 2024, eq. 8, arXiv:2402.01306.
    """
    check_positive(beta=beta)
    check_nonnegative(desirable_weight=desirable_weight, undesirable_weight=undesirable_weight)
    check_same_shape(logp=logps.logp, ref_logp=logps.ref_logp, desirable=logps.desirable)
    # Marks of -1 and 1 would all be true.
    check_boolean(logps.desirable, "desirable")
    xp = array_namespace(logps.logp, logps.ref_logp)
    log_ratio = logps.logp - logps.ref_logp
    if reference_point is None:
        mean = stop_gradient(
            xp.sum(log_ratio, axis=-1, keepdims=True) / max(log_ratio.shape[-1], 1)
        )
        reference_point = xp.where(mean > 0, mean, xp.zeros_like(mean))
    gain = beta * (log_ratio - reference_point)
    # 1 − σ(z) = σ(−z) keeps its digits where σ(z) rounds to one.
    return xp.where(
        logps.desirable, desirable_weight * sigmoid(-gain), undesirable_weight * sigmoid(gain)
    )
