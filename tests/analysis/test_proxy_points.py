"""Proxy points against optima one by one, and on several worlds at once."""

import numpy as np
import pytest

from prefsim.analysis import RewardPath, kl_to_reference, proxy_point, reward_path
from prefsim.solvers import optimal_policy
from prefsim.worlds import ContextualBandit

RNG = np.random.default_rng(0)
REWARDS = RNG.standard_normal((4, 2, 3, 5))
REFERENCE = np.log(RNG.dirichlet(np.ones(5), 3))
GOLD = RNG.standard_normal((4, 3, 5))
SHARES = np.array([0.2, 0.5, 0.3])
WEIGHTS = np.linspace(0, 4, 9)[:, None] * np.array([0.7, 0.3])
PATH = reward_path(REWARDS, REFERENCE, WEIGHTS, beta=0.5, context_probs=SHARES)


@pytest.mark.parametrize("step", [0, 3, 8])
def test_each_step_is_an_optimum(step):
    for world in range(4):
        total = np.einsum("m,mxy->xy", WEIGHTS[step], REWARDS[world])
        policy = optimal_policy(total, np.exp(REFERENCE), beta=0.5)
        np.testing.assert_allclose(np.exp(PATH.log_policy[world, step]), policy, atol=1e-12)
        means = np.einsum("x,xy,mxy->m", SHARES, policy, REWARDS[world])
        np.testing.assert_allclose(PATH.achieved[world, step], means, atol=1e-12)
        bandit = ContextualBandit(reward=total, context_probs=SHARES)
        kl = kl_to_reference(np.log(policy), REFERENCE, bandit)
        np.testing.assert_allclose(PATH.kl[world, step], kl, atol=1e-12)


def test_the_point_is_where_gold_is_largest():
    found = proxy_point(PATH, GOLD)
    gold = np.einsum("x,wsxy,wxy->ws", SHARES, np.exp(PATH.log_policy), GOLD)
    np.testing.assert_allclose(found.along, gold, atol=1e-12)
    np.testing.assert_array_equal(found.step, gold.argmax(axis=-1))
    assert len(set(found.step.tolist())) > 1
    for world, step in enumerate(found.step):
        assert found.gold[world] == pytest.approx(gold[world].max())
        np.testing.assert_allclose(found.achieved[world], PATH.achieved[world, step])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": -1.0}, "beta must be"),
        ({"weights": np.ones((4, 3))}, r"weights must have trailing shape \(any, 2\)"),
        ({"rewards": np.ones((2, 5))}, "rewards must have trailing shape"),
        ({"ref_log_probs": REFERENCE[0]}, "ref_log_probs must have trailing shape"),
        ({"weights": np.ones((3, 4, 2))}, "shapes must broadcast"),
        ({"context_probs": [0.5, 0.5]}, "context_probs must have trailing shape"),
    ],
)
def test_bad_input(change, message):
    given = {"rewards": REWARDS, "ref_log_probs": REFERENCE, "weights": WEIGHTS, "beta": 1.0}
    with pytest.raises(ValueError, match=message):
        reward_path(**(given | change))


def test_a_point_needs_a_path_and_a_gold_that_fits():
    with pytest.raises(ValueError, match=r"gold must have trailing shape \(3, 5\)"):
        proxy_point(PATH, GOLD[..., :2])
    with pytest.raises((TypeError, ValueError), match="path must be a RewardPath"):
        proxy_point(tuple(PATH), GOLD)
    assert isinstance(PATH, RewardPath)


def test_a_path_has_a_step():
    with pytest.raises(ValueError, match="weights must hold at least one step"):
        reward_path(np.ones((1, 1, 2)), np.log([[0.5, 0.5]]), np.zeros((0, 1)), beta=1.0)
