"""What fronts are worth: values worked out by hand, and by inclusion and exclusion."""

import itertools

import numpy as np
import pytest
from hypothesis import given

from prefsim.analysis import assign_points, expected_utility, hypervolume, sparsity
from prefsim.solvers import weight_grid
from prefsim.testing import tables

FOUR = [[1.0, 4.0], [2.0, 3.0], [3.0, 1.0], [2.0, 2.0]]


def test_known_values():
    assert hypervolume(FOUR, [0.0, 0.0]) == 8.0
    assert hypervolume(FOUR[:3], [0.0, 0.0]) == 8.0
    assert sparsity(FOUR[:3]) == 3.5
    assert expected_utility(FOUR, weight_grid(2, 10)) == pytest.approx(2.9727272727, abs=5e-11)
    assert sparsity([[1.0, 2.0]]) == sparsity(np.zeros((0, 2))) == 0.0
    # Equal points are one.
    assert sparsity([*FOUR[:3], FOUR[0]]) == 3.5


def test_what_is_below_the_reference_adds_nothing():
    assert hypervolume(FOUR, [1.5, 1.5]) == 0.75
    assert hypervolume(FOUR, [3.0, 0.0]) == 0.0
    assert hypervolume(np.zeros((0, 2)), [0.0, 0.0]) == 0.0
    assert hypervolume([[-1.0, -2.0], [-2.0, -1.0]], [-3.0, -3.0]) == 3.0


@given(tables((5, 3), low=-1.0, high=2.0))
def test_volume_by_inclusion_and_exclusion(points):
    boxes = sum(
        (-1) ** (size + 1) * np.maximum(points[list(chosen)].min(axis=0), 0.0).prod()
        for size in range(1, 6)
        for chosen in itertools.combinations(range(5), size)
    )
    assert hypervolume(points, np.zeros(3)) == pytest.approx(boxes, abs=1e-12)


def test_each_preference_gets_its_best_point():
    points = [[0.0, 1.0], [0.4, 0.4], [1.0, 0.0]]
    np.testing.assert_array_equal(assign_points(points, [[0.9, 0.1], [0.25, 0.75]]), [2, 0])
    assert assign_points(points, [0.5, 0.5]) == 0
    assert expected_utility(points, [0.25, 0.75]) == 0.75


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hypervolume([[1.0]], [0.0]), "points must have at least two objectives"),
        (lambda: hypervolume(FOUR, [0.0]), "reference must have"),
        (lambda: hypervolume(FOUR, [np.inf, 0.0]), "reference must be finite"),
        (lambda: expected_utility(FOUR, [[0.5, 0.6]]), "weights must sum to 1"),
        (lambda: expected_utility(FOUR, [[0.5, 0.25, 0.25]]), "weights must have"),
        (lambda: expected_utility(np.zeros((0, 2)), [[0.5, 0.5]]), "points must hold at least one"),
        (lambda: assign_points(FOUR, [[-1.0, 2.0]]), "weights"),
        (lambda: sparsity([1.0]), "points must have 2 axes"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
