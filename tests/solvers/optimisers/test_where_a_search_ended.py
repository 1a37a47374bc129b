"""Ends of searches: minima at kinks, and ways to minima that do not exist."""

import numpy as np
import pytest
import scipy.optimize
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


@pytest.mark.parametrize("end", [24.0, 26.0, 40.0, 60.0])
def test_a_tail_that_underflows_has_no_end(end):
    def underflows(x):
        return torch.exp(-(x**2)).sum(-1)

    assert falls_for_ever(underflows, points([0.1]), points([end]), points([4.0])).tolist() == [1]


def test_a_plateau_of_zero_is_an_end():
    def plateau(x):
        return (torch.clamp(30 - x, min=0.0) ** 2).sum(-1)

    for end in (30.0, 31.0, 35.0):
        found = falls_for_ever(plateau, points([0.0]), points([end]), points([4.0]))
        assert found.tolist() == [False]


@pytest.mark.parametrize("rest", [0.0, 1e-17, -1e-17])
def test_a_minimum_of_zero_that_one_step_reached_is_an_end(rest):
    def square(x):
        return (x**2).sum(-1)

    end, step = points([rest]), points([-1.0])
    assert falls_for_ever(square, points([1.0]), end, step).tolist() == [False]
    assert falls_for_ever(square, points([1.0]), end, step / 8).tolist() == [False]


def test_what_went_very_far_is_judged_by_its_way():
    start, nothing = points([0.0], [3.0]), points([0.0], [0.0])

    def slow(x):
        return -torch.log1p(x.abs()).sum(-1)

    assert falls_for_ever(slow, start, points([2e5], [2e5]), nothing).tolist() == [True, False]
    assert falls_for_ever(slow, start, points([5e5], [5e5]), nothing).tolist() == [True, True]


def test_a_kink_is_certified_by_the_same_number_each_time():
    def kink(x):
        return (x.abs() + torch.sin(3 * x) ** 2).sum(-1)

    at = points([0.0, 0.0], [0.0, 0.0], [0.0, 0.0])
    first, again = (least_mean_gradient(kink, at, np.ones(3, dtype=bool)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first < 1e-6).all()
    assert np.isinf(least_mean_gradient(bowl, at, np.ones(3, dtype=bool))).all()


def test_gradients_are_looked_for_as_far_as_each_point_is_large():
    """A kink that lies off the point: near for a large point, far for a small one."""

    def kink(x):
        return (x[:, 0] - torch.tensor([5e-9, 1e3 + 5e-9, 5e-9, 0.0], dtype=x.dtype)).abs()

    at = points([0.0, 0.0], [1e3, 0.0], [0.0, 1e3], [0.0, 1.0])
    found = least_mean_gradient(kink, at, np.ones(4, dtype=bool))
    assert np.isinf(found[0])
    assert (found[1:] < 1e-6).all()


def test_a_program_that_fails_certifies_no_kink(monkeypatch):
    def fails(*arguments, **options):
        return scipy.optimize.OptimizeResult(x=None, status=4)

    monkeypatch.setattr(scipy.optimize, "linprog", fails)
    at = points([0.0], [0.0])
    found = least_mean_gradient(lambda x: x.abs().sum(-1), at, np.ones(2, dtype=bool))
    np.testing.assert_array_equal(found, [np.inf, np.inf])


@pytest.mark.parametrize("start", [-1.3, 1e6])
def test_a_step_that_rounding_swallows_leads_nowhere(start):
    def nearly_there(x):
        return ((x - start) - 1e-17).square().sum(-1)

    here, step = points([start]), points([1e-17])
    assert falls_for_ever(nearly_there, here, here, step).tolist() == [False]
