"""Episodes in layers: every one with its probability, or one for each of many policies."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim.backend import to_numpy
from prefsim.checks import (
    as_probabilities,
    check_kind,
    check_shape,
    names_shapes,
)
from prefsim.data.trajectories import MAX_TRAJECTORIES
from prefsim.policies.inverse_transform import inverse_transform
from prefsim.worlds.linear_mdp import LinearMDP

__all__ = ["Episodes", "enumerate_episodes", "losses_to_go", "play_layers"]


class Episodes(NamedTuple):
    """Episodes of H decisions.

    Attributes
    ----------
    states, actions
        ``(m, H)`` integers, the same for a whole batch of processes and policies.
    prob
        Probability of each, ``(*batch, m)``.
    """

    states: np.ndarray
    actions: np.ndarray
    prob: np.ndarray


@names_shapes
def enumerate_episodes(world: LinearMDP, policy: Any) -> Episodes:
    """Return every sequence of states and actions, with its probability under a policy.

    Parameters
    ----------
    world
        Processes in layers, of which all start in the first state or each anywhere.
    policy
        Probabilities ``(*more, *batch, H, S, A)``.

    Raises
    ------
    ValueError
        If the policy does not fit, or there are more than a million sequences.

    Examples
    --------
    >>> world = LinearMDP.random(2, 2, 2, 3, seed=0)
    >>> episodes = enumerate_episodes(world, np.full((2, 2, 2), 0.5))
    >>> episodes.states.shape, float(episodes.prob.sum().round(12))
    ((8, 2), 1.0)
    """
    check_kind(LinearMDP, world=world)
    table = as_probabilities(policy, "policy", min_ndim=3)
    layers, states, actions = world.n_layers, world.n_states, world.n_actions
    check_shape(table, "policy", (layers, states, actions))
    moves, start = to_numpy(world.transitions), to_numpy(world.start_probs)
    first = np.flatnonzero((start > 0).reshape(-1, states).any(axis=0))
    count = first.size * actions * (states * actions) ** (layers - 1)
    if count > MAX_TRAJECTORIES:
        raise ValueError(
            f"at most {MAX_TRAJECTORIES} episodes are enumerated, got {count}; draw some instead"
        )
    ways = (first.size, actions, *(states, actions) * (layers - 1))
    steps = np.stack(np.unravel_index(np.arange(count), ways), axis=-1)
    s, a = np.concatenate([first[steps[:, :1]], steps[:, 2::2]], axis=1), steps[:, 1::2]
    prob = start[..., s[:, 0]] * table[..., 0, s[:, 0], a[:, 0]]
    for h in range(1, layers):
        arrived = moves[..., h - 1, s[:, h - 1], a[:, h - 1], s[:, h]]
        prob = prob * arrived * table[..., h, s[:, h], a[:, h]]
    return Episodes(s, a, prob)


@names_shapes
def play_layers(
    transitions: np.ndarray, policy: np.ndarray, start_probs: np.ndarray, heights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return one episode of every policy: states and actions, ``(..., H)`` integers each.

    For loops over episodes: what comes in is not looked at beyond its shape.

    Parameters
    ----------
    transitions
        ``(*batch, H - 1, S, A, S)``.
    policy
        ``(*more, *batch, H, S, A)`` probabilities.
    start_probs
        ``(S,)`` or ``(*batch, S)``.
    heights
        ``(..., 2 H)``, uniform in [0, 1): of the first state, then in turn of an action and of the
        next state. The same heights compare policies on the same luck.

    Examples
    --------
    >>> stay = np.ones((1, 1, 2, 1))
    >>> policy = np.array([[[0.5, 0.5]], [[0.25, 0.75]]])
    >>> play_layers(stay, policy, np.ones(1), np.array([0.0, 0.4, 0.0, 0.4]))[1]
    array([0, 1])
    """
    layers, states, actions = policy.shape[-3:]
    check_shape(transitions, "transitions", (layers - 1, states, actions, states))
    check_shape(start_probs, "start_probs", (states,))
    check_shape(heights, "heights", (2 * layers,))
    lead = np.broadcast_shapes(
        policy.shape[:-3], transitions.shape[:-4], start_probs.shape[:-1], heights.shape[:-1]
    )
    shape = (*lead, layers, states, actions)
    acting = _sums(np.broadcast_to(policy, shape))
    moving = _sums(np.broadcast_to(transitions, (*lead, layers - 1, states, actions, states)))
    place = np.arange(int(np.prod(lead, dtype=np.int64))).reshape(lead)
    state = _drawn(_sums(np.broadcast_to(start_probs, (*lead, states))), place, heights[..., 0])
    states_met, chosen = [state], []
    for h in range(layers):
        row = (place * layers + h) * states + state
        action = _drawn(acting, row, heights[..., 2 * h + 1])
        chosen.append(action)
        if h < layers - 1:
            row = ((place * (layers - 1) + h) * states + state) * actions + action
            state = _drawn(moving, row, heights[..., 2 * h + 2])
            states_met.append(state)
    return np.stack(states_met, axis=-1), np.stack(chosen, axis=-1)


@names_shapes
def losses_to_go(losses: np.ndarray, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
    r"""Return :math:`L_h = \sum_{h' \ge h} \ell_{h'}(s_{h'}, a_{h'})` of episodes, ``(..., H)``.

    For loops over episodes: what comes in is not looked at beyond its shape.

    Parameters
    ----------
    losses
        ``(..., H, S, A)``.
    states, actions
        ``(..., H)`` integers.

    Examples
    --------
    >>> losses = np.array([[[0.25, 0.5]], [[1.0, 0.0]]])
    >>> losses_to_go(losses, np.array([0, 0]), np.array([1, 0]))
    array([1.5, 1. ])
    """
    layers, size, width = losses.shape[-3:]
    check_shape(states, "states", (layers,))
    check_shape(actions, "actions", (layers,))
    pair = states * width + actions
    lead = np.broadcast_shapes(losses.shape[:-3], pair.shape[:-1])
    table = losses.reshape(*losses.shape[:-2], size * width)
    met = np.take_along_axis(
        np.broadcast_to(table, (*lead, layers, size * width)),
        np.broadcast_to(pair[..., None], (*lead, layers, 1)),
        axis=-1,
    )[..., 0]
    return np.cumsum(met[..., ::-1], axis=-1)[..., ::-1]


def _sums(probs: np.ndarray) -> np.ndarray:
    """Return the cumulative sums of all rows, ``(R, K)``."""
    return np.cumsum(probs, axis=-1).reshape(-1, probs.shape[-1])


def _drawn(cumulative: np.ndarray, row: np.ndarray, height: np.ndarray) -> np.ndarray:
    # Up to the last sum of the row, which rounding puts beside one.
    return inverse_transform(cumulative, row, height * cumulative[row, -1])
