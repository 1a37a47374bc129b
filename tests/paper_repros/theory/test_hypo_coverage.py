"""Golden values of arXiv:2406.01462: coverage, the unseen response, the two experiments."""

import functools

import numpy as np
import pytest

from paper_repros import hypo_coverage as paper
from paper_repros._coverage_worlds import (
    LEVELS,
    LINEAR,
    Unseen,
    extrapolation_path,
    hybrid_paths,
    separation_value,
    worst_gaps,
)
from prefsim import losses
from prefsim.analysis.bandit import expected_reward, regularised_value
from prefsim.data import Comparisons
from prefsim.papers import Run
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, gradient_descent, objective
from prefsim.solvers.optimisers.penalties import kl_penalty

# δ, in-distribution error, gap and coverage of the policy with half its mass on the rare response.
GOLDEN = [
    (1e-1, 0.2382207143, 0.5058924306, 5.0),
    (1e-2, 0.0382666891, 0.6257862771, 50.0),
    (1e-4, 0.0006857003, 0.8565422121, 5000.0),
    (1e-8, 1.5376373e-7, 1.3170642296, 5e7),
]


@pytest.mark.parametrize(("delta", "error", "gap", "coverage"), GOLDEN)
def test_golden_values_of_the_rare_response(delta, error, gap, coverage):
    case = Unseen(delta)
    found = case.measure(0.5)
    assert found[0] == pytest.approx(error, abs=1e-10 if delta > 1e-6 else 1e-14)
    assert found[1] == pytest.approx(gap, abs=1e-10)
    assert found[2] == pytest.approx(coverage, rel=1e-9)
    assert expected_reward(case.policy(0.5).log_probs, case.world) == pytest.approx(
        0.4999773011, abs=1e-10
    )


def test_without_coverage_every_mass_has_the_same_loss_and_value_minus_infinity():
    case = Unseen(0.0)
    data = Comparisons.population(case.world, case.reference, distinct=True)
    policy = case.policy(np.array([0.0, 0.3, 0.9]))
    values = objective(
        policy, functools.partial(losses.dpo, beta=0.1), data, reference=case.reference
    )
    np.testing.assert_allclose(values, 0.5822031089, atol=1e-10)
    value = regularised_value(policy.log_probs, case.reference.log_probs, case.world, beta=0.1)
    assert np.isfinite(value[0])
    assert (value[1:] == -np.inf).all()


def test_optimal_value():
    assert separation_value(Unseen(1e-4)) == pytest.approx(0.930680, abs=5e-7)


def test_hybrid_descent_golden():
    """The values on record were measured with half the loss.

    Each ordered pair with ``π_ref π_ref P``, which sums to one half.
    """
    case = Unseen(1e-4)
    data = Comparisons.population(case.world, case.reference)
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
    # Steps twenty times as long as on record follow the same flow within 4 %.
    np.testing.assert_allclose(
        result.policy.probs[:, 0, 2], [0.01268, 0.00991, 0.00339, 0.00042], rtol=0.04
    )
    value = regularised_value(
        result.policy.log_probs, case.reference.log_probs, case.world, beta=0.1
    )
    np.testing.assert_allclose(value, [0.913997, 0.917890, 0.926663, 0.930267], atol=5e-5)


def test_hybrid_descent_on_the_full_loss_orders_the_levels():
    paths = hybrid_paths(Unseen(1e-4), step=20.0, iterations=500)
    assert paths.mass.shape == paths.gap.shape == paths.divergence.shape == (len(paths.steps), 4)
    np.testing.assert_allclose(paths.mass[0], 0.5)
    assert (np.diff(paths.gap[-1]) < 0).all()
    assert (np.diff(paths.divergence[-1]) < 0).all()
    assert paths.gap[-1, -1] < 1e-3


def test_extrapolation_golden():
    loss = functools.partial(losses.dpo, beta=1.0)
    fitted = fit(LINEAR.start, loss, LINEAR.data, reference=LINEAR.start).policy
    assert np.abs(fitted.probs - np.exp(LINEAR.optimum())).max() < 1e-9
    assert fitted.probs[0, LINEAR.best] == pytest.approx(0.543490, abs=5e-7)
    # On record as −1.306 and −3.172, again with weights that sum to one half.
    assert paper.mean_change(fitted.log_probs, "chosen") / 2 == pytest.approx(-1.306, abs=5e-4)
    assert paper.mean_change(fitted.log_probs, "rejected") / 2 == pytest.approx(-3.172, abs=5e-4)
    reference = np.full((1, 8), -np.log(8))
    assert regularised_value(fitted.log_probs, reference, LINEAR.world, beta=1.0) == pytest.approx(
        3.738898, abs=5e-7
    )
    table = LINEAR._replace(tabular=True)
    alone = fit(table.start, loss, table.data, reference=table.start).policy
    assert alone.probs[0, LINEAR.best] == pytest.approx(0.0031, abs=5e-5)
    assert regularised_value(alone.log_probs, reference, LINEAR.world, beta=1.0) == pytest.approx(
        2.976298, abs=5e-7
    )


def test_extrapolation_path_moves_away_from_the_data():
    steps, record = extrapolation_path(LINEAR, iterations=50)
    assert record.shape == (len(steps), 3)
    assert record[0] == pytest.approx(-np.log(8))
    assert record[-1, 0] > record[0, 0]
    assert (record[-1, 1:] < record[0, 1:]).all()


def test_only_a_bounded_reward_recovers_as_the_rare_response_vanishes():
    gaps = np.array([worst_gaps(Unseen(delta)) for delta in (1e-1, 1e-4, 1e-8)])
    assert (np.diff(gaps[:, 0]) > 0).all()
    assert (np.diff(gaps[:, 1]) < 0).all()
    assert gaps[-1, 1] < 1e-6


@pytest.mark.slow
def test_reproduction():
    result = paper.reproduce(Run(quick=True))
    assert [c for c in result.criteria if not c.passed] == []
    assert len(result.figure.axes) == 4
    assert {row["experiment"] for row in result.table} == {
        "separation",
        "extrapolation",
        "worst case",
    }
