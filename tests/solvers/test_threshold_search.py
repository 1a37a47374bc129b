"""Thresholds found by trying: what a trial costs, and what is taken over."""

import numpy as np
import pytest

from prefsim.solvers import search_thresholds


def bowl(thresholds):
    return -float((thresholds[0] - 0.7) ** 2 + 3 * (thresholds[1] + 0.2) ** 2)


def test_the_best_of_what_was_tried_is_returned():
    found = search_thresholds(bowl, [0.0, 0.0], tolerance=1e-5, max_evaluations=200)
    assert found.converged
    np.testing.assert_allclose(found.thresholds, [0.7, -0.2], atol=1e-4)
    assert found.score == found.scores.max() == bowl(found.thresholds)
    np.testing.assert_array_equal([bowl(each) for each in found.tried], found.scores)
    np.testing.assert_array_equal(found.tried[:3], [[0, 0], [0.1, 0], [0, 0.1]])


def test_evaluations_end_the_search():
    found = search_thresholds(bowl, [0.0, 0.0], tolerance=1e-9, max_evaluations=7)
    assert len(found.scores) == 7 and not found.converged


def test_a_trial_near_an_earlier_one_costs_nothing():
    asked = []

    def counted(thresholds):
        asked.append(thresholds.copy())
        return bowl(thresholds)

    found = search_thresholds(counted, [0.0, 0.0], tolerance=1e-3, nearby=0.02)
    assert len(asked) == len(found.scores)
    apart = np.abs(np.subtract.outer(found.tried, found.tried).diagonal(axis1=1, axis2=3)).max(-1)
    assert (apart[~np.eye(len(asked), dtype=bool)] > 0.02).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": [[0.0]]}, "start must have 1 axes"),
        ({"start": [np.nan]}, "start must be finite"),
        ({"start": []}, "start must hold at least one"),
        ({"score": 3}, "score must be"),
        ({"score": lambda x: -np.inf}, "score must be finite, got -inf at"),
        ({"max_evaluations": 1}, "max_evaluations must be"),
    ],
)
def test_bad_input(change, message):
    given = {"score": lambda x: -float(x @ x), "start": [0.5]} | change
    with pytest.raises(ValueError, match=message):
        search_thresholds(**given)
