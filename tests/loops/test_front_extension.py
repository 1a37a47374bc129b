"""Archives that are filled by a function that trains, here a choice among known points."""

import numpy as np
import pytest

from prefsim.loops import extend_front, least_returns

LINE = np.array([[0.0, 1.0], [0.35, 0.5], [0.6, 0.4], [0.45, 0.45], [1.0, 0.0]])


def chooser(points, log=None, also=()):
    """Train by choice: the best allowed point, and what else was met on the way."""

    def train(start, weights, at_least):
        if log is not None:
            log.append((start, weights.copy(), at_least.copy()))
        allowed = np.flatnonzero((points >= at_least).all(axis=1))
        if not len(allowed):
            return []
        best = int(allowed[np.argmax(points[allowed] @ weights)])
        return [(place, points[place]) for place in (*also, best)]

    return train


def test_the_first_stage_is_asked_for_weights():
    log = []
    path = extend_front(chooser(LINE, log), [[1.0, 0.0], [0.25, 0.75]], rounds=0)
    assert [start for start, _, _ in log] == [None, None]
    np.testing.assert_array_equal([weights for _, weights, _ in log], [[1, 0], [0.25, 0.75]])
    assert np.isinf([least for _, _, least in log]).all()
    assert path[0].archive.policies == (4, 0) and path[0].starts.shape == (0, 2)


def test_rounds_extend_each_policy_once_in_every_objective():
    log = []
    path = extend_front(chooser(LINE, log), np.eye(2), rounds=5, select=1, share=0.4)
    asked = [(start, weights.tolist(), least.tolist()) for start, weights, least in log[2:]]
    # Both ends are infinitely lonely: the first that came is the first that goes.
    assert asked[0] == (4, [1.0, 0.0], [-np.inf, 0.0])
    assert asked[1] == (4, [0.0, 1.0], [0.4, -np.inf])
    starts = [start for start, _, _ in asked]
    assert all(starts.count(start) == 2 for start in set(starts))
    assert path[1].archive.extended.tolist() == [True, False, False]
    np.testing.assert_array_equal(path[1].starts, [[1.0, 0.0]])
    assert set(path[-1].archive.policies) == {0, 1, 2, 3, 4}


def test_it_ends_once_all_are_extended():
    path = extend_front(chooser(LINE), np.eye(2), rounds=50, select=9, share=0.4)
    assert len(path) < 10 and path[-1].archive.extended.all()


def test_intermediate_policies_enter_and_dominated_ones_do_not():
    path = extend_front(chooser(LINE, also=(1, 2)), np.eye(2), rounds=0)
    assert set(path[0].archive.policies) == {0, 1, 2, 4}
    worse = chooser(np.array([[1.0, 1.0], [0.5, 1.0]]), also=(1,))
    assert extend_front(worse, np.eye(2), rounds=0)[0].archive.policies == (0,)


def test_equal_policies_enter_once():
    same = np.array([[1.0, 0.5], [1.0 + 1e-12, 0.5], [0.0, 1.0]])
    archive = extend_front(chooser(same, also=(0, 1)), np.eye(2), rounds=0)[0].archive
    assert len(archive.policies) == 2


def test_the_reference_keeps_out():
    archive = extend_front(chooser(LINE), np.eye(2), rounds=0, reference=[0.5, -1.0])[0].archive
    assert archive.policies == (4,)


def test_the_buffer_keeps_the_lonely():
    everything = chooser(LINE, also=range(5))
    archive = extend_front(everything, np.eye(2), rounds=0, buffer=3)[0].archive
    # Of the three inside, (.35, .5) has the farthest neighbours.
    assert set(archive.policies) == {0, 4, 1}


def test_what_cannot_be_met_is_counted():
    costs = np.array([[1.0, -4.0], [0.0, -1.0]])
    scaled = extend_front(chooser(costs), np.eye(2), rounds=1, share=0.5)
    lowered = extend_front(chooser(costs), np.eye(2), rounds=1, share=0.5, bound="lowered")
    assert scaled[1].failed == 1 and lowered[1].failed == 0


def test_levels():
    np.testing.assert_allclose(least_returns([2.0, -1.0, 4.0], 1, share=0.5), [1.0, -np.inf, 2.0])
    lowered = least_returns([[-2.0, 1.0]], 1, share=0.9, bound="lowered")
    np.testing.assert_allclose(lowered, [[-2.2, -np.inf]])
    given = np.array([2.0, 3.0])
    least_returns(given, 0, share=1.0)
    np.testing.assert_array_equal(given, [2.0, 3.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": None}, "train must be a function"),
        ({"weights": [[0.5, 0.6]]}, "weights must sum to 1"),
        ({"rounds": -1}, "rounds must be"),
        ({"select": 0}, "select must be"),
        ({"buffer": 0}, "buffer must be"),
        ({"share": 0.0}, "share must"),
        ({"share": 1.5}, "share must"),
        ({"bound": "half"}, "bound must be one of"),
        ({"reference": [0.0]}, "reference must have"),
        ({"tolerance": -1.0}, "tolerance must be"),
        ({"train": lambda *task: [(0, [1.0])]}, "returns of train must have"),
        ({"train": lambda *task: [(0, [1.0, np.nan])]}, "returns of train must be finite"),
    ],
)
def test_bad_input(change, message):
    given = {"train": chooser(LINE), "weights": np.eye(2), "rounds": 1}
    with pytest.raises(ValueError, match=message):
        extend_front(**(given | change))


def test_an_objective_that_is_none():
    with pytest.raises(ValueError, match="objective must be"):
        least_returns([1.0, 2.0], 2, share=0.9)
