r"""Certificates of preference games, and the one mirror step that every Nash method is made of.

Throughout, ``P`` is a preference matrix ``(..., n, n)`` with ``P + Pᵀ = 1``, policies are
``(..., n)``, ``μ`` is a reference with full support and ``τ >= 0`` the strength of the KL penalty
towards it. Every function broadcasts over leading axes and runs on any array library.
"""

from __future__ import annotations

import math

from prefsim.checks import (
    alike,
    check_broadcast,
    check_interval,
    names_shapes,
)
from prefsim.numerics import array_namespace, categorical_kl
from prefsim.solvers.games.game_input import (
    check_players,
    check_tau,
    in_one_library,
)
from prefsim.solvers.games.margins import (
    gap_of_margins,
    largest_margin,
    log_probs,
    log_response,
    payoff,
    proximal_step,
)
from prefsim.typing import Array, ArrayT

__all__ = [
    "best_response",
    "duality_gap",
    "expected_preference",
    "exploitability",
    "gap_to_best_response",
    "geometric_mixture",
    "largest_gain",
    "log_best_response",
    "log_probs",
    "mirror_step",
    "payoff",
    "pure_response",
    "regularised_gap",
]


@names_shapes
def expected_preference(
    preference: ArrayT,
    policy: Array,
    opponent: Array,
    *,
    reference: Array | None = None,
    tau: float = 0.0,
) -> ArrayT:
    r"""Return how often ``policy`` is preferred to ``opponent``.

    With the KL penalties of both players if ``tau > 0``.

    .. math:: V_\tau(\pi, \pi') = \pi^\top P \pi' - \tau\,\mathrm{KL}(\pi\|\mu)
        + \tau\,\mathrm{KL}(\pi'\|\mu)

    Parameters
    ----------
    preference
        ``(..., n, n)``.
    policy, opponent
        ``(..., n)``.
    reference
        ``(..., n)``, needed exactly when ``tau > 0``.
    tau
        Strength of the penalty, >= 0.

    Returns
    -------
    Array ``(...,)``.

    References
    ----------
    Munos et al. 2023, arXiv:2312.00886.

    Examples
    --------
    >>> import numpy as np
    >>> P = np.array([[0.5, 0.8], [0.2, 0.5]])
    >>> float(expected_preference(P, np.array([1.0, 0.0]), np.array([0.5, 0.5])))
    0.65
    """
    check_tau(tau, reference)
    preference, policy, opponent, reference = in_one_library(
        preference, optional=("reference",), policy=policy, opponent=opponent, reference=reference
    )
    check_players(preference, policy=policy, opponent=opponent, reference=reference)
    xp = array_namespace(preference)
    value = xp.sum(policy * payoff(preference, opponent), axis=-1)
    if reference is None:
        return value
    log_reference = log_probs(reference)
    return value - tau * (
        categorical_kl(log_probs(policy), log_reference)
        - categorical_kl(log_probs(opponent), log_reference)
    )


def log_best_response(
    preference: Array, policy: ArrayT, log_reference: Array, *, tau: float
) -> ArrayT:
    r"""Return the log of the best response for ``tau > 0``, ``(..., n)`` in nats.

    :math:`\log \mathrm{BR}_\tau(\pi) = \log\mathrm{softmax}(\log\mu + P\pi/\tau)`.
    """
    # Around one half the payoffs would lose digits that a small τ brings out.
    return log_response(preference - 0.5, policy, log_reference, tau)


@names_shapes
def best_response(
    preference: ArrayT, policy: Array, *, reference: Array | None = None, tau: float = 0.0
) -> ArrayT:
    r"""Return the best response to ``policy``: ``(..., n)``.

    With ``tau > 0`` it is the maximiser of :math:`V_\tau(\cdot, \pi)`, the softmax of
    :math:`\log\mu + P\pi/\tau`; with ``tau = 0`` the pure response with the largest payoff, the
    first of several.

    Parameters
    ----------
    preference
        ``(..., n, n)``.
    policy
        ``(..., n)``.
    reference
        ``(..., n)``, needed exactly when ``tau > 0``.
    tau
        Strength of the penalty, >= 0.

    Examples
    --------
    >>> import numpy as np
    >>> P = np.array([[0.5, 0.8], [0.2, 0.5]])
    >>> best_response(P, np.array([0.5, 0.5]))
    array([1., 0.])
    """
    check_tau(tau, reference)
    preference, policy, reference = in_one_library(
        preference, optional=("reference",), policy=policy, reference=reference
    )
    check_players(preference, policy=policy, reference=reference)
    if reference is not None:
        response = log_best_response(preference, policy, log_probs(reference), tau=tau)
        return array_namespace(response).exp(response)
    return pure_response(preference, policy)


def pure_response(preference: ArrayT, policy: Array) -> ArrayT:
    """Return the :func:`best_response` without a penalty to what is known to be a policy."""
    value = payoff(preference, policy)
    xp = array_namespace(value)
    places = xp.arange(value.shape[-1], dtype=xp.int64, device=getattr(value, "device", None))
    return xp.astype(places == xp.argmax(value, axis=-1, keepdims=True), value.dtype)


def largest_gain(preference: ArrayT, policy: Array) -> ArrayT:
    """Return the :func:`exploitability` of what is known to be a distribution."""
    return largest_margin(preference - 0.5, policy)


@names_shapes
def exploitability(preference: ArrayT, policy: Array) -> ArrayT:
    r"""Return the exploitability :math:`e(\pi) = \max_y (P\pi)_y - \tfrac12`, ``(...,)``.

    In [0, ½], and 0 exactly at a Nash equilibrium.

    Parameters
    ----------
    preference
        ``(..., n, n)``.
    policy
        ``(..., n)``, a distribution.

    Raises
    ------
    ValueError
        If the shapes do not fit or the policy is no distribution.

    References
    ----------
    The value of a symmetric constant-sum game is ½: von Neumann 1928.

    Examples
    --------
    >>> import numpy as np
    >>> P = np.array([[0.5, 0.8], [0.2, 0.5]])
    >>> float(exploitability(P, np.array([1.0, 0.0])))
    0.0
    """
    preference, policy = in_one_library(preference, policy=policy)
    check_players(preference, policy=policy)
    return largest_gain(preference, policy)


@names_shapes
def duality_gap(preference: ArrayT, policy: Array, opponent: Array | None = None) -> ArrayT:
    r"""Return the duality gap of a pair of policies, ``(...,)``.

    Twice the exploitability when both are ``policy``.

    .. math:: \max_y (P\pi_2)_y - \min_y (\pi_1^\top P)_y

    Parameters
    ----------
    preference
        ``(..., n, n)``.
    policy
        ``(..., n)``, of the first player.
    opponent
        ``(..., n)``, of the second player; ``policy`` unless given.

    Examples
    --------
    >>> import numpy as np
    >>> P = np.array([[0.5, 0.8], [0.2, 0.5]])
    >>> round(float(duality_gap(P, np.array([0.0, 1.0]))), 12)
    0.6
    """
    # The worst response to π₁ leaves it 1 - max_y (Pπ₁)_y, because Pᵀ = 1 - P.
    preference, policy, opponent = in_one_library(
        preference, policy=policy, opponent=policy if opponent is None else opponent
    )
    check_players(preference, policy=policy, opponent=opponent)
    return largest_gain(preference, policy) + largest_gain(preference, opponent)


@names_shapes
def regularised_gap(preference: Array, policy: ArrayT, *, reference: Array, tau: float) -> ArrayT:
    r"""Return the duality gap of the KL-regularised game when both play ``policy``, ``(...,)``.

    .. math:: 2\tau\,\mathrm{KL}(\pi\|\mathrm{BR}_\tau(\pi))

    The difference of the two values, :math:`2(\max_{\pi'} V_\tau(\pi', \pi) - \tfrac12)`, is the
    same number; in this form nothing cancels. It bounds the distance to the equilibrium:
    :math:`2\tau\,\mathrm{KL}(\pi\|\pi^*_\tau)` is no larger.

    Parameters
    ----------
    preference
        ``(..., n, n)``.
    policy, reference
        ``(..., n)``; the reference has full support.
    tau
        Strength of the penalty, > 0.

    References
    ----------
    Munos et al. 2023, arXiv:2312.00886 (the regularised game).

    Examples
    --------
    >>> import numpy as np
    >>> P = np.array([[0.5, 0.8, 0.3], [0.2, 0.5, 0.9], [0.7, 0.1, 0.5]])
    >>> mu = np.array([0.5, 0.3, 0.2])
    >>> round(float(regularised_gap(P, mu, reference=mu, tau=0.1)), 10)
    0.0256931327
    """
    preference, policy, reference = in_one_library(preference, policy=policy, reference=reference)
    check_interval(low=0.0, high=math.inf, closed="neither", tau=tau)
    check_players(preference, policy=policy, reference=reference)
    return gap_to_best_response(preference, policy, log_probs(reference), tau=tau)


def gap_to_best_response(
    preference: Array, policy: ArrayT, log_reference: Array, *, tau: float
) -> ArrayT:
    """Return the :func:`regularised_gap` of what are known to be distributions."""
    return gap_of_margins(preference - 0.5, policy, log_reference, tau=tau)


def mirror_step(
    log_policy: ArrayT,
    log_reference: Array | None,
    payoffs: ArrayT,
    *,
    step: float,
    tau: float = 0.0,
) -> ArrayT:
    r"""Return one KL-proximal step, of which every method is made.

    See :func:`prefsim.solvers.solve_nash`.

    .. math:: \log\mathrm{softmax}\big((1-\eta\tau)\log\pi + \eta\tau\log\mu + \eta g\big)
        = \log\arg\max_p\; \eta\langle p, g\rangle - \eta\tau\,\mathrm{KL}(p\|\mu)
        - (1-\eta\tau)\,\mathrm{KL}(p\|\pi)

    Parameters
    ----------
    log_policy
        Where the step starts, ``(..., n)`` in nats.
    log_reference
        ``(..., n)`` in nats; None when ``tau = 0``.
    payoffs
        g, ``(..., n)``; adding a constant changes nothing.
    step
        Step size η > 0 (0 leaves the policy where it is), with ``step * tau <= 1``.
    tau
        Strength of the penalty, >= 0.

    Returns
    -------
    Array ``(..., n)``: normalised log-probabilities in nats.

    Raises
    ------
    ValueError
        If ``step`` or ``tau`` is negative or ``step * tau > 1``: the policy would get a negative
        exponent.

    References
    ----------
    Munos et al. 2023 (Nash-MD), arXiv:2312.00886; Zhang et al. 2024 (INPO), arXiv:2407.00617.
    """
    log_policy, log_reference, payoffs = alike(
        optional=("log_reference",),
        log_policy=log_policy,
        log_reference=log_reference,
        payoffs=payoffs,
    )
    try:
        return proximal_step(log_policy, log_reference, payoffs, step=step, tau=tau)
    except (ValueError, RuntimeError):
        given = {} if log_reference is None else {"log_reference": log_reference}
        check_broadcast(log_policy=log_policy, payoffs=payoffs, **given)
        raise


def geometric_mixture(log_policy: ArrayT, log_reference: Array, *, weight: float) -> ArrayT:
    r"""Return the log-probabilities of :math:`\pi^\kappa \propto \pi^{1-\kappa}\mu^{\kappa}`.

    The weight κ multiplies the *reference*.

    Parameters
    ----------
    log_policy, log_reference
        ``(..., n)`` in nats. With next-token log-probabilities ``(..., vocabulary)`` this is the
        token-wise mixture of language models, which is not the mixture of the sequences'
        probabilities.
    weight
        κ in [0, 1]: 0 returns the policy, 1 the reference.

    References
    ----------
    Munos et al. 2023, arXiv:2312.00886.

    Examples
    --------
    >>> import numpy as np
    >>> np.exp(
    ...     geometric_mixture(np.log([0.2, 0.5, 0.3]), np.log([0.5, 0.3, 0.2]), weight=0.125)
    ... ).round(4)
    array([0.2292, 0.4794, 0.2914])
    """
    check_interval(low=0.0, high=1.0, closed="both", weight=weight)
    log_policy, log_reference = alike(log_policy=log_policy, log_reference=log_reference)
    return mirror_step(
        log_policy,
        log_reference,
        array_namespace(log_policy).zeros_like(log_policy),
        step=weight,
        tau=1.0,
    )
