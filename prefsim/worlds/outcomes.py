"""Lists of what may happen, and the tables that they are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from prefsim.worlds.transitions import ProcessTables

__all__ = ["Outcomes", "ends_of", "tables_of_outcomes"]


class Outcomes(NamedTuple):
    """Outcomes of positive probability, one entry each.

    The reward may have a second axis, one entry for each objective.
    """

    state: np.ndarray
    action: np.ndarray
    probability: np.ndarray
    after: np.ndarray
    reward: np.ndarray
    ended: np.ndarray


def ends_of(outcomes: Outcomes, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the states ``(S,)`` that are terminal, and those where outcomes end and others go on.

    Whether it ends belongs to an outcome and not to the state that it leads to. A state in which
    an episode may start, or that is entered by an outcome that goes on, is no end by itself, unless
    all that happens there ends and pays nothing.
    """
    ending = np.zeros(start.size, dtype=bool)
    ending[outcomes.after[outcomes.ended]] = True
    entered = start > 0
    entered[outcomes.after[~outcomes.ended]] = True
    at_rest = np.ones(start.size, dtype=bool)
    paid = (outcomes.reward.reshape(len(outcomes.reward), -1) != 0).any(axis=1)
    at_rest[outcomes.state[~outcomes.ended | paid]] = False
    left = entered & ~at_rest
    return ending & ~left, ending & left


def tables_of_outcomes(outcomes: Outcomes, start: np.ndarray, actions: int) -> ProcessTables:
    """Return the tables of a list of outcomes.

    Ended ones become moves to terminal states. Several rewards become a table each.
    """
    state, action, probability, after, reward, ended = outcomes
    states = start.size
    terminal, both = ends_of(outcomes, start)
    if both.any():
        after = np.where(ended & both[after], states, after)
        terminal = np.append(terminal, True)
        start = np.append(start, 0.0)
        states += 1
    kept = ~terminal[state]
    stops = np.flatnonzero(terminal)
    stop_rows = (stops[:, None] * actions + np.arange(actions)).ravel()
    row = np.concatenate([(state * actions + action)[kept], stop_rows])
    column = np.concatenate([after[kept], np.repeat(stops, actions)])
    mass = np.concatenate([probability[kept], np.ones(stop_rows.size)])
    shape = (states * actions, states)
    # Here repeated entries are meant to add up: an environment may list one next state several
    # times.
    transitions = sp.csr_array((mass, (row, column)), shape=shape)
    transitions.sort_indices()

    def mean(each: np.ndarray) -> sp.csr_array:
        paid = np.concatenate([(probability * each)[kept], np.zeros(stop_rows.size)])
        table = sp.csr_array((paid, (row, column)), shape=shape)
        table.sort_indices()
        table.data = table.data / transitions.data
        return table

    single = reward.ndim == 1
    rewards = mean(reward) if single else tuple(mean(each) for each in reward.T)
    return ProcessTables(states, transitions, rewards, start, terminal)
