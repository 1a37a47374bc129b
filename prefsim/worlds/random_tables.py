"""Random tables of decision processes, dense or sparse."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from prefsim.backend import Seed, random_generator
from prefsim.checks import check_flag, check_integer, check_interval
from prefsim.worlds.transitions import make_absorbing

__all__ = ["random_sparse_tables", "random_tables"]


def random_tables(
    n_states: int,
    n_actions: int,
    *,
    seed: Seed,
    batch_shape: tuple[int, ...] = (),
    n_terminal: int = 0,
    deterministic: bool = False,
    transition_rewards: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw dense transitions, rewards and terminal states.

    Rows are uniform on the simplex (or one uniform successor), rewards standard normal.

    Returns
    -------
    Transitions ``(*batch, S, A, S)``; rewards ``(*batch, S, A)``, or of each transition; booleans
    ``(S,)``, true for the last ``n_terminal`` states.
    """
    check_integer(low=1, n_states=n_states, n_actions=n_actions)
    check_integer(low=0, n_terminal=n_terminal)
    check_flag(deterministic=deterministic, transition_rewards=transition_rewards)
    check_interval(n_terminal=n_terminal, low=0, high=n_states)
    rng = random_generator(seed)
    if deterministic:
        table = np.eye(n_states)[rng.integers(n_states, size=(*batch_shape, n_states, n_actions))]
    else:
        table = rng.standard_exponential((*batch_shape, n_states, n_actions, n_states))
        table /= table.sum(axis=-1, keepdims=True)
    reward = rng.standard_normal(table.shape if transition_rewards else table.shape[:-1])
    ended = np.arange(n_states) >= n_states - n_terminal
    table, reward = make_absorbing(table, reward, ended)
    return table, reward, ended


def random_sparse_tables(
    n_states: int, n_actions: int, n_successors: int, *, seed: Seed
) -> tuple[sp.csr_array, np.ndarray]:
    """Draw sparse transitions ``(S*A, S)`` and rewards ``(S, A)``.

    Every pair has ``n_successors`` distinct successors, one in each equal part of the states. Their
    probabilities are uniform on the simplex, rewards are uniform on [0, 1].
    """
    check_integer(low=1, n_states=n_states, n_actions=n_actions, n_successors=n_successors)
    check_interval(n_successors=n_successors, low=1, high=n_states, closed="both")
    rng = random_generator(seed)
    rows = n_states * n_actions
    edges = np.arange(n_successors + 1) * n_states // n_successors
    columns = rng.integers(edges[:-1], edges[1:], size=(rows, n_successors))
    mass = rng.standard_exponential((rows, n_successors))
    mass /= mass.sum(axis=1, keepdims=True)
    pointer = np.arange(0, rows * n_successors + 1, n_successors)
    table = sp.csr_array((mass.ravel(), columns.ravel(), pointer), shape=(rows, n_states))
    return table, rng.random((n_states, n_actions))
