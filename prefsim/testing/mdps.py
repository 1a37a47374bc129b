"""Hypothesis strategies for tabular decision processes and for policies in them.

Every strategy shrinks towards the plainest instance: one state, one action, rewards of zero, no
discounting of the future.

Examples
--------
>>> from hypothesis import given
>>> from prefsim.solvers import planning
>>> @given(mdps_with_policy(max_states=3))
... def test_no_policy_beats_the_optimum(instance):
...     mdp, policy = instance
...     assert (
...         planning.policy_evaluation(mdp, policy).value
...         <= planning.policy_iteration(mdp).value + 1e-9
...     ).all()
>>> test_no_policy_beats_the_optimum()
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from prefsim.testing.bandits import tables
from prefsim.worlds.mdp import TabularMDP
from prefsim.worlds.transitions import make_absorbing

__all__ = ["action_tables", "grid_worlds", "mdps", "mdps_with_policy", "stochastic_policies"]


@st.composite
def mdps(
    draw: st.DrawFn,
    *,
    min_states: int = 1,
    max_states: int = 5,
    min_actions: int = 1,
    max_actions: int = 3,
    terminal: bool | None = None,
    deterministic: bool | None = None,
    transition_rewards: bool | None = None,
    horizon: int | None = None,
    discount: float | None = None,
    max_discount: float = 0.97,
    scale: float = 3.0,
) -> TabularMDP:
    """Return a dense process with rewards in ``[-scale, scale]``.

    Drawn unless given: whether some states are terminal, whether moves are certain, whether every
    transition has a reward of its own, and the discount, in ``[0, max_discount]``. Where moves are
    uncertain, some of them still have probability 0.
    """
    ends = draw(st.booleans()) if terminal is None else terminal
    states = draw(st.integers(max(min_states, 2 if ends else 1), max(max_states, 2 if ends else 1)))
    actions = draw(st.integers(min_actions, max_actions))
    certain = draw(st.booleans()) if deterministic is None else deterministic
    each = draw(st.booleans()) if transition_rewards is None else transition_rewards
    successor = draw(hnp.arrays(np.int64, (states, actions), elements=st.integers(0, states - 1)))
    table = np.eye(states)[successor]
    if not certain:
        mass = table + draw(tables((states, actions, states), low=0.0, high=1.0))
        table = mass / mass.sum(axis=-1, keepdims=True)
    reward = draw(tables(table.shape if each else table.shape[:-1], low=-scale, high=scale))
    n_ended = draw(st.integers(1, states - 1)) if ends else 0
    ended = np.arange(states) >= states - n_ended
    table, reward = make_absorbing(table, reward, ended)
    gamma = (
        draw(st.floats(0.0, max_discount, allow_subnormal=False)) if discount is None else discount
    )
    return TabularMDP(table, reward, discount=gamma, horizon=horizon, terminal=ended)


@st.composite
def grid_worlds(
    draw: st.DrawFn, *, max_side: int = 4, max_discount: float = 0.97, scale: float = 3.0
) -> TabularMDP:
    """Return a deterministic grid with one terminal corner and some blocked cells.

    Rewards are in ``[-scale, scale]``.
    """
    shape = draw(st.tuples(st.integers(1, max_side), st.integers(2, max_side)))
    corner = np.arange(shape[0] * shape[1]).reshape(shape) == shape[0] * shape[1] - 1
    blocked = draw(hnp.arrays(np.bool_, shape)) & ~corner
    blocked.flat[0] = False
    gamma = draw(st.floats(0.0, max_discount, allow_subnormal=False))
    return TabularMDP.grid_world(
        draw(tables(shape, low=-scale, high=scale)),
        terminal=corner,
        blocked=blocked,
        discount=gamma,
    )


def stochastic_policies(
    mdp: TabularMDP, *, full_support: bool = True
) -> st.SearchStrategy[np.ndarray]:
    """Probabilities ``(S, A)``, with a horizon H ``(H, S, A)``.

    Unless ``full_support``, some actions may have probability 0.
    """
    time = () if mdp.horizon is None else (mdp.horizon,)
    shape = (*time, mdp.n_states, mdp.n_actions)
    if full_support:
        return tables(shape, low=0.05, high=1.0).map(
            lambda mass: mass / mass.sum(axis=-1, keepdims=True)
        )
    first = np.eye(mdp.n_actions)[0]
    return (
        tables(shape, low=0.0, high=1.0)
        .map(lambda mass: np.where(mass.sum(axis=-1, keepdims=True) < 0.1, mass + first, mass))
        .map(lambda mass: mass / mass.sum(axis=-1, keepdims=True))
    )


def action_tables(mdp: TabularMDP) -> st.SearchStrategy[np.ndarray]:
    """One action for each state, integers ``(S,)``: deterministic policies."""
    return hnp.arrays(np.int64, (mdp.n_states,), elements=st.integers(0, mdp.n_actions - 1))


def mdps_with_policy(
    *, full_support: bool = True, **options: Any
) -> st.SearchStrategy[tuple[TabularMDP, np.ndarray]]:
    """Pairs of a process (options as for :func:`mdps`) and a stochastic policy in it."""
    return mdps(**options).flatmap(
        lambda mdp: st.tuples(st.just(mdp), stochastic_policies(mdp, full_support=full_support))
    )
