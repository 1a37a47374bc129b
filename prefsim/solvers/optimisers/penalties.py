"""Terms to add to a loss in ``fit(..., penalty=...)``.

Functions of the policy, exact by enumeration; one is drawn anew at every call.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from prefsim.backend import Seed, like, random_generator, to_numpy
from prefsim.checks import (
    as_context_probs,
    as_float_array,
    as_probabilities,
    check_integer,
    check_kind,
)
from prefsim.losses.kl_estimators import rloo_kl, score_function_kl
from prefsim.numerics import array_namespace, categorical_kl, stop_gradient
from prefsim.policies.base import InMemoryPolicy
from prefsim.typing import Array

Penalty = Callable[[Any], Array]

__all__ = ["cross_entropy_penalty", "kl_penalty", "online_kl_penalty", "sampled_kl_penalty"]


def _checked(table: Array, weight: Any, context_probs: Any) -> tuple[np.ndarray, np.ndarray]:
    weight = as_float_array(weight, "weight")
    if (weight < 0).any():
        raise ValueError(f"weight must be >= 0, got {weight.min()}")
    return weight, as_context_probs(context_probs, table.shape[-2])


def kl_penalty(reference: InMemoryPolicy, *, weight: Any, context_probs: Any = None) -> Penalty:
    r"""Return the penalty :math:`\lambda\,E_x \mathrm{KL}(\pi(\cdot|x) \| \pi_{ref}(\cdot|x))`.

    With the DPO loss it is the objective of HyPO, whose algorithm knows it from samples alone: see
    :func:`online_kl_penalty`.

    Parameters
    ----------
    reference
        The reference policy.
    weight
        λ, >= 0: a number, or an array of the policy's leading axes (one weight for each of a batch
        of fits).
    context_probs
        ρ, ``(X,)``; uniform unless given.

    Returns
    -------
    A function of a policy with value ``(*batch,)``, ``inf`` where the reference lacks support of
    the policy.

    Raises
    ------
    ValueError
        If a weight is negative, or ``context_probs`` is no distribution over the contexts.

    References
    ----------
    Song et al. 2024, eq. for HyPO (number not confirmed), arXiv:2406.01462.

    Examples
    --------
    >>> from prefsim.policies import TabularPolicy
    >>> penalty = kl_penalty(TabularPolicy.uniform(1, 2), weight=2.0)
    >>> float(penalty(TabularPolicy.from_probs([[0.25, 0.75]])).round(6))
    0.261624
    """
    check_kind(InMemoryPolicy, reference=reference)
    table = reference.log_probs
    factor, rho = _checked(table, weight, context_probs)

    def penalty(policy: InMemoryPolicy) -> Array:
        log_policy = policy.log_probs
        divergence = categorical_kl(log_policy, like(table, log_policy))
        return like(factor, log_policy) * array_namespace(log_policy).sum(
            like(rho, log_policy) * divergence, axis=-1
        )

    return penalty


def cross_entropy_penalty(base: Any, *, weight: Any, context_probs: Any = None) -> Penalty:
    r"""Return the penalty :math:`w\,E_{x, y\sim\pi_{base}}[-\log\pi(y|x)]`.

    It is supervised fine-tuning on a baseline.

    Parameters
    ----------
    base
        Probabilities of the baseline, ``(..., X, Y)``; every row sums to one. Responses of
        probability 0 ask nothing of the policy.
    weight, context_probs
        As for :func:`kl_penalty`.

    Returns
    -------
    A function of a policy with value ``(*batch,)``, in nats times the weight.

    Raises
    ------
    ValueError
        If a weight is negative or a row is no distribution.

    References
    ----------
    Liu et al. 2024, eq. 4.4 (number not confirmed), arXiv:2405.16436, with weight ηβ.
    """
    table = as_probabilities(base, "base", min_ndim=2)
    factor, rho = _checked(table, weight, context_probs)
    mass = rho[:, None] * table

    def penalty(policy: InMemoryPolicy) -> Array:
        log_policy = policy.log_probs
        xp = array_namespace(log_policy)
        asked = like(mass, log_policy)
        asked, log_policy = xp.broadcast_arrays(asked, log_policy)
        terms = asked * xp.where(asked > 0, log_policy, xp.zeros_like(log_policy))
        return -like(factor, log_policy) * xp.sum(terms, axis=(-2, -1))

    return penalty


def sampled_kl_penalty(
    reference: InMemoryPolicy,
    *,
    weight: Any,
    samples: int = 2,
    context_probs: Any = None,
    differentiate_ratio: bool = False,
) -> Penalty:
    r"""Return a penalty whose gradient is the exact mean of HyPO's online estimator.

    By enumeration of all k-tuples of samples.

    It enters every :math:`(y_1, \dots, y_k)` with its probability under the current policy, held
    constant, and the leave-one-out estimator (for one sample the plain score function). Its
    gradient is that of :func:`kl_penalty`; its value is not.

    Parameters
    ----------
    reference, weight, context_probs
        As for :func:`kl_penalty`.
    samples
        k, >= 1. The number of tuples is ``Y**k``.
    differentiate_ratio
        Leave out the stop-gradient on the log-ratio: the well-known mistake, kept to be measured.
        It biases the gradient by :math:`-\nabla H(\pi)` with one sample.

    Returns
    -------
    A function of a policy with value ``(*batch,)``.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """
    check_integer(low=1, samples=samples)
    table = reference.log_probs
    factor, rho = _checked(table, weight, context_probs)
    tuples = np.asarray(list(itertools.product(range(table.shape[-1]), repeat=samples)))

    def penalty(policy: InMemoryPolicy) -> Array:
        log_policy = policy.log_probs
        xp = array_namespace(log_policy)
        index = like(tuples.reshape(-1), log_policy, integer=True)
        logps, ref_logps = (
            xp.reshape(xp.take(part, index, axis=-1), (*part.shape[:-1], *tuples.shape))
            for part in (log_policy, like(table, log_policy))
        )
        logps, ref_logps = xp.broadcast_arrays(logps, ref_logps)
        chance = stop_gradient(xp.exp(xp.sum(logps, axis=-1)))
        if differentiate_ratio:
            values = (logps - ref_logps) * logps
        else:
            values = (
                score_function_kl(logps, ref_logps) if samples == 1 else rloo_kl(logps, ref_logps)
            )
        per_context = xp.sum(chance * xp.mean(values, axis=-1), axis=-1)
        return like(factor, log_policy) * xp.sum(like(rho, log_policy) * per_context, axis=-1)

    return penalty


def online_kl_penalty(
    reference: InMemoryPolicy,
    *,
    weight: Any,
    seed: Seed,
    prompts: int = 1,
    samples: int = 2,
    context_probs: Any = None,
    sampler: InMemoryPolicy | None = None,
) -> Penalty:
    r"""Return HyPO's online penalty: fresh samples of the current policy at every call.

    Every call draws prompts and, from the policy as it then is, k responses to each; its gradient
    is the leave-one-out estimate of that of :func:`kl_penalty`, its value is no estimate of
    anything. With the DPO loss on offline pairs, :func:`prefsim.solvers.gradient_descent` calls it
    once a step and so is HyPO's algorithm. :func:`prefsim.solvers.fit` wants an objective that
    stays what it is, and will not converge.

    Parameters
    ----------
    reference, weight, context_probs
        As for :func:`kl_penalty`.
    seed
        Of the draws, which go on from call to call.
    prompts
        Prompts drawn from ρ at a call, >= 1.
    samples
        Responses k to each of them, >= 2, for each member of a batch of policies.
    sampler
        Who responds in place of the policy itself: then the gradient is that of no divergence,
        which is kept to be measured.

    Returns
    -------
    A function of a policy with value ``(*batch,)``.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    References
    ----------
    Song et al. 2024, the algorithm of HyPO, arXiv:2406.01462.

    Examples
    --------
    >>> from prefsim.gradients import gradient
    >>> from prefsim.policies import TabularPolicy
    >>> reference = TabularPolicy.uniform(1, 2)
    >>> online = online_kl_penalty(reference, weight=1.0, seed=0, prompts=20_000)
    >>> exact = kl_penalty(reference, weight=1.0)
    >>> [
    ...     gradient(lambda logits: penalty(TabularPolicy(logits)), [[1.0, 0.0]]).round(2)
    ...     for penalty in (online, exact)
    ... ]
    [array([[ 0.2, -0.2]]), array([[ 0.2, -0.2]])]
    """
    check_integer(low=1, prompts=prompts)
    check_integer(low=2, samples=samples)
    table = reference.log_probs
    factor, rho = _checked(table, weight, context_probs)
    rng = random_generator(seed)

    def penalty(policy: InMemoryPolicy) -> Array:
        prompt = rng.choice(rho.size, size=prompts, p=rho)
        drawn = (policy if sampler is None else sampler).sample(prompt, samples, rng)
        batch = policy.parameters.shape[:-1]
        drawn = np.broadcast_to(to_numpy(drawn), (*batch, prompts, samples))
        asked = np.broadcast_to(prompt[:, None], drawn.shape)
        logps = policy.log_prob(asked, drawn)
        ref_logps = like(reference.log_prob(asked, drawn), logps)
        xp = array_namespace(logps)
        return like(factor, logps) * xp.mean(rloo_kl(logps, ref_logps), axis=(-2, -1))

    return penalty
