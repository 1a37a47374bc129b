"""Exact equilibria by pivoting: rational arithmetic, degenerate games, the compiled twin."""

import importlib.util
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from prefsim.solvers import solve_nash
from prefsim.solvers.games import exact
from prefsim.solvers.games.path_following import follow_path
from prefsim.solvers.games.pivoting import Pivoted, largest_number_of_pivots, pivot
from prefsim.testing.games import degenerate_games, preference_games
from prefsim.worlds.game import KINDS, PreferenceGame

GOAL = 2e-12
HAS_NUMBA = importlib.util.find_spec("numba") is not None
needs_numba = pytest.mark.skipif(not HAS_NUMBA, reason="numba, of the extra [fast], is missing")
CYCLE = np.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]]) / 4


def by_numpy(preference, pivots=None, tolerance=GOAL):
    preference = preference if preference.ndim > 2 else preference[None]
    limit = largest_number_of_pivots(preference.shape[-1]) if pivots is None else pivots
    largest = np.abs(preference - 0.5).max(axis=(-2, -1), keepdims=True)
    skew = (preference - 0.5) * 2.0 ** np.floor(np.log2(0.5 / largest))
    return pivot(skew, tolerance=tolerance, max_iterations=limit)


def by_numba(preference, pivots=None, tolerance=GOAL):
    compiled = exact.compiled_pivots()
    preference = preference if preference.ndim > 2 else preference[None]
    limit = largest_number_of_pivots(preference.shape[-1]) if pivots is None else pivots
    return Pivoted(*compiled.pivot_games(preference, tolerance, limit))


BOTH = [pytest.param(by_numpy, id="numpy"), pytest.param(by_numba, id="numba", marks=needs_numba)]


@st.composite
def dyadic_margins(draw):
    """Skew matrices of which float64 holds every digit, also around one half."""
    size, unit = draw(st.integers(2, 6)), draw(st.sampled_from([1, 2**-10, 2**-36]))
    places = size * (size - 1) // 2
    entries = draw(st.lists(st.integers(-31, 31), min_size=places, max_size=places))
    margins = np.zeros((size, size))
    margins[np.triu_indices(size, 1)] = np.array(entries) * unit / 64
    return margins - margins.T


def rational_solution(margins, support):
    """The solution of ``(Ax)_S = 0, Σx = 1`` in fractions; None unless there is exactly one."""
    rows = [[Fraction(float(margins[i, j])) for j in support] + [Fraction(0)] for i in support]
    rows.append([Fraction(1)] * (len(support) + 1))
    for column in range(len(support)):
        found = next((i for i in range(column, len(rows)) if rows[i][column] != 0), None)
        if found is None:
            return None
        rows[column], rows[found] = rows[found], rows[column]
        head = rows[column] = [entry / rows[column][column] for entry in rows[column]]
        for i, row in enumerate(rows):
            if i != column and row[column] != 0:
                rows[i] = [a - row[column] * b for a, b in zip(row, head, strict=True)]
    return [rows[i][-1] for i in range(len(support))]


@pytest.mark.parametrize("solve", BOTH)
@given(margins=dyadic_margins())
def test_what_is_proven_is_the_only_equilibrium_in_fractions(solve, margins):
    if not margins.any():
        return
    found = solve(0.5 + margins)
    if not found.proven[0]:
        return
    policy = found.policy[0]
    support = np.nonzero(policy)[0]
    solution = rational_solution(margins, support)
    assert solution is not None
    assert all(share > 0 for share in solution)
    np.testing.assert_allclose(policy[support], [float(share) for share in solution], rtol=1e-12)
    for i in set(range(len(margins))) - set(support.tolist()):
        pays = [
            Fraction(float(margins[i, j])) * share
            for j, share in zip(support, solution, strict=True)
        ]
        # Strictly: whoever plays i against the policy loses, so no other equilibrium plays it.
        assert sum(pays) < 0


@pytest.mark.parametrize("solve", BOTH)
@pytest.mark.parametrize("kind", ["uniform", "cyclic", "tournament", "transitive"])
@pytest.mark.parametrize("n", [3, 11, 31])
def test_games_with_one_equilibrium_are_proven(solve, kind, n):
    games = PreferenceGame.random(n, seed=0, batch_shape=(40,), kind=kind).preference
    found = solve(games)
    # The draws are generic, and a tournament without ties has one equilibrium: none is left over.
    assert found.proven.all()
    assert np.max((games - 0.5) @ found.policy[..., None]) <= 1e-14
    path = follow_path(games, tolerance=GOAL, max_iterations=200)
    np.testing.assert_allclose(found.policy, path.policy, atol=1e-8)


@pytest.mark.parametrize("solve", BOTH)
def test_where_there_are_several_equilibria_nothing_is_proven(solve):
    copies = CYCLE[np.ix_([0, 1, 2, 0], [0, 1, 2, 0])]
    four = np.array([[0, 1, 0, -1], [-1, 0, 1, 0], [0, -1, 0, 1], [1, 0, -1, 0]]) / 4
    two_best = np.array([[0, 0, 1], [0, 0, 1], [-1, -1, 0]]) / 4
    for margins in (copies, four, two_best, 4e-11 * copies):
        found = solve(0.5 + margins)
        assert not found.proven[0]
        assert not found.policy[0].any()


@pytest.mark.parametrize("solve", BOTH)
def test_what_is_more_exploitable_than_allowed_is_not_proven(solve):
    games = np.stack([PreferenceGame.random(9, seed=i).preference for i in range(40)])
    found = solve(games, tolerance=0.0)
    # Some rounding makes most of these policies exploitable, on any processor.
    assert solve(games).proven.all() and not found.proven.all()
    assert not found.policy[~found.proven].any()


@pytest.mark.parametrize("solve", BOTH)
def test_no_more_exchanges_than_allowed(solve):
    game = PreferenceGame.random(20, seed=3).preference
    needed = solve(game).iterations[0]
    assert needed > 3
    assert solve(game, needed).proven[0]
    short = solve(game, needed - 1)
    assert not short.proven[0] and short.iterations[0] == needed - 1


@needs_numba
@given(preference_games(min_n=2, max_n=9))
def test_the_compiled_twin_finds_the_same(game):
    if not (game.preference != 0.5).any():
        return
    plain, compiled = by_numpy(game.preference), by_numba(game.preference)
    if plain.proven[0] and compiled.proven[0]:
        np.testing.assert_allclose(compiled.policy, plain.policy, atol=1e-9)


@needs_numba
def test_the_compiled_twin_counts_alike():
    games = PreferenceGame.random(12, seed=1, batch_shape=(50,)).preference
    np.testing.assert_array_equal(by_numba(games).iterations, by_numpy(games).iterations)


@pytest.fixture(params=["numpy", pytest.param("numba", marks=needs_numba)])
def solver(request, monkeypatch):
    """solve_nash with and without the compiled version."""
    if request.param == "numpy":
        monkeypatch.setattr(exact, "compiled_pivots", lambda: None)
    return lambda game, **options: solve_nash(game, method="lp", **options)


@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e-11])
def test_copies_share_what_is_theirs_at_every_scale(solver, scale):
    order = [0, 1, 2, 0, 2, 2]
    result = solver(0.5 + scale * CYCLE[np.ix_(order, order)])
    assert result.converged
    # Around one half a margin keeps its digits down to 1e-16.
    atol = 1e-8 + 1e-16 / scale
    share = result.policy
    np.testing.assert_allclose(
        [share[0] + share[3], share[1], share[2] + share[4] + share[5]], 1 / 3, atol=atol
    )
    assert (share > 0.01).all()


def test_games_of_mixed_scales_against_highs(solver):
    rng = np.random.default_rng(5)
    for n in (4, 9, 17):
        sizes = 10.0 ** rng.integers(-4, 0, (n, n))
        upper = np.triu(sizes * rng.uniform(-0.5, 0.5, (n, n)), 1)
        preference = 0.5 + upper - upper.T
        result = solver(preference)
        least = linprog(
            np.append(np.zeros(n), 1.0),
            A_ub=np.hstack([preference - 0.5, -np.ones((n, 1))]),
            b_ub=np.zeros(n),
            A_eq=np.append(np.ones(n), 0.0)[None],
            b_eq=[1.0],
            bounds=[(0, None)] * n + [(None, None)],
            method="highs",
        )
        assert result.exploitability <= least.fun + 1e-12
        np.testing.assert_allclose(result.policy, least.x[:n], atol=1e-6)


def test_a_batch_that_mixes_one_and_several_equilibria(solver):
    order = [0, 1, 2, 0]
    several = 0.5 + CYCLE[np.ix_(order, order)]
    games = np.stack([PreferenceGame.random(4, seed=0).preference, several, np.full((4, 4), 0.5)])
    result = solver(games)
    assert result.converged.all()
    np.testing.assert_allclose(result.policy[1], [1 / 6, 1 / 3, 1 / 3, 1 / 6], atol=1e-9)
    np.testing.assert_allclose(result.policy[2], 0.25, atol=1e-15)
    for game, policy in zip(games, result.policy, strict=True):
        np.testing.assert_allclose(solver(game).policy, policy, atol=1e-12)


@given(game=degenerate_games())
def test_without_numba_degenerate_games_are_solved(game):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "compiled_pivots", lambda: None)
        result = solve_nash(game, method="lp")
    assert result.converged
    assert np.max((game.preference - 0.5) @ result.policy) <= 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_one_game_by_itself_is_the_same_result_as_with_options(solver, kind):
    game = PreferenceGame.random(11, seed=2, kind=kind)
    alone, asked = solver(game), solver(game, tolerance=GOAL)
    np.testing.assert_allclose(alone.policy, asked.policy, atol=1e-14)
    for field in alone._fields:
        ours, theirs = getattr(alone, field), getattr(asked, field)
        assert type(ours) is type(theirs), field
    assert alone.iterations == asked.iterations


def test_a_game_in_any_memory_order_and_read_only(solver):
    game = PreferenceGame.random(6, seed=0).preference
    expected = solver(game).policy
    frozen = game.copy()
    frozen.setflags(write=False)
    for other in (np.asfortranarray(game), frozen, np.repeat(game, 2, axis=0)[::2]):
        np.testing.assert_allclose(solver(other).policy, expected, atol=1e-14)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ((0, 1), np.nan, "preference must be finite"),
        ((0, 1), 1.5, "preference must"),
        ((0, 1), 0.9, r"P \+ Pᵀ = 1"),
        ((1, 1), 0.6, r"P \+ Pᵀ = 1"),
    ],
)
def test_what_is_no_game_is_refused(solver, place, value, message):
    preference = np.array([[0.5, 0.7, 0.2], [0.3, 0.5, 0.6], [0.8, 0.4, 0.5]])
    preference[place] = value
    with pytest.raises(ValueError, match=message):
        solver(preference)
