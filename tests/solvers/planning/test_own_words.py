"""What planners say for themselves: their names in warnings, the steps they took, the program."""

import warnings

import numpy as np
import pytest
import scipy.optimize

from prefsim.solvers import ConvergenceWarning, planning
from prefsim.solvers.planning.bellman import hard_criterion
from prefsim.solvers.planning.evaluation import backward_induction
from prefsim.worlds import TabularMDP

EVEN = np.full((6, 2), 0.5)
DENSE = TabularMDP.random(6, 2, discount=0.9, seed=0)
WORLDS = {
    "dense": DENSE,
    "sparse": TabularMDP.random_sparse(6, 2, 3, discount=0.9, seed=0),
    "finite": DENSE.replace_checked(horizon=3),
}
OPTIONS = {
    "value_iteration": {"max_iterations": 5},
    "soft_value_iteration": {"max_iterations": 5, "temperature": 1.0},
    "policy_iteration": {"max_iterations": 5},
    "modified_policy_iteration": {"max_iterations": 5},
    "policy_evaluation": {"policy": EVEN},
}
OVERFLOWING = [
    *(("dense", name) for name in OPTIONS),
    *(("sparse", name) for name in OPTIONS if name != "policy_iteration"),
    *(("finite", name) for name in OPTIONS if "policy_iteration" not in name),
]


@pytest.mark.parametrize(("kind", "name"), OVERFLOWING)
def test_values_beyond_the_largest_number_are_told_by_name(kind, name):
    mdp = WORLDS[kind].replace_checked(reward=np.full((6, 2), 1e308))
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        found = getattr(planning, name)(mdp, **OPTIONS[name])
    assert not found.converged
    said = [str(each.message) for each in caught if each.category is ConvergenceWarning]
    assert said[-1].startswith(f"{name} stopped after {found.iterations} iterations with Bellman")
    if (kind, name) == ("sparse", "policy_evaluation"):
        assert said[0].startswith("sparse linear solve stopped with residual")


def test_one_linear_system_is_one_iteration():
    assert planning.policy_evaluation(DENSE, EVEN).iterations == 1
    assert planning.policy_evaluation(WORLDS["sparse"], EVEN).iterations == 1
    assert planning.policy_evaluation(WORLDS["finite"], EVEN).iterations == 3


@pytest.mark.parametrize("error", [0.0, 1e-9])
def test_a_backward_pass_is_judged_by_values_that_are_computed_again(error):
    mdp = WORLDS["finite"]
    exact, calls = hard_criterion(mdp), 0

    def maximum(q_value):
        nonlocal calls
        calls += 1
        # One call for each decision, and then one for all of them.
        return exact.maximum(q_value) + (error if calls == 2 else 0.0)

    def solved():
        return backward_induction("a pass", mdp, None, exact._replace(maximum=maximum))

    if error:
        with pytest.warns(ConvergenceWarning, match="^a pass stopped after 3 iterations"):
            found = solved()
    else:
        found = solved()
    assert found.converged == (error == 0)
    np.testing.assert_allclose(found.residual, error, atol=1e-15)


def worlds_of_programs():
    ending = TabularMDP.grid_world(
        [[-1.0, -2.0, 5.0], [-1.0, -1.0, -4.0]],
        terminal=[[False, False, True], [False, False, False]],
        discount=0.9,
    )
    batch = TabularMDP.random(5, 3, discount=0.8, seed=1, batch_shape=(2,))
    return {**WORLDS, "ending": ending, "batch": batch}


@pytest.mark.parametrize("kind", ["dense", "sparse", "ending", "batch"])
def test_the_program_itself_has_the_values_as_its_solution(kind, monkeypatch):
    programs = []

    def solved(*arguments, **options):
        programs.append(linprog(*arguments, **options))
        return programs[-1]

    linprog = scipy.optimize.linprog
    monkeypatch.setattr(scipy.optimize, "linprog", solved)
    mdp = worlds_of_programs()[kind]
    found = planning.linear_program(mdp)
    (program,) = programs
    # What follows the program would hide an error of it.
    np.testing.assert_allclose(program.x.reshape(found.value.shape), found.value, atol=1e-6)
    np.testing.assert_allclose(found.value, planning.policy_iteration(mdp).value, atol=1e-9)
    assert found.iterations == program.nit
