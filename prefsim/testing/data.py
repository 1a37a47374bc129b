"""Hypothesis strategies for preference data: counts, rankings, revisions, populations of users.

Every strategy shrinks towards the plainest instance: two items, few comparisons, one user.

Examples
--------
>>> from hypothesis import given
>>> from prefsim.solvers.likelihood.bradley_terry import fit_bradley_terry
>>> @given(count_matrices())
... def test_rewards_sum_to_zero(counts):
...     assert abs(fit_bradley_terry(counts).reward.sum()) < 1e-12
>>> test_rewards_sum_to_zero()
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from prefsim.data.comparisons import Comparisons
from prefsim.data.rankings import Rankings
from prefsim.data.revisions import Revisions
from prefsim.raters.bradley_terry import pairwise_preference
from prefsim.raters.population import UserPopulation
from prefsim.testing.bandits import tables
from prefsim.testing.tokens import comparisons
from prefsim.worlds.bandit import ContextualBandit

__all__ = [
    "count_matrices",
    "ranking_tables",
    "rankings",
    "revisions",
    "rewards",
    "separable_counts",
    "user_populations",
]


def _sizes(n_items: int | None, max_items: int) -> st.SearchStrategy[int]:
    return st.integers(2, max_items) if n_items is None else st.just(n_items)


def rewards(
    *, n_items: int | None = None, max_items: int = 6, scale: float = 3.0
) -> st.SearchStrategy[np.ndarray]:
    """Return rewards ``(n,)`` in ``[-scale, scale]``, in log-odds."""
    return _sizes(n_items, max_items).flatmap(lambda n: tables((n,), low=-scale, high=scale))


@st.composite
def count_matrices(
    draw: st.DrawFn,
    *,
    n_items: int | None = None,
    max_items: int = 6,
    max_count: int = 20,
    batch_shape: tuple[int, ...] = (),
) -> np.ndarray:
    """Return counts of wins ``(*batch_shape, n, n)`` for which the Bradley–Terry maximum exists.

    A random cycle through all items, each of whose links was won at least once, makes every member
    strongly connected.
    """
    n = draw(_sizes(n_items, max_items))
    counts = draw(hnp.arrays(np.float64, (*batch_shape, n, n), elements=st.integers(0, max_count)))
    cycle = np.asarray(draw(st.permutations(range(n))))
    counts[..., cycle, np.roll(cycle, -1)] += 1.0
    counts[..., np.arange(n), np.arange(n)] = 0.0
    return counts


@st.composite
def separable_counts(
    draw: st.DrawFn, *, max_items: int = 6, max_count: int = 20
) -> tuple[np.ndarray, np.ndarray]:
    """Return counts ``(n, n)`` for which no maximum exists, and the mask of the group to blame.

    The items of the group never lose to the others.
    """
    n = draw(_sizes(None, max_items))
    counts = draw(hnp.arrays(np.float64, (n, n), elements=st.integers(0, max_count)))
    top = np.arange(n) < draw(st.integers(1, n - 1))
    top = top[np.asarray(draw(st.permutations(range(n))))]
    counts[np.ix_(~top, top)] = 0.0
    counts[np.arange(n), np.arange(n)] = 0.0
    return counts, top


@st.composite
def ranking_tables(
    draw: st.DrawFn, *, n_items: int | None = None, max_items: int = 5, max_rankings: int = 8
) -> np.ndarray:
    """Return full rankings ``(m, n)``, best first, for which the Plackett–Luce maximum exists.

    It does because one of them also occurs reversed.
    """
    n = draw(_sizes(n_items, max_items))
    free = draw(st.lists(st.permutations(range(n)), min_size=0, max_size=max_rankings))
    forward = draw(st.permutations(range(n)))
    return np.asarray([forward, forward[::-1], *free])


def user_populations(
    *, n_users: int = 2, n_items: int | None = None, max_items: int = 4, scale: float = 3.0
) -> st.SearchStrategy[UserPopulation]:
    """Return populations of Bradley–Terry users with positive weights.

    Rewards are in ``[-scale, scale]``.
    """

    def of_size(n: int) -> st.SearchStrategy[UserPopulation]:
        return st.builds(
            lambda weight, reward: UserPopulation(
                weight / weight.sum(), pairwise_preference(reward)
            ),
            tables((n_users,), low=0.1, high=1.0),
            tables((n_users, n), low=-scale, high=scale),
        )

    return _sizes(n_items, max_items).flatmap(of_size)


@st.composite
def rankings(
    draw: st.DrawFn,
    world: ContextualBandit,
    *,
    n_candidates: int | None = None,
    max_size: int = 8,
    scale: float = 3.0,
) -> Rankings:
    """Return ranked candidates in ``world``: distinct responses, scores in ``[-scale, scale]``.

    Weights are in [0, 2]; two to all responses of the world are ranked unless ``n_candidates`` says
    otherwise.
    """
    y = world.n_responses
    k = draw(st.integers(2, y)) if n_candidates is None else n_candidates
    n = draw(st.integers(1, max_size))
    prompt = draw(hnp.arrays(np.int64, (n,), elements=st.integers(0, world.n_contexts - 1)))
    drawn = [draw(st.permutations(range(y)))[:k] for _ in range(n)]
    return Rankings(
        prompt,
        np.asarray(drawn),
        draw(tables((n, k), low=-scale, high=scale)),
        weight=draw(tables((n,), low=0.0, high=2.0)),
    )


def revisions(
    world: ContextualBandit, *, max_size: int = 8, hard: bool = False
) -> st.SearchStrategy[Revisions]:
    """Return comparisons in ``world`` for a policy that answers and revises.

    Options are those of :func:`prefsim.testing.comparisons`.
    """

    def of(pairs: Comparisons) -> Revisions:
        return Revisions(pairs, n_contexts=world.n_contexts, n_responses=world.n_responses)

    return comparisons(world, max_size=max_size, hard=hard).map(of)
