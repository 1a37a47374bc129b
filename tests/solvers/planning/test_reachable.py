"""States that can be met, against a search through the graph of moves."""

import numpy as np
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
    # Without discount in the future nothing after the start is ever met.
    mdp = TabularMDP(
        mdp.transitions,
        mdp.reward,
        discount=max(mdp.discount, 0.3),
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
