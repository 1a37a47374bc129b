"""Barriers, against cvxpy and their own bound."""

import numpy as np
import pytest
from several_rewards import process, visits_in_cvxpy

from prefsim.solvers import ConvergenceWarning
from prefsim.solvers.planning import constrained_program, log_barrier_optimum

cp = pytest.importorskip("cvxpy")


def levels(mdp, share=0.95):
    count = mdp.batch_shape[0]
    level = share * constrained_program(mdp, np.full(count, 1 / count)).returns
    level[0] = -np.inf
    return level


@pytest.mark.parametrize(("objectives", "ended", "sharpness"), [(2, 0, 3.0), (3, 1, 50.0)])
def test_against_cvxpy(objectives, ended, sharpness):
    mdp = process(7, n_objectives=objectives, n_terminal=ended)
    level = levels(mdp)
    found = log_barrier_optimum(mdp, np.eye(objectives)[0], level, sharpness=sharpness)
    _, limits, returns = visits_in_cvxpy(mdp)
    goal = returns[0] + cp.sum(cp.log(returns[1:] - level[1:])) / sharpness
    program = cp.Problem(cp.Maximize(goal), limits)
    program.solve(solver="CLARABEL")
    reached = found.value + np.log(found.returns[1:] - level[1:]).sum() / sharpness
    assert reached == pytest.approx(program.value, abs=1e-6)
    np.testing.assert_allclose(found.returns, returns.value, atol=1e-3)
    assert found.converged and abs(found.gap) < 1e-9


@pytest.mark.parametrize("sharpness", [1.0, 30.0, 1e4])
def test_what_is_lost_is_the_bound(sharpness):
    mdp = process(8, n_objectives=3)
    level = levels(mdp)
    found = log_barrier_optimum(mdp, [1.0, 0.0, 0.0], level, sharpness=sharpness)
    best = constrained_program(mdp, [1.0, 0.0, 0.0], level).value
    assert found.loss == pytest.approx(2 / sharpness, abs=1e-8)
    assert -1e-9 <= best - found.value <= 2 / sharpness + 1e-9
    assert found.bound >= best - 1e-9
    slack = found.returns[1:] - level[1:]
    np.testing.assert_allclose(found.multipliers, [0.0, *(1 / (sharpness * slack))])


def test_a_batch_is_its_members():
    mdp = process(9)
    level = np.stack([levels(mdp, share) for share in (0.5, 0.9)])
    together = log_barrier_optimum(mdp, [1.0, 0.0], level, sharpness=20.0)
    for place in range(2):
        alone = log_barrier_optimum(mdp, [1.0, 0.0], level[place], sharpness=20.0)
        np.testing.assert_allclose(together.returns[place], alone.returns, atol=1e-8)


def test_all_may_be_asked_for():
    mdp = process(10)
    level = 0.8 * constrained_program(mdp, [0.5, 0.5]).returns
    found = log_barrier_optimum(mdp, [0.0, 0.0], level, sharpness=1.0)
    # The product of what is to spare, as large as it can be: no direction raises its logarithm.
    assert (found.returns > level).all() and abs(found.gap) < 1e-9
    assert found.multipliers @ (found.returns - level) == pytest.approx(2.0)


def test_it_says_where_it_stopped():
    mdp = process(8, n_objectives=3)
    with pytest.warns(ConvergenceWarning, match="log_barrier_optimum stopped after 2 iterations"):
        found = log_barrier_optimum(
            mdp, [1.0, 0.0, 0.0], levels(mdp), sharpness=20.0, max_iterations=2
        )
    assert not found.converged and found.gap > 1e-9


@pytest.mark.parametrize(
    ("level", "sharpness", "message"),
    [
        ([-np.inf, 99.0], 20.0, "at_least must be exceeded strictly by some policy"),
        ([-np.inf, -np.inf], 20.0, "at_least must ask for something"),
        ([-np.inf, 1.0], 0.0, "sharpness must be"),
        ([-np.inf, 1.0], [20.0], "sharpness must be"),
        ([-np.inf, np.nan], 20.0, "at_least must be finite, or -inf"),
    ],
)
def test_bad_input(level, sharpness, message):
    with pytest.raises(ValueError, match=message):
        log_barrier_optimum(process(0), [1.0, 0.0], level, sharpness=sharpness)


def test_a_level_that_is_just_reached_has_no_logarithm():
    mdp = process(0)
    best = constrained_program(mdp, [0.0, 1.0]).value
    with pytest.raises(ValueError, match="exceeded strictly"):
        log_barrier_optimum(mdp, [1.0, 0.0], [-np.inf, best], sharpness=20.0)
