r"""The iterative Nash methods, each one update, with the steps that theory allows.

Updates are made of :func:`prefsim.solvers.games.certificates.mirror_step`.

An update takes a state, the preference matrix and the log-reference, and returns the next state: a
tuple of arrays ``(..., n)`` that starts with the log-policies, followed by what the method
remembers. All of them are pure, broadcast over leading axes, and run on any array library (COMAL,
which solves a game in every update, on NumPy and torch). Papers whose exact update is the same one
share an entry: SPPO, DNO and SPO with Hedge are multiplicative weights, INPO and online IPO with
uniform pairs are mirror descent, EGPO is extragradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from prefsim.checks import check_reference_weight
from prefsim.numerics import array_namespace, log_softmax
from prefsim.solvers.games.certificates import (
    best_response,
    geometric_mixture,
    log_probs,
    mirror_step,
    payoff,
)
from prefsim.solvers.games.policy_gradient import nash_md_pg_gradient
from prefsim.solvers.games.regularised import solve_regularised
from prefsim.typing import Array

State = tuple[Array, ...]

# Newton steps on the regularised game of one step of COMAL; it takes about ten.
PROXIMAL_ITERATIONS = 200

__all__ = [
    "UPDATES",
    "Update",
    "apo_update",
    "comal_update",
    "egpo_update",
    "fictitious_play_update",
    "mirror_descent_update",
    "mmd_update",
    "mwu_update",
    "nash_md_pg_update",
    "nash_md_update",
    "optimistic_update",
    "regret_matching_update",
]


def _play(preference: Array, log_policy: Array) -> Array:
    return payoff(preference, array_namespace(log_policy).exp(log_policy))


def mwu_update(
    state: State, preference: Array, log_reference: Array, *, step: float, tau: float
) -> State:
    r"""Multiplicative weights (Hedge): :math:`\pi_{t+1} \propto \pi_t \exp(\eta P\pi_t)`.

    References
    ----------
    Freund and Schapire 1999, "Adaptive game playing using multiplicative weights"; the exact form
    of SPPO (arXiv:2405.00675) and DNO (arXiv:2404.03715).
    """
    (log_policy,) = state
    return (mirror_step(log_policy, None, _play(preference, log_policy), step=step),)


def mirror_descent_update(
    state: State, preference: Array, log_reference: Array, *, step: float, tau: float
) -> State:
    r"""Online mirror descent.

    :math:`\pi_{t+1} \propto \pi_t^{1-\eta\tau}\mu^{\eta\tau}\exp(\eta P\pi_t)`.

    References
    ----------
    The exact form of INPO, Zhang et al. 2024, arXiv:2407.00617.
    """
    (log_policy,) = state
    return (
        mirror_step(log_policy, log_reference, _play(preference, log_policy), step=step, tau=tau),
    )


def mmd_update(
    state: State, preference: Array, log_reference: Array, *, step: float, tau: float
) -> State:
    r"""Magnetic mirror descent.

    :math:`\pi_{t+1} \propto (\pi_t\,\mu^{\eta\tau} \exp(\eta P\pi_t))^{1/(1+\eta\tau)}`.

    The penalty is taken at the new policy; this is mirror descent with the step
    :math:`\eta/(1+\eta\tau)`.

    References
    ----------
    Sokota et al. 2022, arXiv:2206.05825.
    """
    return mirror_descent_update(
        state, preference, log_reference, step=step / (1.0 + step * tau), tau=tau
    )


def nash_md_update(
    state: State, preference: Array, log_reference: Array, *, step: float, tau: float
) -> State:
    r"""Nash mirror descent, a step from and against a mixture of policy and reference.

    The mixture is :math:`\pi_t^\mu \propto \pi_t^{1-\eta\tau}\mu^{\eta\tau}`.

    .. math:: \pi_{t+1} = \arg\max_\pi\; \eta\,P(\pi \succ \pi_t^\mu) - \mathrm{KL}(\pi\|\pi_t^\mu)
        \propto \pi_t^\mu \exp(\eta P\pi_t^\mu)

    With a constant step the limit is not the equilibrium :math:`\pi^*_\tau` but the best response
    to :math:`\pi^*_{\tau/(1-\eta\tau)}`.

    References
    ----------
    Munos et al. 2023, arXiv:2312.00886.
    """
    check_reference_weight(step, tau)
    mixture = geometric_mixture(state[0], log_reference, weight=step * tau)
    return mwu_update((mixture,), preference, log_reference, step=step, tau=0.0)


def egpo_update(
    state: State, preference: Array, log_reference: Array, *, step: float, tau: float
) -> State:
    r"""Extragradient.

    A trial step to :math:`\pi_{t+1/2}`, then the step from :math:`\pi_t` against the payoffs met
    there.

    References
    ----------
    Korpelevich 1976; with the KL penalty EGPO, Zhou et al. 2025, arXiv:2503.08942.
    """
    (log_policy,) = state
    (half,) = mirror_descent_update(state, preference, log_reference, step=step, tau=tau)
    return (mirror_step(log_policy, log_reference, _play(preference, half), step=step, tau=tau),)


def optimistic_update(
    state: State, preference: Array, log_reference: Array, *, step: float, tau: float
) -> State:
    r"""Optimistic multiplicative weights, one new payoff a step.

    The memory is the last payoffs, of the initial policy at first.

    With ``tau > 0``, :math:`\hat\pi_{t+1} = M(\pi_t, \mu, P\hat\pi_t)` and
    :math:`\pi_{t+1} = M(\pi_t, \mu, P\hat\pi_{t+1})`, M the mirror step. With ``tau = 0``,
    :math:`\pi_{t+1} \propto \pi_t\exp(\eta(2P\pi_t - P\pi_{t-1}))`.

    References
    ----------
    Rakhlin and Sridharan 2013, arXiv:1311.1869; Cen et al. 2021 (regularised), arXiv:2105.15186.
    """
    log_policy, memory = state
    if tau == 0:
        current = _play(preference, log_policy)
        return mirror_step(log_policy, None, 2.0 * current - memory, step=step), current
    predicted = mirror_step(log_policy, log_reference, memory, step=step, tau=tau)
    payoffs = _play(preference, predicted)
    return mirror_step(log_policy, log_reference, payoffs, step=step, tau=tau), payoffs


def extrapolated(log_policy: Array, before: Array, *, momentum: float) -> Array:
    r"""Return the normalised extrapolation of a log-policy, ``(..., n)`` in nats.

    :math:`\log\hat\pi_t + \alpha(\log\hat\pi_t - \log\hat\pi_{t-1})`.

    References
    ----------
    He et al. 2024 (APO), arXiv:2410.06293.
    """
    return log_softmax(log_policy + momentum * (log_policy - before))


def apo_update(
    state: State,
    preference: Array,
    log_reference: Array,
    *,
    step: float,
    tau: float,
    momentum: float,
) -> State:
    r"""Accelerated preference optimisation.

    Multiplicative weights from a policy extrapolated with momentum α.

    .. math:: \log\pi_t = \log\hat\pi_t + \alpha(\log\hat\pi_t - \log\hat\pi_{t-1}) - c,\qquad
        \hat\pi_{t+1} \propto \pi_t\exp(\eta P\pi_t)

    The state holds :math:`\hat\pi_t`, which is what the method returns, and :math:`\hat\pi_{t-1}`,
    at first the same.

    References
    ----------
    He et al. 2024, arXiv:2410.06293.
    """
    log_policy, before = state
    return (
        *mwu_update(
            (extrapolated(log_policy, before, momentum=momentum),),
            preference,
            log_reference,
            step=step,
            tau=0.0,
        ),
        log_policy,
    )


def nash_md_pg_update(
    state: State,
    preference: Array,
    log_reference: Array,
    *,
    step: float,
    tau: float,
    mixture: float = 0.0,
) -> State:
    r"""Gradient ascent in the logits against :math:`\pi^\kappa \propto \pi^{1-\kappa}\mu^\kappa`.

    .. math:: \theta_{t+1} = \theta_t + \eta\,\pi\odot(a - \pi^\top a),\qquad
        a = P\pi^\kappa - \tfrac12 - \tau\log(\pi/\mu)

    With κ > 0 it stands still at the best response to :math:`\pi^*_{\tau/(1-\kappa)}`, not at the
    equilibrium. κ = 0 is self-play; it is also gradient descent with step :math:`\eta\tau/4` on the
    loss of online IPO with both responses drawn from the policy.

    References
    ----------
    Munos et al. 2023, arXiv:2312.00886; Calandriello et al. 2024 (online IPO), arXiv:2403.08635.
    """
    (log_policy,) = state
    return (
        log_softmax(
            log_policy
            + step
            * nash_md_pg_gradient(preference, log_policy, log_reference, tau=tau, mixture=mixture)
        ),
    )


def comal_update(state: State, preference: Array, log_reference: Array, *, tau: float) -> State:
    r"""Proximal point (COMAL).

    The equilibrium of the game with penalty τ towards the current policy, solved exactly.

    References
    ----------
    Liu et al. 2024, arXiv:2410.23223; Rockafellar 1976, "Monotone operators and the proximal point
    algorithm".
    """
    (log_policy,) = state
    xp = array_namespace(log_policy)
    n = log_policy.shape[-1]
    batch = np.broadcast_shapes(tuple(preference.shape[:-2]), tuple(log_policy.shape[:-1]))
    games = xp.reshape(xp.broadcast_to(preference, (*batch, n, n)), (-1, n, n))
    start = xp.reshape(xp.broadcast_to(log_policy, (*batch, n)), (-1, n))
    equilibrium = solve_regularised(games, start, tau=tau, max_iterations=PROXIMAL_ITERATIONS)
    return (xp.reshape(equilibrium.log_policy, (*batch, n)),)


def regret_matching_update(state: State, preference: Array, log_reference: Array) -> State:
    r"""Predictive regret matching⁺, which has no step size.

    .. math:: r_t = P\pi_t - \pi_t^\top P\pi_t,\qquad R_t = [R_{t-1} + r_t]^+,\qquad
        \pi_{t+1} \propto [R_t + r_t]^+

    The memory is R, zero at first. The average with weights proportional to t converges; the last
    policy need not.

    References
    ----------
    Farina, Kroer and Sandholm 2021, arXiv:2007.14358.
    """
    log_policy, regret = state
    xp = array_namespace(log_policy)
    policy = xp.exp(log_policy)
    new = payoff(preference, policy)
    new = new - xp.sum(policy * new, axis=-1, keepdims=True)
    regret = xp.clip(regret + new, 0.0)
    predicted = xp.clip(regret + new, 0.0)
    total = xp.sum(predicted, axis=-1, keepdims=True)
    uniform = xp.full_like(policy, 1.0 / policy.shape[-1])
    return (
        log_probs(
            xp.where(
                total > 0, predicted / xp.where(total > 0, total, xp.ones_like(total)), uniform
            )
        ),
        regret,
    )


def fictitious_play_update(state: State, preference: Array, log_reference: Array) -> State:
    r"""Fictitious play.

    The best response to the mean of what was played so far joins it, the first of several.

    The policy is that mean; the memory counts the plays, the initial policy being the first.

    References
    ----------
    Brown 1951; Robinson 1951, "An iterative method of solving a game" (convergence).
    """
    log_policy, counts = state
    counts = counts + best_response(preference, array_namespace(log_policy).exp(log_policy))
    return log_probs(counts / array_namespace(counts).sum(counts, axis=-1, keepdims=True)), counts


def _alone(log_policy: Array, preference: Array) -> State:
    return (log_policy,)


def _with_itself(log_policy: Array, preference: Array) -> State:
    return log_policy, log_policy


def _with_payoffs(log_policy: Array, preference: Array) -> State:
    return log_policy, _play(preference, log_policy)


def _with_counts(log_policy: Array, preference: Array) -> State:
    return log_policy, array_namespace(log_policy).exp(log_policy)


def _with_regrets(log_policy: Array, preference: Array) -> State:
    return log_policy, array_namespace(log_policy).zeros_like(log_policy)


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
    options: Mapping[str, float] = MappingProxyType({})
    weight: Callable[[int], float] = lambda t: 1.0


def _no_limit(tau: float) -> float:
    return math.inf


def _hedge_step(n: int, tau: float, iterations: int) -> float:
    return math.sqrt(8.0 * math.log(max(n, 2)) / max(iterations, 1))


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
        weight=lambda t: t + 1.0,
    ),
    "fictitious_play": Update(
        fictitious_play_update, "none", "last", None, _no_limit, start=_with_counts
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
