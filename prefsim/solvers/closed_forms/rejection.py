r"""Rejection sampling from the Gibbs policy :math:`\pi_r \propto \pi_0 e^{r/\beta}`.

Here are the exact law, its efficiency and the sequential sampler.

A response y of :math:`\pi_0` is accepted with probability :math:`\min(1, e^{(r(y) - c)/\beta})` for
a cap c; β is a temperature of the reward, not of a likelihood ratio.

References
----------
Liu et al. 2023, "Statistical Rejection Sampling Improves Preference Optimization", theorem 1 and
algorithm 1, arXiv:2309.06657.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim.backend import Seed, random_generator
from prefsim.checks import (
    as_array,
    as_float_array,
    as_floats,
    as_index_array,
    as_log_policies,
    as_one_library,
    check_broadcast,
    check_entries,
    check_integer,
    check_nonnegative,
    check_positive,
    check_same_shape,
    check_shape,
    names_shapes,
)
from prefsim.numerics import array_namespace, log1mexp, log_softmax, logsumexp
from prefsim.typing import Array, ArrayT

__all__ = [
    "AcceptedLaw",
    "accept_pass",
    "accepted_law",
    "first_accepted_law",
    "log_acceptance",
    "rejection_sample",
]


class AcceptedLaw(NamedTuple):
    """Log-probabilities ``(..., Y)`` of an accepted response, and the log of the share accepted.

    The share of proposals, ``(...)``.
    """

    log_probs: Array
    log_rate: Array


@names_shapes
def log_acceptance(reward: ArrayT, *, beta: float, cap: Array | None = None) -> ArrayT:
    r"""Return the log-probability of accepting each response, ``(..., Y)``.

    :math:`\min(0, (r - c)/\beta)`.

    Parameters
    ----------
    reward
        ``(..., Y)``; ``-inf`` marks responses that are not there.
    beta
        Temperature of the reward, >= 0; at 0 only rewards that reach the cap are accepted.
    cap
        c, ``(...)``; the largest reward unless given.

    Raises
    ------
    ValueError
        If ``beta`` is negative or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> np.exp(log_acceptance(np.asarray([1.0, 0.2, 0.9, 0.5]), beta=0.5)).round(6)
    array([1.      , 0.201897, 0.818731, 0.367879])
    """
    check_nonnegative(beta=beta)
    reward, cap = as_floats(reward=reward, cap=cap, optional=("cap",))
    check_shape(reward, "reward", (None,))
    check_entries(reward, "reward", "be below infinity", lambda r: r < np.inf)
    xp = array_namespace(reward)
    cap = xp.max(reward, axis=-1, keepdims=True) if cap is None else cap[..., None]
    check_broadcast(reward=reward, cap=cap)
    short = reward - cap
    reached = short >= 0
    below = xp.where(reached, xp.full_like(short, -1.0), short)
    scaled = xp.full_like(below, -xp.inf) if beta == 0 else below / beta
    return xp.where(reached, xp.zeros_like(short), scaled)


@names_shapes
def accepted_law(
    reward: Array, log_proposal: Array, *, beta: float, cap: Array | None = None
) -> AcceptedLaw:
    r"""Return the exact law of an accepted response and the acceptance rate.

    For independent proposals from π₀. With a cap of at least the largest reward it is

    .. math:: \pi_r(y) = \frac1Z\,\pi_0(y)\,e^{r(y)/\beta},

    at the rate :math:`Z e^{-c/\beta}`; with a smaller one it is that of the clipped reward
    :math:`\min(r, c)`.

    Parameters
    ----------
    reward, log_proposal
        ``(..., Y)``; nats for the proposal, ``-inf`` outside its support.
    beta, cap
        As in :func:`log_acceptance`; the cap is the largest reward on the support unless given.

    Examples
    --------
    >>> import numpy as np
    >>> law = accepted_law(np.asarray([0.0, 0.5, 1.0, 2.0]), np.log([0.4, 0.3, 0.2, 0.1]), beta=0.5)
    >>> np.exp(law.log_probs).round(6), float(np.exp(law.log_rate).round(6))
    (array([0.049061, 0.100021, 0.181257, 0.66966 ]), 0.149329)
    """
    (log_proposal,) = as_log_policies(log_proposal=log_proposal)
    reward, log_proposal, cap = as_floats(
        reward=reward, log_proposal=log_proposal, cap=cap, optional=("cap",)
    )
    check_shape(reward, "reward", (log_proposal.shape[-1],))
    check_broadcast(reward=reward, log_proposal=log_proposal)
    xp = array_namespace(reward, log_proposal)
    if cap is None:
        cap = xp.max(xp.where(log_proposal > -xp.inf, reward, -xp.inf), axis=-1)
    joint = log_proposal + log_acceptance(reward, beta=beta, cap=cap)
    return AcceptedLaw(log_softmax(joint), logsumexp(joint))


@names_shapes
def first_accepted_law(
    reward: ArrayT, log_proposal: Array, candidates: int, *, beta: float
) -> ArrayT:
    r"""Return the exact log-law ``(..., Y)`` of the first response accepted among N candidates.

    The candidates are capped at *their* largest reward.

    Conditional on the cap being a given level the acceptances of the candidates before are
    geometric; the event "the largest reward is v" is "all are at most v" less "all are below v".
    Its distance in total variation from :math:`\pi_r` is at most :math:`(1 - \pi_0(\arg\max r))^N`:
    once the best response is among the candidates, the cap is right.

    Parameters
    ----------
    reward, log_proposal
        ``(..., Y)``.
    candidates
        N >= 1, drawn independently from the proposal.
    beta
        > 0.

    Examples
    --------
    >>> import numpy as np
    >>> np.exp(first_accepted_law(np.asarray([0.0, 1.0]), np.log([0.75, 0.25]), 1, beta=0.5)).round(
    ...     6
    ... )
    array([0.75, 0.25])
    """
    check_integer(low=1, candidates=candidates)
    check_positive(beta=beta)
    (log_proposal,) = as_log_policies(log_proposal=log_proposal)
    reward, log_proposal = as_floats(reward=reward, log_proposal=log_proposal)
    check_shape(reward, "reward", (log_proposal.shape[-1],))
    check_broadcast(reward=reward, log_proposal=log_proposal)
    xp = array_namespace(reward, log_proposal)
    reward, log_proposal = xp.broadcast_arrays(reward, log_proposal)
    # Rows are levels v = r(y'), columns responses; equal rewards are one level, counted at its
    # first response.
    level, own = reward[..., :, None], reward[..., None, :]
    log_accept = log_acceptance(
        xp.broadcast_to(own, (*own.shape[:-2], own.shape[-1], own.shape[-1])), beta=beta, cap=reward
    )
    accept = xp.exp(log_accept)
    proposal = xp.broadcast_to(xp.exp(log_proposal)[..., None, :], accept.shape)
    below, reached = own < level, own == level
    low = xp.sum(xp.where(below, proposal, 0.0), axis=-1, keepdims=True)
    high = low + xp.sum(xp.where(reached, proposal, 0.0), axis=-1, keepdims=True)
    # Candidates at the level are never rejected, so that both events share the mass of a rejected
    # candidate.
    rejected = xp.sum(xp.where(below, proposal * (1 - accept), 0.0), axis=-1, keepdims=True)
    runs_high, runs_low = (_geometric(mass, rejected, candidates) for mass in (high, low))
    joint = (
        proposal
        * accept
        * (xp.where(reached, runs_high, 0.0) + xp.where(below, runs_high - runs_low, 0.0))
    )
    earlier = xp.tril(xp.astype(reward[..., :, None] == reward[..., None, :], reward.dtype), k=-1)
    first = xp.sum(earlier, axis=-1, keepdims=True) == 0
    return log_softmax(xp.log(xp.sum(xp.where(first, joint, 0.0), axis=-2)))


def _geometric(a: ArrayT, b: Array, n: int) -> ArrayT:
    """Return ``Σ_{i<n} b^i a^{n-1-i}`` of ``a >= b >= 0``, stable as b → a."""
    xp = array_namespace(a, b)
    some = xp.where(a > 0, a, xp.ones_like(a))
    ratio = xp.minimum(b / some, xp.ones_like(a))
    near = ratio > 1 - 1e-12
    log_ratio = xp.log(xp.where(near | (ratio <= 0), xp.full_like(a, 0.5), ratio))
    total = xp.exp(log1mexp(n * log_ratio) - log1mexp(log_ratio))
    total = xp.where(near, xp.full_like(a, float(n)), xp.where(ratio <= 0, xp.ones_like(a), total))
    empty = xp.zeros_like(a) if n > 1 else xp.ones_like(a)
    return xp.where(a > 0, xp.exp((n - 1) * xp.log(some)) * total, empty)


def accept_pass(
    reward: ArrayT, uniform: Array, *, beta: float, remaining: Array | None = None
) -> ArrayT:
    """Return which candidates one pass accepts, boolean ``(..., N)``.

    It accepts where the uniform number is below the acceptance probability.

    The cap is the largest reward of the candidates that remain (all unless given, boolean
    ``(..., N)``), fixed for the pass.

    Examples
    --------
    >>> import numpy as np
    >>> accept_pass(np.asarray([1.0, 0.2, 0.9, 0.5]), np.asarray([0.3, 0.1, 0.95, 0.2]), beta=0.5)
    array([ True,  True, False,  True])
    """
    reward, uniform = as_floats(reward=reward, uniform=uniform)
    check_entries(uniform, "uniform", "lie in [0, 1]", lambda u: (u >= 0) & (u <= 1))
    if remaining is not None:
        remaining = as_array(remaining, "remaining", "bool")
        given = {"reward": reward, "uniform": uniform, "remaining": remaining}
        reward, uniform, remaining = as_one_library(given).values()
    check_same_shape(reward=reward, uniform=uniform, remaining=remaining)
    xp = array_namespace(reward, uniform)
    if remaining is None:
        return uniform < xp.exp(log_acceptance(reward, beta=beta))
    cap = xp.max(xp.where(remaining, reward, -xp.inf), axis=-1)
    return remaining & (uniform < xp.exp(log_acceptance(reward, beta=beta, cap=cap)))


def rejection_sample(
    reward: Any, n_samples: int, *, beta: float, seed: Seed, keys: Any = None
) -> np.ndarray:
    """Accept ``n_samples`` of N candidates without replacement, pass after pass.

    They are returned in the order of acceptance.

    Each pass goes through the remaining candidates in their order, with the largest remaining
    reward as the cap, which accepts at least that candidate. At β = 0 it takes the candidates from
    the top, ties in their order.

    Parameters
    ----------
    reward
        ``(..., N)`` of the candidates; leading axes are independent runs.
    n_samples
        k, in [1, N].
    beta
        Temperature of the reward, >= 0.
    seed
        Of the uniform numbers.
    keys
        Integers ``(..., N)`` that name the responses, to count equal ones once, as the published
        listing does; candidates are told apart by their index unless given.

    Returns
    -------
    Integers ``(..., n_samples)``, indices of candidates.

    Raises
    ------
    ValueError
        If a reward is not finite, ``beta`` is negative, or there are fewer (distinct) candidates
        than samples.

    References
    ----------
    Liu et al. 2023, algorithm 1 and its listing, arXiv:2309.06657.

    Examples
    --------
    >>> rejection_sample([0.3, 2.0, 1.0, 1.0], 3, beta=0.0, seed=0)
    array([1, 2, 3])
    """
    reward = as_float_array(reward, "reward", min_ndim=1)
    check_nonnegative(beta=beta)
    check_integer(low=1, high=reward.shape[-1], n_samples=n_samples)
    remaining = (
        np.ones(reward.shape, dtype=bool)
        if keys is None
        else _first_of_each(as_index_array(keys, "keys"), reward)
    )
    least = int(remaining.sum(axis=-1).min(initial=reward.shape[-1]))
    if least < n_samples:
        raise ValueError(
            f"n_samples must be at most the number of distinct candidates, got {n_samples} for"
            f" {least}"
        )
    rng = random_generator(seed)
    # Order of acceptance: pass first, then position; what is not accepted keeps the last place.
    rank = np.full(reward.shape, np.iinfo(np.int64).max)
    room = np.full(reward.shape[:-1], n_samples)
    for done in range(n_samples):
        accepted = accept_pass(
            reward, rng.random(reward.shape), beta=beta, remaining=remaining & (room > 0)[..., None]
        )
        accepted &= np.cumsum(accepted, axis=-1) <= room[..., None]
        rank[accepted] = done
        remaining = remaining & ~accepted
        room = room - accepted.sum(axis=-1)
        if not room.any():
            break
    return np.argsort(rank, axis=-1, kind="stable")[..., :n_samples]


def _first_of_each(keys: np.ndarray, reward: np.ndarray) -> np.ndarray:
    """Return which candidates are the first of their key, boolean ``(..., N)``."""
    check_same_shape(reward=reward, keys=keys)
    order = np.argsort(keys, axis=-1, kind="stable")
    ordered = np.take_along_axis(keys, order, axis=-1)
    new = np.concatenate(
        [np.ones_like(ordered[..., :1], dtype=bool), ordered[..., 1:] != ordered[..., :-1]], axis=-1
    )
    first = np.empty_like(new)
    np.put_along_axis(first, order, new, axis=-1)
    return first
