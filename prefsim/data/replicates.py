"""Many independent data sets at once.

What a simulation study over seeds needs, as one batch of counts.
"""

from __future__ import annotations

import numpy as np

from prefsim.backend import Seed, random_generator
from prefsim.checks import check_integer, check_kind
from prefsim.data.comparisons import Comparisons
from prefsim.policies.base import InMemoryPolicy
from prefsim.worlds.bandit import ContextualBandit

__all__ = ["outcome_shares", "replicated_comparisons"]


def replicated_comparisons(
    world: ContextualBandit,
    n: int,
    replicates: int,
    *,
    seed: Seed,
    policy: InMemoryPolicy,
    distinct: bool = False,
) -> Comparisons:
    """Draw ``replicates`` independent data sets of ``n`` labelled comparisons.

    Each is given as how often every outcome was seen.

    Each comparison is a row of ``Comparisons.population(world, policy, distinct=distinct)``, drawn
    with its weight and labelled with its preference probability. The data sets share their rows and
    differ in the weights, counts over n: one ``fit`` call handles them all.

    Parameters
    ----------
    world
        One bandit.
    n
        Comparisons of each data set, >= 1.
    replicates
        Number of data sets, >= 1.
    seed
        Of the draws.
    policy
        The distribution that both responses are drawn from, independently.
    distinct
        Draw pairs of different responses.

    Returns
    -------
    Comparisons with ``prob`` 1 and weights ``(replicates, rows)`` that sum to one.

    Raises
    ------
    ValueError
        If a number is out of range, or the world is a batch.

    Examples
    --------
    >>> from prefsim.policies import TabularPolicy
    >>> world = ContextualBandit(reward=[[0.0, 1.0]])
    >>> uniform = TabularPolicy.uniform(1, 2)
    >>> data = replicated_comparisons(world, 100, 3, seed=0, policy=uniform, distinct=True)
    >>> data.chosen, data.weight
    (array([0, 1]), array([[0.28, 0.72],
           [0.24, 0.76],
           [0.19, 0.81]]))
    """
    check_integer(low=1, n=n, replicates=replicates)
    check_kind(ContextualBandit, world=world)
    check_kind(InMemoryPolicy, policy=policy)
    if world.batch_shape:
        raise ValueError(f"sampling needs one world, got a batch of shape {world.batch_shape}")
    rows = Comparisons.population(world, policy, distinct=distinct)
    if rows.weight.ndim > 1:
        raise ValueError(
            f"sampling needs one policy, got a batch of shape {rows.weight.shape[:-1]}"
        )
    return Comparisons(
        rows.prompt,
        rows.chosen,
        rows.rejected,
        weight=outcome_shares(rows, np.full(replicates, n), seed=seed),
    )


def outcome_shares(rows: Comparisons, n: np.ndarray, *, seed: Seed) -> np.ndarray:
    """Return how often every row of a population was drawn and labelled so, ``(*batch, rows)``.

    As a share of the ``n`` draws.

    The batch is that of ``n`` and of the rows' weights.
    """
    # Either of the two responses may have been drawn first.
    chance = 2 * rows.weight * rows.prob
    return (
        random_generator(seed).multinomial(n, chance / chance.sum(axis=-1, keepdims=True))
        / n[..., None]
    )
