r"""Hedge: exponential weights of cumulative losses, its step and its bound.

Losses are linear: at round t a learner plays a distribution :math:`\pi_t` over d actions, then sees
the loss of every action. What is played depends on the losses *before* the round, through their sum
:math:`L_{t-1}`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from prefsim.checks import (
    as_floats,
    as_index_array,
    check_broadcast,
    check_entries,
    check_integer,
    check_nonnegative,
    check_policy,
    check_positive,
    check_shape,
)
from prefsim.numerics import array_namespace, like, over_rows
from prefsim.solvers.games.certificates import mirror_step
from prefsim.typing import Array, ArrayT, Number

__all__ = ["hedge", "hedge_bound", "hedge_step", "importance_weighted_loss"]


def hedge(cumulative_loss: ArrayT, *, step: Number, log_start: Array | None = None) -> ArrayT:
    r"""Return the weights of Hedge, :math:`\pi \propto \pi_1 e^{-\eta L}`, ``(..., d)``.

    They minimise :math:`\eta\langle p, L\rangle + \mathrm{KL}(p\|\pi_1)`, and are the choice
    probabilities of the leader of losses that are perturbed by Gumbel noise of scale 1/η.

    Parameters
    ----------
    cumulative_loss
        L ``(..., d)``: the sum of the losses of the rounds before; ``inf`` for an action that is
        never played again, not for all.
    step
        η >= 0, a number or an array that broadcasts against the leading axes; > 0 where a loss is
        infinite.
    log_start
        What is played in the first round, ``(..., d)`` in nats; uniform unless given.

    Returns
    -------
    Array ``(..., d)`` of distributions.

    Raises
    ------
    ValueError
        If the step is negative, a loss is NaN, the losses of a row leave no weights, or the shapes
        do not fit.

    References
    ----------
    Freund and Schapire 1997, "A decision-theoretic generalization of on-line learning".

    Examples
    --------
    >>> import numpy as np
    >>> hedge(np.array([0.3, 1.2, -0.4]), step=0.7).round(8)
    array([0.31596495, 0.16828034, 0.51575471])
    """
    check_nonnegative(arrays=True, step=step)
    cumulative_loss, log_start = as_floats(
        optional=("log_start",), cumulative_loss=cumulative_loss, log_start=log_start
    )
    check_shape(cumulative_loss, "cumulative_loss", (None,))
    xp = array_namespace(cumulative_loss)
    if log_start is None:
        log_start = xp.zeros_like(cumulative_loss)
    else:
        check_shape(log_start, "log_start", tuple(cumulative_loss.shape[-1:]))
    eta: Any = like(step, cumulative_loss) if getattr(step, "ndim", 0) else step
    found = xp.exp(mirror_step(log_start, None, -over_rows(eta) * cumulative_loss, step=1.0))
    check_entries(
        found, "cumulative_loss", "leave weights by which to play", lambda x: ~np.isnan(x)
    )
    return found


def hedge_step(rounds: int, actions: int, *, width: float = 1.0) -> float:
    r"""Return :math:`\sqrt{8\ln d/T}/w`, the step of Hedge with the best known bound.

    Parameters
    ----------
    rounds
        T >= 1.
    actions
        d >= 1.
    width
        w > 0: losses of a round lie in an interval of this length.

    References
    ----------
    Cesa-Bianchi and Lugosi 2006, "Prediction, Learning, and Games", theorem 2.2.

    Examples
    --------
    >>> round(hedge_step(100, 2), 6)
    0.235482
    """
    check_integer(low=1, rounds=rounds)
    check_integer(low=1, actions=actions)
    check_positive(width=width)
    return math.sqrt(8.0 * math.log(actions) / rounds) / width


def hedge_bound(rounds: int, actions: int, *, width: float = 1.0) -> float:
    r"""Return :math:`w\sqrt{T\ln d/2}`, which no regret of Hedge with :func:`hedge_step` exceeds.

    Parameters
    ----------
    rounds
        T >= 1.
    actions
        d >= 1.
    width
        w > 0: losses of a round lie in an interval of this length.

    References
    ----------
    Cesa-Bianchi and Lugosi 2006, "Prediction, Learning, and Games", theorem 2.2.

    Examples
    --------
    >>> round(hedge_bound(100, 2), 6)
    5.88705
    """
    check_integer(low=1, rounds=rounds)
    check_integer(low=1, actions=actions)
    check_positive(width=width)
    return width * math.sqrt(rounds * math.log(actions) / 2.0)


def importance_weighted_loss(played_loss: ArrayT, action: Array, policy: Array) -> ArrayT:
    r"""Return the estimate of all losses from that of the action that was played, ``(..., d)``.

    .. math:: \hat\ell_b = \frac{\ell_a\,1\{a = b\}}{\pi(b)}

    Its expectation over :math:`a \sim \pi` is the loss of every action that may be played; Hedge on
    such estimates is Exp3.

    Parameters
    ----------
    played_loss
        ``(...)``: what the action that was played has lost.
    action
        ``(...)``, integers in [0, d).
    policy
        ``(..., d)``: the distribution that it was drawn from, > 0 where it was.

    Raises
    ------
    ValueError
        If the policy is no distribution, an action that was played has probability 0, or the
        shapes do not fit.

    References
    ----------
    Auer, Cesa-Bianchi, Freund and Schapire 2002, "The nonstochastic multiarmed bandit problem".

    Examples
    --------
    >>> import numpy as np
    >>> importance_weighted_loss(np.array(0.5), np.array(1), np.array([0.75, 0.25]))
    array([0., 2.])
    """
    played_loss, policy = as_floats(played_loss=played_loss, policy=policy)
    check_policy(policy, "policy")
    xp = array_namespace(policy)
    d = policy.shape[-1]
    places = like(as_index_array(action, "action", size=d), policy, integer=True)
    check_broadcast(played_loss=played_loss, action=places, policy=policy[..., 0])
    here = places[..., None] == xp.arange(d, dtype=xp.int64, device=policy.device)
    chance = xp.where(here, policy, xp.ones_like(policy))
    check_entries(chance, "policy", "give the action that was played a chance", lambda x: x > 0)
    return xp.where(here, played_loss[..., None] / chance, xp.zeros_like(policy))
