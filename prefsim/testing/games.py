"""Hypothesis strategies for preference games and for reference policies with full support.

Every strategy shrinks towards the plainest instance: few responses, even odds, a uniform reference.

Examples
--------
>>> from hypothesis import given
>>> from prefsim.solvers.games.certificates import exploitability
>>> from prefsim.solvers.games.nash import solve_nash
>>> @given(preference_games())
... def test_the_equilibrium_cannot_be_exploited(game):
...     assert exploitability(game.preference, solve_nash(game, method="lp").policy) <= 1e-9
>>> test_the_equilibrium_cannot_be_exploited()
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from prefsim.numerics import softmax
from prefsim.testing.bandits import tables
from prefsim.worlds.game import PreferenceGame

__all__ = [
    "cyclic_games",
    "degenerate_games",
    "games_with_reference",
    "preference_games",
    "references",
    "transitive_games",
]


def _sizes(n: int | None, low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high) if n is None else st.just(n)


def _from_margins(margins: np.ndarray) -> PreferenceGame:
    """Return the game whose preferences above the diagonal are one half plus ``margins`` in [-½, ½]."""
    upper = np.triu(margins, 1)
    return PreferenceGame(0.5 + upper - np.swapaxes(upper, -1, -2))


def preference_games(
    n: int | None = None, *, batch: tuple[int, ...] = (), min_n: int = 1, max_n: int = 8
) -> st.SearchStrategy[PreferenceGame]:
    """Any games of ``n`` responses (up to ``max_n`` unless given); ``batch`` adds leading axes.

    Preferences of 0, ½ and 1 turn up often.
    """
    return (
        _sizes(n, min_n, max_n)
        .flatmap(lambda size: tables((*batch, size, size), low=-0.5, high=0.5))
        .map(_from_margins)
    )


def transitive_games(
    n: int | None = None, *, max_n: int = 8, scale: float = 4.0, gap: float = 0.0
) -> st.SearchStrategy[PreferenceGame]:
    """Bradley–Terry games of rewards in ``[0, scale]``.

    With ``gap`` the best response is ahead of every other by at least that much.
    """

    def build(reward: np.ndarray, best: int) -> PreferenceGame:
        reward = reward.copy()
        reward[best % reward.size] = reward.max() + gap
        return PreferenceGame.from_reward(reward)

    return st.builds(
        build,
        _sizes(n, 1, max_n).flatmap(lambda size: tables((size,), low=0.0, high=scale)),
        st.integers(0, max_n - 1),
    )


def cyclic_games(
    n: int | None = None, *, max_n: int = 8, least: float = 0.05
) -> st.SearchStrategy[PreferenceGame]:
    """Games of three or more responses without a Condorcet winner.

    On a circle each beats those ahead of it, by ``least`` to ½.
    """

    def build(margins: np.ndarray) -> PreferenceGame:
        size = margins.shape[-1]
        ahead = (np.arange(size)[None, :] - np.arange(size)[:, None]) % size
        sign = np.where(2 * ahead == size, 0.0, np.where(2 * ahead < size, 1.0, -1.0))
        return _from_margins(sign * margins)

    return (
        _sizes(n, 3, max_n)
        .flatmap(lambda size: tables((size, size), low=least, high=0.5))
        .map(build)
    )


def degenerate_games(*, max_n: int = 8) -> st.SearchStrategy[PreferenceGame]:
    """Games with many equilibria or boundary ones.

    A single response, all tied, tournaments with ties, copied and dominant responses.
    """

    def tournament(size: int) -> st.SearchStrategy[np.ndarray]:
        return st.lists(
            st.sampled_from([0.0, 0.5, -0.5]), min_size=size * size, max_size=size * size
        ).map(lambda cells: np.reshape(cells, (size, size)))

    tournaments = st.integers(1, max_n).flatmap(tournament).map(_from_margins)

    def copied(game: PreferenceGame, rows: list[int]) -> PreferenceGame:
        chosen = np.asarray(rows) % game.n_responses
        return PreferenceGame(np.asarray(game.preference)[np.ix_(chosen, chosen)])

    def dominated(game: PreferenceGame) -> PreferenceGame:
        preference = np.array(game.preference)
        preference[0, 1:], preference[1:, 0] = 1.0, 0.0
        return PreferenceGame(preference)

    copies = st.builds(
        copied, tournaments, st.lists(st.integers(0, max_n - 1), min_size=1, max_size=max_n)
    )
    tied = st.integers(1, max_n).map(lambda size: PreferenceGame(np.full((size, size), 0.5)))
    return st.one_of(tied, tournaments, copies, preference_games(max_n=max_n).map(dominated))


def references(
    n: int, *, batch: tuple[int, ...] = (), spread: float = 2.0
) -> st.SearchStrategy[np.ndarray]:
    """Policies ``(*batch, n)`` with full support.

    logits in ``[-spread, spread]``, no ratio above ``exp(2 spread)``.
    """
    return tables((*batch, n), low=-spread, high=spread).map(softmax)


def games_with_reference(
    games: st.SearchStrategy[PreferenceGame] | None = None, *, spread: float = 2.0
) -> st.SearchStrategy[tuple[PreferenceGame, np.ndarray]]:
    """Pairs of a game (any unless ``games`` says which) and a reference ``(n,)`` with full support."""

    def with_reference(
        game: PreferenceGame,
    ) -> st.SearchStrategy[tuple[PreferenceGame, np.ndarray]]:
        return st.tuples(st.just(game), references(game.n_responses, spread=spread))

    return (preference_games() if games is None else games).flatmap(with_reference)
