"""arXiv:2406.01462: coverage, the response that is never seen, descent on HyPO, extrapolation."""

import functools

import numpy as np
import pytest

from paper_repros.theory.hypo_coverage.extrapolation import drawn
from paper_repros.theory.hypo_coverage.rare_response import (
    LEVELS,
    WORLD,
    Rare,
    exact_divergence,
    gap_bound,
    hybrid_paths,
    sampled_divergence,
)
from prefsim import losses
from prefsim.analysis.bandit import expected_reward, regularised_value
from prefsim.data import Comparisons
from prefsim.policies import TabularPolicy
from prefsim.solvers import gradient_descent, objective
from prefsim.solvers.optimisers.penalties import kl_penalty

LINEAR = drawn(1)


@pytest.mark.parametrize(
    ("delta", "error", "gap", "coverage"),
    [
        (1e-1, 0.2382207143, 0.5058924306, 5.0),
        (1e-2, 0.0382666891, 0.6257862771, 50.0),
        (1e-4, 0.0006857003, 0.8565422121, 5000.0),
        (1e-8, 1.5376373e-7, 1.3170642296, 5e7),
    ],
)
def test_half_of_the_mass_on_the_rare_response(delta, error, gap, coverage):
    case = Rare(delta)
    found = case.measure(0.5)
    assert found.error == pytest.approx(error, abs=1e-10 if delta > 1e-6 else 1e-14)
    assert found.gap == pytest.approx(gap, abs=1e-10)
    assert found.coverage == pytest.approx(coverage, rel=1e-9)
    reward = expected_reward(case.policy(0.5).log_probs, WORLD)
    assert reward == pytest.approx(0.4999773011, abs=1e-10)


def test_without_coverage_every_mass_has_the_same_loss_and_value_minus_infinity():
    case, dpo = Rare(0.0), functools.partial(losses.dpo, beta=0.1)
    data = Comparisons.population(WORLD, case.reference, distinct=True)
    policy = case.policy(np.array([0.0, 0.3, 0.9]))
    values = objective(policy, dpo, data, reference=case.reference)
    np.testing.assert_allclose(values, 0.5822031089, atol=1e-10)
    value = regularised_value(policy.log_probs, case.reference.log_probs, WORLD, beta=0.1)
    assert np.isfinite(value[0])
    assert (value[1:] == -np.inf).all()


def test_optimal_value():
    assert Rare(1e-4).optimal_value() == pytest.approx(0.930680, abs=5e-7)


def test_hybrid_descent_on_half_the_loss():
    """Each ordered pair with ``π_ref π_ref P``, which sums to one half."""
    case = Rare(1e-4)
    data = Comparisons.population(WORLD, case.reference)
    half = Comparisons(data.prompt, data.chosen, data.rejected, data.prob, data.weight / 2)
    result, _ = gradient_descent(
        TabularPolicy.from_probs([[0.25, 0.25, 0.5]]),
        functools.partial(losses.dpo, beta=0.1),
        half,
        reference=case.reference,
        penalty=kl_penalty(case.reference, weight=np.array(LEVELS)),
        step=10.0,
        iterations=1000,
    )
    # Measured with twenty times shorter steps: both follow the same flow within 4 %.
    expected = [0.01268, 0.00991, 0.00339, 0.00042]
    np.testing.assert_allclose(result.policy.probs[:, 0, 2], expected, rtol=0.04)
    value = case.optimal_value() - case.gap(result.policy.log_probs)
    np.testing.assert_allclose(value, [0.913997, 0.917890, 0.926663, 0.930267], atol=5e-5)


def test_samples_of_the_policy_lead_where_the_divergence_leads():
    """And samples of the reference do not: they hardly ever show what is to be removed."""
    case, last = Rare(1e-3), []
    for penalty in (
        exact_divergence(case),
        sampled_divergence(case, runs=8, seed=3),
        sampled_divergence(case, runs=8, seed=3, sampler=case.reference),
    ):
        paths = hybrid_paths(case, penalty, step=20.0, iterations=100)
        np.testing.assert_allclose(paths.mass[0], 0.5)
        last.append(paths.mean().gap[-1] if paths.gap.ndim == 3 else paths.gap[-1])
    exact, online, offline = last
    np.testing.assert_allclose(online, exact, rtol=0.1)
    assert (np.diff(exact) < 0).all()
    assert offline[-1] > 5 * exact[0]


def test_features_find_the_best_response():
    found = LINEAR.trained("log-linear")
    assert np.abs(np.exp(found) - np.exp(LINEAR.optimum())).max() < 1e-9
    assert np.exp(found[0, LINEAR.best]) == pytest.approx(0.543490, abs=5e-7)
    assert LINEAR.value(found) == pytest.approx(3.738898, abs=5e-7)
    _, *changes = LINEAR.mean_log_probs(found - LINEAR.log_reference)
    np.testing.assert_allclose(changes, [2 * -1.306, 2 * -3.172], atol=1e-3)


def test_a_table_loses_the_best_response():
    found = LINEAR.trained("tabular")
    assert np.exp(found[0, LINEAR.best]) == pytest.approx(0.0031, abs=5e-5)
    assert LINEAR.value(found) == pytest.approx(2.976298, abs=5e-7)


def test_extrapolation_path_moves_away_from_the_data():
    steps, record = LINEAR.path("log-linear", iterations=50)
    assert record.shape == (len(steps), 3)
    assert record[0] == pytest.approx(-np.log(8))
    assert record[-1, 0] > record[0, 0]
    assert (record[-1, 1:] < record[0, 1:]).all()


def test_only_a_bounded_reward_recovers_as_the_rare_response_vanishes():
    cases = [Rare(delta) for delta in (1e-1, 1e-4, 1e-8)]
    half = [case.measure(0.5) for case in cases]
    bounded = [case.bounded(found.error).gap for case, found in zip(cases, half, strict=True)]
    assert (np.diff([found.gap for found in half]) > 0).all()
    assert (np.diff(bounded) < 0).all()
    assert bounded[-1] < 1e-6


def test_the_bound_is_met_with_equality_where_two_responses_are_confused():
    """The data give either, the learned policy only the one and the best only the other."""
    learned, best, error = 2.0, 2.0, 2 * 1.0**2
    assert gap_bound(learned, best, error) == pytest.approx(2.0)
    assert gap_bound(1.0, 1.0 - 1e-16, error) == 0.0
