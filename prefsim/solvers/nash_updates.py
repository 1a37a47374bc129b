r"""The iterative Nash methods, each one update made of :func:`prefsim.solvers.games.mirror_step`, with the steps that theory allows.

An update takes log-policies ``(..., n)``, its memory (payoffs of the last play), the preference matrix and log-reference, and returns the
next log-policies and memory. All of them are pure, broadcast over leading axes, and run on any array library.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from prefsim.numerics import array_namespace
from prefsim.solvers.games import check_reference_weight, geometric_mixture, mirror_step, payoff

Array = Any

__all__ = [
    "UPDATES",
    "Update",
    "egpo_update",
    "mirror_descent_update",
    "mmd_update",
    "mwu_update",
    "nash_md_update",
    "optimistic_update",
]


def _play(preference: Array, log_policy: Array) -> Array:
    return payoff(preference, array_namespace(log_policy).exp(log_policy))


def mwu_update(
    log_policy: Array, memory: Array, preference: Array, log_reference: Array, *, step: float, tau: float
) -> tuple[Array, Array]:
    r"""Multiplicative weights (Hedge): :math:`\pi_{t+1} \propto \pi_t \exp(\eta P\pi_t)`.

    References
    ----------
    Freund and Schapire 1999, "Adaptive game playing using multiplicative weights"; the exact form of SPPO (arXiv:2405.00675) and DNO
    (arXiv:2404.03715).
    """
    return mirror_step(log_policy, None, _play(preference, log_policy), step=step), memory


def mirror_descent_update(
    log_policy: Array, memory: Array, preference: Array, log_reference: Array, *, step: float, tau: float
) -> tuple[Array, Array]:
    r"""Online mirror descent: :math:`\pi_{t+1} \propto \pi_t^{1-\eta\tau}\mu^{\eta\tau}\exp(\eta P\pi_t)`.

    References
    ----------
    The exact form of INPO, Zhang et al. 2024, arXiv:2407.00617.
    """
    return mirror_step(log_policy, log_reference, _play(preference, log_policy), step=step, tau=tau), memory


def mmd_update(
    log_policy: Array, memory: Array, preference: Array, log_reference: Array, *, step: float, tau: float
) -> tuple[Array, Array]:
    r"""Magnetic mirror descent: :math:`\pi_{t+1} \propto (\pi_t\,\mu^{\eta\tau} \exp(\eta P\pi_t))^{1/(1+\eta\tau)}`.

    The penalty is taken at the new policy; this is mirror descent with the step :math:`\eta/(1+\eta\tau)`.

    References
    ----------
    Sokota et al. 2022, arXiv:2206.05825.
    """
    explicit = step / (1.0 + step * tau)
    return mirror_step(log_policy, log_reference, _play(preference, log_policy), step=explicit, tau=tau), memory


def nash_md_update(
    log_policy: Array, memory: Array, preference: Array, log_reference: Array, *, step: float, tau: float
) -> tuple[Array, Array]:
    r"""Nash mirror descent, a step from and against :math:`\pi_t^\mu \propto \pi_t^{1-\eta\tau}\mu^{\eta\tau}`.

    .. math:: \pi_{t+1} = \arg\max_\pi\; \eta\,P(\pi \succ \pi_t^\mu) - \mathrm{KL}(\pi\|\pi_t^\mu) \propto \pi_t^\mu \exp(\eta P\pi_t^\mu)

    With a constant step the limit is not the equilibrium :math:`\pi^*_\tau` but the best response to :math:`\pi^*_{\tau/(1-\eta\tau)}`.

    References
    ----------
    Munos et al. 2023, arXiv:2312.00886.
    """
    check_reference_weight(step, tau)
    mixture = geometric_mixture(log_policy, log_reference, weight=step * tau)
    return mirror_step(mixture, None, _play(preference, mixture), step=step), memory


def egpo_update(
    log_policy: Array, memory: Array, preference: Array, log_reference: Array, *, step: float, tau: float
) -> tuple[Array, Array]:
    r"""Extragradient: a trial step to :math:`\pi_{t+1/2}`, then the step from :math:`\pi_t` against the payoffs met there.

    References
    ----------
    Korpelevich 1976; with the KL penalty EGPO, Zhou et al. 2025, arXiv:2503.08942.
    """
    half = mirror_step(log_policy, log_reference, _play(preference, log_policy), step=step, tau=tau)
    return mirror_step(log_policy, log_reference, _play(preference, half), step=step, tau=tau), memory


def optimistic_update(
    log_policy: Array, memory: Array, preference: Array, log_reference: Array, *, step: float, tau: float
) -> tuple[Array, Array]:
    r"""Optimistic multiplicative weights, one new payoff a step; ``memory`` starts as the payoffs against the initial policy.

    With ``tau > 0``, :math:`\hat\pi_{t+1} = M(\pi_t, \mu, P\hat\pi_t)` and :math:`\pi_{t+1} = M(\pi_t, \mu, P\hat\pi_{t+1})`, M the
    mirror step. With ``tau = 0``, :math:`\pi_{t+1} \propto \pi_t\exp(\eta(2P\pi_t - P\pi_{t-1}))`.

    References
    ----------
    Rakhlin and Sridharan 2013, arXiv:1311.1869; Cen et al. 2021 (regularised), arXiv:2105.15186.
    """
    if tau == 0:
        current = _play(preference, log_policy)
        return mirror_step(log_policy, None, 2.0 * current - memory, step=step), current
    predicted = mirror_step(log_policy, log_reference, memory, step=step, tau=tau)
    payoffs = _play(preference, predicted)
    return mirror_step(log_policy, log_reference, payoffs, step=step, tau=tau), payoffs


class Update(NamedTuple):
    """A method: its update, what it is for, and its steps.

    Attributes
    ----------
    apply
        The update.
    penalty
        ``"needed"`` (``tau > 0``), ``"none"`` (``tau = 0``) or ``"optional"``.
    certified
        Which policies the theory is about: the ``"last"`` or the ``"average"``.
    default_step
        ``(n, tau, iterations) ->`` the step of the best guarantee.
    largest_step
        ``tau ->`` the largest step with a guarantee.
    """

    apply: Callable[..., tuple[Array, Array]]
    penalty: str
    certified: str
    default_step: Callable[[int, float, int], float]
    largest_step: Callable[[float], float]


def _hedge_step(n: int, tau: float, iterations: int) -> float:
    return math.sqrt(8.0 * math.log(max(n, 2)) / max(iterations, 1))


def _nash_md_step(n: int, tau: float, iterations: int) -> float:
    # Theorem 1 asks for log T/(τT); the cap keeps short runs from forgetting the policy altogether.
    return min(math.log(max(iterations, 3)) / max(iterations, 1), 0.5) / tau


def _egpo_largest(tau: float) -> float:
    return min(1.0 / (2.0 * tau + 1.0), 0.5)


def _mirror_descent_largest(tau: float) -> float:
    return 4.0 * tau / (1.0 + 4.0 * tau**2)


def _optimistic_largest(tau: float) -> float:
    return _egpo_largest(tau) if tau > 0 else 1.0


UPDATES: dict[str, Update] = {
    "mwu": Update(mwu_update, "none", "average", _hedge_step, lambda tau: math.inf),
    "mirror_descent": Update(
        mirror_descent_update, "needed", "last", lambda n, tau, iterations: _mirror_descent_largest(tau), _mirror_descent_largest
    ),
    "mmd": Update(mmd_update, "needed", "last", lambda n, tau, iterations: 4.0 * tau, lambda tau: 4.0 * tau),
    "nash_md": Update(nash_md_update, "needed", "last", _nash_md_step, lambda tau: math.inf),
    "egpo": Update(egpo_update, "optional", "last", lambda n, tau, iterations: _egpo_largest(tau), _egpo_largest),
    "optimistic": Update(optimistic_update, "optional", "last", lambda n, tau, iterations: _egpo_largest(tau), _optimistic_largest),
}
