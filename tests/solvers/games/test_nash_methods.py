"""The steps with a guarantee, by method, and what happens on either side of them."""

import math
import warnings

import numpy as np
import pytest

from prefsim.solvers import nash_path, solve_nash
from prefsim.solvers.games.nash import StepSizeWarning
from prefsim.solvers.games.nash_methods import UPDATES

TAUS = (0.05, 0.5, 2.0)
# Each of three responses beats the next one for sure.
CYCLE = np.array([[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]])


def egpo(tau):
    return min(1 / (2 * tau + 1), 1 / 2)


def policy_gradient(tau):
    """Near an equilibrium, of policies whose variance and rotation are at most one half."""
    return 4 * tau / (tau**2 + 1 / 4)


LARGEST = {
    "egpo": egpo,
    "extragradient": egpo,
    "inpo": lambda tau: 4 * tau / (1 + 4 * tau**2),
    "mirror_descent": lambda tau: 4 * tau / (1 + 4 * tau**2),
    "mmd": lambda tau: 4 * tau,
    "nash_md_pg": policy_gradient,
    "online_ipo": policy_gradient,
    "optimistic": egpo,
}


@pytest.mark.parametrize("method", sorted(UPDATES))
def test_largest_steps(method):
    known = LARGEST.get(method, lambda tau: math.inf)
    for tau in TAUS:
        assert UPDATES[method].largest_step(tau) == pytest.approx(known(tau), rel=1e-15)


def test_the_optimistic_step_without_a_penalty():
    assert UPDATES["optimistic"].largest_step(0.0) == 1.0


@pytest.mark.parametrize("method", sorted(LARGEST))
def test_steps_beyond_are_warned_of(method):
    tau, options = 0.3, {"method": method, "tau": 0.3, "iterations": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("error", StepSizeWarning)
        nash_path(CYCLE, step=LARGEST[method](tau), **options)
    with pytest.warns(StepSizeWarning, match="is known to converge"):
        nash_path(CYCLE, step=1.001 * LARGEST[method](tau), **options)


@pytest.mark.parametrize("method", ["nash_md_pg", "online_ipo"])
@pytest.mark.parametrize(("times", "settles"), [(1.0, True), (4.0, False)])
def test_the_policy_gradient_settles_within_its_step(method, times, settles):
    """On the cycle of three it is stable up to 6τ/(1/12 + τ²), with τ = ½ 2.25 times as far."""
    tau = 0.5
    options = {"method": method, "tau": tau, "initial": [0.35, 0.33, 0.32], "record": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StepSizeWarning)
        path = nash_path(
            CYCLE, step=times * UPDATES[method].largest_step(tau), iterations=200, **options
        )
    far = np.abs(path.policy - 1 / 3).max(axis=1)
    assert far[-1] < 1e-6 if settles else far[-20:].max() > 0.05


@pytest.mark.parametrize("method", ["nash_md_pg", "online_ipo"])
def test_the_default_step_of_the_policy_gradient_is_half_of_the_largest(method):
    update = UPDATES[method]
    assert update.default_step(3, 0.2, 100) == pytest.approx(update.largest_step(0.2) / 2)
    assert solve_nash(CYCLE, method=method, tau=0.2, max_iterations=2000).converged
