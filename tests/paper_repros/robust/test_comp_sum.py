"""arXiv:2304.07288: tightness by hand, every loss compared, robust features, flipped labels."""

import sys

import numpy as np
import pytest

from paper_repros.robust.comp_sum import noisy_sets, one_input
from paper_repros.robust.comp_sum.linear_scorers import (
    Drawn,
    collapse_radius,
    isotropic,
    trained,
    with_fragile_feature,
)
from paper_repros.robust.comp_sum.one_input import Input, Perturbed, every_setting
from prefsim.analysis import h_consistency_transformation
from prefsim.containers import ClassLogits
from prefsim.data.labelled_sets import LabelledSet
from prefsim.losses import container_of, loss_functions
from prefsim.papers import Run

# --- one input ---


def test_the_bound_of_generalised_cross_entropy_is_not_tight_for_three_classes():
    found = one_input.two_labels(1.0, 3).excess(1.5)
    assert found == pytest.approx(0.5857864376, abs=1e-10)
    bound = h_consistency_transformation(1.0, tau=1.5, n_classes=3)
    assert bound == pytest.approx(0.4782926235, abs=1e-10)


def test_tied_scores_decide_for_the_worst_label():
    law = np.asarray([0.5, 0.2, 0.3])
    assert Input(law, np.asarray([1.0, 1.0, 0.0])).gap() == pytest.approx(0.3)
    assert Input(law, np.asarray([1.0, 0.0, 0.0])).gap() == 0.0


def test_the_minimiser_of_a_constant_scorer_errs_at_no_excess_risk():
    """Left without its gap the bound would be zero, and the error is .28."""
    population = one_input.Population(one_input.WEIGHT, one_input.LAWS, np.zeros((2, 3)))
    best = one_input.best_constant(population, 1.0)
    mixed = Input(best.weight @ best.law, best.scores[0])
    assert mixed.excess(1.0) == pytest.approx(0.0, abs=1e-15)
    assert best.gap() == pytest.approx(0.28, abs=1e-15)
    assert best.excess(1.0) == pytest.approx(0.3772763492, abs=1e-10)


def test_the_coefficient_of_an_adversarial_error_stands_on_the_left():
    at = one_input.swapped_first_two(np.asarray([0.7, 0.3]))
    assert at.zero_one_excess() == pytest.approx(0.4)
    assert at.ramp_excess(1.0, 1.0) == pytest.approx(0.277259, abs=1e-6)


def test_an_adversary_finds_the_one_place_that_ties():
    law = np.asarray([0.8, 0.2])
    assert Perturbed(law, np.asarray([[2.0, 0.0], [1.0, 0.5]])).zero_one_excess() == 0.0
    tied = Perturbed(law, np.asarray([[2.0, 0.0], [0.5, 0.5]]))
    assert tied.zero_one_excess() == pytest.approx(0.8)


# --- every loss ---


def test_every_classification_loss_is_compared():
    shown = {setting.loss for setting in every_setting().values()}
    functions = {getattr(loss, "func", loss).__name__ for loss in shown}
    # Two go by the τ that they are.
    wanted = {n for n, loss in loss_functions().items() if container_of(loss) is ClassLogits}
    assert wanted - {"cross_entropy", "mae"} <= functions
    assert wanted >= {"aldr_kl", "comp_sum", "crammer_singer", "ldr_kl", "linear_symmetric"}


def test_tempered_cross_entropy_costs_its_temperature():
    gaps = np.asarray([0.3, 1.0])
    cost = every_setting()["LDR-KL, λ = 2"].cost(gaps)
    once = h_consistency_transformation(gaps, tau=1.0, n_classes=3)
    np.testing.assert_allclose(cost, 2 * once, rtol=1e-15)
    ramps = every_setting()["ramps (ρ = 1, τ = 1)"].cost(gaps)
    np.testing.assert_allclose(ramps, np.log(2) * gaps, rtol=1e-15)
    np.testing.assert_allclose(every_setting()["linear_symmetric"].cost(gaps), gaps, rtol=1e-15)


# --- adversaries ---


def test_features():
    data = with_fragile_feature(3000, 0)
    assert data.inputs.shape == (3000, 4)
    by_class = np.stack([data.inputs[data.label == k].mean(axis=0) for k in range(3)])
    np.testing.assert_allclose(by_class[:, :2], 3 * one_input.THREE, atol=0.15)
    np.testing.assert_allclose(by_class[:, 2:], 0.05 * one_input.THREE, atol=1e-3)
    assert isotropic(10, 0).inputs.shape == (10, 2)


def test_the_scorer_collapses_where_the_slope_at_zero_says():
    data = Drawn(3.0 * one_input.THREE, np.arange(3))
    just_below, just_above = (
        trained(data, tau=1.0, radius=factor * collapse_radius(1.0), ridge=0.0, seed=0)
        for factor in (0.9, 1.1)
    )
    assert collapse_radius(1.0) == pytest.approx(1.0)
    # At τ = 1 the loss is convex, so that the zero scorer is the only minimum.
    # What all classes have in common decides nothing, and costs nothing.
    below, above = (np.ptp(scorer.weights, axis=0).max() for scorer in (just_below, just_above))
    assert below > 0.01
    assert above < 1e-4


# --- flipped labels ---


def test_flipped_labels_and_training():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 300)
    data = LabelledSet(3.0 * np.eye(3)[label] + rng.standard_normal((300, 3)), label)
    sets = noisy_sets.splits_of(data, 200, noisy_sets.NOISES, range(2))
    assert sets.inputs.shape == (8, 200, 3)
    # The splits of one seed are the same under every noise, and only training labels flip.
    np.testing.assert_array_equal(sets.test_label[0], sets.test_label[2])
    clean = sets.observed[:2]
    flipped = [np.mean(sets.observed[2 * k : 2 * k + 2] != clean) for k in range(4)]
    np.testing.assert_allclose(flipped, [0.0, 0.4, 0.3, 0.3], atol=0.1)
    found = noisy_sets.accuracies(sets, 1.0, steps=40, seed=0)
    assert found.shape == (8,)
    assert found[:2].min() > 0.85
    plain = noisy_sets.accuracies(sets, 2.0, steps=2, seed=0, optimiser=noisy_sets.PLAIN)
    assert not np.array_equal(plain, found)


def test_without_scikit_learn_real_data_are_left_out(monkeypatch):
    from paper_repros.robust.comp_sum import reproduction

    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    studies, plain = reproduction.real_data(Run(quick=True), range(1))
    assert studies == []
    assert plain is None
    assert reproduction.criteria_of_real_data(studies, plain) == ()
