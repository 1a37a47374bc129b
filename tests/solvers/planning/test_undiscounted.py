"""Undiscounted processes: one answer for all planners, or a refusal."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsim.solvers import ConvergenceWarning, planning
from prefsim.worlds.mdp import TabularMDP

HARD = [
    planning.value_iteration,
    planning.policy_iteration,
    planning.modified_policy_iteration,
    planning.linear_program,
]
CORRIDOR = TabularMDP.grid_world([[0.0, 0.0, -1.0]], terminal=[[False, False, True]], discount=1.0)


def value_or_refusal(solve, mdp, **options):
    """Return the values, or None where a planner refuses for the reason that is tested here."""
    try:
        return solve(mdp, **options).value
    except ValueError as error:
        if "can go on for ever without loss" not in str(error):
            raise
        return None


@pytest.mark.parametrize("solve", HARD)
@pytest.mark.parametrize("sparse", [False, True])
def test_to_rest_for_ever_is_better_than_a_costly_end(solve, sparse):
    """Walking into the wall costs nothing, the only end costs 1."""
    value = value_or_refusal(solve, CORRIDOR.to_sparse() if sparse else CORRIDOR)
    if value is not None:
        np.testing.assert_array_equal(value, 0.0)


def test_what_is_found_and_where_is_said():
    with pytest.raises(ValueError, match="policy_iteration found -1 for state 0, from where"):
        planning.policy_iteration(CORRIDOR)
    with pytest.raises(ValueError, match="value_iteration found -1 for state 0, from where"):
        planning.value_iteration(CORRIDOR, initial_value=[-1.0, -1.0, 0.0])
    batch = TabularMDP(
        np.stack([CORRIDOR.transitions] * 2),
        np.stack([CORRIDOR.reward - ~CORRIDOR.terminal[:, None], CORRIDOR.reward]),
        discount=1.0,
        terminal=CORRIDOR.terminal,
    )
    with pytest.raises(ValueError, match="for state 1, 0, from"):
        planning.policy_iteration(batch)


def test_gains_that_come_and_go_are_better_than_a_costly_end():
    """Back and forth between two states pays 1 and costs 1; leaving costs 5."""
    forth, back, out = np.eye(3)
    mdp = TabularMDP(
        [[back, out], [forth, out], [out, out]],
        [[1.0, -5.0], [-1.0, -5.0], [0.0, 0.0]],
        discount=1.0,
        terminal=[False, False, True],
    )
    with pytest.raises(ValueError, match="found -4 for state 0, from where"):
        planning.policy_iteration(mdp)


@pytest.mark.parametrize("solve", HARD)
def test_a_free_rest_does_no_harm_where_the_end_pays(solve):
    mdp = TabularMDP.grid_world([[0.0, 0.0, 1.0]], terminal=[[False, False, True]], discount=1.0)
    np.testing.assert_allclose(solve(mdp).value, [1.0, 1.0, 0.0], atol=1e-12)


@given(
    reward=st.lists(st.sampled_from([-2.0, -1.0, 0.0, 1.0]), min_size=2, max_size=5),
    end=st.sampled_from([-3.0, -1.0, 0.0, 2.0]),
)
def test_planners_agree_or_refuse(reward, end):
    """Corridors whose steps and end cost or pay: wherever two planners answer, they agree."""
    cells = [min(x, 0.0) for x in reward] + [end]
    mdp = TabularMDP.grid_world([cells], terminal=[[False] * len(reward) + [True]], discount=1.0)
    answers = [value_or_refusal(solve, mdp) for solve in HARD]
    given_ones = [value for value in answers if value is not None]
    for value in given_ones:
        np.testing.assert_allclose(value, given_ones[0], atol=1e-9)
    # The least that is lost in any number of steps, from nothing: the optimal total reward.
    best = np.zeros(mdp.n_states)
    for _ in range(50):
        best = np.max(mdp.reward + np.einsum("sat,t->sa", mdp.transitions, best), axis=-1)
        best[mdp.terminal] = 0.0
    for value in given_ones:
        np.testing.assert_allclose(value, best, atol=1e-9)


def test_the_worst_of_several_processes_is_reported():
    """The residual in the warning is the largest of those that missed."""
    mdp = TabularMDP.random(4, 2, discount=0.99, seed=0, batch_shape=(3,))
    scaled = mdp.with_reward(mdp.reward * np.array([1.0, 100.0, 0.0])[:, None, None])
    with pytest.warns(ConvergenceWarning, match="for 2 of 3 processes") as caught:
        result = planning.value_iteration(scaled, max_iterations=5)
    (warning,) = caught
    assert f"{result.residual[1]:.3g}" in str(warning.message)
    assert result.residual[1] > result.residual[0] > 0
    assert result.converged.tolist() == [False, False, True]


def test_the_program_counts_its_own_iterations():
    mdp = TabularMDP.random(20, 3, discount=0.9, seed=0)
    assert planning.linear_program(mdp).iterations >= 20
