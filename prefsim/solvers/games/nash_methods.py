"""The iterative Nash methods by name, each with the steps that theory allows.

Methods whose exact update is the same one share an entry: SPPO, DNO and SPO with Hedge are
multiplicative weights, INPO and online IPO with uniform pairs are mirror descent, EGPO is
extragradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from prefsim.numerics import array_namespace
from prefsim.solvers.games.updates import (
    State,
    apo_update,
    comal_update,
    egpo_update,
    fictitious_play_update,
    mirror_descent_update,
    mmd_update,
    mwu_update,
    nash_md_pg_update,
    nash_md_update,
    optimistic_update,
    payoffs_of,
    regret_matching_update,
)
from prefsim.solvers.online_learning.hedge import hedge_step
from prefsim.typing import Array

__all__ = ["UPDATES", "Update"]


def _alone(log_policy: Array, preference: Array) -> State:
    return (log_policy,)


def _with_itself(log_policy: Array, preference: Array) -> State:
    return log_policy, log_policy


def _with_payoffs(log_policy: Array, preference: Array) -> State:
    return log_policy, payoffs_of(preference, log_policy)


def _with_counts(log_policy: Array, preference: Array) -> State:
    policy = array_namespace(log_policy).exp(log_policy)
    return policy, policy


def _with_regrets(log_policy: Array, preference: Array) -> State:
    xp = array_namespace(log_policy)
    return xp.exp(log_policy), xp.zeros_like(log_policy)


def _from_logs(state: State) -> Array:
    return array_namespace(state[0]).exp(state[0])


def _as_it_is(state: State) -> Array:
    return state[0]


class Update(NamedTuple):
    """A method: its update, what it is for, and its steps.

    Attributes
    ----------
    apply
        The update.
    penalty
        ``"needed"`` (``tau > 0``), ``"none"`` (``tau = 0``), ``"optional"``, or ``"proximal"``
        (``tau > 0`` is the strength of each step towards the equilibrium of the game without
        penalty).
    certified
        Which policies the theory is about: the ``"last"`` or the ``"average"``.
    default_step
        ``(n, tau, iterations) ->`` the step of the best guarantee; None for a method without a step
        size.
    largest_step
        ``tau ->`` the largest step with a guarantee.
    start
        ``(log-policies, preference) ->`` the first state.
    policy
        ``state ->`` the policies that it plays, ``(..., n)``.
    options
        Further options of the update and their defaults.
    weight
        ``t ->`` weight of the policy played in iteration t (from 0) in the average.
    """

    apply: Callable[..., State]
    penalty: str
    certified: str
    default_step: Callable[[int, float, int], float] | None
    largest_step: Callable[[float], float]
    start: Callable[[Array, Array], State] = _alone
    policy: Callable[[State], Array] = _from_logs
    options: Mapping[str, float] = MappingProxyType({})
    weight: Callable[[int], float] = lambda t: 1.0


def _no_limit(tau: float) -> float:
    return math.inf


def _hedge_step(n: int, tau: float, iterations: int) -> float:
    return hedge_step(max(iterations, 1), max(n, 2))


def _nash_md_step(n: int, tau: float, iterations: int) -> float:
    # Theorem 1 asks for log T/(τT); the cap keeps short runs from forgetting the policy altogether.
    return min(math.log(max(iterations, 3)) / max(iterations, 1), 0.5) / tau


def _egpo_largest(tau: float) -> float:
    return min(1.0 / (2.0 * tau + 1.0), 0.5)


def _egpo_step(n: int, tau: float, iterations: int) -> float:
    return _egpo_largest(tau)


def _mirror_descent_largest(tau: float) -> float:
    return 4.0 * tau / (1.0 + 4.0 * tau**2)


def _mirror_descent_step(n: int, tau: float, iterations: int) -> float:
    return _mirror_descent_largest(tau)


def _optimistic_largest(tau: float) -> float:
    return _egpo_largest(tau) if tau > 0 else 1.0


def _policy_gradient_largest(tau: float) -> float:
    """Return the largest step that cannot leave the equilibrium of self-play once it is near.

    The Jacobian there is ``S^½ (K − τ) S^½`` with S the covariance of the policy, at most ½, and K
    skew, at most ½, so that every eigenvalue is ``s(iω − τ)`` with s and ω at most ½; a step η
    needs ``|1 + ηλ| < 1``.
    """
    return 4.0 * tau / (tau**2 + 0.25)


def _policy_gradient_step(n: int, tau: float, iterations: int) -> float:
    return 0.5 * _policy_gradient_largest(tau)


_HEDGE = Update(mwu_update, "none", "average", _hedge_step, _no_limit)
_MIRROR_DESCENT = Update(
    mirror_descent_update, "needed", "last", _mirror_descent_step, _mirror_descent_largest
)
_EXTRAGRADIENT = Update(egpo_update, "optional", "last", _egpo_step, _egpo_largest)
_POLICY_GRADIENT = Update(
    nash_md_pg_update,
    "needed",
    "last",
    _policy_gradient_step,
    _policy_gradient_largest,
    options=MappingProxyType({"mixture": 0.0}),
)

UPDATES: dict[str, Update] = {
    "mwu": _HEDGE,
    "sppo": _HEDGE,
    "dno": _HEDGE,
    "spo": _HEDGE,
    "apo": Update(
        apo_update,
        "none",
        "average",
        _hedge_step,
        _no_limit,
        start=_with_itself,
        options=MappingProxyType({"momentum": 0.3}),
    ),
    "regret_matching": Update(
        regret_matching_update,
        "none",
        "average",
        None,
        _no_limit,
        start=_with_regrets,
        policy=_as_it_is,
        weight=lambda t: t + 1.0,
    ),
    "fictitious_play": Update(
        fictitious_play_update,
        "none",
        "last",
        None,
        _no_limit,
        start=_with_counts,
        policy=_as_it_is,
    ),
    "comal": Update(comal_update, "proximal", "last", None, _no_limit),
    "mirror_descent": _MIRROR_DESCENT,
    "inpo": _MIRROR_DESCENT,
    "mmd": Update(
        mmd_update, "needed", "last", lambda n, tau, iterations: 4.0 * tau, lambda tau: 4.0 * tau
    ),
    "nash_md": Update(nash_md_update, "needed", "last", _nash_md_step, _no_limit),
    "nash_md_pg": _POLICY_GRADIENT,
    "online_ipo": _POLICY_GRADIENT._replace(options=MappingProxyType({})),
    "egpo": _EXTRAGRADIENT,
    "extragradient": _EXTRAGRADIENT,
    "optimistic": Update(
        optimistic_update, "optional", "last", _egpo_step, _optimistic_largest, start=_with_payoffs
    ),
}
