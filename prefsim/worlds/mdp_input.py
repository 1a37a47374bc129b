"""What a tabular decision process may be made of.

Rewards in either form, terminal states that are terminal, an end within reach.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import breadth_first_order

from prefsim.backend import asarray, on_backend, to_numpy
from prefsim.checks import (
    PROBABILITY_TOLERANCE,
    as_float_array,
    as_mask,
    as_probabilities,
    check_constant,
    check_discount,
    check_integer,
    check_interval,
    check_shape,
    widened_probabilities,
)
from prefsim.numerics import array_namespace
from prefsim.typing import Array
from prefsim.worlds.transitions import as_csr, as_transitions, shaped_reward

__all__ = [
    "ProcessFields",
    "check_batch_axes",
    "check_discounting",
    "check_sums",
    "check_ended",
    "check_reachable",
    "check_unpaid",
    "mask_on_backend",
    "read_process",
    "read_rewards",
    "read_shaped_reward",
]


def mask_on_backend(mask: np.ndarray) -> Array:
    """Return a boolean array of the current backend."""
    return asarray(mask) > 0.5


class ProcessFields(NamedTuple):
    """The checked fields of a :class:`~prefsim.worlds.TabularMDP`, in its arrays."""

    transitions: Any
    reward: Array
    discount: float
    horizon: int | None
    start_probs: Array
    terminal: Array
    transition_reward: Array | None


def read_process(
    transitions: Any,
    reward: Any,
    *,
    discount: float,
    horizon: int | None,
    start_probs: Any,
    terminal: Any,
) -> ProcessFields:
    """Return the fields of a process, or raise; see :class:`~prefsim.worlds.TabularMDP`."""
    table = as_transitions(transitions)
    sparse = sp.issparse(table)
    states = table.shape[-1]
    actions = table.shape[0] // states if sparse else table.shape[-2]
    ended = np.zeros(states, dtype=bool)
    if terminal is not None:
        ended = as_mask(terminal, "terminal", length=states)
    moves: Any = table
    if not sparse:
        moves = on_backend(transitions, table, "transitions")
        moves = widened_probabilities(moves, transitions)
    expected, per_transition = read_rewards(reward, moves, actions)
    given, start = read_start(start_probs, ended)
    placed: Any = start
    if not sparse:
        placed = widened_probabilities(on_backend(given, start, "start_probs"), given)
    batch_axes = {
        "transitions": () if sparse else table.shape[:-3],
        "reward": tuple(expected.shape[:-2]),
        "terminal": ended.shape[:-1],
        "start_probs": start.shape[:-1],
    }
    check_batch_axes(batch_axes, sparse=sparse)
    check_ended(table, to_numpy(expected), ended)
    check_discounting(discount, horizon, table, ended)
    check_sums(expected, discount, horizon)
    return ProcessFields(
        transitions=moves,
        reward=expected,
        discount=float(discount),
        horizon=None if horizon is None else int(horizon),
        start_probs=placed,
        terminal=ended if sparse else mask_on_backend(ended),
        transition_reward=per_transition,
    )


def read_shaped_reward(process: Any, potential: Any) -> Any:
    """Return the reward of a process shaped by a potential ``(..., S)``, in the form it has.

    See :meth:`~prefsim.worlds.TabularMDP.shaped`.
    """
    if process.horizon is not None:
        raise ValueError(
            "shaping with a potential of the state alone needs an infinite horizon, got horizon"
            f" {process.horizon}"
        )
    ended = to_numpy(process.terminal)
    table = as_float_array(potential, "potential", min_ndim=1, graph=True)
    check_shape(table, "potential", (ended.shape[-1],))
    if np.any(np.where(ended, table, 0.0)):
        raise ValueError("potential must be 0 in every terminal state")
    if process.is_sparse:
        check_constant(potential, "potential")
    per_transition = process.transition_reward is not None
    return shaped_reward(
        process.transitions,
        process.transition_reward if per_transition else process.reward,
        table if process.is_sparse else on_backend(potential, table, "potential"),
        discount=process.discount,
        per_transition=per_transition,
    )


def read_rewards(reward: Any, transitions: Any, actions: int) -> tuple[Array, Array | None]:
    """Return the expected reward ``(..., S, A)``, and that of each transition.

    The second is None unless it was given.
    """
    states = transitions.shape[-1]
    if sp.issparse(transitions):
        if not sp.issparse(reward):
            check_constant(reward, "reward")
            table = as_float_array(reward, "reward")
            check_shape(table, "reward", (states, actions))
            return table, None
        if reward.shape != transitions.shape:
            raise ValueError(
                f"sparse reward must have the shape {transitions.shape} of the transitions, got"
                f" {reward.shape}"
            )
        each = as_csr(reward, "reward")
        return transitions.multiply(each).sum(axis=1).reshape(states, actions), each
    if sp.issparse(reward):
        raise ValueError("reward is sparse but the transitions are dense; give both in one layout")
    table = as_float_array(reward, "reward", min_ndim=2, graph=True)
    cube = (states, actions, states)
    if table.shape[-3:] == cube and table.shape != tuple(transitions.shape[:-1]):
        each = on_backend(reward, table, "reward")
        return array_namespace(each).sum(transitions * each, axis=-1), each
    if table.shape[-2:] != cube[:2]:
        raise ValueError(
            f"reward must have trailing shape (S, A) = {cube[:2]} or (S, A, S) = {cube}, got"
            f" {table.shape}"
        )
    return on_backend(reward, table, "reward"), None


def read_start(start_probs: Any, ended: np.ndarray) -> tuple[Any, np.ndarray]:
    """Return the start distribution ``(..., S)`` as it was given, and checked.

    It is uniform over the states that are not terminal unless given.
    """
    if start_probs is None:
        alive = np.where(ended.all(axis=-1, keepdims=True), True, ~ended)
        start_probs = alive / alive.sum(axis=-1, keepdims=True)
    start = as_probabilities(start_probs, "start_probs", graph=True)
    check_shape(start, "start_probs", (ended.shape[-1],))
    return start_probs, start


def check_batch_axes(shapes: dict[str, tuple[int, ...]], *, sparse: bool) -> None:
    """Raise unless the batch axes of all tables agree, of which sparse ones have none."""
    if sparse and any(shapes.values()):
        raise ValueError(f"sparse transitions take no batch axes, got {shapes}")
    try:
        np.broadcast_shapes(*shapes.values())
    except ValueError as error:
        raise ValueError(f"batch axes must agree, got {shapes}") from error


def check_sums(reward: Array, discount: float, horizon: int | None) -> None:
    """Raise where the sum of so many rewards ``(..., S, A)`` may be more than their type holds.

    Of a process that only ends by itself the number of steps is not known: one counts.
    """
    steps = 1.0
    if horizon is not None:
        steps = float(horizon)
    elif discount < 1.0:
        steps = 1.0 / (1.0 - discount)
    largest = float(np.abs(to_numpy(reward)).max(initial=0.0))
    # Planners take differences of two values, and their mean.
    most = 0.25 * float(np.finfo(to_numpy(reward).dtype).max)
    if not largest <= most / steps:
        raise ValueError(
            f"rewards of magnitude {largest:.3g} sum to more than {to_numpy(reward).dtype} holds"
            f" over {steps:.3g} steps; divide them all by one number, which changes no policy"
        )


def check_discounting(
    discount: float, horizon: int | None, transitions: Any, ended: np.ndarray
) -> None:
    """Raise unless the discount lies in [0, 1), or is 1 and every process comes to an end."""
    if horizon is not None:
        check_integer(low=1, horizon=horizon)
    elif not ended.any(axis=-1).all():
        check_discount(discount)
    check_interval(discount=discount, low=0.0, high=1.0, closed="both")
    if horizon is None and discount == 1:
        check_reachable(transitions, ended)


def check_unpaid(reward: np.ndarray, ended: np.ndarray) -> None:
    """Raise unless terminal states have reward 0."""
    paid = ended[..., :, None] & (reward != 0)
    if paid.any():
        index = tuple(int(i) for i in np.argwhere(paid)[0])
        amount = np.broadcast_to(reward, paid.shape)[index]
        raise ValueError(
            f"terminal states must have reward 0, got {amount} for state {index[-2]}, action"
            f" {index[-1]}"
        )


def check_ended(transitions: Any, reward: np.ndarray, ended: np.ndarray) -> None:
    """Raise unless terminal states keep to themselves and have reward 0."""
    if not ended.any():
        return
    check_unpaid(reward, ended)
    if sp.issparse(transitions):
        actions = reward.shape[-1]
        row = np.repeat(np.arange(transitions.shape[0]), np.diff(transitions.indptr))
        own = transitions.indices == row // actions
        stay = np.bincount(
            row[own], weights=transitions.data[own], minlength=transitions.shape[0]
        ).reshape(-1, actions)
    else:
        stay = np.swapaxes(np.diagonal(transitions, axis1=-3, axis2=-1), -1, -2)
    leaves = ended[..., :, None] & (np.abs(stay - 1) > PROBABILITY_TOLERANCE)
    if leaves.any():
        index = tuple(int(i) for i in np.argwhere(leaves)[0])
        raise ValueError(
            "terminal states must be absorbing, P(s, a, s) = 1, got"
            f" {np.broadcast_to(stay, leaves.shape)[index]} for state {index[-2]}, action"
            f" {index[-1]}"
        )


def check_reachable(transitions: Any, ended: np.ndarray, *, by: str = "some policy") -> None:
    """Raise unless every state reaches a terminal one with some probability.

    Without that an undiscounted value need not be finite.
    """
    states = ended.shape[-1]
    if sp.issparse(transitions):
        entries = transitions.tocoo()
        row, column = (index[entries.data > 0] for index in entries.coords)
        source, target = row // (transitions.shape[0] // states), column
        masks = ended[None]
    else:
        batch = np.broadcast_shapes(transitions.shape[:-3], ended.shape[:-1])
        moves = np.broadcast_to((transitions > 0).any(axis=-2), (*batch, states, states)).reshape(
            -1, states, states
        )
        masks = np.broadcast_to(ended, (*batch, states)).reshape(-1, states)
        member, source, target = np.nonzero(moves)
        source, target = source + member * states, target + member * states
    # One more node behind all terminal states turns the question, for the whole batch, into a
    # single search along reversed moves.
    nodes = masks.size
    ends = np.flatnonzero(masks)
    source, target = (
        np.concatenate([source, ends]),
        np.concatenate([target, np.full(ends.size, nodes)]),
    )
    backward = sp.csr_array((np.ones(source.size), (target, source)), shape=(nodes + 1, nodes + 1))
    reached = breadth_first_order(backward, nodes, return_predecessors=False)
    if reached.size < nodes + 1:
        lost = int(np.setdiff1d(np.arange(nodes), reached)[0]) % states
        raise ValueError(
            "discount 1 without a horizon needs a terminal state within reach of every state; by"
            f" {by}, state {lost} reaches none"
        )
