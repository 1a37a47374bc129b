"""Ends of searches: minima at kinks, and ways to minima that do not exist."""

import numpy as np
import torch

from prefsim.solvers.optimisers.descending_rays import falls_for_ever
from prefsim.solvers.optimisers.kinks import least_mean_gradient


def points(*rows):
    return torch.as_tensor(rows, dtype=torch.float64)


def tail(x):
    """Falls towards zero, which it never reaches."""
    return torch.exp(-x).sum(-1)


def bowl(x):
    return ((x - 1) ** 2).sum(-1)


def test_a_long_last_step_along_which_it_falls_has_no_end():
    start, end = points([0.0], [-5.0], [5.0]), points([20.0], [20.0], [20.0])
    step = points([1.0], [1.0], [1.0])
    assert falls_for_ever(tail, start, end, step).tolist() == [True] * 3
    # A last step of next to nothing, and one beyond which it rises.
    assert falls_for_ever(tail, start, end, 1e-9 * step).tolist() == [False] * 3
    assert falls_for_ever(bowl, start, points([1.0], [1.0], [1.0]), step).tolist() == [False] * 3


def test_what_went_very_far_is_judged_by_its_way():
    start, nothing = points([0.0], [3.0]), points([0.0], [0.0])

    def slow(x):
        return -torch.log1p(x.abs()).sum(-1)

    assert falls_for_ever(slow, start, points([2e5], [2e5]), nothing).tolist() == [True, False]
    assert falls_for_ever(slow, start, points([5e5], [5e5]), nothing).tolist() == [True, True]


def test_a_kink_is_certified_by_the_same_number_each_time():
    def kink(x):
        return (x.abs() + torch.sin(3 * x) ** 2).sum(-1)

    at = points([0.0, 0.0], [0.0, 0.0])
    first, again = (least_mean_gradient(kink, at, np.array([True, True])) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first < 1e-6).all()
    assert np.isinf(least_mean_gradient(bowl, at, np.array([True, True]))).all()
