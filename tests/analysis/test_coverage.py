"""Coverage against reference values, constrained optimisation and the definition.

Zeros give inf, never NaN.
"""

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from prefsim.analysis.bandit import kl_to_reference
from prefsim.analysis.coverage import (
    concentrability,
    global_coverage,
    in_distribution_reward_error,
    kl_ball_coverage,
    partial_coverage_coefficient,
)
from prefsim.data import Comparisons
from prefsim.policies import TabularPolicy
from prefsim.solvers.games.pessimism import win_weights
from prefsim.testing.bandits import bandits_with_reference, policies, tables
from prefsim.worlds import ContextualBandit

THREE = np.log([[0.7, 0.2, 0.1]])
RADII = st.floats(-12.0, 1.0).map(lambda e: 10.0**e)


@pytest.mark.parametrize(
    ("radius", "expected"),
    [(0.1, 2.568664017), (0.5, 4.950507496), (1.0, 6.892172265), (3.0, 10.0)],
)
def test_values_of_three_responses(radius, expected):
    assert kl_ball_coverage(THREE, radius).value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("q", "expected"), [(1e-2, 35.72905727), (1e-4, 1554.786588), (1e-8, 6773597.944)]
)
def test_values_of_rare_responses(q, expected):
    assert kl_ball_coverage(np.log([[1 - q, q]]), 1.0).value == pytest.approx(expected, rel=1e-9)


def test_no_random_policy_of_the_ball_has_a_larger_ratio():
    draws = np.random.default_rng(0).dirichlet(np.full(3, 0.5), size=(400_000, 1))
    log_policy = np.log(np.maximum(draws, 1e-300))
    inside = np.sum(draws * (log_policy - THREE), axis=(-2, -1)) <= 0.5
    largest = concentrability(log_policy[inside], THREE).max()
    assert largest <= 4.950507496
    assert largest == pytest.approx(4.950507496, abs=1e-2)


@given(bandits_with_reference(max_responses=4), RADII)
def test_the_adversary_attains_the_value_within_the_budget(instance, radius):
    world, reference = instance
    rho, log_q = world.context_probs, reference.log_probs
    ball = kl_ball_coverage(log_q, radius, context_probs=rho)
    x, y = np.unravel_index(np.argmax(ball.log_ratio), log_q.shape)
    mass = min(1.0, np.exp(log_q[x, y] + ball.log_ratio[x, y]))
    probs = np.exp(log_q)
    probs[x] *= (1 - mass) / (1 - probs[x, y])
    probs[x, y] = mass
    with np.errstate(divide="ignore"):
        log_policy = np.log(probs)
    assert concentrability(log_policy, log_q, context_probs=rho) == pytest.approx(
        float(ball.value), rel=1e-9
    )
    spent = kl_to_reference(log_policy, log_q, world)
    assert spent == pytest.approx(ball.spent[x, y], rel=1e-6, abs=1e-14)
    assert ball.spent.max() <= radius * (1 + 1e-12)
    assert ball.value <= global_coverage(log_q, context_probs=rho) * (1 + 1e-12)


def test_against_a_general_constrained_optimiser():
    rho, q = np.array([0.3, 0.7]), np.array([[0.5, 0.3, 0.2], [0.25, 0.25, 0.5]])

    def kl(z):
        logits = z.reshape(2, 3)
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        return rho @ np.sum(p * np.log(p / q), axis=1), p

    best = 0.0
    for x, y in np.ndindex(2, 3):
        found = minimize(
            lambda z, x=x, y=y: -np.log(kl(z)[1][x, y] / q[x, y]),
            np.log(q).ravel(),
            constraints={"type": "ineq", "fun": lambda z: 0.2 - kl(z)[0]},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        best = max(best, np.exp(-found.fun))
    assert kl_ball_coverage(np.log(q), 0.2, context_probs=rho).value == pytest.approx(
        best, rel=1e-6
    )


@given(bandits_with_reference(), RADII, st.floats(1.0, 10.0))
def test_coverage_grows_with_the_ball_up_to_the_global_one(instance, radius, factor):
    world, reference = instance
    rho, log_q = world.context_probs, reference.log_probs
    small, large = kl_ball_coverage(
        log_q, np.array([radius, radius * factor]), context_probs=rho
    ).value
    assert 1.0 - 1e-12 <= small <= large * (1 + 1e-12)
    enough = float((-(log_q * rho[:, None])).max())
    assert kl_ball_coverage(log_q, enough * (1 + 1e-12), context_probs=rho).value == pytest.approx(
        float(global_coverage(log_q, context_probs=rho)), rel=1e-9
    )


def test_a_radius_of_zero_is_the_reference_and_small_balls_keep_their_digits():
    assert kl_ball_coverage(THREE, 0.0).value == 1.0
    # To first order the ratio is 1 + sqrt(2 ε (1 − q) / q) for the rarest response.
    for radius in (1e-12, 1e-20, 1e-28):
        growth = kl_ball_coverage(THREE, radius).log_ratio.max()
        assert growth == pytest.approx(
            np.sqrt(2 * radius * 0.9 / 0.1), rel=1e-4 if radius > 1e-15 else 1e-7
        )


def test_zeros_of_the_reference():
    with np.errstate(divide="ignore"):
        log_q, log_p = np.log([[1.0, 0.0], [0.5, 0.5]]), np.log([[0.9, 0.1], [0.5, 0.5]])
        one_sided = np.log([[0.0, 1.0]])
    assert global_coverage(log_q) == np.inf
    assert concentrability(log_p, log_q) == np.inf
    assert concentrability(log_q, log_q) == 1.0
    assert concentrability(one_sided, np.log([[0.5, 0.5]])) == 2.0
    assert list(kl_ball_coverage(log_q, np.array([0.0, 10.0, np.inf])).value) == [1.0, 2.0, np.inf]
    assert kl_ball_coverage(np.array([[0.0, -2000.0]]), 1e4).value == np.inf


def test_contexts_that_never_occur_do_not_count():
    rho, log_q = np.array([1.0, 0.0]), np.log([[0.5, 0.5], [0.999, 0.001]])
    assert global_coverage(log_q, context_probs=rho) == pytest.approx(2.0)
    assert kl_ball_coverage(log_q, 0.1, context_probs=rho).value == pytest.approx(
        float(kl_ball_coverage(log_q[:1], 0.1).value)
    )


@given(
    bandits_with_reference(max_responses=4).flatmap(
        lambda i: st.tuples(st.just(i), tables(i[0].reward.shape, low=-3.0, high=3.0))
    )
)
def test_reward_error_is_the_mean_over_pairs(case):
    (world, reference), estimate = case
    pairs = Comparisons.population(world, reference)
    off = estimate - world.reward
    direct = (
        pairs.weight @ (off[pairs.prompt, pairs.chosen] - off[pairs.prompt, pairs.rejected]) ** 2
    )
    error = in_distribution_reward_error(
        estimate, world.reward, reference.log_probs, context_probs=world.context_probs
    )
    assert error == pytest.approx(direct, rel=1e-9, abs=1e-12)
    shifted = in_distribution_reward_error(
        estimate + 5.0, world.reward, reference.log_probs, context_probs=world.context_probs
    )
    assert shifted == pytest.approx(direct, rel=1e-9, abs=1e-12)


def test_reward_error_ignores_what_the_data_never_show():
    with np.errstate(divide="ignore"):
        log_data = np.log([[0.5, 0.5, 0.0]])
    assert (
        in_distribution_reward_error(
            np.array([[1.0, 0.0, np.inf]]), np.array([[1.0, 0.0, 0.0]]), log_data
        )
        == 0.0
    )


def _sampled_supremum(difference, pairs, features, rng):
    """The ratio at many directions of the reward, the best of which a local search refines."""

    def ratio(direction):
        values = features @ direction
        gaps = values[:, :, None] - values[:, None, :]
        return (difference * values).sum() / np.sqrt((pairs * gaps**2).sum())

    starts = max(rng.standard_normal((50, features.shape[-1])), key=ratio)
    return -minimize(lambda d: -ratio(d), starts, method="BFGS", options={"gtol": 1e-10}).fun


@pytest.mark.parametrize("seed", range(3))
def test_partial_coverage_is_the_supremum(seed):
    rng = np.random.default_rng(seed)
    world, sampling = ContextualBandit.random(2, 4, seed=rng), TabularPolicy.random(2, 4, seed=rng)
    policy, base = TabularPolicy.random(2, 4, seed=rng), TabularPolicy.random(2, 4, seed=rng)
    pairs = win_weights(Comparisons.population(world, sampling), 2, 4)
    difference = 0.5 * (policy.probs - base.probs)
    for features in (np.eye(8).reshape(2, 4, 8), rng.standard_normal((2, 4, 3))):
        expected = _sampled_supremum(difference, pairs, features, rng)
        given_features = None if features.shape[-1] == 8 else features
        found = partial_coverage_coefficient(
            policy.log_probs, base.log_probs, pairs, features=given_features
        )
        assert found == pytest.approx(expected, rel=1e-5)


def test_partial_coverage_is_infinite_where_the_pairs_do_not_compare():
    pairs = np.zeros((1, 3, 3))
    pairs[0, 0, 1] = 1.0
    base, policy = np.log([[0.5, 0.4, 0.1]]), np.log([[0.3, 0.3, 0.4]])
    assert partial_coverage_coefficient(policy, base, pairs) == np.inf
    assert partial_coverage_coefficient(base, base, pairs) == 0.0
    # A feature shared by the unseen response brings it back.
    features = np.array([[[0.0], [1.0], [1.0]]])
    assert partial_coverage_coefficient(policy, base, pairs, features=features) == pytest.approx(
        0.7 - 0.5
    )


@settings(max_examples=5)
@given(policies(2, 3), policies(2, 3))
def test_other_array_libraries_agree(policy, reference):
    log_p, log_q = policy.log_probs, reference.log_probs
    results = []
    for convert in (np.asarray, torch.as_tensor, array_api_strict.asarray):
        p, q = convert(log_p), convert(log_q)
        ball = kl_ball_coverage(q, 0.3)
        pairs = convert(np.full((2, 3, 3), 1 / 18))
        parts = (
            concentrability(p, q),
            global_coverage(q),
            ball.value,
            in_distribution_reward_error(p, q, q),
        )
        results.append(
            [float(part) for part in (*parts, partial_coverage_coefficient(p, q, pairs))]
        )
    np.testing.assert_allclose(results[1], results[0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(results[2], results[0], rtol=1e-9, atol=1e-9)


def test_leading_axes_are_independent():
    rng = np.random.default_rng(0)
    batch = TabularPolicy.random(2, 3, seed=rng, batch_shape=(4,)).log_probs
    radius = np.array([0.1, 0.2, 0.5, 2.0])
    whole = kl_ball_coverage(batch, radius).value
    assert whole.shape == (4,)
    np.testing.assert_array_equal(
        whole, [kl_ball_coverage(one, r).value for one, r in zip(batch, radius, strict=True)]
    )
    assert global_coverage(batch).shape == concentrability(batch, batch[0]).shape == (4,)


@pytest.mark.parametrize("radius", [-0.1, np.nan])
def test_bad_radius(radius):
    with pytest.raises(ValueError, match="radius must be >= 0"):
        kl_ball_coverage(THREE, radius)


def test_bad_shapes_and_contexts():
    with pytest.raises(ValueError, match="log_policy must have trailing shape"):
        concentrability(np.zeros((1, 2)), THREE)
    with pytest.raises(ValueError, match="context_probs must sum to 1"):
        global_coverage(THREE, context_probs=[0.5])
    with pytest.raises(ValueError, match="context_probs must have trailing shape"):
        global_coverage(THREE, context_probs=[0.5, 0.5])
    with pytest.raises(ValueError, match="log-probabilities must have trailing shape"):
        global_coverage(THREE[0])
    with pytest.raises(ValueError, match="pair_weight must have trailing shape"):
        partial_coverage_coefficient(THREE, THREE, np.zeros((1, 2, 2)))
