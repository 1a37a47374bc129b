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

import math
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from prefsim.backend import Seed, random_generator, to_numpy
from prefsim.checks import as_preference, check_integer
from prefsim.numerics import softmax
from prefsim.solvers.games.nash import solve_nash
from prefsim.solvers.games.nash_methods import UPDATES
from prefsim.testing.bandits import tables
from prefsim.worlds.bandit import ContextualBandit
from prefsim.worlds.game import PreferenceGame

__all__ = [
    "Play",
    "cyclic_games",
    "degenerate_games",
    "games_near",
    "games_with_reference",
    "plays",
    "preference_games",
    "random_games",
    "references",
    "skew_scores",
    "transitive_games",
]


def _sizes(n: int | None, low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high) if n is None else st.just(n)


def _from_margins(margins: np.ndarray) -> PreferenceGame:
    """Return the game of margins in [-½, ½], of which those above the diagonal count."""
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


def skew_scores(
    min_n: int = 2, max_n: int = 8, *, limit: float = 4.0
) -> st.SearchStrategy[np.ndarray]:
    """Skew scores ``(n, n)`` of up to ``max_n`` responses, within ``[-limit, limit]``."""
    square = st.integers(min_n, max_n).flatmap(lambda n: tables((n, n), low=-limit, high=limit))
    return square.map(lambda table: np.triu(table, 1) - np.triu(table, 1).T)


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
    """Pairs of a game and a reference ``(n,)`` with full support; any game unless given."""

    def with_reference(
        game: PreferenceGame,
    ) -> st.SearchStrategy[tuple[PreferenceGame, np.ndarray]]:
        return st.tuples(st.just(game), references(game.n_responses, spread=spread))

    return (preference_games() if games is None else games).flatmap(with_reference)


def games_near(preference: Any, *, within: float = 0.02) -> st.SearchStrategy[PreferenceGame]:
    """Games whose preferences differ from given ones by at most ``within``.

    What holds in all of them is no coincidence of the one; they shrink towards it.

    Parameters
    ----------
    preference
        ``(n, n)``; what would leave [0, 1] is clipped.
    within
        Largest change of a preference.
    """
    table = as_preference(preference, ndim=2)

    def build(shifts: np.ndarray) -> PreferenceGame:
        return _from_margins(np.clip(table - 0.5 + shifts, -0.5, 0.5))

    return tables(table.shape, low=-within, high=within).map(build)


class Play(NamedTuple):
    """A step of a game method: where it starts, and how far it goes.

    Attributes
    ----------
    preference
        ``(n, n)``.
    reference, policy, sampler
        ``(n,)`` with full support: what the penalty is measured from, the policy that plays, and
        another that may draw the responses.
    tau
        Penalty τ.
    weight
        Weight τη of the reference in a step of size η.
    """

    preference: np.ndarray
    reference: np.ndarray
    policy: np.ndarray
    sampler: np.ndarray
    tau: float
    weight: float

    @property
    def step(self) -> float:
        """Step size η."""
        return self.weight / self.tau

    def update(self, method: str, log_policy: np.ndarray, **options: float) -> np.ndarray:
        """Return the next log-policy of a method that keeps nothing else in mind.

        Its step and penalty are those of the play unless ``options`` says otherwise.
        """
        options = {"step": self.step, "tau": self.tau} | options
        (following,) = UPDATES[method].apply(
            (log_policy,), self.preference, np.log(self.reference), **options
        )
        return np.asarray(following)

    def equilibrium(self) -> np.ndarray:
        """Return the equilibrium with the penalty."""
        return to_numpy(
            solve_nash(
                self.preference, method="regularised", reference=self.reference, tau=self.tau
            ).policy
        )

    def world(self) -> ContextualBandit:
        """Return the game as a bandit of one context."""
        return PreferenceGame(self.preference).to_bandit()


def plays(
    games: st.SearchStrategy[PreferenceGame] | None = None,
    *,
    tau: tuple[float, float] = (0.05, 2.0),
    weight: tuple[float, float] = (0.01, 1.0),
    spread: float = 2.0,
) -> st.SearchStrategy[Play]:
    """Plays of a game, with a reference, two more policies, a penalty and a step.

    Parameters
    ----------
    games
        Any of two to six responses unless given.
    tau, weight
        Ranges of the penalty (spread evenly over the orders of magnitude) and of the weight τη.
    spread
        The log-odds of the policies lie within twice this.

    Examples
    --------
    >>> from hypothesis import given
    >>> from prefsim.numerics import categorical_kl
    >>> @given(plays())
    ... def test_a_step_brings_mirror_descent_nearer(play):
    ...     target, start = np.log(play.equilibrium()), np.log(play.policy)
    ...     near, far = (
    ...         categorical_kl(target, log_policy)
    ...         for log_policy in (play.update("mirror_descent", start), start)
    ...     )
    ...     assert near <= (1 - play.weight) * far + 0.5 * play.step**2
    >>> test_a_step_brings_mirror_descent_nearer()
    """

    def build(game: PreferenceGame) -> st.SearchStrategy[Play]:
        policy = references(game.n_responses, spread=spread)
        return st.builds(
            Play,
            preference=st.just(to_numpy(game.preference)),
            reference=policy,
            policy=policy,
            sampler=policy,
            tau=st.floats(math.log(tau[0]), math.log(tau[1])).map(math.exp),
            weight=st.floats(*weight),
        )

    return (preference_games(min_n=2, max_n=6) if games is None else games).flatmap(build)


def random_games(n_games: int, n: int = 10, *, seed: Seed) -> np.ndarray:
    """Return games ``(n_games, n, n)`` with preferences uniform on [0, 1] below the diagonal.

    As the authors of Nash-MD and EGPO draw them. (:meth:`PreferenceGame.random` draws the same law
    above the diagonal.) No strategy: the games of an experiment, where each seed gives the same.

    Examples
    --------
    >>> random_games(1, 2, seed=0).round(3)
    array([[[0.5  , 0.959],
            [0.041, 0.5  ]]])
    """
    check_integer(low=1, n_games=n_games, n=n)
    lower = np.tril(random_generator(seed).random((n_games, n, n)), -1)
    upper = np.triu(1.0 - np.swapaxes(lower, -1, -2), 1)
    return np.asarray(lower + upper + 0.5 * np.eye(n))
