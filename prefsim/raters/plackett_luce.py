"""Raters who rank: the best item first, then the best of what is left."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from prefsim.backend import Seed, index_array, like, random_generator, to_numpy
from prefsim.checks import (
    as_array,
    as_float_array,
    as_floats,
    check_entries,
    check_integer,
    check_rankings,
    check_shape,
    names_shapes,
)
from prefsim.numerics import array_namespace, logsumexp
from prefsim.typing import Array, ArrayT

__all__ = ["ranking_log_prob", "sample_rankings"]


@names_shapes
def ranking_log_prob(reward: ArrayT, ranking: Array) -> ArrayT:
    r"""Return the Plackett–Luce log-probability of choosing ``ranking`` in its order.

    .. math:: \log P(\sigma) = \sum_k \Big[ r_{\sigma_k}
        - \log \sum_{i \notin \{\sigma_1, \dots, \sigma_{k-1}\}} e^{r_i} \Big]

    Parameters
    ----------
    reward
        ``(..., n)`` in log-odds.
    ranking
        Distinct integers ``(..., K)``, best first, ``K <= n``; with ``K < n`` the other items rank
        below in any order. Leading axes broadcast.

    Returns
    -------
    Array ``(...,)``, nats. The chance that i ranks above j is
    ``pairwise_preference(reward)[i, j]``, whatever the other items.

    Raises
    ------
    ValueError
        If a ranking repeats an item or holds one out of range.

    References
    ----------
    Plackett 1975, "The analysis of permutations"; Luce 1959, "Individual choice behavior".

    Examples
    --------
    >>> import numpy as np
    >>> np.exp(ranking_log_prob(np.log([1.0, 2.0, 3.0]), [2, 1, 0])).round(6)
    np.float64(0.333333)
    """
    (reward,) = as_floats(reward=reward)
    check_shape(reward, "reward", (None,))
    check_entries(reward, "reward", "be finite", np.isfinite)
    xp = array_namespace(reward)
    n = reward.shape[-1]
    ranks = to_numpy(as_array(ranking, "ranking", "integral"))
    if ranks.ndim == 0:
        raise ValueError("ranking must have shape (..., K), got a scalar")
    check_rankings(ranks.reshape(-1, ranks.shape[-1]), "ranking", n)
    if (ranks < 0).any():
        raise ValueError(f"ranking must hold items in [0, {n}), got {ranks.min()}")
    picked = ranks[..., None] == np.arange(n)
    taken = np.cumsum(picked, axis=-2) - picked > 0
    chosen = xp.sum(like(picked, reward) * reward[..., None, :], axis=-1)
    left = like(np.where(taken, -math.inf, 0.0), reward) + reward[..., None, :]
    return xp.sum(chosen - logsumexp(left), axis=-1)


def sample_rankings(reward: Any, n: int, *, seed: Seed, k: int | None = None) -> Array:
    """Draw ``n`` Plackett–Luce rankings of all items.

    The order of rewards with independent Gumbel noise.

    Parameters
    ----------
    reward
        ``(..., m)`` in log-odds.
    n
        Number of rankings.
    k
        Keep the first ``k`` places only; all unless given.

    Returns
    -------
    Integers ``(..., n, k)``, best first.

    Raises
    ------
    ValueError
        If ``n`` or ``k`` is out of range.

    References
    ----------
    Yellott 1977, "The relationship between Luce's choice axiom, Thurstone's theory of comparative
    judgment, and the double exponential distribution".
    """
    check_integer(low=0, n=n)
    table = as_float_array(reward, "reward", min_ndim=1)
    if k is not None:
        check_integer(low=1, k=k)
        if k > table.shape[-1]:
            raise ValueError(f"k must be at most the number of items {table.shape[-1]}, got {k}")
    noise = random_generator(seed).gumbel(size=(*table.shape[:-1], n, table.shape[-1]))
    return index_array(np.argsort(-(table[..., None, :] + noise), axis=-1)[..., :k])
