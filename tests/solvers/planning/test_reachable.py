"""States that can be met, against a search through the graph of moves."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from prefsim.solvers.planning import uniform_over_reachable
from prefsim.testing import mdps
from prefsim.worlds import TabularMDP


def reachable(mdp):
    seen, new = set(), set(np.flatnonzero(mdp.start_probs))
    while new:
        seen |= new
        alive = [s for s in new if not mdp.terminal[s]]
        new = set(np.flatnonzero(mdp.transitions[alive].sum(axis=(0, 1)))) - seen
    return np.array([s in seen and not mdp.terminal[s] for s in range(mdp.n_states)])


@given(mdps(max_states=5, max_discount=0.9, deterministic=True, horizon=None), st.integers(0, 4))
def test_as_a_search_finds_them(mdp, start):
    start %= int((~mdp.terminal).sum())
    mdp = TabularMDP(
        mdp.transitions,
        mdp.reward,
        discount=mdp.discount,
        terminal=mdp.terminal,
        start_probs=np.eye(mdp.n_states)[start],
    )
    found, expected = uniform_over_reachable(mdp), reachable(mdp)
    np.testing.assert_array_equal(found > 0, expected)
    np.testing.assert_allclose(found[expected], 1 / expected.sum())


def test_a_batch_is_its_members():
    batch = TabularMDP.random(4, 2, discount=0.9, seed=0, deterministic=True, batch_shape=(3,))
    members = [TabularMDP(batch.transitions[i], batch.reward[i], discount=0.9) for i in range(3)]
    np.testing.assert_array_equal(
        uniform_over_reachable(batch), np.stack([uniform_over_reachable(m) for m in members])
    )


def lock(states, **options):
    """One action leads on, the other back to the start; the last state ends the episode."""
    moves = np.zeros((states, 2, states))
    moves[np.arange(states - 1), 0, np.arange(1, states)] = 1.0
    moves[:-1, 1, 0] = moves[-1, :, -1] = 1.0
    return TabularMDP(
        moves,
        np.zeros((states, 2)),
        terminal=np.arange(states) == states - 1,
        start_probs=np.eye(states)[0],
        **options,
    )


@pytest.mark.parametrize("discount", [0.0, 0.1, 0.999])
def test_states_that_are_met_once_in_a_trillion_episodes_are_met(discount):
    mdp = lock(40, discount=discount)
    expected = np.append(np.full(39, 1 / 39), 0.0)
    np.testing.assert_allclose(uniform_over_reachable(mdp), expected)
    table = sp.csr_array(np.reshape(mdp.transitions, (-1, 40)))
    sparse = TabularMDP(
        table,
        mdp.reward,
        discount=discount,
        terminal=mdp.terminal,
        start_probs=mdp.start_probs,
    )
    np.testing.assert_array_equal(uniform_over_reachable(sparse), uniform_over_reachable(mdp))


def test_what_has_no_answer_is_named():
    with pytest.raises(ValueError, match="infinite horizon"):
        uniform_over_reachable(lock(3, discount=0.9, horizon=4))
    ended = TabularMDP([[[1.0]]], [[0.0]], discount=0.9, terminal=[True], start_probs=[1.0])
    with pytest.raises(ValueError, match="not terminal"):
        uniform_over_reachable(ended)
