"""Pieces of trajectories.

Enumerated exactly in a decision process, drawn from it, or recorded from a gymnasium environment.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim.backend import Seed, random_generator, to_numpy
from prefsim.checks import as_index_array, as_probabilities, check_integer, check_kind, check_shape
from prefsim.policies.base import InMemoryPolicy
from prefsim.worlds.mdp import TabularMDP
from prefsim.worlds.toy_text import state_after_end

__all__ = [
    "MAX_TRAJECTORIES",
    "Trajectories",
    "at_steps",
    "enumerate_trajectories",
    "record_trajectories",
    "sample_trajectories",
]

MAX_TRAJECTORIES = 1_000_000
"""Most trajectories that are enumerated; beyond, a sample is the better tool."""


class Trajectories(NamedTuple):
    """Trajectories of one length, padded where they end early.

    Attributes
    ----------
    states
        ``(m, T + 1)``. After the end the last state is repeated.
    actions
        ``(m, T)``. After the end 0.
    mask
        ``(m, T)`` booleans: True for a step that was taken.
    prob
        Probability of each under the design, ``(m,)``: 1/m for draws.
    """

    states: np.ndarray
    actions: np.ndarray
    mask: np.ndarray
    prob: np.ndarray


def _design(
    mdp: TabularMDP, length: int, policy: InMemoryPolicy | None, start: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return checked action and start probabilities, and the terminal states.

    ``(S, A)`` and ``(S,)``.
    """
    check_kind(TabularMDP, mdp=mdp)
    check_integer(low=1, length=length)
    if mdp.batch_shape:
        raise ValueError(
            f"trajectories need one decision process, got batch shape {mdp.batch_shape}"
        )
    terminal = to_numpy(mdp.terminal)
    if start is None:
        if terminal.all():
            raise ValueError("trajectories need a state that is not terminal, got none")
        start = ~terminal / (~terminal).sum()
    start = _start_probs(start, mdp.n_states)
    return _action_probs(policy, mdp.n_states, mdp.n_actions), start, terminal


def _start_probs(start: Any, states: int) -> np.ndarray:
    table = as_probabilities(start, "start", ndim=1)
    check_shape(table, "start", (states,))
    return table


def _action_probs(policy: InMemoryPolicy | None, states: int, actions: int) -> np.ndarray:
    if policy is None:
        return np.full((states, actions), 1.0 / actions)
    check_kind(InMemoryPolicy, policy=policy)
    table = to_numpy(policy.probs).astype(np.float64)
    if table.shape != (states, actions):
        raise ValueError(
            f"policy must have {states} states and {actions} actions, got probabilities of shape"
            f" {table.shape}"
        )
    return table


def enumerate_trajectories(
    mdp: TabularMDP, length: int, *, policy: InMemoryPolicy | None = None, start: Any = None
) -> Trajectories:
    """Return every trajectory of ``length`` steps with positive probability.

    Parameters
    ----------
    mdp
        One decision process. A trajectory ends in a terminal state.
    length
        Steps T, >= 1.
    policy
        Distribution of the actions; uniform unless given.
    start
        Distribution of the first state ``(S,)``; uniform over the non-terminal states unless given.

    Raises
    ------
    ValueError
        If an argument does not fit the process, or there are more than a million trajectories.

    Examples
    --------
    >>> mdp = TabularMDP.grid_world([[-1.0, 1.0]], terminal=[[False, True]], discount=0.9)
    >>> enumerate_trajectories(mdp, 2).states[-1], len(enumerate_trajectories(mdp, 2).prob)
    (array([0, 1, 1]), 13)
    """
    action_probs, start, terminal = _design(mdp, length, policy, start)
    kernel = action_probs[:, :, None] * to_numpy(mdp.to_dense().transitions)
    # An ended trajectory goes on in one way only, so that its padding is not counted many times
    # over.
    kernel[terminal] = 0.0
    kernel[terminal, 0, terminal] = 1.0
    source, action, target = np.nonzero(kernel)
    chance = kernel[source, action, target]
    count = np.bincount(source, minlength=mdp.n_states)
    first = np.cumsum(count) - count
    states = np.flatnonzero(start)[:, None]
    actions = np.zeros((states.shape[0], 0), dtype=np.int64)
    prob = start[states[:, 0]]
    for _ in range(length):
        branches = count[states[:, -1]]
        if branches.sum() > MAX_TRAJECTORIES:
            raise ValueError(
                f"at most {MAX_TRAJECTORIES} trajectories are enumerated, got {branches.sum()};"
                " draw a sample instead"
            )
        parent = np.repeat(np.arange(branches.size), branches)
        within = np.arange(parent.size) - np.repeat(np.cumsum(branches) - branches, branches)
        step = first[states[parent, -1]] + within
        states = np.concatenate([states[parent], target[step, None]], axis=1)
        actions = np.concatenate([actions[parent], action[step, None]], axis=1)
        prob = prob[parent] * chance[step]
    return Trajectories(states, actions, ~terminal[states[:, :-1]], prob)


def sample_trajectories(
    mdp: TabularMDP,
    n: int,
    length: int,
    *,
    seed: Seed,
    policy: InMemoryPolicy | None = None,
    start: Any = None,
) -> Trajectories:
    """Draw ``n`` independent trajectories of ``length`` steps.

    Arguments as for :func:`enumerate_trajectories`.
    """
    check_integer(low=0, n=n)
    action_probs, start, terminal = _design(mdp, length, policy, start)
    rng = random_generator(seed)
    cumulative = np.cumsum(action_probs, axis=-1)
    states = np.empty((n, length + 1), dtype=np.int64)
    actions = np.zeros((n, length), dtype=np.int64)
    states[:, 0] = rng.choice(mdp.n_states, size=n, p=start)
    for t in range(length):
        here = states[:, t]
        threshold = rng.random(n)[:, None] * cumulative[here, -1:]
        drawn = np.argmax(cumulative[here] > threshold, axis=-1)
        actions[:, t] = np.where(terminal[here], 0, drawn)
        states[:, t + 1] = mdp.sample_next(here, actions[:, t], seed=rng)
    return Trajectories(states, actions, ~terminal[states[:, :-1]], np.full(n, 1.0 / max(n, 1)))


def record_trajectories(
    environment: Any,
    n: int,
    length: int,
    *,
    seed: Seed,
    policy: InMemoryPolicy | None = None,
    start: Any = None,
) -> Trajectories:
    """Record ``n`` trajectories of ``length`` steps by acting in a gymnasium environment.

    Parameters
    ----------
    environment
        An id such as ``"FrozenLake-v1"`` or an environment, with ``Discrete`` observations and
        actions.
    n, length
        Number of trajectories, and steps T of each.
    seed
        Of the environment and of the actions.
    policy
        Distribution of the actions; uniform unless given.
    start
        Distribution of the first state ``(S,)``: the environment is put there by its state variable
        ``s``, which the toy-text ones have. Unless given, episodes start as the environment starts
        them and are cut into consecutive pieces.

    Returns
    -------
    Trajectories; steps after the end of an episode are masked. The state after an end is numbered
    as in :meth:`~prefsim.worlds.TabularMDP.from_gymnasium`.

    Raises
    ------
    ValueError
        If the environment is unknown, a space is not discrete, ``start`` is given for an
        environment without a state variable, or an argument does not fit.
    """
    import gymnasium

    check_integer(low=1, length=length)
    check_integer(low=0, n=n)
    env: Any = environment
    if isinstance(environment, str):
        try:
            env = gymnasium.make(environment)
        except gymnasium.error.Error as error:
            raise ValueError(f"gymnasium cannot make {environment!r}: {error}") from error
    sizes = []
    for name, space in (("observation", env.observation_space), ("action", env.action_space)):
        if not isinstance(space, gymnasium.spaces.Discrete) or space.start != 0:
            raise ValueError(f"the {name} space must be Discrete and count from 0, got {space}")
        sizes.append(int(space.n))
    rng = random_generator(seed)
    n_states, n_actions = sizes
    numbers = state_after_end(env)
    if numbers is None:
        numbers = np.arange(n_states)
    n_states = max(n_states, int(numbers.max()) + 1)
    cumulative = np.cumsum(_action_probs(policy, n_states, n_actions), axis=-1)
    here, over = env.reset(seed=int(rng.integers(2**31)))[0], False
    placed = None
    if start is not None:
        start = _start_probs(start, n_states)
        if not hasattr(env.unwrapped, "s"):
            raise ValueError(
                "start needs an environment with a state variable s, got"
                f" {type(env.unwrapped).__name__}"
            )
        placed = rng.choice(n_states, size=n, p=start)
    uniform = rng.random((n, length))
    states = np.zeros((n, length + 1), dtype=np.int64)
    actions = np.zeros((n, length), dtype=np.int64)
    mask = np.zeros((n, length), dtype=bool)
    for i in range(n):
        if over or placed is not None:
            here, over = env.reset()[0], False
        if placed is not None:
            env.unwrapped.s = here = int(placed[i])
        states[i, 0] = after = here
        for t in range(length):
            if not over:
                row = cumulative[here]
                actions[i, t] = action = int(np.argmax(row > uniform[i, t] * row[-1]))
                here, _, terminated, truncated, _ = env.step(action)
                mask[i, t], over = True, bool(terminated or truncated)
                after = int(numbers[here]) if terminated else here
            states[i, t + 1] = after
    if isinstance(environment, str):
        env.close()
    return Trajectories(states, actions, mask, np.full(n, 1.0 / max(n, 1)))


def at_steps(
    values: np.ndarray,
    states: np.ndarray,
    actions: np.ndarray,
    mask: np.ndarray,
    *,
    next_state: bool,
) -> np.ndarray:
    """Return the entries of a table at every step ``(..., T)``, 0 where masked.

    The table is ``(S, A, ...)``, or ``(S, A, S, ...)`` with ``next_state``; states are
    ``(..., T + 1)``, actions and mask ``(..., T)``.
    """
    action = np.where(mask, actions, 0)
    as_index_array(states, "states", size=values.shape[0])
    as_index_array(action, "actions", size=values.shape[1])
    state, after = np.where(mask, states[..., :-1], 0), np.where(mask, states[..., 1:], 0)
    picked = values[state, action, after] if next_state else values[state, action]
    return np.where(mask.reshape(mask.shape + (1,) * (picked.ndim - mask.ndim)), picked, 0.0)
