r"""Reinforcement learning from preferences against the worst reward that still fits the data.

With :math:`L_D` the Bradley–Terry loss of a reward on the data, the game between policy and reward is

.. math:: \varphi(\pi, r) = \eta\,E_x\big[E_{a\sim\pi} r - E_{a\sim\pi_{base}} r - \beta\,\mathrm{KL}(\pi \| \pi_{ref})\big] + L_D(r)

Its inner maximum over policies has a closed form, so that the max–min policy is the Gibbs policy of one convex problem in the reward.

References
----------
Liu et al. 2024, arXiv:2405.16436, sections 3 and 4.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from prefsim._validate import as_float_array, check_nonnegative, check_positive, check_probabilities, check_shape
from prefsim.analysis.bandit import kl_to_reference
from prefsim.backend import asarray, to_numpy
from prefsim.data.comparisons import Comparisons
from prefsim.numerics import log_sigmoid, log_softmax, logsumexp, sigmoid, softmax
from prefsim.policies.base import InMemoryPolicy
from prefsim.solvers.results import ConvergenceWarning

Array = Any

__all__ = ["PessimisticReward", "adversarial_reward", "pessimistic_reward", "preference_game_value", "win_weights"]


class PessimisticReward(NamedTuple):
    r"""A reward in the box and what certifies it.

    Attributes
    ----------
    reward
        ``(*batch, X, Y)``.
    log_policy
        ``(*batch, X, Y)``: for :func:`pessimistic_reward` its Gibbs policy, the max–min policy; else the policy given.
    value
        ``(*batch,)``: φ of the two.
    residual
        ``(*batch,)``: largest entry of the projected gradient, :math:`|r - \Pi(r - \nabla)|`.
    gap
        ``(*batch,)``: no reward of the box lowers φ at ``log_policy`` by more, by convexity. For :func:`pessimistic_reward` it bounds the duality gap
        of the game; ``inf`` where the box is unbounded.
    converged
        Whether every residual met the tolerance.
    """

    reward: Array
    log_policy: Array
    value: Array
    residual: Array
    gap: Array
    converged: bool


def win_weights(data: Comparisons, n_contexts: int, n_responses: int) -> np.ndarray:
    """Return the weight with which response i was preferred to j in context x: ``(*batch, X, Y, Y)``.

    A comparison with probability p counts p one way and 1 − p the other, so that the matrix says all that a loss of reward differences sees.

    Raises
    ------
    ValueError
        If an index of the data does not fit the sizes.
    """
    for name, column, size in (("prompt", data.prompt, n_contexts), ("chosen", data.chosen, n_responses), ("rejected", data.rejected, n_responses)):
        if column.size and column.max() >= size:
            raise ValueError(f"{name} must be < {size}, got {column.max()}")
    prompt, chosen, rejected, prob, weight = np.broadcast_arrays(data.prompt, data.chosen, data.rejected, data.prob, data.weight)
    batch, n = prompt.shape[:-1], prompt.shape[-1]
    cells = n_contexts * n_responses * n_responses
    member = np.arange(int(np.prod(batch, dtype=int)))[:, None] * cells
    total = np.zeros(member.size * cells)
    for first, second, share in ((chosen, rejected, prob), (rejected, chosen, 1 - prob)):
        index = member + ((prompt * n_responses + first) * n_responses + second).reshape(-1, n)
        total += np.bincount(index.ravel(), weights=(weight * share).ravel(), minlength=total.size)
    return total.reshape(*batch, n_contexts, n_responses, n_responses)


class _Problem(NamedTuple):
    """What the arguments of the public functions come to: arrays with one row for each context."""

    wins: np.ndarray
    log_reference: np.ndarray
    base: np.ndarray
    context_probs: np.ndarray
    low: np.ndarray
    high: np.ndarray


def _problem(data: Comparisons, reference: InMemoryPolicy, base: Any, bound: Any, context_probs: Any) -> _Problem:
    log_reference = to_numpy(reference.log_probs).astype(np.float64)
    contexts, responses = log_reference.shape[-2:]
    if len(data) == 0:
        raise ValueError("data must hold at least one row, got 0")
    base = as_float_array(to_numpy(base), "base", min_ndim=2)
    check_shape(base, "base", (contexts, responses))
    check_probabilities(base, "base")
    rho = np.full(contexts, 1.0 / contexts) if context_probs is None else as_float_array(to_numpy(context_probs), "context_probs", ndim=1)
    check_shape(rho, "context_probs", (contexts,))
    check_probabilities(rho, "context_probs")
    low, high = (-bound, bound) if np.ndim(bound) == 0 else (np.asarray(edge, dtype=np.float64) for edge in bound)
    low, high = (np.broadcast_to(np.asarray(edge, dtype=np.float64), (contexts, responses)) for edge in (low, high))
    if not (low < high).all():
        raise ValueError(f"bound must be a number > 0 or a pair (low, high) with low < high everywhere, got {bound!r}")
    return _Problem(win_weights(data, contexts, responses), log_reference, base, rho, low, high)


def pessimistic_reward(
    data: Comparisons,
    reference: InMemoryPolicy,
    base: Any,
    *,
    beta: float,
    eta: Any,
    bound: Any = np.inf,
    context_probs: Any = None,
    tol: float = 1e-12,
    max_iterations: int = 300,
) -> PessimisticReward:
    r"""Return the reward of the min–max problem, whose Gibbs policy solves the max–min problem.

    .. math:: \hat r = \arg\min_{r \in R}\; \eta\,E_x[\beta\log Z_r - E_{\pi_{base}} r] + L_D(r), \qquad \pi_{\hat r} \propto \pi_{ref} e^{\hat r/\beta}

    Convex in the reward and separate for every context: projected Newton steps from r = 0, for all contexts and all of a batch at once.
    With η = 0 this is a box-constrained maximum-likelihood reward and its policy (DPO in that class); a direction in which the objective
    is flat is then not taken.

    Parameters
    ----------
    data
        Comparisons; their leading axes are independent problems.
    reference
        The reference policy, ``(X, Y)`` or batched.
    base
        Probabilities of the baseline policy, ``(..., X, Y)``, within the support of the reference.
    beta
        Strength of the KL penalty, > 0.
    eta
        Weight of the adversary, >= 0: a number or an array of the leading axes.
    bound
        R is the box ``[-bound, bound]``; a pair ``(low, high)`` of numbers or ``(X, Y)`` arrays gives other boxes. All functions unless given;
        then a minimiser need not exist.
    context_probs
        ρ of the expectation over prompts, ``(X,)``; uniform unless given.
    tol
        Largest projected gradient at which the solver counts as converged.
    max_iterations
        Most Newton steps.

    Returns
    -------
    PessimisticReward

    Raises
    ------
    ValueError
        If a parameter is out of range, a shape does not fit, or the reference lacks a response.

    Warns
    -----
    ConvergenceWarning
        If ``tol`` is missed, for instance where all functions are allowed and no minimiser exists.

    References
    ----------
    Liu et al. 2024, theorem 4.2 (number not confirmed), arXiv:2405.16436.

    Examples
    --------
    >>> from prefsim.policies import TabularPolicy
    >>> pair = Comparisons([0], [0], [1], prob=0.8)
    >>> result = pessimistic_reward(pair, TabularPolicy.uniform(1, 3), [[0.8, 0.2, 0.0]], beta=0.5, eta=0.3, bound=20.0)
    >>> np.exp(result.log_policy).round(6), bool(result.gap < 1e-9)
    (array([[0.914373, 0.085627, 0.      ]]), True)
    """
    check_positive(beta=beta, tol=tol, max_iterations=max_iterations)
    problem = _problem(data, reference, base, bound, context_probs)
    strength = _strength(eta)
    tilt = strength[..., None] * problem.context_probs
    run = _minimise(problem, -tilt[..., None] * problem.base, tilt, beta, tol, int(max_iterations))
    log_policy = log_softmax(problem.log_reference + run.reward / beta)
    return _report("pessimistic_reward", run, log_policy, run.value, tol)


def adversarial_reward(
    log_policy: Array,
    data: Comparisons,
    reference: InMemoryPolicy,
    base: Any,
    *,
    beta: float,
    eta: Any,
    bound: Any,
    context_probs: Any = None,
    tol: float = 1e-12,
    max_iterations: int = 300,
) -> PessimisticReward:
    r"""Return the worst reward against one policy, :math:`\arg\min_{r \in R} \varphi(\pi, r)`, and its value: what the policy guarantees.

    Parameters
    ----------
    log_policy
        ``(..., X, Y)``, nats; leading axes broadcast against those of the data.
    data, reference, base, beta, eta, bound, context_probs, tol, max_iterations
        As for :func:`pessimistic_reward`.

    Returns
    -------
    PessimisticReward

    Raises
    ------
    ValueError
        As for :func:`pessimistic_reward`.

    Warns
    -----
    ConvergenceWarning
        If ``tol`` is missed.
    """
    check_positive(beta=beta, tol=tol, max_iterations=max_iterations)
    problem = _problem(data, reference, base, bound, context_probs)
    log_policy = to_numpy(log_policy).astype(np.float64)
    check_shape(log_policy, "log_policy", tuple(problem.log_reference.shape[-2:]))
    strength = _strength(eta)
    tilt = strength[..., None] * problem.context_probs
    run = _minimise(problem, tilt[..., None] * (np.exp(log_policy) - problem.base), np.zeros_like(tilt), beta, tol, int(max_iterations))
    spent = problem.context_probs * _kl(log_policy, problem.log_reference)
    return _report("adversarial_reward", run, log_policy, run.value - strength * beta * spent.sum(axis=-1), tol)
