r"""The iterative Nash methods, each one update.

Updates are made of :func:`prefsim.solvers.games.certificates.mirror_step`;
:mod:`prefsim.solvers.games.nash_methods` calls them by the names of the methods.

An update takes a state, the preference matrix and the log-reference, and returns the next state: a
tuple of arrays ``(..., n)`` that starts with the log-policies, followed by what the method
remembers. Regret matching and fictitious play, which give responses no mass at all, start with the
policies. All updates are pure, broadcast over leading axes, and run on any array library (COMAL,
which solves a game in every update, on NumPy and torch).
"""

from __future__ import annotations

import numpy as np

from prefsim.checks import check_reference_weight
from prefsim.numerics import array_namespace, log_softmax, row_sums
from prefsim.solvers.games.certificates import geometric_mixture, pure_response
from prefsim.solvers.games.margins import payoff, proximal_step
from prefsim.solvers.games.policy_gradient import nash_md_pg_gradient
from prefsim.solvers.games.regularised import solve_regularised
from prefsim.typing import Array

State = tuple[Array, ...]

# Newton steps on the regularised game of one step of COMAL; it takes about ten.
PROXIMAL_ITERATIONS = 200

__all__ = [
    "State",
    "apo_update",
    "comal_update",
    "egpo_update",
    "extrapolated",
    "fictitious_play_update",
    "mirror_descent_update",
    "mmd_update",
    "mwu_update",
    "nash_md_pg_update",
    "nash_md_update",
    "optimistic_update",
    "payoffs_of",
    "regret_matching_update",
    "shares",
]


def payoffs_of(preference: Array, log_policy: Array) -> Array:
    """Return the payoffs ``(..., n)`` of every response against a policy given in nats."""
    return payoff(preference, array_namespace(log_policy).exp(log_policy))


def shares(mass: Array, *, otherwise: Array | float) -> Array:
    """Return masses ``(..., n)`` over their sums, and ``otherwise`` where there is no mass."""
    if type(mass) is np.ndarray and mass.ndim == 1:
        # One of many thousands of rows that come one at a time.
        whole = np.add.reduce(mass)
        if whole > 0:
            return mass / whole
    total = row_sums(mass)
    xp = array_namespace(mass)
    some = total > 0
    share = mass / xp.where(some, total, xp.ones_like(total))
    return xp.where(some, share, otherwise * xp.ones_like(mass))


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
    return (proximal_step(log_policy, None, payoffs_of(preference, log_policy), step=step),)


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
        proximal_step(
            log_policy, log_reference, payoffs_of(preference, log_policy), step=step, tau=tau
        ),
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
    return (
        proximal_step(log_policy, log_reference, payoffs_of(preference, half), step=step, tau=tau),
    )


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
        current = payoffs_of(preference, log_policy)
        return proximal_step(log_policy, None, 2.0 * current - memory, step=step), current
    predicted = proximal_step(log_policy, log_reference, memory, step=step, tau=tau)
    payoffs = payoffs_of(preference, predicted)
    return proximal_step(log_policy, log_reference, payoffs, step=step, tau=tau), payoffs


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

    A policy beats itself half of the time: :math:`\pi^\top P\pi = 1/2`.

    The state is π and R, which is zero at first. The average with weights proportional to t
    converges; the last policy need not.

    References
    ----------
    Farina, Kroer and Sandholm 2021, arXiv:2007.14358.
    """
    policy, regret = state
    xp = array_namespace(policy)
    new = payoff(preference, policy)
    new -= 0.5
    regret = xp.maximum(regret + new, 0.0)
    predicted = xp.maximum(regret + new, 0.0)
    return shares(predicted, otherwise=1.0 / policy.shape[-1]), regret


def fictitious_play_update(state: State, preference: Array, log_reference: Array) -> State:
    r"""Fictitious play.

    The best response to the mean of what was played so far joins it, the first of several.

    The state is that mean and the counts of the plays, the initial policy being the first.

    References
    ----------
    Brown 1951; Robinson 1951, "An iterative method of solving a game" (convergence).
    """
    policy, counts = state
    counts = counts + pure_response(preference, policy)
    return counts / row_sums(counts), counts
