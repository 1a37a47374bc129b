r"""Exact values of policies in a contextual bandit.

expected reward, divergence to the reference, regularised value, sub-optimality.

Policies are given as they are, or by their log-probabilities ``(..., X, Y)`` in nats, of which
every row sums to one; ``-inf`` is probability zero. Every function broadcasts over
leading axes, and on torch it carries its graph.
"""

from __future__ import annotations

from typing import Any

from prefsim.backend import like
from prefsim.checks import as_log_policies, check_kind, check_positive, names_shapes
from prefsim.divergences import f_divergence
from prefsim.numerics import array_namespace, categorical_kl
from prefsim.typing import Array, ArrayT, Number
from prefsim.worlds.bandit import ContextualBandit

__all__ = [
    "divergence_to_reference",
    "expected_reward",
    "kl_to_reference",
    "regularised_value",
    "suboptimality",
]


def _over_contexts(per_context: ArrayT, world: ContextualBandit) -> ArrayT:
    """Return the mean of ``(..., X)`` over the contexts of ``world``: ``(...)``."""
    xp = array_namespace(per_context)
    return xp.sum(like(world.context_probs, per_context) * per_context, axis=-1)


def _tables(
    world: ContextualBandit, *, optional: tuple[str, ...] = (), **named: Any
) -> tuple[Any, ...]:
    """Return log-probabilities of policies in a world, or raise."""
    check_kind(ContextualBandit, world=world)
    tail = world.n_contexts, world.n_responses
    return as_log_policies(tail=tail, optional=optional, **named)


def _reward_of(world: ContextualBandit, other: Array) -> Array:
    if world.reward is None:
        raise ValueError("world must have a reward, got one that is given by its preferences alone")
    return like(world.reward, other)


def expected_reward(log_policy: ArrayT, world: ContextualBandit) -> ArrayT:
    r"""Return :math:`E_{x\sim\rho} E_{y\sim\pi(\cdot|x)}\, r(x, y)`.

    Parameters
    ----------
    log_policy
        A policy, or its log-probabilities ``(..., X, Y)`` in nats.
    world
        A bandit with a reward; its leading axes broadcast against the policy's.

    Returns
    -------
    Array ``(...)``, in units of the reward.

    Raises
    ------
    ValueError
        If the shapes do not fit, the world has no reward, or a row of the table does not sum to
        one: probabilities are not their logarithms.

    Examples
    --------
    >>> import numpy as np
    >>> float(expected_reward(np.log([[0.25, 0.75]]), ContextualBandit(reward=[[0.0, 2.0]])))
    1.5
    """
    (log_policy,) = _tables(world, log_policy=log_policy)
    return _expected_reward(log_policy, world)


def _expected_reward(log_policy: ArrayT, world: ContextualBandit) -> ArrayT:
    """Return the expected reward of a policy that was looked at."""
    xp = array_namespace(log_policy)
    earned = xp.sum(xp.exp(log_policy) * _reward_of(world, log_policy), axis=-1)
    return _over_contexts(earned, world)


@names_shapes
def kl_to_reference(log_policy: ArrayT, log_reference: Array, world: ContextualBandit) -> ArrayT:
    r"""Return :math:`E_{x\sim\rho}\,\mathrm{KL}(\pi(\cdot|x)\,\|\,\pi_{ref}(\cdot|x))`.

    Swap the policies for the forward KL.

    Parameters
    ----------
    log_policy, log_reference
        ``(..., X, Y)``, nats; the divergence is ``inf`` where the reference lacks support of the
        policy.
    world
        Gives the weights of the contexts.

    Returns
    -------
    Array ``(...)``, nats.
    """
    log_policy, log_reference = _tables(world, log_policy=log_policy, log_reference=log_reference)
    return _over_contexts(categorical_kl(log_policy, log_reference), world)


def divergence_to_reference(
    log_policy: ArrayT,
    log_reference: Array,
    world: ContextualBandit,
    *,
    divergence: str = "reverse_kl",
    alpha: float = 0.5,
) -> ArrayT:
    r"""Return :math:`E_{x\sim\rho}\,D_f(\pi(\cdot|x)\,\|\,\pi_{ref}(\cdot|x))` in nats.

    For a divergence of :mod:`prefsim.divergences`.
    """
    log_policy, log_reference = _tables(world, log_policy=log_policy, log_reference=log_reference)
    if divergence == "reverse_kl":
        return _over_contexts(categorical_kl(log_policy, log_reference), world)
    return _over_contexts(f_divergence(log_policy, log_reference, divergence, alpha=alpha), world)


@names_shapes
def regularised_value(
    log_policy: ArrayT,
    log_reference: Array,
    world: ContextualBandit,
    *,
    beta: Number,
    divergence: str = "reverse_kl",
    alpha: float = 0.5,
) -> ArrayT:
    r"""Return the objective that :func:`prefsim.solvers.optimal_policy` maximises.

    :math:`J(\pi) = E_\pi r - \beta\,E_x D_f(\pi\,\|\,\pi_{ref})`.

    Parameters
    ----------
    log_policy, log_reference
        ``(..., X, Y)``, nats.
    world
        A bandit with a reward.
    beta
        Strength of the penalty, > 0, in units of the reward; a number or an array that broadcasts
        against ``(...)``.
    divergence, alpha
        See :func:`prefsim.divergences.divergence_score`.

    Returns
    -------
    Array ``(...)``, in units of the reward.

    Raises
    ------
    ValueError
        If the shapes do not fit, the world has no reward or a parameter is out of range.
    """
    check_positive(arrays=True, beta=beta)
    penalty = divergence_to_reference(
        log_policy, log_reference, world, divergence=divergence, alpha=alpha
    )
    return expected_reward(log_policy, world) - beta * penalty


@names_shapes
def suboptimality(
    log_policy: ArrayT, world: ContextualBandit, *, comparator: Array | None = None
) -> ArrayT:
    r"""Return the reward gap :math:`E_{\pi^\star} r - E_\pi r`.

    Parameters
    ----------
    log_policy
        ``(..., X, Y)``, nats.
    world
        A bandit with a reward.
    comparator
        Log-probabilities of :math:`\pi^\star`, ``(..., X, Y)``; the best response to every context
        unless given. A gap to anything else may be negative.

    Returns
    -------
    Array ``(...)``, in units of the reward.
    """
    log_policy, comparator = _tables(
        world, optional=("comparator",), log_policy=log_policy, comparator=comparator
    )
    value = _expected_reward(log_policy, world)
    if comparator is not None:
        return _expected_reward(comparator, world) - value
    xp = array_namespace(log_policy)
    return _over_contexts(xp.max(_reward_of(world, log_policy), axis=-1), world) - value
