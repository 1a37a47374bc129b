"""arXiv:2404.14367: the didactic bandit, what its methods reach, and the pairs that DPO sees."""

import numpy as np
import pytest

from paper_repros.theory.suboptimal_on_policy.didactic import (
    Bandit,
    Pairs,
    dpo,
    dpo_loss,
    imitate_best,
    published,
    reinforce,
    squashed_cauchy,
    sums_at,
    train,
)
from paper_repros.theory.suboptimal_on_policy.sampled import BEST, DPO, drawn, learn
from prefsim.gradients import gradient
from prefsim.losses import PairLogps
from prefsim.losses import dpo as dpo_of_pairs
from prefsim.numerics import log_softmax
from prefsim.solvers.closed_forms.self_training import best_of_n

WORLD = published()


def test_the_data_and_what_it_earns():
    law = np.exp(squashed_cauchy())
    assert law.sum() == pytest.approx(1.0, abs=1e-15)
    assert law.argmax() == 0
    known = {0: 0.07809351513769615, 20: 0.024331234284135972, 70: 0.0021117623162532073}
    for place, value in {**known, 99: 0.042226407314661984}.items():
        assert law[place] == pytest.approx(value, rel=1e-13)
    earned = (np.exp(WORLD.log_data) * WORLD.reward).sum(axis=-1)
    np.testing.assert_allclose(earned, [0.03904584698888486, 0.3771919347753813], rtol=1e-13)
    best = (np.exp(best_of_n(WORLD.reward, WORLD.log_data, 10)) * WORLD.reward).sum(axis=-1)
    np.testing.assert_allclose(best, [0.3134843815281556, 0.9401456349000861], rtol=1e-12)


@pytest.mark.parametrize(
    ("method", "rate", "on_policy", "far", "near"),
    [
        (imitate_best(), 1.0, False, (0.115, 0.269), (0.806, 0.900)),
        (imitate_best(), 1.0, True, (0.807, 0.995), (0.986, 0.997)),
        (imitate_best(0.5), 1.0, False, (0.105, 0.289), (0.945, 0.984)),
        (reinforce, 10.0, True, (0.919, 0.989), (0.986, 0.990)),
        (dpo(1.0), 20.0, False, (0.123, 0.263), (0.923, 0.980)),
        (dpo(1.0), 20.0, True, (0.889, 0.968), (0.975, 0.988)),
    ],
)
def test_rewards_after_50_and_200_steps(method, rate, on_policy, far, near):
    path = train(WORLD, method, rate=rate, steps=200, on_policy=on_policy, record=50)
    np.testing.assert_array_equal(path.steps, [0, 50, 100, 150, 200])
    np.testing.assert_allclose(path.rewards(WORLD)[[1, 4]].T, [far, near], atol=1.2e-3)


def test_pairs_are_every_pair_once_with_the_better_one_first():
    rng = np.random.default_rng(3)
    world = Bandit(log_softmax(rng.normal(size=(2, 100))), rng.normal(size=(2, 100)))
    world.reward[0, 17] = world.reward[0, 42]
    pairs = Pairs.of(world)
    better, worse = (np.take_along_axis(world.reward, x, axis=-1) for x in pairs[1:3])
    assert (better >= worse).all()
    assert (~pairs.differ).sum() == 1
    # Two samples may be the same, or the pair that has no label.
    law = np.exp(world.log_data)
    missing = (law**2).sum(axis=-1) + np.array([2 * law[0, 17] * law[0, 42], 0.0])
    np.testing.assert_allclose(pairs.probability(world.log_data).sum(axis=-1), 1 - missing)


def test_dpo_descends_its_own_loss():
    logits = WORLD.log_data + 0.1 * np.random.default_rng(0).normal(size=(2, 100))
    slope = dpo(0.5)(WORLD)(log_softmax(logits), WORLD.log_data)
    pairs = Pairs.of(WORLD)
    weight = pairs.probability(WORLD.log_data)

    def loss(z):
        at = log_softmax(z)
        places = (at.new_tensor(x).long() for x in pairs[1:3])
        own = (at.gather(-1, place) for place in places)
        pair = PairLogps(*own, *(at.new_tensor(x) for x in pairs.reference))
        return at.new_tensor(weight) * dpo_of_pairs(pair, beta=0.5)

    np.testing.assert_allclose(slope, gradient(loss, logits), atol=1e-14)
    total = dpo_loss(WORLD, log_softmax(logits), 0.5)
    assert total == pytest.approx(
        (weight * dpo_of_pairs(pairs.logps(log_softmax(logits)), beta=0.5)).sum(-1)
    )


def test_sums_at_places():
    places, values = np.array([[[1, 99, 1], [0, 0, 0]]]), np.array([[[1.0, 2.0, 4.0], [1, 1, 1]]])
    total = sums_at(places, values)
    assert total.shape == (1, 2, 100)
    assert (total[0, 0, 1], total[0, 0, 99], total[0, 1, 0], total.sum()) == (5.0, 2.0, 3.0, 10.0)


@pytest.mark.parametrize("learner", [BEST, DPO])
def test_learning_follows_the_seed(learner):
    def reward(seed):
        rng = np.random.default_rng(seed)
        return learn(drawn(rng, 3), learner, rng, reuse=2, steps=5)

    np.testing.assert_array_equal(reward(1), reward(1))
    assert (reward(1) != reward(2)).all()
