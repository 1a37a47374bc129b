"""Transition tables: one dense layout, one sparse layout, and the few operations that both share.

Dense tables are ``(..., S, A, S)``. Sparse tables are ``scipy.sparse`` CSR matrices ``(S*A, S)``
whose row ``s * A + a`` holds the distribution of the next state: actions run fastest, so that a
table of state-action values is a plain reshape.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from prefsim.backend import Seed, random_generator, to_numpy
from prefsim.checks import (
    PROBABILITY_TOLERANCE,
    as_float_array,
    as_floats,
    check_probabilities,
    tolerance_of,
    widened_probabilities,
)
from prefsim.numerics import array_namespace
from prefsim.typing import ArrayT

__all__ = [
    "ProcessTables",
    "arriving",
    "as_csr",
    "as_transitions",
    "draw_successors",
    "entries",
    "expected_next",
    "make_absorbing",
    "row_pattern",
    "shaped_reward",
    "sparse_form",
    "successor_table",
    "to_dense",
    "to_sparse",
]


class ProcessTables(NamedTuple):
    """What a process is read from.

    CSR ``(S*A, S)`` transitions and rewards of transitions (a tuple of tables, where there are
    several), start ``(S,)`` and terminal ``(S,)``.
    """

    n_states: int
    transitions: sp.csr_array
    reward: sp.csr_array | tuple[sp.csr_array, ...]
    start_probs: np.ndarray
    terminal: np.ndarray

    def in_layout(self, sparse: bool | None, dense_limit: int) -> tuple[Any, Any]:
        """Return transitions and reward, dense up to so many states unless told."""
        dense = self.n_states <= dense_limit if sparse is None else not sparse
        if isinstance(self.reward, tuple):
            if sparse:
                raise ValueError(
                    f"sparse tables have one reward, got sparse=True with {len(self.reward)}"
                )
            return to_dense(self.transitions), np.stack([to_dense(each) for each in self.reward])
        if dense:
            return to_dense(self.transitions), to_dense(self.reward)
        return self.transitions, self.reward


def expected_next(transitions: Any, value: ArrayT) -> ArrayT:
    r"""Return :math:`\sum_{s'} P(s' \mid s, a)\, v(s')`.

    Parameters
    ----------
    transitions
        Dense ``(*batch, S, A, S)`` or CSR ``(S*A, S)``.
    value
        ``(*more, *batch, S)``; axes before the batch are shared by one table.

    Returns
    -------
    Array ``(*more, *batch, S, A)``.

    Examples
    --------
    >>> import numpy as np
    >>> stay_or_swap = np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
    >>> expected_next(stay_or_swap, np.array([3.0, 5.0]))
    array([[3., 5.],
           [5., 3.]])
    """
    if isinstance(value, list | tuple) or isinstance(transitions, list | tuple):
        if isinstance(transitions, list | tuple):
            transitions = as_transitions(transitions)
        if sp.issparse(transitions):
            (value,) = as_floats(value=value)
        else:
            transitions, value = as_floats(transitions=transitions, value=value)
    if sp.issparse(transitions):
        states = transitions.shape[1]
        if value.ndim == 1:
            return (transitions @ value).reshape(states, -1)
        columns = np.reshape(value, (-1, states)).T
        return (transitions @ columns).T.reshape(*value.shape, -1)
    xp = array_namespace(transitions, value)
    states, actions = transitions.shape[-3:-1]
    flat = xp.reshape(transitions, (*transitions.shape[:-3], states * actions, states))
    product = xp.matmul(flat, value[..., None])[..., 0]
    return xp.reshape(product, (*product.shape[:-1], states, actions))


def arriving(transitions: Any, visits: ArrayT) -> ArrayT:
    r"""Return where visits go: :math:`\sum_{s, a} m(s, a)\, P(s' \mid s, a)`.

    Parameters
    ----------
    transitions
        Dense ``(*batch, S, A, S)`` or CSR ``(S*A, S)``.
    visits
        ``(*more, *batch, S, A)``, for CSR ``(S, A)``.

    Returns
    -------
    Array ``(*more, *batch, S)``.

    Examples
    --------
    >>> import numpy as np
    >>> stay_or_swap = np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
    >>> arriving(stay_or_swap, np.array([[0.5, 0.25], [0.25, 0.0]]))
    array([0.5, 0.5])
    """
    if sp.issparse(transitions):
        pushed: ArrayT = transitions.T @ np.reshape(visits, -1)
        return pushed
    xp = array_namespace(transitions, visits)
    states, actions = transitions.shape[-3:-1]
    flat = xp.reshape(transitions, (*transitions.shape[:-3], states * actions, states))
    row = xp.reshape(visits, (*visits.shape[:-2], 1, states * actions))
    return xp.matmul(row, flat)[..., 0, :]


def as_csr(value: Any, name: str) -> sp.csr_array:
    """Return a scipy.sparse matrix as a CSR array with sorted columns, or raise.

    Entries are finite float64; duplicates are an error.
    """
    rows, columns = value.shape
    try:
        if value.format in ("csr", "csc"):
            value.check_format(full_check=True)
        elif value.format == "coo" and value.nnz:
            row, column = value.coords
            if min(row.min(), column.min()) < 0 or row.max() >= rows or column.max() >= columns:
                raise ValueError("an index lies outside the matrix")
    except ValueError as error:
        raise ValueError(
            f"{name} is not a valid sparse matrix of shape {(rows, columns)}: {error}"
        ) from error
    # A copy, so that sorting the columns never touches the caller's matrix.
    table = sp.csr_array(value, dtype=np.float64, copy=True)
    if value.format == "coo" and table.nnz != value.nnz:
        # The conversion adds up repeated entries; the caller is told where they are instead.
        row, column = value.coords
        order = np.lexsort((column, row))
        i = int(np.flatnonzero((np.diff(row[order]) == 0) & (np.diff(column[order]) == 0))[0])
        raise ValueError(
            f"{name} must not hold an entry twice, got row {row[order][i]}, column"
            f" {column[order][i]} more than once"
        )
    table.sort_indices()
    row = np.repeat(np.arange(rows), np.diff(table.indptr))
    repeated = (np.diff(row) == 0) & (np.diff(table.indices) == 0)
    if repeated.any():
        i = int(np.flatnonzero(repeated)[0])
        raise ValueError(
            f"{name} must not hold an entry twice, got row {row[i]}, column {table.indices[i]} more"
            " than once"
        )
    bad = ~np.isfinite(table.data)
    if bad.any():
        i = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"{name} must be finite, got {table.data[i]} in row {row[i]}, column {table.indices[i]}"
        )
    if table.nnz < np.iinfo(np.int32).max:
        # Half the index traffic: products with these tables are bound by memory, not arithmetic.
        table.indices = table.indices.astype(np.int32, copy=False)
        table.indptr = table.indptr.astype(np.int32, copy=False)
    return table


def as_transitions(value: Any) -> np.ndarray | sp.csr_array:
    """Return a validated transition table, or raise.

    Dense ``(..., S, A, S)`` or CSR ``(S*A, S)``.
    """
    if not sp.issparse(value):
        table = as_float_array(value, "transitions", min_ndim=3, graph=True)
        states, actions, successors = table.shape[-3:]
        if states != successors or states == 0 or actions == 0:
            raise ValueError(
                f"transitions must have shape (..., S, A, S) with S, A >= 1, got {table.shape}"
            )
        check_probabilities(table, "transitions", tolerance=tolerance_of(value))
        return widened_probabilities(table, value)
    rows, states = value.shape
    if states == 0 or rows == 0 or rows % states:
        raise ValueError(
            f"sparse transitions must have shape (S*A, S) with S, A >= 1, got {(rows, states)}"
        )
    table = as_csr(value, "transitions")
    actions = rows // states
    if table.nnz and table.data.min() < 0:
        i = int(np.flatnonzero(table.data < 0)[0])
        row = int(np.searchsorted(table.indptr, i, side="right") - 1)
        raise ValueError(
            f"transitions must be >= 0, got {table.data[i]} at index"
            f" {(*divmod(row, actions), int(table.indices[i]))}"
        )
    totals, tolerance = table.sum(axis=1), tolerance_of(value)
    bad = np.flatnonzero(np.abs(totals - 1) > tolerance)
    if bad.size:
        row = int(bad[0])
        raise ValueError(
            f"transitions must sum to 1 within {tolerance:g}, got"
            f" {float(totals[row])!r} for state {row // actions}, action {row % actions}"
        )
    if tolerance > PROBABILITY_TOLERANCE:
        # As of a dense table: what was held in single precision is what it rounds.
        table.data /= np.repeat(totals, np.diff(table.indptr))
    return table


def make_absorbing(transitions: Any, reward: Any, terminal: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return copies of dense tables in which every terminal state keeps to itself without reward.

    Parameters
    ----------
    transitions
        ``(..., S, A, S)``.
    reward
        ``(..., S, A)`` or ``(..., S, A, S)``.
    terminal
        ``(..., S)`` booleans, broadcast over the batch.
    """
    table, reward, ended = to_numpy(transitions), to_numpy(reward), to_numpy(terminal)
    stay = np.eye(table.shape[-1])[:, None, :]
    table = np.where(ended[..., :, None, None], stay, table)
    per_transition = reward.shape[-3:] == table.shape[-3:] and reward.ndim == table.ndim
    return table, np.where(
        ended[..., :, None, None] if per_transition else ended[..., :, None], 0.0, reward
    )


def shaped_reward(
    transitions: Any, reward: Any, potential: Any, *, discount: float, per_transition: bool
) -> Any:
    r"""Return the reward plus :math:`\gamma\,\mathbb E\,\Phi(s') - \Phi(s)`.

    Parameters
    ----------
    transitions
        Dense ``(*batch, S, A, S)`` or CSR ``(S*A, S)``.
    reward
        ``(*batch, S, A)``; with ``per_transition`` in the layout of ``transitions``, whose shaping
        has the potential of the next state in place of its expectation.
    potential
        ``(S,)`` or ``(*batch, S)``.
    """
    if not per_transition:
        return reward + discount * expected_next(transitions, potential) - potential[..., :, None]
    if not sp.issparse(transitions):
        return reward + discount * potential[..., None, None, :] - potential[..., :, None, None]
    difference = transitions.copy()
    own = np.repeat(potential, transitions.shape[0] // transitions.shape[1])
    difference.data = discount * potential[difference.indices] - np.repeat(
        own, np.diff(difference.indptr)
    )
    return reward + difference


def entries(
    table: Any, state: np.ndarray, action: np.ndarray, next_state: np.ndarray
) -> np.ndarray:
    """Return entries of a table of one process, of the common shape of the indices."""
    s, a, after = np.broadcast_arrays(state, action, next_state)
    if not sp.issparse(table):
        return np.asarray(to_numpy(table)[s, a, after])
    rows = s * (table.shape[0] // table.shape[1]) + a
    values = table[rows.ravel(), after.ravel()]
    return np.asarray(values.toarray() if sp.issparse(values) else values).reshape(s.shape)


def draw_successors(
    transitions: Any, state: np.ndarray, action: np.ndarray, *, seed: Seed
) -> np.ndarray:
    """Draw the next state of pairs of one process, integers of their common shape."""
    state, action = np.broadcast_arrays(state, action)
    sparse = sp.issparse(transitions)
    if sparse:
        rows = state * (transitions.shape[0] // transitions.shape[1]) + action
        columns, probability = row_pattern(transitions, rows)
    else:
        probability = to_numpy(transitions)[state, action]
    cumulative = np.cumsum(probability, axis=-1)
    draw = random_generator(seed).random(state.shape)[..., None] * cumulative[..., -1:]
    # The first entry whose cumulative mass exceeds the draw has positive probability, even at a
    # draw of 0.
    index = np.argmax(cumulative > draw, axis=-1)
    if not sparse:
        return index
    return np.take_along_axis(columns, index[..., None], axis=-1)[..., 0].astype(np.int64)


def successor_table(successor: np.ndarray) -> sp.csr_array:
    """Return the CSR table ``(S*A, S)`` of deterministic moves to states ``(S, A)``."""
    rows = successor.size
    return sp.csr_array(
        (np.ones(rows), successor.ravel(), np.arange(rows + 1)), shape=(rows, successor.shape[0])
    )


def to_dense(table: sp.csr_array) -> np.ndarray:
    """Return a CSR table ``(S*A, S)`` as ``(S, A, S)``."""
    return table.toarray().reshape(table.shape[1], -1, table.shape[1])


def to_sparse(table: np.ndarray) -> sp.csr_array:
    """Return a dense table ``(S, A, S)`` as CSR ``(S*A, S)``."""
    return as_csr(sp.csr_array(table.reshape(-1, table.shape[-1])), "transitions")


def sparse_form(transitions: Any, reward: Any, each: Any) -> tuple[sp.csr_array, Any]:
    """Return the sparse tables of a dense process: its transitions, and its reward.

    The reward is that of each transition where it is known (``each``), else ``(S, A)``.
    """
    table = to_numpy(transitions)
    wide = widened_probabilities(table.astype(np.float64), table)
    return to_sparse(wide), to_numpy(reward) if each is None else to_sparse(to_numpy(each))


def row_pattern(table: sp.csr_array, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ``(columns, values)`` of some rows, each ``(n, k)``.

    Padded with value 0 to the longest of them.
    """
    first = table.indptr[rows]
    length = table.indptr[rows + 1] - first
    offset = np.arange(max(int(length.max(initial=0)), 1))
    inside = offset < length[..., None]
    position = np.where(inside, first[..., None] + offset, 0)
    return table.indices[position], np.where(inside, table.data[position], 0.0)
