"""Which states can be met at all: where recorded pieces of behaviour may start."""

from __future__ import annotations

import numpy as np

from prefsim.backend import to_numpy
from prefsim.checks import check_kind
from prefsim.solvers.planning.evaluation import occupancy
from prefsim.worlds.mdp import TabularMDP

__all__ = ["uniform_over_reachable"]

# Of expected discounted visits: an unreachable state has none, but for rounding.
NEVER = 1e-9


def uniform_over_reachable(mdp: TabularMDP) -> np.ndarray:
    """Return the uniform distribution over the states in which a segment may start.

    These are the states that some policy meets from the start distribution and that do not end the
    episode.

    Parameters
    ----------
    mdp
        Infinite horizon, discount in (0, 1).

    Returns
    -------
    Array ``(*batch, S)``.

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
    # The uniform policy meets whatever any policy does.
    uniform = np.full((mdp.n_states, mdp.n_actions), 1.0 / mdp.n_actions)
    met = to_numpy(occupancy(mdp, uniform)).sum(axis=-1) > NEVER
    return np.asarray(met / met.sum(axis=-1, keepdims=True))
