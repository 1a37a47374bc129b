r"""Exact Nash equilibria of small preference games by pivoting.

With the skew matrix ``A`` of the margins, a response k to start from, its partner in the sum of the
probabilities and ``v = (Ax)_k + w_k``, the conditions of an equilibrium, ``w = v·1 − Ax >= 0`` and
``Σx = 1``, are those of a linear complementarity problem with a matrix M that is skew again:

.. math:: w = q + Mz,\quad w, z \ge 0,\quad w^\top z = 0

with z_i = x_i, q_i = A_{ki} and M_{ij} = A_{kj} + A_{ik} − A_{ij} of two others, and of k itself
the slack ``z_k = w_k`` beside ``x_k = 1 − Σz``. Dantzig's self-dual simplex adds a positive shift
μd to q, so that z = 0 solves it for large μ, and follows the solution as μ falls to zero: the
variable that reaches zero changes places with its partner, and so does the one that the ratio test
names. Each such exchange is a skew-symmetric update of rank two.

A basic solution without a zero is the only equilibrium that there is, and only such a one is
*proven* here. Ties and duplicates end with zeros, and are left to
:mod:`prefsim.solvers.games.path_following`, which finds the inside of a set of equilibria.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from prefsim.solvers.games.certificates import payoff

# The shift d: what a response loses, on average, to the one that wins the most, and a head start.
# No two shifts are alike, so that ties of decided games are broken: multiples of the golden ratio
# modulo one keep apart.
HEAD_START = 0.02
SPREAD = 0.2
GOLDEN_RATIO = 0.6180339887498949

# In units of the largest margin, which is between a quarter and a half.
END_OF_SHIFT = 1e-13  # a shift that is zero but for rounding
NO_PIVOT = 1e-9  # entries that may be zero but for rounding
STRICT = 1e-9  # probabilities and slacks from here on are positive, whatever the rounding

__all__ = ["Pivoted", "largest_number_of_pivots", "pivot"]


class Pivoted(NamedTuple):
    """Policies ``(B, n)``, which of them are proven ``(B,)``, and exchanges made ``(B,)``.

    Policies that are not proven are zero.
    """

    policy: np.ndarray
    proven: np.ndarray
    iterations: np.ndarray


def largest_number_of_pivots(n: int) -> int:
    """Return after how many exchanges a game of n responses is given up.

    Random games take about n; what takes more goes in circles.
    """
    return 20 + 6 * n


class _Dictionary(NamedTuple):
    """Tables ``(B, n, n + 2)``: M, beside it the columns q and d, with what is known of them."""

    table: np.ndarray
    exchanged: np.ndarray  # (B, n), which pairs have changed places
    start: np.ndarray  # (B,), the response k


@np.errstate(over="ignore", invalid="ignore")
def pivot(skew: np.ndarray, *, tolerance: float, max_iterations: int) -> Pivoted:
    """Solve every game of the margins ``skew (B, n, n)``, between a quarter and a half at largest.

    Proven is what is the only equilibrium, and exploitable by at most ``tolerance``.

    References
    ----------
    Dantzig 1963, "Linear programming and extensions", sections 11.3 and 13.4 (the self-dual
    simplex, symmetric games); Tucker 1960, "A combinatorial equivalence of matrices".
    """
    games, n = skew.shape[:2]
    state = _first(skew)
    places = np.arange(games)
    ended = np.zeros(games, dtype=bool)
    iterations = np.zeros(games, dtype=np.int64)
    last = _Dictionary(*(part.copy() for part in state))
    for made in range(max_iterations + 1):
        table = state.table
        rows = np.arange(len(places))
        constant, shift = table[:, :, n], table[:, :, n + 1]
        falls = np.where(shift > 0, -constant, -1.0) / np.where(shift > 0, shift, 1.0)
        leaving = falls.argmax(axis=-1)
        level = np.maximum(falls[rows, leaving], 0.0)
        done = level <= END_OF_SHIFT
        row = table[rows, leaving]
        open_ = row[:, :n] > NO_PIVOT
        ratios = np.where(open_, constant + level[:, None] * shift, np.inf)
        ratios /= np.where(open_, row[:, :n], 1.0)
        entering = ratios.argmin(axis=-1)
        going = ~done & np.isfinite(ratios[rows, entering])
        if not going.all():
            for kept, part in zip(last, state, strict=True):
                kept[places[done]] = part[done]
            ended[places[done]] = True
            places = places[going]
            state = _Dictionary(*(part[going] for part in state))
            leaving, entering = leaving[going], entering[going]
        if len(places) == 0 or made == max_iterations:
            break
        _exchange(state, leaving, entering)
        iterations[places] += 1
    policy, sound = _read(skew, last)
    proven = ended & sound & (payoff(skew, policy).max(axis=-1) <= tolerance)
    return Pivoted(np.where(proven[:, None], policy, 0.0), proven, iterations)


def _first(skew: np.ndarray) -> _Dictionary:
    """Return the dictionaries in which only the response that wins the most is played."""
    games, n = skew.shape[:2]
    rows = np.arange(games)
    won = skew.sum(axis=-1)
    start = won.argmax(axis=-1)
    best = skew[rows, start]
    table = np.empty((games, n, n + 2))
    table[:, :, :n] = best[:, None, :] - best[:, :, None] - skew
    table[rows, :, start] = 1.0
    table[rows, start, :n] = -1.0
    diagonal = np.arange(n)
    table[:, diagonal, diagonal] = 0.0
    table[:, :, n] = best
    table[rows, start, n] = 1.0
    apart = 1.0 + SPREAD * (np.arange(1, n + 1) * GOLDEN_RATIO % 1.0 - 0.5)
    table[:, :, n + 1] = ((won[rows, start][:, None] - won) / n + HEAD_START) * apart
    return _Dictionary(table, np.zeros((games, n), dtype=bool), start)


def _exchange(state: _Dictionary, r: np.ndarray, s: np.ndarray) -> None:
    """Let the pairs r and s of every game change places."""
    table, exchanged, _ = state
    n = exchanged.shape[-1]
    rows = np.arange(len(table))
    first, second = table[rows, r], table[rows, s]
    inverse = (1.0 / first[rows, s])[:, None]
    both = np.stack((second[:, :n] * inverse, first[:, :n] * -inverse), axis=-1)
    table += both @ np.stack((first, second), axis=-2)
    table[rows, r] = second * inverse
    table[rows, s] = first * -inverse
    table[rows, :, r] = -both[..., 0]
    table[rows, :, s] = -both[..., 1]
    table[rows, r, r] = table[rows, s, s] = 0.0
    table[rows, r, s], table[rows, s, r] = -inverse[:, 0], inverse[:, 0]
    exchanged[rows, r] ^= True
    exchanged[rows, s] ^= True


def _read(skew: np.ndarray, state: _Dictionary) -> tuple[np.ndarray, np.ndarray]:
    """Return the policies of dictionaries, mended by one Newton step, and which are proven."""
    table, exchanged, start = state
    games, n = exchanged.shape
    rows = np.arange(games)
    inverse = table[:, :, :n]
    is_start = np.arange(n) == start[:, None]
    basic = np.where(exchanged, table[:, :, n], 0.0)

    def residual(basic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the policy of basic values, and their slacks by the game itself."""
        policy = np.where(is_start, 0.0, basic)
        rest = 1.0 - policy.sum(axis=-1)
        played = ~exchanged[rows, start]
        policy[rows, start] = np.where(played, rest, 0.0)
        payoffs = payoff(skew, policy)
        value = payoffs[rows, start] + basic[rows, start]
        return policy, np.where(is_start, rest[:, None], value[:, None] - payoffs)

    _, slack = residual(basic)
    basic = basic - np.where(exchanged, payoff(inverse, np.where(exchanged, slack, 0.0)), 0.0)
    policy, slack = residual(basic)
    error = np.where(exchanged, np.abs(slack), 0.0).max(axis=-1) + np.finfo(np.float64).eps
    error *= n * np.abs(inverse).max(axis=(-2, -1))
    positive = np.where(exchanged, basic, slack).min(axis=-1)
    # The comparison is false where a table has overflowed.
    return policy, positive - error > STRICT
