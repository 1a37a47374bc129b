"""The exchanges of :mod:`prefsim.solvers.games.pivoting` compiled, one game after the other.

Imported where it is used: numba comes with the extra ``fast``. What is compiled is kept on disk.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import float64, int64, njit, types

from prefsim.solvers.games.pivoting import (
    END_OF_SHIFT,
    GOLDEN_RATIO,
    HEAD_START,
    NO_PIVOT,
    SPREAD,
    STRICT,
)

# One compiled version serves arrays that can be written to and such that cannot.
Game = types.Array(float64, 2, "C", readonly=True)
Games = types.Array(float64, 3, "C", readonly=True)
Table, Vector = float64[:, ::1], float64[::1]
# contract: one rounding for a product and a sum. Nothing is reordered.
OPTIONS: dict[str, Any] = {"cache": True, "error_model": "numpy", "fastmath": {"contract"}}
# Sums may be taken in any order, which is faster and no worse.
SUMS: dict[str, Any] = {**OPTIONS, "fastmath": {"contract", "reassoc"}}
EPS = float(np.finfo(np.float64).eps)

__all__ = ["pivot_game", "pivot_games"]


@njit(float64(Game, float64), **OPTIONS)
def _largest_margin(preference: Any, within: float) -> float:
    """Return the largest margin of what is a game within so much, NaN of what is none."""
    n = preference.shape[0]
    largest = 0.0
    sound = True
    for i in range(n):
        for j in range(i + 1):
            there, back = preference[i, j], preference[j, i]
            # NaN passes no comparison.
            sound &= (there >= 0.0) & (there <= 1.0) & (back >= 0.0) & (back <= 1.0)
            sound &= abs(there + back - 1.0) <= within
            largest = max(largest, abs(there - 0.5), abs(back - 0.5))
    return largest if sound else math.nan


@njit(int64(Game, float64, Table), **SUMS)
def _first(preference: Any, scale: float, table: Any) -> int:
    """Fill the first dictionary, in which the response that wins the most is played; return it."""
    n = preference.shape[0]
    start = 0
    most = -math.inf
    for i in range(n):
        won = 0.0
        for j in range(n):
            won += preference[i, j] - 0.5
        won *= scale
        table[i, n + 1] = won
        if won > most:
            most, start = won, i
    best = preference[start]
    for i in range(n):
        row, other = table[i], preference[i]
        head_start = (best[i] - 0.5) * scale
        for j in range(n):
            row[j] = (best[j] - other[j]) * scale - head_start
        row[start] = 1.0
        row[i] = 0.0
        row[n] = head_start
        apart = 1.0 + SPREAD * ((i + 1) * GOLDEN_RATIO % 1.0 - 0.5)
        row[n + 1] = ((most - row[n + 1]) / n + HEAD_START) * apart
    table[start, :n] = -1.0
    table[start, start] = 0.0
    table[start, n] = 1.0
    return start


@njit(types.void(Table, Vector, Vector, int64, int64), **OPTIONS)
def _exchange(table: Any, first: Any, second: Any, r: int, s: int) -> None:
    """Let the pairs r and s, whose rows are given, change places."""
    n, width = table.shape
    inverse = 1.0 / first[s]
    for i in range(n):
        one, two = first[i] * inverse, second[i] * inverse
        for j in range(width):
            table[i, j] += two * first[j] - one * second[j]
    for j in range(width):
        table[r, j] = second[j] * inverse
        table[s, j] = -first[j] * inverse
    for i in range(n):
        table[i, r] = -second[i] * inverse
        table[i, s] = first[i] * inverse
    table[r, r] = table[s, s] = 0.0
    table[r, s], table[s, r] = -inverse, inverse


@njit(float64(Game, float64, Vector, types.boolean[::1], int64, Vector, Vector), **SUMS)
def _slacks(
    preference: Any,
    scale: float,
    basic: Any,
    exchanged: Any,
    start: int,
    policy: Any,
    slack: Any,
) -> float:
    """Write the policy of basic values and their slacks by the game; return its exploitability."""
    n = preference.shape[0]
    rest = 1.0
    for i in range(n):
        policy[i] = basic[i]
        if i != start:
            rest -= basic[i]
    policy[start] = 0.0 if exchanged[start] else rest
    largest = -math.inf
    for i in range(n):
        payoff = 0.0
        for j in range(n):
            payoff += (preference[i, j] - 0.5) * policy[j]
        slack[i] = payoff * scale
        largest = max(largest, payoff)
    value = slack[start] + basic[start]
    for i in range(n):
        slack[i] = value - slack[i]
    slack[start] = rest
    return largest


RESULT = types.Tuple((Vector, float64, int64, types.boolean))


@njit(RESULT(Game, float64, float64, int64), **OPTIONS)
def pivot_game(
    preference: Any, within: float, tolerance: float, max_iterations: int
) -> tuple[Any, float, int, bool]:
    """Solve one game ``(n, n)``: its policy, exploitability, exchanges, and whether it is proven.

    Nothing is proven of what does not satisfy ``P + Pᵀ = 1`` ``within`` so much. The tolerance
    bounds the exploitability in units of the largest margin, as in ``pivot``.
    """
    n = preference.shape[0]
    policy = np.zeros(n)
    margin = _largest_margin(preference, within)
    # All responses of a game without margins are equilibria.
    if not margin > 0.0:
        return policy, math.nan, 0, False
    # Multiplied by a power of two, margins keep all of their digits.
    scale = math.ldexp(1.0, math.frexp(0.5 / margin)[1] - 1)
    table = np.empty((n, n + 2))
    exchanged = np.zeros(n, dtype=np.bool_)
    rows = np.empty((2, n + 2))
    first, second = rows[0], rows[1]
    start = _first(preference, scale, table)
    done = 0
    while True:
        level, leaving = END_OF_SHIFT, -1
        for i in range(n):
            constant, shift = table[i, n], table[i, n + 1]
            if shift > 0.0 and -constant > level * shift:
                level, leaving = -constant / shift, i
        if leaving < 0:
            break
        first[:] = table[leaving]
        lowest, entering = math.inf, -1
        for j in range(n):
            if first[j] > NO_PIVOT:
                ratio = (table[j, n] + level * table[j, n + 1]) / first[j]
                if ratio < lowest:
                    lowest, entering = ratio, j
        if entering < 0 or done >= max_iterations:
            return policy, math.nan, done, False
        second[:] = table[entering]
        _exchange(table, first, second, leaving, entering)
        exchanged[leaving] = not exchanged[leaving]
        exchanged[entering] = not exchanged[entering]
        done += 1

    basic, slack = first[:n], second[:n]
    for i in range(n):
        basic[i] = table[i, n] if exchanged[i] else 0.0
    _slacks(preference, scale, basic, exchanged, start, policy, slack)
    # One Newton step of the support's own equations takes the rounding of the exchanges away.
    size = 0.0
    for i in range(n):
        step = 0.0
        for j in range(n):
            size = max(size, abs(table[i, j]))
            if exchanged[j]:
                step += table[i, j] * slack[j]
        if exchanged[i]:
            basic[i] -= step
    largest = _slacks(preference, scale, basic, exchanged, start, policy, slack)
    error, positive = EPS, math.inf
    for i in range(n):
        if exchanged[i]:
            error = max(error, abs(slack[i]) + EPS)
            positive = min(positive, basic[i])
        else:
            positive = min(positive, slack[i])
    # The comparison is false where a table has overflowed.
    if not (positive - n * size * error > STRICT and largest * scale <= tolerance):
        policy[:] = 0.0
        return policy, math.nan, done, False
    return policy, largest, done, True


@njit(types.Tuple((Table, types.boolean[::1], int64[::1]))(Games, float64, int64), **OPTIONS)
def pivot_games(preference: Any, tolerance: float, max_iterations: int) -> tuple[Any, Any, Any]:
    """Solve every game of ``(B, n, n)``: policies, which of them are proven, and exchanges."""
    games, n = preference.shape[:2]
    policy = np.empty((games, n))
    proven = np.empty(games, dtype=np.bool_)
    iterations = np.empty(games, dtype=np.int64)
    for b in range(games):
        policy[b], _, iterations[b], proven[b] = pivot_game(
            preference[b], math.inf, tolerance, max_iterations
        )
    return policy, proven, iterations
