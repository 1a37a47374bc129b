"""arXiv:2404.18922: a tree of two tokens by hand, the release's rewards, and credit in worlds."""

import functools

import numpy as np
import pytest

from paper_repros.mdp.rto.credit import RESPONSE, TOKEN, Worlds, cosine
from paper_repros.mdp.rto.token_worlds import (
    TokenWorld,
    best_to_go,
    delayed,
    look_ahead,
    next_tokens,
)
from prefsim import losses
from prefsim.data import Comparisons
from prefsim.policies import TokenTreePolicy
from prefsim.solvers import fit
from prefsim.worlds import TokenTree

TREE = TokenTree(2, 2)
REFERENCE = np.log([[[0.6, 0.4], [0.5, 0.5], [0.25, 0.75]]])
REWARDS = np.array([[[0.2, 0.0], [1.0, -1.0], [0.0, 0.5]]])
WORLD = TokenWorld(TokenTreePolicy(TREE, REFERENCE), REWARDS, 0.5)
RATIOS = [[0.13517378, -0.31333313], [0.33749863, -1.66250137], [-0.41399447, 0.08600553]]


def test_a_tree_of_two_tokens():
    best, value = WORLD.optimum()
    np.testing.assert_allclose(value, [[0.7273275986, 0.6625013737, 0.4139944696]], atol=5e-11)
    np.testing.assert_allclose(
        np.exp(next_tokens(best)),
        [[[0.78625188, 0.21374812], [0.98201379, 0.01798621], [0.10923177, 0.89076823]]],
        atol=5e-9,
    )
    np.testing.assert_allclose(0.5 * WORLD.log_ratio(best), [RATIOS], atol=5e-9)
    np.testing.assert_allclose(WORLD.objective(best), value[:, 0], atol=1e-14)


def test_dpo_finds_them_from_labels_of_whole_responses():
    scored = TokenTree(2, 2, reward=WORLD.returns)
    pairs = Comparisons.population(scored.to_bandit())
    loss = functools.partial(losses.dpo, beta=0.5)
    found = fit(WORLD.reference, loss, pairs, reference=WORLD.reference).policy
    np.testing.assert_allclose(0.5 * WORLD.log_ratio(found), [RATIOS], atol=1e-7)


def test_the_rewards_of_the_release():
    old, ref, dpo = np.array([[-1.0, -0.5, -2.0], [-1.2, -0.4, -1.5], [-0.7, -0.9, -0.3]])
    mask = np.ones(3, dtype=bool)
    rewards = losses.rto_rewards(1.3, old, ref, dpo, mask)
    np.testing.assert_allclose(rewards, [0.023, -0.024, 1.355], atol=1e-12)
    advantages, returns = losses.gae(rewards, np.array([0.2, 0.4, 0.6]), mask)
    np.testing.assert_allclose(advantages, [1.0715875, 0.89325, 0.755], atol=1e-12)
    np.testing.assert_allclose(returns, [1.2715875, 1.29325, 1.355], atol=1e-12)


def test_cosines_of_ten_worlds():
    worlds = Worlds.draw(range(10))
    true = worlds.gradient(RESPONSE, 1.0)
    found = {
        name: [cosine(worlds.gradient(name, trace), true).mean() for trace in (0.0, 0.5, 0.95)]
        for name in (RESPONSE, TOKEN)
    }
    np.testing.assert_allclose(found[RESPONSE], [0.0936, 0.6626, 0.9985], atol=6e-5)
    np.testing.assert_allclose(found[TOKEN], [0.8363, 0.9381, 0.9991], atol=6e-5)


def test_what_is_bounded_moves_the_optimum():
    share, moved = Worlds.draw(range(2)).bounded()
    assert share.shape == moved.shape == (2,)
    assert (share > 0.2).all()
    assert (moved > 0.2).all()


@pytest.mark.parametrize("delay", [0, 1, 2])
def test_a_late_reward_needs_as_many_tokens_ahead(delay):
    """Of a reward for one response alone, at its end."""
    tree = TokenTree(2, 3)
    paid = np.zeros((8, 3))
    paid[5, 2] = 1.0
    best = best_to_go(tree, paid)[tree.nodes]
    assert best[5].tolist() == [1.0, 1.0, 1.0]
    assert best[0].tolist() == [1.0, 0.0, 0.0]
    gained = paid - best + np.pad(best[:, 1:], ((0, 0), (0, 1)))
    late = delayed(tree, gained, delay)
    np.testing.assert_array_equal(late.sum(axis=1), gained.sum(axis=1))
    found, looked_at = look_ahead(tree, late, delay + 1)
    assert found == 5
    assert looked_at == {0: 6, 1: 10, 2: 14}[delay]
    if delay:
        assert look_ahead(tree, late, delay)[0] != 5
