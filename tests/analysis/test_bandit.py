"""Exact values of policies: against plain sums, their identities, and bad input."""

import math

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given

from prefsim.analysis.bandit import (
    divergence_to_reference,
    expected_reward,
    kl_to_reference,
    regularised_value,
    suboptimality,
)
from prefsim.divergences import DIVERGENCES
from prefsim.policies import TabularPolicy
from prefsim.solvers import regularised_optimum
from prefsim.testing.bandits import alphas, bandits_with_reference, betas, divergences
from prefsim.worlds import ContextualBandit

WORLD = ContextualBandit(reward=[[1.0, 0.0], [2.0, -4.0]], context_probs=[0.75, 0.25])
POLICY, REFERENCE = np.log([[0.5, 0.5], [0.25, 0.75]]), np.log([[0.25, 0.75], [0.5, 0.5]])


def test_by_hand():
    assert expected_reward(POLICY, WORLD) == pytest.approx(
        0.75 * 0.5 + 0.25 * (0.5 - 3.0), abs=1e-15
    )
    one, two = (
        0.5 * math.log(2) + 0.5 * math.log(2 / 3),
        0.25 * math.log(0.5) + 0.75 * math.log(1.5),
    )
    assert kl_to_reference(POLICY, REFERENCE, WORLD) == pytest.approx(
        0.75 * one + 0.25 * two, abs=1e-15
    )
    assert suboptimality(POLICY, WORLD) == pytest.approx(
        0.75 + 0.5 - expected_reward(POLICY, WORLD), abs=1e-15
    )
    assert suboptimality(POLICY, WORLD, comparator=POLICY) == 0
    value = regularised_value(POLICY, REFERENCE, WORLD, beta=2.0)
    assert value == pytest.approx(
        expected_reward(POLICY, WORLD) - 2 * kl_to_reference(POLICY, REFERENCE, WORLD), abs=1e-15
    )


@given(bandits_with_reference(), betas(0.2))
def test_what_the_gibbs_policy_loses_to_is_its_divergence(instance, beta):
    """J(π*) − J(π) = β KL(π‖π*), for π the reference."""
    world, reference = instance
    best = regularised_optimum(world.reward, reference.log_probs, beta=beta).log_policy
    lost = regularised_value(best, reference.log_probs, world, beta=beta) - regularised_value(
        reference.log_probs, reference.log_probs, world, beta=beta
    )
    assert lost == pytest.approx(
        beta * kl_to_reference(reference.log_probs, best, world), rel=1e-9, abs=1e-12
    )


@given(bandits_with_reference(), divergences(), alphas())
def test_divergences_are_means_over_contexts_and_zero_at_home(instance, divergence, alpha):
    world, reference = instance
    options = {"divergence": divergence, "alpha": alpha}
    table = np.roll(reference.log_probs, 1, axis=-1)
    rows = [
        float(
            divergence_to_reference(
                table[i : i + 1],
                reference.log_probs[i : i + 1],
                ContextualBandit(reward=world.reward[i : i + 1]),
                **options,
            )
        )
        for i in range(world.n_contexts)
    ]
    found = divergence_to_reference(table, reference.log_probs, world, **options)
    assert found == pytest.approx(float(world.context_probs @ rows), rel=1e-12, abs=1e-14)
    assert (
        abs(divergence_to_reference(reference.log_probs, reference.log_probs, world, **options))
        <= 1e-14
    )


@given(bandits_with_reference())
def test_the_best_policy_loses_nothing_and_nobody_gains_on_it(instance):
    world, reference = instance
    with np.errstate(divide="ignore"):
        best = np.log(np.eye(world.n_responses)[np.argmax(world.reward, axis=-1)])
    assert abs(suboptimality(best, world)) <= 1e-14
    assert suboptimality(reference.log_probs, world) >= -1e-14


def test_batches_and_missing_support():
    tables = np.stack([POLICY, REFERENCE, np.asarray([[0.0, -math.inf], [-math.inf, 0.0]])])
    rewards = expected_reward(tables, WORLD)
    assert rewards.shape == (3,)
    assert rewards[2] == pytest.approx(0.75 - 1.0)
    assert np.isfinite(kl_to_reference(tables, REFERENCE, WORLD)).all()
    assert kl_to_reference(POLICY, tables[2], WORLD) == math.inf


def test_numpy_torch_and_the_strict_namespace_agree():
    functions = [
        lambda p, q: expected_reward(p, WORLD),
        lambda p, q: suboptimality(p, WORLD),
        lambda p, q: suboptimality(p, WORLD, comparator=q),
        *(
            lambda p, q, d=d: regularised_value(p, q, WORLD, beta=0.5, divergence=d)
            for d in DIVERGENCES
        ),
    ]
    for function in functions:
        expected = float(function(POLICY, REFERENCE))
        for convert in (torch.as_tensor, array_api_strict.asarray):
            assert float(
                function(convert(POLICY.copy()), convert(REFERENCE.copy()))
            ) == pytest.approx(expected, abs=1e-14)


def test_torch_carries_the_graph():
    logits = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)
    expected_reward(torch.log_softmax(logits, dim=-1), WORLD).backward()
    np.testing.assert_allclose(
        logits.grad.numpy(), [[0.75 * 0.25, -0.75 * 0.25], [0.25 * 1.5, -0.25 * 1.5]], atol=1e-15
    )


def test_bad_input_is_refused():
    with pytest.raises(
        ValueError, match=r"log_policy must have trailing shape \(2, 2\), got \(2, 3\)"
    ):
        expected_reward(np.zeros((2, 3)), WORLD)
    with pytest.raises(
        ValueError, match=r"log_reference must have trailing shape \(2, 2\), got \(1, 2\)"
    ):
        kl_to_reference(POLICY, REFERENCE[:1], WORLD)
    with pytest.raises(ValueError, match="world must have a reward"):
        expected_reward(POLICY, ContextualBandit(preference=np.full((2, 2, 2), 0.5)))
    with pytest.raises(ValueError, match="beta must be a finite number > 0"):
        regularised_value(POLICY, REFERENCE, WORLD, beta=0.0)
    with pytest.raises(ValueError, match="divergence must be one of"):
        divergence_to_reference(POLICY, REFERENCE, WORLD, divergence="tv")


def test_policies_of_the_library_fit_in():
    policy = TabularPolicy.from_probs(np.exp(POLICY))
    assert expected_reward(policy.log_probs, WORLD) == pytest.approx(
        expected_reward(POLICY, WORLD), abs=1e-15
    )
