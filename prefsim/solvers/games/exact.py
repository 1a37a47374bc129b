"""Exact equilibria of preference games: by pivoting what is small, by path following the rest."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from array_api_compat import is_numpy_array

from prefsim.checks.tolerance import PROBABILITY_TOLERANCE
from prefsim.numerics import array_namespace
from prefsim.solvers.games.path_following import follow_path
from prefsim.solvers.games.pivoting import (
    Pivoted,
    largest_number_of_pivots,
    pivot,
)
from prefsim.solvers.games.results import NashResult
from prefsim.typing import Array
from prefsim.worlds.game import PreferenceGame

# Pivots take about n steps, path following about a dozen: larger games are left to it.
LARGEST_PIVOTED = 32
LARGEST_COMPILED = 400
PATH_STEPS = 200

DOUBLE = np.dtype(np.float64)
EXACT = float(np.finfo(DOUBLE).eps) ** 0.75

__all__ = ["compiled_pivots", "solve_at_once", "solve_exactly"]


@cache
def compiled_pivots() -> Any:
    """Return the compiled pivots, None where numba cannot be had."""
    try:
        from prefsim.solvers.games import _numba_pivots
    except ImportError:
        return None
    return _numba_pivots


def solve_at_once(game: Any) -> NashResult | None:
    """Return the equilibrium of one game by the compiled pivots, which check the game as they go.

    None for anything but a game in double precision whose only equilibrium they prove: what is
    wrong with it, or how else it is to be solved, is for others to say.
    """
    matrix = game.preference if isinstance(game, PreferenceGame) else game
    if type(matrix) is not np.ndarray or matrix.ndim != 2 or matrix.dtype != DOUBLE:
        return None
    n, width = matrix.shape
    flags = matrix.flags
    if n != width or n > LARGEST_COMPILED or not (flags.c_contiguous and flags.aligned):
        return None
    compiled = compiled_pivots()
    if compiled is None:
        return None
    policy, exploitability, iterations, proven = compiled.pivot_game(
        matrix, PROBABILITY_TOLERANCE, EXACT, largest_number_of_pivots(n)
    )
    if not proven:
        return None
    gap: Any = np.float64(exploitability)
    used: Any = np.int64(iterations)
    converged: Any = np.True_
    # Keywords would cost a tenth of the whole call.
    return NashResult(policy, None, gap, None, used, converged)


def solve_exactly(
    games: Array, *, tolerance: float, max_iterations: int | None
) -> tuple[Array, Array]:
    """Return the equilibria ``(B, n)`` of games ``(B, n, n)``, and how many steps each took.

    Pivoting solves what is small and has one equilibrium, path following all else.

    Parameters
    ----------
    games
        ``(B, n, n)``, checked.
    tolerance
        Bound on the exploitability in units of the largest margin, >= 0.
    max_iterations
        Bound on the exchanges, and on the steps of the path; None for what has always been enough.
    """
    n = games.shape[-1]
    compiled = compiled_pivots()
    largest = LARGEST_PIVOTED if compiled is None else LARGEST_COMPILED
    steps = PATH_STEPS if max_iterations is None else max_iterations
    if not is_numpy_array(games) or games.dtype != DOUBLE or n > largest:
        path = follow_path(_with_wide_margins(games), tolerance=tolerance, max_iterations=steps)
        return path.policy, path.iterations
    pivots = largest_number_of_pivots(n) if max_iterations is None else max_iterations
    if compiled is None:
        skew: Any = _with_wide_margins(games) - 0.5
        found = pivot(skew, tolerance=tolerance, max_iterations=pivots)
    else:
        matrices = np.require(games, requirements=("C", "A"))
        found = Pivoted(*compiled.pivot_games(matrices, tolerance, pivots))
    left = np.nonzero(~found.proven)[0]
    if len(left) > 0:
        wide = _with_wide_margins(games[left])
        path = follow_path(wide, tolerance=tolerance, max_iterations=steps)
        found.policy[left], found.iterations[left] = path.policy, path.iterations
    return found.policy, found.iterations


def _with_wide_margins(games: Array) -> Array:
    """Return games whose largest margin is at least a quarter, with the same equilibria.

    A tolerance would take every policy for an equilibrium of a game with smaller margins than it.
    Multiplied by a power of two, margins keep all of their digits.
    """
    xp = array_namespace(games)
    margin = games - 0.5
    largest = xp.max(xp.abs(margin), axis=(-2, -1), keepdims=True)
    known = xp.where(largest > 0, largest, xp.full_like(largest, 0.5))
    factor = 2.0 ** xp.floor(xp.log2(0.5 / known))
    return xp.where(factor > 1, 0.5 + factor * margin, games)
