"""arXiv:2402.11296: judges with known weights, and people taken apart."""

import numpy as np
import pytest

from paper_repros.robust.preference_dissection.judges import (
    choices,
    shapley_values,
    study_families,
    win_over,
    win_rate,
    within_and_between,
)
from paper_repros.robust.preference_dissection.people import (
    SPOKEN,
    dissect_harmless,
    dissect_raters,
    dissect_schools,
)
from prefsim.numerics import sigmoid


def test_published_weight_as_a_probability():
    # Scenario Advice, people: a response that is rich in information and else the same.
    assert sigmoid(np.asarray(0.5977)) == pytest.approx(0.645, abs=5e-4)


def test_win_rates_count_all_combinations():
    weights = np.array([0.7, -0.4])
    odds = np.add.outer(0.7 * np.array([-1, 0, 0, 1]), -0.4 * np.array([-1, 0, 0, 1]))
    assert win_rate(weights, np.array([False, False])) == pytest.approx(sigmoid(odds).mean())
    assert sigmoid(odds).mean() == pytest.approx(0.5)
    odds = np.add.outer(0.7 * np.array([0, 1]), -0.4 * np.array([-1, 0, 0, 1]))
    assert win_rate(weights, np.array([True, False])) == pytest.approx(sigmoid(odds).mean())


def test_judges_choose_by_the_logistic_law_whatever_stands_first():
    odds = np.repeat([-1.0, 0.0, 2.0], 20_000)
    chosen = choices(odds, np.random.default_rng(0)).reshape(3, -1).mean(axis=1)
    np.testing.assert_allclose(chosen, sigmoid(np.array([-1.0, 0.0, 2.0])), atol=0.015)


def test_families_are_told_apart():
    within, between = within_and_between(study_families(np.random.default_rng(0)).alike())
    assert within.size == 6
    assert between.size == 9
    assert within.min() > between.max() + 0.3


def test_a_judge_is_won_over():
    judge = win_over(np.random.default_rng(0))
    assert judge.wins[0] < 0.45 < judge.wins[1] < 0.55 < judge.wins[2]
    assert np.abs(judge.mean - judge.weights).mean() < 0.15


def test_shapley_values_of_a_product():
    # Two must come together: each deserves half.
    np.testing.assert_allclose(shapley_values(np.array([[0.0, 0.0], [0.0, 1.0]])), [0.5, 0.5])


def test_harmless_answers(real_data):
    found = dissect_harmless(real_data, splits=2, seed=0)
    assert found.pairs == 2307
    weights = dict(zip(found.weights.names, found.weights.mean, strict=True))
    assert weights["length"] == pytest.approx(-0.428, abs=0.01)
    assert weights["apologies"] == pytest.approx(0.598, abs=0.02)
    assert (found.losses < np.log(2)).all()


def test_raters_and_students(real_data):
    raters = dissect_raters(real_data, pairings=100, seed=0)
    assert raters.own.size == 39
    assert raters.own.mean() == pytest.approx(0.847, abs=0.005)
    assert raters.others == pytest.approx(0.782, abs=0.005)
    schools = dissect_schools(real_data, seed=0)
    for language, weights in schools.items():
        assert weights.names[np.argmax(weights.mean)] == SPOKEN[language]


def test_without_people_those_parts_are_not_run(tmp_path):
    assert dissect_harmless(tmp_path, splits=1, seed=0) is None
    assert dissect_raters(tmp_path, pairings=1, seed=0) is None
    assert dissect_schools(tmp_path, seed=0) is None
