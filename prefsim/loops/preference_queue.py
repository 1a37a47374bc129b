"""SPO as it is run on samples.

A queue of the last trajectories, whose win rates among each other are the rewards.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim._readable import readable
from prefsim.backend import Seed, like, random_generator, to_numpy
from prefsim.checks import (
    as_index_array,
    as_preference,
    check_integer,
    check_kind,
    check_positive,
    check_shape,
    names_shapes,
)
from prefsim.loops.self_play import preferences_between, win_rates
from prefsim.policies.tokens import TokenTreePolicy
from prefsim.solvers.planning.tree_backup import score_gradient_in_tree

__all__ = ["QueuedSelfPlay", "queue_win_rates", "queued_self_play"]


@names_shapes
def queue_win_rates(preference: Any, queue: Any, *, include_self: bool = False) -> np.ndarray:
    r"""Return how often each member of a queue is preferred to the others, ``(..., B)``.

    .. math:: r(\xi_i) = \frac{1}{B-1}\sum_{j\ne i} P(\xi_i \succ \xi_j)

    Given :math:`\xi_i`, this is an unbiased estimate of its win rate against the policy that drew
    the others; together with itself (``include_self``) it is drawn towards ½ by the factor (B −
    1)/B.

    Parameters
    ----------
    preference
        ``(..., N, N)`` over all trajectories, with ``P + Pᵀ = 1``.
    queue
        Indices of trajectories, integers ``(..., B)`` with B >= 2.
    include_self
        Count the comparison of each member with itself, ½.

    Raises
    ------
    ValueError
        If an index is out of range, the queue has fewer than two members, or ``preference`` is
        none.

    References
    ----------
    Swamy et al. 2024, arXiv:2401.04056 (practical algorithm).

    Examples
    --------
    >>> queue_win_rates([[0.5, 0.9], [0.1, 0.5]], [0, 1, 1])
    array([0.9, 0.3, 0.3])
    """
    table = as_preference(preference)
    members = as_index_array(queue, "queue", size=table.shape[-1])
    check_integer(low=2, **{"length of the queue": members.shape[-1] if members.ndim else 0})
    return win_rates(preferences_between(table, members, members), include_self=include_self)


@readable
class QueuedSelfPlay(NamedTuple):
    """The last policy, and what was recorded along the first axis.

    Attributes
    ----------
    policy
        The last one.
    comparisons
        ``(K,)``, how often the rater was asked until each record.
    probs, average
        ``(K, *batch, N)``: probabilities of all trajectories under the policy and the mean of all
        policies played so far. The mean is the policy to use: draw one of those played at random.
    """

    policy: TokenTreePolicy
    comparisons: np.ndarray
    probs: np.ndarray
    average: np.ndarray


def queued_self_play(
    policy: TokenTreePolicy,
    preference: Any,
    *,
    step: float,
    iterations: int,
    queue: int = 10,
    fresh: int | None = None,
    record: int = 1,
    seed: Seed,
) -> QueuedSelfPlay:
    r"""Run SPO on sampled trajectories of a tree of one context.

    Its learner is the policy gradient.

    In every iteration ``fresh`` trajectories enter the queue, the oldest leave it, and the policy
    makes a step along :math:`E[(r(\xi) - \tfrac12)\,\nabla\log\pi(\xi)]`, estimated from the new
    ones.

    Parameters
    ----------
    policy
        Where to start; a batch of policies plays each for itself, all together.
    preference
        ``(N, N)``, or ``(*batch, N, N)`` for one rater for each policy.
    step
        Step size in the logits, > 0.
    iterations
        Number of steps.
    queue
        Length B >= 2 of the queue. The default is the paper's, not confirmed.
    fresh
        New trajectories in each iteration, in [1, B]; all B unless given, so that none is of an
        older policy.
    record
        Keep every so many iterations, and the last.
    seed
        Of the draws.

    Returns
    -------
    QueuedSelfPlay

    Raises
    ------
    ValueError
        If a number is out of range, the tree has several contexts, or ``preference`` is none.

    References
    ----------
    Swamy et al. 2024, arXiv:2401.04056 (practical algorithm).
    """
    check_kind(TokenTreePolicy, policy=policy)
    check_positive(step=step)
    check_integer(low=1, iterations=iterations, record=record)
    check_integer(low=2, queue=queue)
    fresh = queue if fresh is None else fresh
    check_integer(low=1, high=queue, fresh=fresh)
    check_integer(low=1, high=1, **{"number of contexts": policy.tree.n_contexts})
    table = as_preference(preference)
    n = policy.tree.n_sequences
    check_shape(table, "preference", (n, n))
    rng = random_generator(seed)

    def drawn_sequences(count: int) -> np.ndarray:
        return to_numpy(policy.sample(np.zeros(1, dtype=np.int64), count, rng))[..., 0, :]

    members = drawn_sequences(queue)
    total = np.zeros(to_numpy(policy.probs)[..., 0, :].shape)
    asked, records = 0, []
    for done in range(1, iterations + 1):
        probs = to_numpy(policy.probs)[..., 0, :]
        total = total + probs
        members = np.concatenate([members[..., fresh:], drawn_sequences(fresh)], axis=-1)
        new = members[..., queue - fresh :]
        wins = (preferences_between(table, new, members).sum(axis=-1) - 0.5) / (queue - 1)
        # Every pair is asked once, whichever of the two is new.
        asked += fresh * (queue - fresh) + fresh * (fresh - 1) // 2
        weights = np.zeros_like(total)
        rows = np.indices(new.shape)[:-1]
        np.add.at(weights, (*rows, new), (wins - 0.5) / fresh)
        gradient = score_gradient_in_tree(policy, like(weights[..., None, :], policy.logits))
        policy = TokenTreePolicy(policy.tree, policy.logits + step * gradient)
        if done % record == 0 or done == iterations:
            records.append((asked, to_numpy(policy.probs)[..., 0, :], total / done))
    asked_by, now, average = (np.array(column) for column in zip(*records, strict=True))
    return QueuedSelfPlay(policy, asked_by, now, average)
