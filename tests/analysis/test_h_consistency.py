"""Bounds of H-consistency: reference values, both sides of τ = 1 and 2, the ends of their range."""

import numpy as np
import pytest

from prefsim.analysis import (
    constant_minimisability_gap,
    h_consistency_bound,
    h_consistency_transformation,
    least_comp_sum_risk,
    minimisability_gap_bound,
    simple_h_consistency_bound,
)

LAW = np.asarray([0.5, 0.3, 0.15, 0.05])
TWO = np.asarray([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1]])
MU = np.asarray([0.6, 0.4])


@pytest.mark.parametrize(
    ("tau", "value"),
    [
        (0.0, 2.4809651165),
        (0.5, 1.6600343692),
        (1.0, 1.1421200430),
        (1.5, 0.7916954026),
        (1.8, 0.6152819455),
        (2.0, 0.5),
        (3.0, 0.25),
    ],
)
def test_least_risks(tau, value):
    assert least_comp_sum_risk(LAW, tau=tau) == pytest.approx(value, abs=1e-10)
    # A label that cannot be costs nothing.
    with_none = np.concatenate([LAW, [0.0]])
    assert least_comp_sum_risk(with_none, tau=tau) == pytest.approx(value, abs=1e-10)


@pytest.mark.parametrize(
    ("n_classes", "tau", "value"),
    [
        (2, 0.0, 0.0460607986),
        (2, 0.5, 0.0433502387),
        (2, 1.0, 0.0457005415),
        (2, 1.5, 0.0622687437),
        (2, 2.0, 0.15),
        (10, 1.5, 0.0278474287),
        (10, 2.0, 0.03),
    ],
)
def test_transformations(n_classes, tau, value):
    found = h_consistency_transformation(0.3, tau=tau, n_classes=n_classes)
    assert found == pytest.approx(value, abs=1e-10)


def test_inverses():
    known = {0.0: 0.3122498999, 0.5: 0.3216495947, 1.0: 0.3135631967, 1.5: 0.2974517446, 2.0: 0.15}
    for tau, value in known.items():
        assert h_consistency_bound(0.05, tau=tau, n_classes=3) == pytest.approx(value, abs=1e-10)
        assert h_consistency_bound(0.0, tau=tau, n_classes=3) < 1e-15
        assert h_consistency_bound(9.0, tau=tau, n_classes=3) == 1.0


def test_every_function_is_continuous_in_tau():
    for at, step in ((1.0, 1e-7), (2.0, 1e-5)):
        around = (at - step, at, at + step)
        risks = [least_comp_sum_risk(LAW, tau=tau) for tau in around]
        costs = [h_consistency_transformation(0.3, tau=tau, n_classes=2) for tau in around]
        np.testing.assert_allclose(risks, risks[1], atol=3 * step)
        np.testing.assert_allclose(costs, costs[1], atol=3 * step)


def test_small_errors_keep_their_digits():
    for tau in (0.0, 0.5, 1 - 1e-9, 1.0, 1.5, 1.9):
        # The first term of the series, β² 2^(1−τ) / (2 (2 − τ)).
        first = 2 ** (1 - tau) / (2 * (2 - tau))
        found = h_consistency_transformation(1e-5, tau=tau, n_classes=2) / 1e-10
        assert found == pytest.approx(first, rel=1e-5)


def test_gaps_of_constant_scorers():
    known = {
        0.0: 0.5154835541,
        0.5: 0.4186281824,
        1.0: 0.3772763492,
        1.5: 0.3711940100,
        2.0: 0.28,
        None: 0.28,
    }
    for tau, value in known.items():
        assert constant_minimisability_gap(MU, TWO, tau=tau) == pytest.approx(value, abs=1e-10)
    alike = np.stack([LAW, LAW])
    assert constant_minimisability_gap(MU, alike, tau=1.5) == pytest.approx(0.0, abs=1e-15)


def test_the_bound_of_a_gap_is_exact_for_the_sum_exponential():
    least = least_comp_sum_risk(MU @ TWO, tau=0.0)
    bound = minimisability_gap_bound(least, MU, TWO, tau=0.0)
    assert bound == pytest.approx(0.5154835541, abs=1e-10)
    assert minimisability_gap_bound(least, MU, TWO, tau=1.5) > 0.3711940100


def test_leading_axes():
    many = np.broadcast_to(TWO, (4, 2, 3))
    found = constant_minimisability_gap(MU, many, tau=0.5)
    np.testing.assert_allclose(found, np.full(4, 0.4186281824), atol=1e-10)
    gaps = np.asarray([[0.1, 0.2], [0.3, 1.0]])
    costs = h_consistency_transformation(gaps, tau=1.0, n_classes=2)
    assert costs.shape == (2, 2)
    assert costs[1, 1] == pytest.approx(np.log(2), rel=1e-15)
    np.testing.assert_allclose(h_consistency_bound(costs, tau=1.0, n_classes=2), gaps, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: least_comp_sum_risk(LAW, tau=-1.0), "tau must be a finite number >= 0"),
        (lambda: least_comp_sum_risk(LAW + 0.1, tau=1.0), "label_probs must"),
        (lambda: h_consistency_transformation(1.5, tau=1.0, n_classes=2), "gap must"),
        (
            lambda: h_consistency_transformation(0.5, tau=1.0, n_classes=1),
            "n_classes must be an integer >= 2",
        ),
        (lambda: h_consistency_bound(-0.1, tau=1.0, n_classes=2), "excess must be >= 0, got -0.1"),
        (
            lambda: simple_h_consistency_bound(-0.1, tau=1.0, n_classes=2),
            "excess must be >= 0, got -0.1",
        ),
        (
            lambda: minimisability_gap_bound(-1.0, MU, TWO, tau=1.0),
            "sum_exponential_risk must be finite and >= 0",
        ),
        (lambda: constant_minimisability_gap(LAW, TWO, tau=1.0), "context_probs"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
