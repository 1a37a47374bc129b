"""The delivery task.

A grid with roads, mud, coins, roadblocks, sheep and one goal, whose reward is linear in six
features.

The task in which people's preferences over trajectory segments were collected (Knox et al. 2022,
arXiv:2206.02231), and random boards of its kind.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim._readable import readable
from prefsim.backend import Seed, random_generator
from prefsim.checks import as_float_array, as_index_array, check_integer, check_shape
from prefsim.worlds.grid import grid_moves
from prefsim.worlds.mdp import TabularMDP

__all__ = [
    "DELIVERY_BOARD",
    "DELIVERY_FEATURES",
    "DELIVERY_WEIGHTS",
    "DeliveryTask",
    "delivery_task",
    "random_delivery_task",
]

DELIVERY_BOARD = """
. . x . . . . . . .
. . . . c . . . . ~
. . s . . . . ~ ~ ~
c . x . h s s ~ ~ .
~ ~ . . . . . . . .
~ . c . . . . . . .
~ h . s x h . . . .
. c . . . . . C ~ ~
. . x . . . . ~ ~ G
. . . . . . x . . c
"""
"""The board of the human study, row by row; see :data:`CELLS` for the letters."""

DELIVERY_FEATURES = ("gas", "goal", "sheep", "coin", "roadblock", "mud")
DELIVERY_WEIGHTS = (-1.0, 50.0, -50.0, 1.0, -1.0, -2.0)
"""Reward of one unit of each feature, as the subjects were told."""

CELLS = {
    ".": ("gas",),
    "c": ("gas", "coin"),
    "x": ("gas", "roadblock"),
    "~": ("mud",),
    "C": ("mud", "coin"),
    "G": ("goal",),
    "s": ("sheep",),
    "h": (),
}
"""Features counted on entering a cell: road, coin, roadblock, mud, coin in mud, goal, sheep, house.

Goal and sheep end the episode; a house cannot be entered.
"""

LETTERS = tuple(CELLS)
_ENTERED = np.array(
    [[name in features for name in DELIVERY_FEATURES] for features in CELLS.values()],
    dtype=np.float64,
)
# A move that stays pays for the ground alone.
_STAYED = _ENTERED * [1, 0, 0, 0, 0, 1]


@readable
class DeliveryTask(NamedTuple):
    """A board as a decision process.

    Attributes
    ----------
    mdp
        Reward ``features @ weights``; cells are counted row by row, actions are up, down, left,
        right.
    features
        Features of each step, ``(S, A, 6)`` in the order of :data:`DELIVERY_FEATURES`; zero in
        cells that end the episode.
    weights
        ``(6,)``.
    cells
        Index into :data:`CELLS` of each cell, ``(rows, columns)``.
    """

    mdp: TabularMDP
    features: np.ndarray
    weights: np.ndarray
    cells: np.ndarray


def delivery_task(
    board: str = DELIVERY_BOARD, *, weights: Any = DELIVERY_WEIGHTS, discount: float = 1.0
) -> DeliveryTask:
    """Return the delivery task on a board of letters.

    Parameters
    ----------
    board
        One line a row, cells separated by blanks, letters of :data:`CELLS`. The board of the human
        study unless given.
    weights
        Reward of each feature, ``(6,)``.
    discount
        In [0, 1]; with 1 some cell must end the episode and be reachable from everywhere.

    Raises
    ------
    ValueError
        If the board is not rectangular or holds an unknown letter, or the decision process is not
        well defined.

    References
    ----------
    Knox et al. 2022, section 5, arXiv:2206.02231.

    Examples
    --------
    >>> task = delivery_task()
    >>> task.cells.shape, int((task.mdp.start_probs > 0).sum())
    ((10, 10), 92)
    """
    rows = [line.split() for line in board.strip().splitlines()]
    if not rows or not rows[0] or len({len(row) for row in rows}) > 1:
        raise ValueError(
            "board must be rectangular with at least one cell, got rows of"
            f" {sorted({len(row) for row in rows})} cells"
        )
    for i, row in enumerate(rows):
        for j, letter in enumerate(row):
            if letter not in CELLS:
                raise ValueError(
                    f"cells of the board must be one of {' '.join(LETTERS)}, got {letter!r} in row"
                    f" {i}, column {j}"
                )
    return _task(
        np.array([[LETTERS.index(letter) for letter in row] for row in rows]), weights, discount
    )


def _task(cells: np.ndarray, weights: Any, discount: float) -> DeliveryTask:
    weights = as_float_array(weights, "weights", ndim=1)
    check_shape(weights, "weights", (len(DELIVERY_FEATURES),))
    as_index_array(cells, "cells", size=len(LETTERS))
    house, ends = (
        cells == LETTERS.index("h"),
        np.isin(cells, [LETTERS.index("G"), LETTERS.index("s")]),
    )
    successor = grid_moves(house)
    stays = successor == np.arange(successor.shape[0])[:, None]
    flat = cells.reshape(-1)
    features = np.where(stays[..., None], _STAYED[flat][:, None, :], _ENTERED[flat[successor]])
    features[(house | ends).reshape(-1)] = 0.0
    mdp = TabularMDP.grid_world(
        _ENTERED[cells] @ weights,
        bump_reward=_STAYED[cells] @ weights,
        terminal=ends,
        blocked=house,
        discount=discount,
    )
    return DeliveryTask(mdp, features, weights, cells)


def random_delivery_task(
    rows: int, columns: int, *, seed: Seed, discount: float = 0.999
) -> DeliveryTask:
    """Draw a board with one goal and random weights.

    Its shares of sheep, roadblocks, coins and mud are random.

    Shares are sheep 0, 10 or 30 %, roadblocks 0, 10 or 50 %, coins 0, 10 or 20 %, mud 0 or 20 %;
    weights are gas −1, goal 1 to 50, sheep −100 to −5, coin 1, roadblock −10 to −2, mud −3 to −1.
    The authors' release draws in the same way, but leaves out mud and also has boards with 80 % of
    roadblocks and goals worth nothing.

    References
    ----------
    Knox et al. 2022, appendix, arXiv:2206.02231, and the authors' release.
    """
    check_integer(low=2, rows=rows, columns=columns)
    rng = random_generator(seed)
    size = rows * columns
    shares = {
        "s": rng.choice([0.0, 0.1, 0.3]),
        "x": rng.choice([0.0, 0.1, 0.5]),
        "c": rng.choice([0.0, 0.1, 0.2]),
        "~": rng.choice([0.0, 0.2]),
    }
    order = rng.permutation(size)
    cells = np.full(size, LETTERS.index("."))
    cells[order[0]] = LETTERS.index("G")
    taken = 1
    for letter, share in shares.items():
        count = min(int(share * size), size - taken)
        cells[order[taken : taken + count]] = LETTERS.index(letter)
        taken += count
    weights = [
        -1.0,
        rng.choice([1.0, 5.0, 10.0, 50.0]),
        rng.choice([-5.0, -10.0, -50.0, -100.0]),
        1.0,
        rng.choice([-2.0, -5.0, -10.0]),
        rng.choice([-1.0, -2.0, -3.0]),
    ]
    return _task(cells.reshape(rows, columns), weights, discount)
