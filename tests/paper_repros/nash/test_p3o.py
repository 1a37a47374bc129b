"""Golden values of arXiv:2310.00212.

Both clipped losses, the variances of the estimates, and the preprocessing of rewards.
"""

import functools
import math

import numpy as np
import pytest

from paper_repros import _p3o_experiments as experiments
from paper_repros import p3o as paper
from prefsim import losses
from prefsim.data import ScoredPairs
from prefsim.papers import Run
from prefsim.policies import TabularPolicy
from prefsim.solvers import gradient_descent, optimal_policy
from prefsim.solvers.optimisers.policy_gradient import (
    pairwise_variance,
    score_gradient,
    score_variance,
)
from prefsim.worlds import ContextualBandit


def pair(first, second, rewards, old=(0.1, 0.05)):
    zero = np.zeros(1)
    parts = [np.asarray([x]) for x in (first, second, *rewards, *old)]
    return losses.PairLogps(*parts[:2], zero, zero, None, None, *parts[2:])


@pytest.mark.parametrize(
    ("logps", "joint", "separate"),
    [
        (pair(0.3, -0.1, (1.2, 0.4)), -0.1024989319, -0.1639982910),
        (pair(0.3, -0.1, (0.4, 1.2)), 0.1724084598, 0.1724084598),
        (pair(0.12, 0.06, (1.2, 0.4)), -0.0246381679, -0.0246381679),
    ],
)
def test_golden_losses(logps, joint, separate):
    assert losses.p3o(logps)[0] == pytest.approx(joint, abs=5e-11)
    assert losses.p3o(logps, clip="separate")[0] == pytest.approx(separate, abs=5e-11)


@pytest.mark.parametrize(
    ("logps", "q", "weight"),
    [
        (pair(0.3, -0.1, (1.2, 0.4)), 0.78, 1.0512710964),
        (pair(0.3, -0.1, (0.4, 1.2)), -0.82, 1.0512710964),
        (pair(0.12, 0.06, (1.2, 0.4)), 0.797, 1.0304545340),
    ],
)
def test_golden_factors(logps, q, weight):
    d = logps.chosen - logps.rejected
    no_weight = losses.p3o(logps, epsilon=math.inf, weight_clip=1.0)
    np.testing.assert_allclose(no_weight, -0.5 * q * d, rtol=1e-13)
    np.testing.assert_allclose(losses.p3o(logps, epsilon=math.inf) / no_weight, weight, rtol=1e-10)


def test_golden_gradient_and_variances():
    log_policy, reward = np.log([0.2, 0.5, 0.3]), np.asarray([1.0, 0.5, 0.0])
    np.testing.assert_allclose(
        score_gradient(reward, log_policy), [0.11, 0.025, -0.135], atol=1e-15
    )
    for shift, variance in ((0, 0.21255), (10, 68.03255), (100, 6258.41255)):
        assert score_variance(reward + shift, log_policy) == pytest.approx(variance, rel=1e-12)
        assert pairwise_variance(reward + shift, log_policy) == pytest.approx(0.09155, rel=1e-11)


def test_unclipped_and_on_policy_it_ascends_to_the_regularised_optimum():
    world, policy = ContextualBandit.random(2, 3, seed=0), TabularPolicy.uniform(2, 3)
    reference, loss = policy, functools.partial(losses.p3o, beta=0.5)
    for _ in range(150):
        data = ScoredPairs.population(world, policy)
        policy = gradient_descent(policy, loss, data, reference=reference, step=4.0, iterations=1)[
            0
        ].policy
    np.testing.assert_allclose(
        policy.probs, optimal_policy(world.reward, reference.probs, beta=0.5), atol=1e-10
    )


def test_a_constant_reward_has_no_deviation_to_divide_by():
    alike = losses.PairLogps(*np.zeros((4, 3)), None, None, np.ones(3), np.zeros(3))
    np.testing.assert_array_equal(losses.p3o(alike, scale_q=True), losses.p3o(alike))
    assert losses.RewardScale().updated([2.0, 2.0]).deviation == 1.0


def test_curves_are_read_where_they_first_reach_a_divergence():
    found = experiments.Trained(
        np.asarray([0.0, 0.5, 1.5]).reshape(3, 1, 1), np.asarray([0.0, 1.0, 3.0]).reshape(3, 1, 1)
    )
    assert found.at(1.0)[0, 0] == 2.0
    assert np.isnan(found.at(2.0)[0, 0])


LOGPS = pair(0.3, -0.1, (1.2, 0.4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.p3o(LOGPS, beta=-0.1), "beta must be a finite number >= 0"),
        (lambda: losses.p3o(LOGPS, epsilon=0.0), r"epsilon must lie in \(0.0, inf\], got 0.0"),
        (
            lambda: losses.p3o(LOGPS, weight_clip=0.5),
            r"weight_clip must lie in \[1.0, inf\], got 0.5",
        ),
        (
            lambda: losses.p3o(LOGPS, clip="both"),
            "clip must be one of 'joint', 'separate', got 'both'",
        ),
        (
            lambda: losses.p3o(LOGPS._replace(old_rejected=None)),
            "old_rejected is needed by this loss, got None",
        ),
        (
            lambda: losses.p3o(LOGPS._replace(rejected_score=None)),
            "rejected_score is needed by this loss, got None",
        ),
        (lambda: losses.p3o(LOGPS._replace(old_chosen=np.zeros(2))), "one shape"),
        (
            lambda: losses.RewardScale().updated([1.0, np.nan]),
            "rewards must be finite, got nan at index 1",
        ),
        (
            lambda: losses.RewardScale().updated([1.0, np.inf]),
            "rewards must be finite, got inf at index 1",
        ),
        (lambda: losses.RewardScale().updated([]), "rewards must hold at least one value, got 0"),
        (lambda: losses.RewardScale(limit=0.0).updated([1.0]), "limit must be a finite number > 0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_reproduction():
    result = paper.reproduce(Run(quick=True))
    assert [c for c in result.criteria if not c.passed] == []
    assert len(result.table) == 10
