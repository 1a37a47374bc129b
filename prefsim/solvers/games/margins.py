"""What play is made of, of arrays that are known to be in order: they are not looked at here.

Games are given by their margins ``P - 1/2`` where a difference from one half is asked for, which
would lose digits otherwise. :mod:`prefsim.solvers.games.certificates` checks what comes from users.
"""

from __future__ import annotations

import math
from typing import Any

from prefsim.checks import check_nonnegative, check_reference_weight
from prefsim.numerics import array_namespace, log_softmax
from prefsim.typing import Array, ArrayT

__all__ = [
    "gap_of_margins",
    "largest_margin",
    "log_probs",
    "log_response",
    "payoff",
    "proximal_step",
]


def log_probs(policy: ArrayT) -> ArrayT:
    """Return the logarithm of probabilities, ``-inf`` at zero without a warning."""
    xp = array_namespace(policy)
    positive = policy > 0
    return xp.where(
        positive,
        xp.log(xp.where(positive, policy, xp.ones_like(policy))),
        xp.full_like(policy, -math.inf),
    )


def payoff(preference: Array, policy: ArrayT) -> ArrayT:
    r"""Return :math:`(P\pi)_y`, how likely y beats a draw from ``policy``, ``(..., n)``."""
    if policy.ndim == 1:
        payoffs: Any = preference @ policy
        return payoffs
    return (preference @ policy[..., None])[..., 0]


def largest_margin(margins: ArrayT, policy: Array) -> ArrayT:
    """Return the :func:`~prefsim.solvers.games.certificates.largest_gain` by margins."""
    gained = payoff(margins, policy)
    return array_namespace(gained).max(gained, axis=-1)


def log_response(margins: Array, policy: ArrayT, log_reference: Array, tau: float) -> ArrayT:
    """Return the log of the best response with a penalty, ``(..., n)`` in nats."""
    return log_softmax(log_reference + payoff(margins, policy) / tau)


def gap_of_margins(margins: Array, policy: ArrayT, log_reference: Array, *, tau: float) -> ArrayT:
    """Return the :func:`~prefsim.solvers.games.certificates.gap_to_best_response` by margins."""
    response = log_response(margins, policy, log_reference, tau)
    return 2.0 * tau * _divergence_of_neighbours(policy, response)


def _divergence_of_neighbours(policy: ArrayT, log_other: Array) -> ArrayT:
    """Return KL(policy‖other) of two distributions that may agree to the last digit.

    Every term is written so that it is >= 0, and none cancel.
    """
    xp = array_namespace(policy)
    difference = log_probs(policy) - log_other
    near = xp.abs(difference) < 1.0
    zero = xp.zeros_like(policy)
    small = xp.where(near, difference, zero)
    large = xp.where(near | (policy <= 0), zero, difference)
    # Σ p (e⁻ᵈ − 1 + d) = Σ p d + Σ q − Σ p, and the two sums are one.
    close = policy * (xp.expm1(-small) + small)
    far = policy * large + xp.exp(log_other) - policy
    return xp.sum(xp.where(near, close, far), axis=-1)


def proximal_step(
    log_policy: ArrayT,
    log_reference: Array | None,
    payoffs: ArrayT,
    *,
    step: float,
    tau: float = 0.0,
) -> ArrayT:
    """Return the :func:`~prefsim.solvers.games.certificates.mirror_step` of floating arrays.

    They are known to be of one library.
    """
    # Steps are made by the thousand: sizes that are fine by themselves are not looked at further.
    if not (type(step) is type(tau) is float and 0 <= step < math.inf and 0 <= tau < math.inf):
        check_nonnegative(step=step, tau=tau)
    weight = step * tau
    if not weight <= 1:
        check_reference_weight(step, tau)
    if weight > 0 and log_reference is None:
        raise ValueError(f"log_reference is needed when tau > 0, got None with tau={tau!r}")
    logits = step * payoffs
    # A weight of exactly zero drops its term: 0 · log 0 is NaN.
    if weight == 0:
        logits = logits + log_policy
    elif weight < 1:
        logits = logits + (1.0 - weight) * log_policy
    if weight > 0 and log_reference is not None:
        logits = logits + weight * log_reference
    return log_softmax(logits)
