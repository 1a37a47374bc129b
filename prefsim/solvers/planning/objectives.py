"""Processes with several rewards: what they are, what a policy is worth in each, and its flows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim.backend import like, to_numpy
from prefsim.checks import (
    NUMBERS,
    as_array,
    as_float_array,
    as_probabilities,
    check_constant,
    check_entries,
    check_kind,
    check_shape,
)
from prefsim.solvers.planning.evaluation import occupancy
from prefsim.solvers.planning.policy_iteration import require_infinite_horizon
from prefsim.worlds.mdp import TabularMDP

__all__ = [
    "Flows",
    "as_levels",
    "as_objectives",
    "combined",
    "flows",
    "objective_returns",
    "policy_of_visits",
    "require_objectives",
    "rewarded",
    "visits_of",
]

NEVER = 1e-12
"""A state with fewer expected visits is not met: rounding leaves no exact zero."""


def require_objectives(name: str, mdp: TabularMDP) -> int:
    """Return the number m of rewards of one process, or raise.

    Its rewards are ``(m, S, A)``, and all else is shared.
    """
    check_kind(TabularMDP, mdp=mdp)
    require_infinite_horizon(mdp, name)
    shared = (mdp.transitions.shape[:-3], mdp.terminal.shape[:-1], mdp.start_probs.shape[:-1])
    if mdp.is_sparse or len(mdp.batch_shape) != 1 or any(map(len, shared)):
        raise ValueError(
            f"{name} needs one dense process with several rewards, mdp.reward of shape (m, S, A)"
            f" over transitions (S, A, S), got batch shape {mdp.batch_shape}"
        )
    return int(mdp.batch_shape[0])


def as_objectives(value: Any, name: str, count: int) -> np.ndarray:
    """Return numbers for each objective, ``(*batch, m)``, or raise."""
    array = as_float_array(value, name, min_ndim=1)
    check_shape(array, name, (count,))
    return array


def as_levels(value: Any, name: str, count: int) -> np.ndarray:
    """Return least returns ``(*batch, m)``, or raise; ``-inf`` asks for nothing, as None does."""
    if value is None:
        return np.full(count, -np.inf)
    check_constant(value, name)
    array = to_numpy(as_array(value, name, *NUMBERS)).astype(np.float64)
    check_shape(array, name, (count,))
    check_entries(array, name, "be finite, or -inf where nothing is asked", lambda x: x < np.inf)
    return array


def combined(mdp: TabularMDP, weights: np.ndarray) -> TabularMDP:
    """Return the process with weighted sums of its rewards, ``(*batch, S, A)``."""
    return rewarded(mdp, np.tensordot(weights, to_numpy(mdp.reward).astype(np.float64), axes=1))


def rewarded(mdp: TabularMDP, reward: np.ndarray) -> TabularMDP:
    """Return the process with expected rewards ``(*batch, S, A)``.

    The constructor would read a batch of S tables for S actions as rewards of transitions.
    """
    return mdp.replace_checked(reward=like(reward, mdp.reward), transition_reward=None)


def objective_returns(mdp: TabularMDP, policy: Any) -> np.ndarray:
    r"""Return what policies are worth in each objective, :math:`\sum_{s,a}\mu(s,a)\,r_i(s,a)`.

    Parameters
    ----------
    mdp
        One dense process of infinite horizon with rewards ``(m, S, A)``.
    policy
        Probabilities ``(*batch, S, A)``: any number of policies, each of all objectives.

    Returns
    -------
    Array ``(*batch, m)``, from the start distribution.

    Raises
    ------
    ValueError
        If the process has not several rewards, or the policy does not fit.

    Examples
    --------
    >>> rewards = [[[1.0, 0.0]], [[0.0, 2.0]]]
    >>> mdp = TabularMDP([[[1.0], [1.0]]], rewards, discount=0.5)
    >>> objective_returns(mdp, [[[1.0, 0.0]], [[0.5, 0.5]]])
    array([[2., 0.],
           [1., 2.]])
    """
    require_objectives("objective_returns", mdp)
    probs = as_probabilities(getattr(policy, "probs", policy), "policy", min_ndim=2)
    check_shape(probs, "policy", (mdp.n_states, mdp.n_actions))
    visits = visits_of(mdp, probs)
    return np.einsum("...sa,msa->...m", visits, to_numpy(mdp.reward).astype(np.float64))


def visits_of(mdp: TabularMDP, policy: np.ndarray) -> np.ndarray:
    """Return the expected discounted visits ``(*batch, S, A)`` of policies of that shape."""
    return to_numpy(occupancy(rewarded(mdp, np.zeros(policy.shape)), policy)).astype(np.float64)


class Flows(NamedTuple):
    r"""What visits :math:`\mu \ge 0` of live states must balance: ``matrix @ visits == start``.

    Attributes
    ----------
    matrix
        ``(L, L * A)`` for the L live states, those not terminal that some policy meets.
    start
        ``(L,)``.
    rewards
        ``(m, L * A)``.
    uniform
        Visits of the uniform policy, ``(L * A,)``, all of them positive.
    live
        Booleans ``(S,)``.
    """

    matrix: np.ndarray
    start: np.ndarray
    rewards: np.ndarray
    uniform: np.ndarray
    live: np.ndarray

    def spread(self, visits: np.ndarray) -> np.ndarray:
        """Return visits ``(*batch, L * A)`` as a table over all states, ``(*batch, S, A)``."""
        actions = visits.shape[-1] // self.start.size
        table = np.zeros((*visits.shape[:-1], self.live.size, actions))
        table[..., self.live, :] = visits.reshape(*visits.shape[:-1], -1, actions)
        return table


def flows(mdp: TabularMDP) -> Flows:
    """Return the linear system of the visits of a process with rewards ``(m, S, A)``."""
    states, actions = mdp.n_states, mdp.n_actions
    # The uniform policy meets whatever any policy does.
    even = np.full((states, actions), 1.0 / actions)
    visits = visits_of(mdp, even)
    live = ~to_numpy(mdp.terminal) & (visits.sum(axis=-1) > NEVER)
    moves = to_numpy(mdp.transitions).astype(np.float64)[live][:, :, live]
    count = int(live.sum())
    arrivals = moves.reshape(count * actions, count).T
    return Flows(
        matrix=np.kron(np.eye(count), np.ones(actions)) - mdp.discount * arrivals,
        start=to_numpy(mdp.start_probs).astype(np.float64)[live],
        rewards=to_numpy(mdp.reward).astype(np.float64)[:, live].reshape(-1, count * actions),
        uniform=visits[live].reshape(-1),
        live=live,
    )


def policy_of_visits(visits: np.ndarray, elsewhere: np.ndarray) -> np.ndarray:
    """Return the policy ``(*batch, S, A)`` whose visits these are, ``elsewhere`` where none are."""
    positive = np.maximum(visits, 0.0)
    total = positive.sum(axis=-1, keepdims=True)
    met = total > NEVER
    return np.where(met, positive / np.where(met, total, 1.0), elsewhere)
