"""arXiv:2310.04373: the textbook worlds, methods at their proxy points, trainings and searches."""

import numpy as np
import pytest

from paper_repros.mdp.constrained_rlhf.experiments import (
    beginning,
    beyond_the_squash,
    learn,
    search_while_training,
    solve,
    train,
)
from paper_repros.mdp.constrained_rlhf.overoptimised import (
    MIXINGS,
    World,
    constrained,
    point_of,
    searched,
)
from paper_repros.mdp.constrained_rlhf.problems import Drawn

WORLD = World.of(np.array(MIXINGS))
EXACT = solve(WORLD)


def test_joint_proxy_points():
    expected = [(1.0323, 0.6421), (1.0307, 0.8638), (0.9673, 0.9693)]
    np.testing.assert_allclose(EXACT.joint.achieved, expected, atol=6e-5)
    np.testing.assert_allclose(EXACT.joint.gold, [-0.3179, -0.5670, -0.7759], atol=6e-5)
    np.testing.assert_allclose(EXACT.joint.along[:, -1], [-0.3603, -2.3973, -3.8481], atol=6e-5)
    np.testing.assert_allclose(EXACT.joint.along[:, 0], -1.6139, atol=6e-5)
    np.testing.assert_allclose(WORLD.correlation(), [0.386, 0.790, 0.962], atol=6e-4)


def test_thresholds_a_tenth_away():
    np.testing.assert_allclose(EXACT.gold["ξ-PPO × 0.9"], [-0.368, -0.618, -0.815], atol=6e-4)
    np.testing.assert_allclose(EXACT.gold["ξ-PPO × 1.1"], [-0.414, -0.545, -0.747], atol=6e-4)


def test_methods_at_the_joint_proxy_point():
    for name in ("ξ-PPO", "μ-PPO", "All-PPO"):
        np.testing.assert_allclose(EXACT.gold[name], EXACT.joint.gold, atol=1e-6)
    assert (EXACT.gold["fixed weights"] < EXACT.gold["ξ-PPO"]).all()
    assert (EXACT.gold["ξ-PPO"] < EXACT.gold["PPO-SAT"]).all()
    # With weights of one at β = 1 All-PPO of the first world is not yet at its thresholds.
    weak = constrained(WORLD, EXACT.joint.achieved, sense="at_most", weights=np.ones(2))
    np.testing.assert_array_equal(weak.multipliers[0], 0.0)
    assert (weak.achieved[0] < EXACT.joint.achieved[0]).all()


def test_a_search_finds_more_than_the_path_has():
    world = World.of(0.5)
    start = 0.5 * point_of(world).achieved
    found = searched(world, start, tolerance=1e-2, nearby=5e-3, max_evaluations=25)
    assert EXACT.joint.gold[1] + 0.4 < found.score <= 0 and len(found.scores) == 25
    # A trial out of reach is worse than any response.
    far = searched(world, [5.0, 5.0], max_evaluations=3)
    assert far.score < world.gold.min()


def test_an_idle_sigmoid_is_slow():
    # One constraint, kept by the reference with .5 to spare.
    drawn = Drawn.of(3, 1, batch=1)
    thresholds = drawn.achieved(drawn.log_reference) - 0.5
    for steps in (300, 600):
        _, raw = drawn.learned(thresholds, kind="sigmoid", steps=steps)
        weight = 1 / (1 + np.exp(-raw))
        assert 0.5 < float(weight[0, 0] * 4.0 * 0.5 * steps / 0.9) < 1.1


def test_trainings_hold_thresholds_and_fixed_weights_do_not():
    rng = np.random.default_rng(0)
    trained = learn(EXACT.joint, 1, 130, rng)
    assert trained.late_gold("fixed weights")[2] < trained.late_gold("ξ-PPO")[2] - 1
    assert trained.runs["ξ-PPO"].steps[-1] == 390
    assert trained.swing("ξ-PPO, normalised")[2] > 2 * trained.swing("ξ-PPO")[2]
    # Fixed at one half each the weights are those of the path at (1/β) together.
    path = point_of(WORLD)
    step = np.searchsorted(np.linspace(0, 6, 1201), 5.0)
    np.testing.assert_allclose(trained.late_gold("fixed weights"), path.along[:, step], atol=0.02)


def test_a_squash_misses_far_multipliers():
    reach = beyond_the_squash(500, np.random.default_rng(0))
    assert reach.squashed.max() > 0.5 and reach.free.max() < 1e-2


def test_drawn_rewards_are_those_of_the_policy():
    rng = np.random.default_rng(0)
    start = beginning(WORLD, 3, rng)
    assert np.ptp(start.multipliers.raw, axis=1) == pytest.approx(0.0)
    options = {"kind": "tanh", "steps": 1, "every": 1}
    exact = train(WORLD, EXACT.joint.achieved, start, **options)
    drawn = train(WORLD, EXACT.joint.achieved, start, draws=10**6, rng=rng, **options)
    np.testing.assert_allclose(exact.raw[1], drawn.raw[1], atol=1e-3)
    assert np.abs(exact.raw[1] - exact.raw[0]).max() > 1e-2


def test_one_training_counts_its_steps():
    world = World.of(0.5)
    start = 0.5 * point_of(world).achieved
    one = search_while_training(world, start, 50, np.random.default_rng(0), max_evaluations=4)
    assert len(one.found.scores) == 4 and 10 <= one.steps <= 200
