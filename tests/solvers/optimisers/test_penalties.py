"""Penalties of fit.

Exact values, the minimisers they have alone, and estimators that agree in expectation.
"""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prefsim import losses
from prefsim.analysis.bandit import kl_to_reference
from prefsim.data import Comparisons
from prefsim.gradients import gradient
from prefsim.policies import LogLinearPolicy, TabularPolicy
from prefsim.solvers import fit, gradient_descent, objective
from prefsim.solvers.optimisers.penalties import (
    cross_entropy_penalty,
    kl_penalty,
    online_kl_penalty,
    sampled_kl_penalty,
)
from prefsim.testing.bandits import bandits_with_reference


def slope(penalty, policy):
    return gradient(lambda theta: penalty(policy.with_parameters(theta)), policy.parameters)


@given(bandits_with_reference(), st.floats(0.0, 5.0))
def test_kl_penalty_is_the_expected_divergence(instance, weight):
    world, reference = instance
    policy = TabularPolicy(reference.logits[:, ::-1].copy())
    penalty = kl_penalty(reference, weight=weight, context_probs=world.context_probs)
    expected = weight * kl_to_reference(policy.log_probs, reference.log_probs, world)
    assert penalty(policy) == pytest.approx(float(expected), abs=1e-12)
    assert penalty(reference) == pytest.approx(0.0, abs=1e-12)


def test_kl_penalty_without_support_is_infinite_and_its_gradient_no_nan_where_it_is_finite():
    half = TabularPolicy.from_probs([[0.5, 0.5, 0.0]])
    assert kl_penalty(half, weight=1.0)(TabularPolicy.uniform(1, 3)) == np.inf
    assert kl_penalty(TabularPolicy.uniform(1, 3), weight=1.0)(half) == pytest.approx(np.log(1.5))


def test_a_weight_for_each_member_of_a_batch():
    reference = TabularPolicy.from_probs([[0.5, 0.3, 0.2]])
    policy = TabularPolicy(np.stack([np.zeros((1, 3))] * 3))
    values = kl_penalty(reference, weight=[0.0, 1.0, 2.0])(policy)
    assert values.shape == (3,)
    np.testing.assert_allclose(values, values[1] * np.arange(3))


@settings(max_examples=10)
@given(bandits_with_reference(max_responses=4))
def test_cross_entropy_alone_is_minimised_by_the_baseline(instance):
    world, reference = instance
    base = np.roll(reference.probs, 1, axis=-1)
    penalty = cross_entropy_penalty(base, weight=1.0, context_probs=world.context_probs)
    entropy = -np.sum(world.context_probs * np.sum(base * np.log(base), axis=-1))
    assert penalty(TabularPolicy.from_probs(base)) == pytest.approx(float(entropy))
    np.testing.assert_allclose(
        slope(penalty, reference).reshape(base.shape),
        world.context_probs[:, None] * (reference.probs - base),
        atol=1e-12,
    )


def test_cross_entropy_on_the_winners_is_the_sft_loss():
    rng = np.random.default_rng(0)
    chosen, rejected = np.array([0, 2, 0, 1]), np.array([1, 0, 2, 2])
    data, policy = (
        Comparisons(np.zeros(4, int), chosen, rejected),
        TabularPolicy.random(1, 3, seed=rng),
    )
    winners = np.bincount(chosen, minlength=3)[None] / 4
    sft = objective(policy, losses.sft, data)
    assert cross_entropy_penalty(winners, weight=1.0)(policy) == pytest.approx(
        float(sft), rel=1e-12
    )


def test_a_baseline_may_have_zeros():
    policy = TabularPolicy.from_probs([[0.5, 0.5, 0.0]])
    assert cross_entropy_penalty([[0.8, 0.2, 0.0]], weight=1.0)(policy) == pytest.approx(np.log(2))
    assert np.isfinite(slope(cross_entropy_penalty([[0.8, 0.2, 0.0]], weight=1.0), policy)).all()


@settings(max_examples=10)
@given(bandits_with_reference(max_responses=4), st.integers(1, 3))
def test_the_expected_estimator_has_the_gradient_of_the_divergence(instance, samples):
    world, reference = instance
    rng = np.random.default_rng(0)
    rho = world.context_probs
    features = rng.standard_normal((*reference.probs.shape, 2))
    for policy in (
        TabularPolicy.random(*reference.probs.shape, seed=rng),
        LogLinearPolicy.from_features(features, weights=[0.5, -1.0]),
    ):
        exact = slope(kl_penalty(reference, weight=0.7, context_probs=rho), policy)
        estimated = slope(
            sampled_kl_penalty(reference, weight=0.7, samples=samples, context_probs=rho), policy
        )
        np.testing.assert_allclose(estimated, exact, atol=1e-12)


def test_without_the_stop_gradient_the_entropy_creeps_in():
    reference, policy = (
        TabularPolicy.from_probs([[0.7, 0.2, 0.1]]),
        TabularPolicy.from_probs([[0.2, 0.5, 0.3]]),
    )
    biased = slope(
        sampled_kl_penalty(reference, weight=1.0, samples=1, differentiate_ratio=True), policy
    )
    exact = slope(kl_penalty(reference, weight=1.0), policy)

    def negative_entropy(p):
        return torch.sum(torch.exp(p.log_probs) * p.log_probs)

    np.testing.assert_allclose(biased - exact, slope(negative_entropy, policy), atol=1e-12)


def test_descent_on_the_expected_estimator_is_descent_on_the_divergence():
    reference = TabularPolicy.from_probs([[0.6, 0.3, 0.1]])
    start, data = TabularPolicy.uniform(1, 3), Comparisons([0, 0], [0, 1], [1, 2], prob=0.7)
    ends = []
    for make in (kl_penalty, sampled_kl_penalty):
        penalty = make(reference, weight=0.2)
        loss = functools.partial(losses.dpo, beta=0.5)
        ends.append(
            gradient_descent(
                start, loss, data, reference=reference, penalty=penalty, step=0.5, iterations=20
            )[0].policy.probs
        )
    np.testing.assert_allclose(ends[1], ends[0], atol=1e-13)


def test_a_strong_penalty_keeps_the_reference():
    reference = TabularPolicy.from_probs([[0.6, 0.3, 0.1]])
    data = Comparisons([0], [2], [0], prob=0.9)
    distances = []
    for weight in (0.01, 0.1, 1.0, 10.0):
        result = fit(
            reference,
            losses.dpo,
            data,
            reference=reference,
            penalty=kl_penalty(reference, weight=weight),
        )
        distances.append(np.abs(result.policy.probs - reference.probs).max())
    assert all(np.diff(distances) < 0)
    assert distances[-1] < 1e-2


@pytest.mark.parametrize("make", [kl_penalty, sampled_kl_penalty])
def test_bad_inputs(make):
    reference = TabularPolicy.uniform(1, 2)
    with pytest.raises(ValueError, match="weight must be >= 0, got -1"):
        make(reference, weight=-1.0)
    with pytest.raises(ValueError, match="weight must be finite"):
        make(reference, weight=np.nan)
    with pytest.raises(ValueError, match="context_probs must have trailing shape"):
        make(reference, weight=1.0, context_probs=[0.5, 0.5])


def test_bad_inputs_of_one():
    with pytest.raises(ValueError, match="base must sum to 1"):
        cross_entropy_penalty([[0.5, 0.6]], weight=1.0)
    with pytest.raises(ValueError, match="samples must be an integer >= 1"):
        sampled_kl_penalty(TabularPolicy.uniform(1, 2), weight=1.0, samples=0)


# --- samples that are drawn anew ---

THREE = TabularPolicy.from_probs([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])


def test_online_samples_are_drawn_anew_at_every_call_and_follow_the_seed():
    start = TabularPolicy.uniform(2, 3)
    first, again, other = (
        [slope(penalty, start) for _ in range(2)]
        for penalty in (online_kl_penalty(THREE, weight=1.0, seed=s, prompts=20) for s in (0, 0, 1))
    )
    np.testing.assert_array_equal(first, again)
    assert (first[0] != first[1]).any()
    assert (first[0] != other[0]).any()


@pytest.mark.parametrize("samples", [2, 3])
def test_online_samples_have_the_slope_of_the_divergence_in_the_mean(samples):
    rho, start = [0.25, 0.75], TabularPolicy.uniform(2, 3)
    online = online_kl_penalty(
        THREE, weight=2.0, seed=0, prompts=40_000, samples=samples, context_probs=rho
    )
    exact = slope(kl_penalty(THREE, weight=2.0, context_probs=rho), start)
    np.testing.assert_allclose(slope(online, start), exact, atol=0.01)
    assert np.abs(exact).max() > 0.1


def test_online_samples_of_each_member_of_a_batch_are_its_own():
    """Members that are equal, with weights 0, 1 and 2, and two runs of each."""
    batch = TabularPolicy(np.zeros((2, 3, 2, 3)))
    penalty = online_kl_penalty(THREE, weight=[0.0, 1.0, 2.0], seed=0, prompts=5)
    found = slope(penalty, batch).reshape(2, 3, 6)
    assert (found[:, 0] == 0).all()
    assert (found[0, 1:] != found[1, 1:]).any()
    assert (2 * found[:, 1] != found[:, 2]).any()
    assert penalty(batch).shape == (2, 3)


def test_samples_of_another_policy_are_no_divergence():
    """The reference itself draws: where it is sure, there is nothing to compare."""
    sure = TabularPolicy.from_probs([[1 - 2e-12, 1e-12, 1e-12]])
    start = TabularPolicy.uniform(1, 3)
    drawn = online_kl_penalty(sure, weight=1.0, seed=0, prompts=10, sampler=sure)
    np.testing.assert_allclose(slope(drawn, start), 0.0, atol=1e-12)
    assert np.abs(slope(kl_penalty(sure, weight=1.0), start)).max() > 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"samples": 1}, "samples must be"),
        ({"prompts": 0}, "prompts must be"),
        ({"weight": -1.0}, "weight must be >= 0"),
    ],
)
def test_online_refuses_what_is_out_of_range(wrong, message):
    with pytest.raises(ValueError, match=message):
        online_kl_penalty(THREE, **({"weight": 1.0, "seed": 0} | wrong))
