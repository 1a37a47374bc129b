"""Which states can be met at all: where recorded pieces of behaviour may start."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import breadth_first_order

from prefsim.backend import to_numpy
from prefsim.checks import check_kind
from prefsim.solvers.planning.policy_iteration import require_infinite_horizon
from prefsim.worlds.mdp import TabularMDP

__all__ = ["uniform_over_reachable"]


def uniform_over_reachable(mdp: TabularMDP) -> np.ndarray:
    """Return the uniform distribution over the states in which a segment may start.

    These are the states that some policy meets from the start distribution, however seldom, and
    that do not end the episode.

    Parameters
    ----------
    mdp
        A process of infinite horizon, dense or sparse.

    Returns
    -------
    Array ``(*batch, S)``.

    Raises
    ------
    ValueError
        If the horizon is finite, or every episode ends where it starts.

    Examples
    --------
    Nothing leads to the first of three cells, and the last ends the episode.

    >>> moves = np.eye(3)[[[1], [2], [2]]]
    >>> mdp = TabularMDP(
    ...     moves,
    ...     np.zeros((3, 1)),
    ...     discount=0.9,
    ...     terminal=[False, False, True],
    ...     start_probs=[0.0, 1.0, 0.0],
    ... )
    >>> uniform_over_reachable(mdp)
    array([0., 1., 0.])
    """
    check_kind(TabularMDP, mdp=mdp)
    require_infinite_horizon(mdp, "uniform_over_reachable")
    shape = (*mdp.batch_shape, mdp.n_states)
    alive = ~np.broadcast_to(to_numpy(mdp.terminal), shape)
    start = (np.broadcast_to(to_numpy(mdp.start_probs), shape) > 0) & alive
    if not start.any(axis=-1).all():
        raise ValueError("start_probs must give some state that is not terminal a share, got none")
    met = np.zeros(shape, dtype=bool)
    for member in np.ndindex(mdp.batch_shape):
        met[member] = _met(*_moves(mdp, member), start[member], alive[member])
    return np.asarray(met / met.sum(axis=-1, keepdims=True))


def _moves(mdp: TabularMDP, member: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return from where to where some action may lead in one process of a batch."""
    if mdp.is_sparse:
        table = mdp.transitions.tocoo()
        possible = table.data > 0
        return table.row[possible] // mdp.n_actions, table.col[possible]
    table = to_numpy(mdp.transitions)
    table = np.broadcast_to(table, (*mdp.batch_shape, *table.shape[-3:]))[member]
    source, target = np.nonzero((table > 0).any(axis=-2))
    return source, target


def _met(
    source: np.ndarray, target: np.ndarray, start: np.ndarray, alive: np.ndarray
) -> np.ndarray:
    """Return which states ``(S,)`` a search along the moves between those alive finds."""
    states = start.size
    kept = alive[source] & alive[target]
    first = np.flatnonzero(start)
    # From one more state, which leads to all of those that may be the first.
    rows = np.concatenate([source[kept], np.full(first.size, states)])
    columns = np.concatenate([target[kept], first])
    graph = sp.csr_array((np.ones(rows.size), (rows, columns)), shape=(states + 1, states + 1))
    found = np.zeros(states + 1, dtype=bool)
    found[breadth_first_order(graph, states, return_predecessors=False)] = True
    return found[:-1]
