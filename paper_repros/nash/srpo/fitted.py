"""What SRPO's and IPO's losses teach on pairs of one context."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Comparisons, Revisions
from prefsim.losses import PairLogps
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, objective
from prefsim.worlds import ContextualBandit


def in_one_context(policy: np.ndarray) -> TabularPolicy:
    """Return the policies ``(..., n)`` in a world of one context."""
    return TabularPolicy.from_probs(np.asarray(policy)[..., None, :])


def pairs_of(
    preference: np.ndarray, sampler: np.ndarray, against: np.ndarray | None = None
) -> Comparisons:
    """Return all pairs of draws of ``sampler`` ``(..., n)``, or of one against another sampler."""
    world = ContextualBandit(preference=preference[..., None, :, :])
    other = None if against is None else in_one_context(against)
    return Comparisons.population(world, in_one_context(sampler), against=other)


class Fitted(NamedTuple):
    """A generator ``(..., n)`` and an improver ``(..., n, n)``, one row for each draft."""

    generator: np.ndarray
    improver: np.ndarray


def fit_srpo(
    pairs: Comparisons,
    reference: np.ndarray,
    *,
    beta: float,
    start: np.ndarray | None = None,
    alpha: float = 0.5,
) -> Fitted:
    """Return what minimises the offline loss, found from ``start``, the reference unless given."""
    data: Any = Revisions(pairs, n_contexts=1, n_responses=reference.shape[-1])
    behind = data.joint_policy(reference[..., None, :])
    first = behind if start is None else data.joint_policy(start[..., None, :])
    loss = functools.partial(losses.srpo, beta=beta, alpha=alpha)
    generator, improver = data.split(fit(first, loss, data, reference=behind).policy)
    return Fitted(to_numpy(generator)[..., 0, :], to_numpy(improver)[..., 0, :, :])


def loss_at(
    policies: Fitted, pairs: Comparisons, reference: np.ndarray, *, beta: float, alpha: float = 0.5
) -> np.ndarray:
    """Return the offline loss of a generator and an improver, ``(...,)``."""
    data: Any = Revisions(pairs, n_contexts=1, n_responses=reference.shape[-1])
    generator, improver = policies.generator[..., None, :], policies.improver[..., None, :, :]
    return to_numpy(
        objective(
            data.joint_policy(generator, improver),
            functools.partial(losses.srpo, beta=beta, alpha=alpha),
            data,
            reference=data.joint_policy(reference[..., None, :]),
        )
    )


def fit_ipo(pairs: Comparisons, reference: np.ndarray, *, beta: float) -> np.ndarray:
    """Return the policies ``(..., n)`` that minimise IPO's loss."""
    return fit_loss(functools.partial(losses.ipo, tau=beta), pairs, reference)


def fit_loss(
    loss: Callable[[PairLogps[Any]], Any], pairs: Comparisons, reference: np.ndarray
) -> np.ndarray:
    """Return the policies ``(..., n)`` that minimise a loss of pairs."""
    policy = in_one_context(reference)
    return to_numpy(fit(policy, loss, pairs, reference=policy).policy.probs)[..., 0, :]
