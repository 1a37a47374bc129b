"""Deterministic grid worlds: four moves, walls, and a reward for the cell that is entered."""

from __future__ import annotations

from typing import Any

import numpy as np

from prefsim.checks import as_float_array, as_mask, check_shape

__all__ = ["GRID_MOVES", "grid_moves", "grid_tables"]

GRID_MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""Row and column change of the four actions: up, down, left, right."""


def grid_moves(blocked: Any) -> np.ndarray:
    """Return the cell that each move leads to.

    Parameters
    ----------
    blocked
        ``(rows, columns)`` booleans: cells that cannot be entered.

    Returns
    -------
    Integers ``(rows * columns, 4)``: cells are counted row by row, actions are :data:`GRID_MOVES`;
    a move off the board or into a blocked cell stays.

    Raises
    ------
    ValueError
        If ``blocked`` is not a table of booleans.

    Examples
    --------
    >>> import numpy as np
    >>> grid_moves(np.zeros((1, 3), dtype=bool))
    array([[0, 0, 0, 1],
           [1, 1, 0, 2],
           [2, 2, 1, 2]])
    """
    walls = np.asarray(blocked)
    if walls.ndim != 2 or walls.size == 0:
        raise ValueError(
            f"blocked must have shape (rows, columns) with at least one cell, got {walls.shape}"
        )
    rows, columns = walls.shape
    walls = as_mask(walls, "blocked", length=columns)
    cell = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), axis=-1)
    target = cell[:, :, None, :] + np.array(GRID_MOVES)
    row, column = target[..., 0], target[..., 1]
    off = (row < 0) | (row >= rows) | (column < 0) | (column >= columns)
    row, column = np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)
    stay = off | walls[row, column]
    here = np.arange(rows * columns).reshape(rows, columns, 1)
    return np.where(stay, here, row * columns + column).reshape(-1, 4)


def grid_tables(
    reward: Any, *, terminal: Any, blocked: Any, bump_reward: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ``(successor (S, 4), reward (S, 4), ended (S,))`` of a grid.

    See :meth:`TabularMDP.grid_world` for the arguments.
    """
    entered = as_float_array(reward, "reward", ndim=2)
    shape = entered.shape
    tables = {"terminal": terminal, "blocked": blocked}
    masks = {
        name: np.zeros(shape, dtype=bool)
        if table is None
        else as_mask(table, name, length=shape[1])
        for name, table in tables.items()
    }
    for name, table in masks.items():
        check_shape(table, name, shape)
    bump = entered if bump_reward is None else as_float_array(bump_reward, "bump_reward", ndim=2)
    check_shape(bump, "bump_reward", shape)
    successor = grid_moves(masks["blocked"])
    stays = successor == np.arange(successor.shape[0])[:, None]
    paid = np.where(stays, bump.reshape(-1, 1), entered.reshape(-1)[successor])
    # Nobody ever stands on a blocked cell: it counts as ended, so that it has value 0 and no start
    # mass.
    ended = (masks["terminal"] | masks["blocked"]).reshape(-1)
    successor = np.where(ended[:, None], np.arange(ended.size)[:, None], successor)
    return successor, np.where(ended[:, None], 0.0, paid), ended
