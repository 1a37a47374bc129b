"""Closed-form optima against reference values, two other solvers and their own conditions."""

import cvxpy as cp
import numpy as np
import pytest
import torch
from array_api_strict import asarray as strict_asarray
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import wrightomega

from prefsim.analysis.bandit import regularised_value
from prefsim.divergences import DIVERGENCES, derivative
from prefsim.numerics import log_softmax
from prefsim.solvers import gibbs_log_policy, optimal_policy, regularised_optimum
from prefsim.testing.bandits import alphas, bandits_with_reference, betas, divergences, policies
from prefsim.worlds import ContextualBandit

REWARD, REFERENCE = np.asarray([1.0, 0.0, -1.0]), np.asarray([0.5, 0.3, 0.2])
# Multiplier and policy, of the optimum for each divergence.
OPTIMA = {
    "reverse_kl": (-0.4503094172, [0.78439876, 0.17313851, 0.04246273]),
    "forward_kl": (1.6706534702, [0.74554151, 0.17957045, 0.07488804]),
    "jensen_shannon": (0.7532312977, [0.88866332, 0.09237297, 0.01896372]),
    "alpha": (0.6181457324, [0.76382652, 0.17506270, 0.06111079]),
    "mixed_chi_squared": (-0.6195285384, [0.66624191, 0.24572698, 0.08803111]),
}
# (f')⁻¹ of the paper's table 1, as a ratio u.
INVERSES = {
    "reverse_kl": lambda v, alpha: np.exp(v - 1),
    "forward_kl": lambda v, alpha: -1 / v,
    "jensen_shannon": lambda v, alpha: np.exp(v) / (2 - np.exp(v)),
    "alpha": lambda v, alpha: (1 - alpha * v) ** (-1 / alpha),
    "mixed_chi_squared": lambda v, alpha: wrightomega(v),
}


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_multipliers_and_policies_of_three_responses(divergence):
    multiplier, policy = OPTIMA[divergence]
    found = regularised_optimum(
        REWARD, np.log(REFERENCE), beta=1.0, divergence=divergence, alpha=0.5
    )
    assert found.multiplier == pytest.approx(multiplier, abs=5e-11)
    np.testing.assert_allclose(np.exp(found.log_policy), policy, atol=5e-9, rtol=0)
    np.testing.assert_allclose(
        optimal_policy(REWARD, REFERENCE, beta=1.0, divergence=divergence),
        policy,
        atol=5e-9,
        rtol=0,
    )
    assert found.residual <= 1e-15


def _brentq_policy(reward, reference, beta, divergence, alpha):
    """Solve the same conditions one scalar at a time, in ratios rather than logs."""
    best = reward.max()
    # The multiplier lies above this edge of the inverse's domain, where there is one.
    edge = {
        "forward_kl": best,
        "jensen_shannon": best - beta * np.log(2),
        "alpha": best - beta / alpha,
    }.get(divergence, best - 40 * beta)

    def excess(multiplier):
        return (
            float(np.sum(reference * INVERSES[divergence]((reward - multiplier) / beta, alpha))) - 1
        )

    low, high = beta, beta
    while excess(edge + low) < 0:
        low /= 2
    while excess(edge + high) > 0:
        high *= 2
    root = (
        edge + brentq(lambda gap: excess(edge + gap), low, high, xtol=1e-15, rtol=8.9e-16)
        if low < high
        else edge + low
    )
    return reference * INVERSES[divergence]((reward - root) / beta, alpha)


@given(bandits_with_reference(max_contexts=1), betas(0.2, 5.0), alphas(0.1, 0.9), divergences())
def test_against_scalar_root_finding_in_scipy(instance, beta, alpha, divergence):
    world, reference = instance
    reward, ref = world.reward[0], reference.probs[0]
    found = optimal_policy(reward, ref, beta=beta, divergence=divergence, alpha=alpha)
    np.testing.assert_allclose(
        found, _brentq_policy(reward, ref, beta, divergence, alpha), atol=1e-10, rtol=1e-8
    )


def _cvxpy_divergence(policy, ref, divergence, alpha):
    if divergence == "reverse_kl":
        return cp.sum(cp.rel_entr(policy, ref))
    if divergence == "forward_kl":
        return cp.sum(cp.rel_entr(ref, policy))
    if divergence == "jensen_shannon":
        middle = 0.5 * (policy + ref)
        return cp.sum(cp.rel_entr(policy, middle)) + cp.sum(cp.rel_entr(ref, middle))
    if divergence == "alpha":
        return (1 - cp.sum(cp.multiply(ref**alpha, cp.power(policy, 1 - alpha)))) / (
            alpha * (1 - alpha)
        )
    return (
        cp.sum(cp.rel_entr(policy, ref))
        + 0.5 * cp.sum(cp.multiply(1 / ref, cp.square(policy)))
        - 0.5
    )


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_against_a_conic_solver(divergence, seed):
    rng = np.random.default_rng(seed)
    reward, ref = rng.standard_normal(6), rng.dirichlet(np.ones(6))
    policy = cp.Variable(6)
    value = reward @ policy - 0.4 * _cvxpy_divergence(policy, ref, divergence, 0.5)
    problem = cp.Problem(cp.Maximize(value), [cp.sum(policy) == 1, policy >= 0])
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    found = optimal_policy(reward, ref, beta=0.4, divergence=divergence, alpha=0.5)
    np.testing.assert_allclose(found, policy.value, atol=1e-5)
    world = ContextualBandit(reward=reward[None])
    reached = regularised_value(
        np.log(found)[None], np.log(ref)[None], world, beta=0.4, divergence=divergence, alpha=0.5
    )
    assert float(reached) == pytest.approx(problem.value, abs=1e-8)


@given(bandits_with_reference(), betas(0.1, 5.0), alphas(), divergences(), st.data())
def test_no_other_policy_is_better_and_the_conditions_hold(instance, beta, alpha, divergence, data):
    world, reference = instance
    found = regularised_optimum(
        world.reward, reference.log_probs, beta=beta, divergence=divergence, alpha=alpha
    )
    slope = world.reward - beta * derivative(
        found.log_policy - reference.log_probs, divergence, alpha=alpha
    )
    assert np.ptp(slope, axis=-1).max() <= 1e-9 * (1 + np.abs(slope).max())
    np.testing.assert_allclose(
        slope.mean(axis=-1), found.multiplier, atol=1e-9 * (1 + np.abs(slope).max())
    )
    other = data.draw(policies(world.n_contexts, world.n_responses, spread=4.0)).log_probs
    mine, theirs = (
        regularised_value(
            p, reference.log_probs, world, beta=beta, divergence=divergence, alpha=alpha
        )
        for p in (found.log_policy, other)
    )
    assert mine >= theirs - 1e-12


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("beta", [1e-6, 1e-3, 1e3, 1e6])
def test_extreme_penalties(divergence, beta):
    found = regularised_optimum(REWARD, np.log(REFERENCE), beta=beta, divergence=divergence)
    assert found.residual <= 1e-9
    probs = np.exp(found.log_policy)
    assert probs.sum() == pytest.approx(1, abs=1e-14)
    limit = np.asarray([1.0, 0.0, 0.0]) if beta < 1 else REFERENCE
    np.testing.assert_allclose(probs, limit, atol=3e-3 if beta == 1e3 or beta == 1e-3 else 3e-6)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_large_rewards_stay_in_log_space(divergence):
    found = regularised_optimum(1e4 * REWARD, np.log(REFERENCE), beta=1.0, divergence=divergence)
    assert np.isfinite(found.log_policy).all()
    assert np.all(np.diff(found.log_policy) < 0)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_responses_outside_the_reference_stay_outside(divergence):
    reference = np.asarray([0.5, 0.0, 0.3, 0.2])
    found = optimal_policy(
        np.asarray([1.0, 50.0, 0.0, -1.0]), reference, beta=1.0, divergence=divergence
    )
    assert found[1] == 0
    np.testing.assert_allclose(found[[0, 2, 3]], OPTIMA[divergence][1], atol=5e-9)
    one = optimal_policy(
        np.asarray([0.0, 7.0]), np.asarray([0.0, 1.0]), beta=1.0, divergence=divergence
    )
    np.testing.assert_array_equal(one, [0.0, 1.0])


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_a_batch_equals_its_members(divergence):
    rng = np.random.default_rng(3)
    reward, reference = rng.standard_normal((4, 5, 7)), rng.dirichlet(np.ones(7), 5)
    batch = optimal_policy(reward, reference, beta=0.3, divergence=divergence)
    assert batch.shape == (4, 5, 7)
    for i, j in np.ndindex(4, 5):
        np.testing.assert_allclose(
            batch[i, j],
            optimal_policy(reward[i, j], reference[j], beta=0.3, divergence=divergence),
            atol=1e-14,
        )


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_a_common_factor_of_reward_and_penalty_changes_nothing_nor_does_a_constant(divergence):
    found = optimal_policy(REWARD, REFERENCE, beta=0.7, divergence=divergence)
    np.testing.assert_allclose(
        optimal_policy(3 * REWARD, REFERENCE, beta=2.1, divergence=divergence), found, atol=1e-13
    )
    np.testing.assert_allclose(
        optimal_policy(REWARD + 5, REFERENCE, beta=0.7, divergence=divergence), found, atol=1e-13
    )


@given(bandits_with_reference(), betas(0.1, 5.0), alphas(), divergences())
def test_numpy_torch_and_the_strict_namespace_agree(instance, beta, alpha, divergence):
    world, reference = instance
    options = {"beta": beta, "divergence": divergence, "alpha": alpha}
    expected = regularised_optimum(world.reward, reference.log_probs, **options)
    for convert in (torch.as_tensor, strict_asarray):
        found = regularised_optimum(
            convert(world.reward.copy()), convert(reference.log_probs.copy()), **options
        )
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_allclose(one, np.asarray(other), rtol=1e-12, atol=1e-12)


def test_torch_probabilities_keep_their_dtype_and_gradient():
    reward = torch.tensor(REWARD, dtype=torch.float32, requires_grad=True)
    found = optimal_policy(reward, torch.tensor(REFERENCE, dtype=torch.float32), beta=1.0)
    found[0].backward()
    np.testing.assert_allclose(found.detach().numpy(), OPTIMA["reverse_kl"][1], atol=1e-7)
    p = np.asarray(OPTIMA["reverse_kl"][1])
    np.testing.assert_allclose(reward.grad.numpy(), p[0] * (np.eye(3)[0] - p), atol=1e-6)


@given(bandits_with_reference(), betas())
def test_the_gibbs_tilt_and_its_partition_function(instance, beta):
    world, reference = instance
    log_policy, log_partition = gibbs_log_policy(world.reward, reference.log_probs, beta=beta)
    total = np.log(np.sum(reference.probs * np.exp(world.reward / beta), axis=-1))
    np.testing.assert_allclose(log_partition, total, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        log_policy, log_softmax(reference.log_probs + world.reward / beta), atol=1e-12
    )
    np.testing.assert_allclose(
        world.reward,
        beta * (log_policy - reference.log_probs + log_partition[..., None]),
        atol=1e-10,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.0}, "beta must be a finite number > 0, got 0.0"),
        ({"beta": -1.0}, "beta must be a finite number > 0, got -1.0"),
        ({"beta": float("nan")}, "beta must be a finite number > 0, got nan"),
        (
            {"beta": 1.0, "divergence": "total_variation"},
            "divergence must be one of .* got 'total_variation'",
        ),
        (
            {"beta": 1.0, "divergence": "alpha", "alpha": 1.0},
            r"alpha must lie in \(0.0, 1.0\), got 1.0",
        ),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        optimal_policy(REWARD, REFERENCE, **options)


@pytest.mark.parametrize(
    ("reward", "reference", "message"),
    [
        (REWARD, np.asarray([0.5, 0.3, 0.3]), "reference must sum to 1 within 1e-09"),
        (REWARD, np.asarray([0.9, 0.3, -0.2]), "reference must be >= 0, got -0.2 at index 2"),
        (REWARD, np.asarray([0.5, np.nan, 0.5]), "reference must be finite, got nan at index 1"),
        (REWARD, np.zeros((3, 0)), "reference must hold at least one entry"),
        (np.asarray([1.0, np.inf, 0.0]), REFERENCE, "reward must be finite, got inf at index 1"),
        (
            np.asarray([[1.0, 0.0, np.nan]]),
            REFERENCE,
            r"reward must be finite, got nan at index \(0, 2\)",
        ),
        (np.zeros(2), REFERENCE, r"reward must have trailing shape \(3\), got \(2,\)"),
        (np.zeros((3, 1)), REFERENCE, r"reward must have trailing shape \(3\), got \(3, 1\)"),
    ],
)
def test_bad_arrays_are_refused(reward, reference, message):
    with pytest.raises(ValueError, match=message):
        optimal_policy(reward, reference, beta=1.0)
