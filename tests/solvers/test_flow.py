"""Gradient flow against closed forms and against small steps of gradient descent."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prefsim import losses
from prefsim.data import Comparisons
from prefsim.policies import TabularPolicy
from prefsim.solvers import gradient_descent, gradient_flow, objective
from prefsim.testing import tables

CURVES = np.array([0.5, 1.0, 2.0])


def bowl(x):
    return 0.5 * torch.tensor(CURVES) * x**2


@settings(max_examples=10)
@given(tables((2, 3), low=-3.0, high=3.0), st.floats(0.1, 4.0))
def test_a_quadratic_decays_exponentially(start, time):
    flow = gradient_flow(bowl, start, duration=4.0)
    assert (flow.end, flow.arrived) == (4.0, False)
    np.testing.assert_allclose(flow.at(time), start * np.exp(-CURVES * time), atol=1e-7)
    np.testing.assert_allclose(flow.at(0.0), start, atol=1e-15)


def test_it_stops_where_it_was_told_to():
    flow = gradient_flow(bowl, np.ones(3), duration=50.0, until=lambda x: float(x[1]) - 0.25)
    assert flow.arrived
    assert flow.end == pytest.approx(np.log(4), abs=1e-7)
    assert flow.at(flow.end)[1] == pytest.approx(0.25, abs=1e-8)


def test_what_it_never_meets_lasts_to_the_end():
    flow = gradient_flow(bowl, np.ones(3), duration=3.0, until=lambda x: float(x[0]) + 1.0)
    assert (flow.end, flow.arrived) == (3.0, False)


def test_gradient_descent_with_small_steps_follows_it():
    start = TabularPolicy.random(1, 4, seed=0)
    data = Comparisons([0, 0], [0, 1], [2, 3])
    loss = functools.partial(losses.dpo, beta=0.5)

    def value(logits):
        return objective(start.with_parameters(logits), loss, data, reference=start)

    flow = gradient_flow(value, start.parameters, duration=8.0)
    ends = [
        gradient_descent(start, loss, data, reference=start, step=8.0 / n, iterations=n)[0]
        for n in (50, 100)
    ]
    far, near = (np.abs(end.policy.parameters - flow.at(8.0)).max() for end in ends)
    # The error of gradient descent is of the first order in its step.
    assert near < 2e-3
    assert far / near == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"duration": 0.0}, "duration must be a finite number > 0"),
        ({"tolerance": -1.0}, "tolerance must be a finite number > 0"),
        ({"max_gradients": 0}, "max_gradients must be an integer >= 1"),
        ({"until": lambda x: -1.0}, "until must be positive at the start, got -1"),
        ({"start": [np.nan]}, "start must be finite"),
    ],
)
def test_bad_input(options, message):
    given_options = {"start": [1.0], "duration": 1.0} | options
    with pytest.raises(ValueError, match=message):
        gradient_flow(lambda x: x**2, **given_options)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: -torch.exp(x),
        # It is infinite at time 1/6, which smaller and smaller steps never reach.
        lambda x: -(x**3),
        # At zero, after time 1, the gradient is infinite and beyond it there is none.
        lambda x: x.sqrt(),
    ],
)
def test_a_flow_that_ends_before_its_time_is_an_error(function):
    with pytest.raises(RuntimeError, match="the flow cannot be followed beyond time"):
        gradient_flow(function, [1.0], duration=10.0, max_gradients=300)
