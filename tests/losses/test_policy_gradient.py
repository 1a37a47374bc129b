"""CoPG and P3O as losses.

Their formulas written out, their constants of differentiation, and the running scale of rewards.
"""

import math

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim import losses
from prefsim.testing import betas, tables


def batch(n=6, seed=0):
    rng = np.random.default_rng(seed)
    chosen, rejected, ref_chosen, ref_rejected = (-3 * rng.random(n) for _ in range(4))
    chosen_score, rejected_score = rng.standard_normal((2, n))
    return losses.PairLogps(
        chosen,
        rejected,
        ref_chosen,
        ref_rejected,
        chosen_score=chosen_score,
        rejected_score=rejected_score,
        old_chosen=chosen + rng.uniform(-0.5, 0.5, n),
        old_rejected=rejected + rng.uniform(-0.5, 0.5, n),
    )


def written_out(logps, *, beta, epsilon, c, clip):
    values = []
    for i in range(logps.chosen.size):
        l1, l2 = logps.chosen[i] - logps.ref_chosen[i], logps.rejected[i] - logps.ref_rejected[i]
        o1, o2 = (
            logps.old_chosen[i] - logps.ref_chosen[i],
            logps.old_rejected[i] - logps.ref_rejected[i],
        )
        q = logps.chosen_score[i] - logps.rejected_score[i] - beta * (l1 - l2)
        w = min(max(math.exp((l1 - o1) + (l2 - o2)), 1 / c), c)
        if clip == "joint":
            d, o = l1 - l2, o1 - o2
            values.append(0.5 * max(-q * w * d, -q * w * min(max(d, o - epsilon), o + epsilon)))
        else:
            first = max(-q * w * l1, -q * w * min(max(l1, o1 - epsilon), o1 + epsilon))
            second = max(q * w * l2, q * w * min(max(l2, o2 - epsilon), o2 + epsilon))
            values.append(0.5 * (first + second))
    return np.asarray(values)


@given(
    st.integers(0, 10**6),
    betas(0.01, 1.0),
    st.floats(0.01, 1.0),
    st.floats(1.0, 20.0),
    st.sampled_from(["joint", "separate"]),
)
def test_the_formula_of_p3o(seed, beta, epsilon, c, clip):
    logps = batch(seed=seed)
    found = losses.p3o(logps, beta=beta, epsilon=epsilon, weight_clip=c, clip=clip)
    np.testing.assert_allclose(
        found,
        written_out(logps, beta=beta, epsilon=epsilon, c=c, clip=clip),
        rtol=1e-12,
        atol=1e-13,
    )


@pytest.mark.parametrize("clip", ["joint", "separate"])
def test_without_behaviour_the_pairs_are_fresh(clip):
    logps = batch()
    fresh, same = (
        logps._replace(old_chosen=None, old_rejected=None),
        logps._replace(old_chosen=logps.chosen, old_rejected=logps.rejected),
    )
    np.testing.assert_array_equal(losses.p3o(fresh, clip=clip), losses.p3o(same, clip=clip))
    expected = (
        -0.5
        * (logps.chosen_score - logps.rejected_score - 0.05 * losses.reward_margin(logps))
        * losses.reward_margin(logps)
    )
    np.testing.assert_allclose(losses.p3o(fresh, clip=clip), expected, rtol=1e-12)


def test_scaled_by_the_deviation_of_the_batch():
    logps = batch()
    q = logps.chosen_score - logps.rejected_score - 0.05 * losses.reward_margin(logps)
    np.testing.assert_allclose(
        losses.p3o(logps, scale_q=True), losses.p3o(logps) / q.std(ddof=1), rtol=1e-12
    )


@pytest.mark.parametrize(
    "call",
    [lambda x: losses.p3o(x), lambda x: losses.copg(x), lambda x: losses.copg(x, form="gradient")],
)
def test_only_the_policy_carries_a_gradient(call):
    logps = losses.PairLogps(
        *(None if x is None else torch.tensor(x, requires_grad=True) for x in batch())
    )
    call(logps).sum().backward()
    assert logps.chosen.grad is not None
    assert logps.chosen_score.grad is None
    assert logps.rejected_score.grad is None


def test_the_square_has_the_score_as_its_target_not_as_a_variable():
    # A gradient into a reward model would reward it for agreeing with the policy.
    group = losses.ListLogps(
        *(
            torch.tensor(x, requires_grad=True)
            for x in np.random.default_rng(0).standard_normal((3, 2, 4))
        )
    )
    losses.copg_group(group).sum().backward()
    assert group.scores.grad is None


@given(tables((2, 3, 5), low=-4.0, high=0.0), tables((3, 5), low=-2.0, high=2.0), betas(0.05, 2.0))
def test_a_group_is_the_mean_over_its_pairs(logps, scores, beta):
    i, j = np.nonzero(~np.eye(5, dtype=bool))
    parts = [table[..., k] for table in logps for k in (i, j)]
    pairs = losses.PairLogps(*parts, chosen_score=scores[..., i], rejected_score=scores[..., j])
    group = losses.ListLogps(*logps, scores)
    for form in ("square", "gradient"):
        expected = losses.copg(pairs, beta=beta, form=form).mean(axis=-1)
        np.testing.assert_allclose(
            losses.copg_group(group, beta=beta, form=form), expected, rtol=1e-11, atol=1e-12
        )


@given(st.lists(tables((3,), low=-20.0, high=20.0), min_size=1, max_size=4), st.floats(0.5, 15.0))
def test_the_running_scale_is_that_of_all_rewards_at_once(batches, limit):
    scale = losses.RewardScale(limit)
    for rewards in batches:
        scale = scale.updated(rewards)
    clipped = np.clip(np.concatenate(batches), -limit, limit)
    assert scale.seen == clipped.size
    assert scale.mean == pytest.approx(clipped.mean(), abs=1e-12)
    deviation = clipped.std(ddof=1)
    if deviation > 1e-6:
        assert scale.deviation == pytest.approx(deviation, rel=1e-9)
        np.testing.assert_allclose(scale.scaled(clipped), clipped / deviation, rtol=1e-8)


def test_the_scale_follows_the_library_of_the_rewards():
    scale = losses.RewardScale().updated(torch.tensor([1.0, 3.0, 50.0]))
    expected = scale.scaled(np.asarray([1.0, -30.0]))
    np.testing.assert_allclose(
        scale.scaled(torch.tensor([1.0, -30.0], dtype=torch.float64)).numpy(), expected
    )
    np.testing.assert_allclose(
        np.asarray(scale.scaled(array_api_strict.asarray([1.0, -30.0]))), expected
    )


def test_deviations_are_those_of_the_trainer():
    """Its running moments and torch's ``std``, which divides its q, are over n − 1."""
    rewards = np.array([1.0, -2.0, 7.0, 12.0])
    scale = losses.RewardScale().updated(rewards[:1]).updated(rewards[1:])
    clipped = torch.tensor(rewards).clip(-10, 10)
    assert scale.deviation == pytest.approx(float(torch.std(clipped)), rel=1e-12)
    logps = batch()
    q = logps.chosen_score - logps.rejected_score - 0.05 * losses.reward_margin(logps)
    np.testing.assert_allclose(
        losses.p3o(logps, scale_q=True),
        losses.p3o(logps) / float(torch.std(torch.tensor(q))),
        rtol=1e-12,
    )
