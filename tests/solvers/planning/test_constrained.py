"""Constrained planning, against cvxpy, policy evaluation and what is known of its policies."""

import numpy as np
import pytest
from several_rewards import process, visits_in_cvxpy

from prefsim.solvers.planning import (
    InfeasibleError,
    constrained_program,
    largest_slack,
    objective_returns,
    policy_evaluation,
    policy_iteration,
)
from prefsim.worlds import TabularMDP

cp = pytest.importorskip("cvxpy")

FREE = -np.inf


def middle(mdp):
    count = mdp.batch_shape[0]
    return constrained_program(mdp, np.full(count, 1 / count)).returns


@pytest.mark.parametrize(("seed", "objectives", "ended"), [(0, 2, 0), (1, 3, 0), (2, 3, 2)])
def test_against_cvxpy(seed, objectives, ended):
    mdp = process(seed, n_objectives=objectives, n_terminal=ended)
    level = (1.02 if objectives == 2 else 0.99) * middle(mdp)
    level[0] = FREE
    found = constrained_program(mdp, np.eye(objectives)[0], level)
    _, limits, returns = visits_in_cvxpy(mdp)
    asked = returns[1:] >= level[1:]
    program = cp.Problem(cp.Maximize(returns[0]), [*limits, asked])
    program.solve(solver="CLARABEL")
    assert found.value == pytest.approx(program.value, abs=1e-6)
    np.testing.assert_allclose(found.multipliers[1:], asked.dual_value, atol=1e-5)
    assert found.multipliers[0] == 0.0
    assert 0 <= found.shortfall <= 1e-9 and abs(found.gap) <= 1e-9
    np.testing.assert_allclose(found.policy.sum(-1), 1.0, rtol=1e-12)
    # A corner of the program: one action more than states for each constraint that binds.
    mixed = ((found.policy > 1e-9).sum(-1) > 1)[~mdp.terminal].sum()
    assert 1 <= mixed <= (found.multipliers > 0).sum()


def test_without_constraints_it_is_planning():
    mdp = process(3, n_objectives=3)
    weights = np.array([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5], [-1.0, 0.5, 0.0]])
    found = constrained_program(mdp, weights)
    for factor, value, returns, policy in zip(
        weights, found.value, found.returns, found.policy, strict=True
    ):
        single = TabularMDP(mdp.transitions, np.tensordot(factor, mdp.reward, 1), discount=0.9)
        best = policy_iteration(single).value @ mdp.start_probs
        assert value == pytest.approx(best, abs=1e-10)
        for reward, own in zip(mdp.reward, returns, strict=True):
            alone = TabularMDP(mdp.transitions, reward, discount=0.9)
            evaluated = policy_evaluation(alone, policy).value @ mdp.start_probs
            assert own == pytest.approx(evaluated, abs=1e-10)
    np.testing.assert_array_equal(found.multipliers, 0.0)


def test_a_batch_is_its_members():
    mdp = process(4)
    levels = np.stack([[FREE, share * middle(mdp)[1]] for share in (0.5, 0.9, 1.01)])
    together = constrained_program(mdp, [1.0, 0.0], levels)
    for place, level in enumerate(levels):
        alone = constrained_program(mdp, [1.0, 0.0], level)
        np.testing.assert_allclose(together.returns[place], alone.returns, atol=1e-9)
    assert together.policy.shape == (3, 5, 3) and together.gap.shape == (3,)


def test_as_many_objectives_as_weights_in_a_batch_as_states_as_actions():
    # A batch of S tables for S actions is not taken for rewards of transitions.
    mdp = process(5, n_states=3, n_actions=3)
    found = constrained_program(mdp, [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    assert found.returns.shape == (3, 2)
    assert objective_returns(mdp, found.policy) == pytest.approx(found.returns)


def test_states_that_nothing_leads_to():
    moves = np.eye(3)[[[1, 1], [1, 1], [0, 1]]]
    rewards = np.array([[[0, 0], [1, 0], [9, 9]], [[0, 0], [0, 1], [9, 9]]], dtype=float)
    mdp = TabularMDP(moves, rewards, discount=0.5, start_probs=[1.0, 0.0, 0.0])
    found = constrained_program(mdp, [1.0, 0.0], [FREE, 0.25])
    np.testing.assert_allclose(found.returns, [0.75, 0.25], atol=1e-9)
    np.testing.assert_allclose(found.policy[1], [0.75, 0.25], atol=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
def test_largest_slack_against_cvxpy(seed):
    mdp = process(seed, n_objectives=3)
    level = np.array([0.9, 1.1, FREE]) * np.where(np.arange(3) < 2, middle(mdp), 1.0)
    slack, policy = largest_slack(mdp, level)
    _, limits, returns = visits_in_cvxpy(mdp)
    program = cp.Problem(cp.Maximize(cp.min(returns[:2] - level[:2])), limits)
    program.solve(solver="CLARABEL")
    assert slack == pytest.approx(program.value, abs=1e-6)
    assert (objective_returns(mdp, policy) - level)[:2].min() == pytest.approx(slack)


def test_what_no_policy_reaches_is_named():
    mdp = process(0)
    with pytest.raises(InfeasibleError, match=r"no policy reaches at_least = \[-inf, 99.0\]"):
        constrained_program(mdp, [1.0, 0.0], [[FREE, 0.0], [FREE, 99.0]])


def test_what_another_program_reached_can_be_asked_for():
    # The most of an objective is reached by one policy alone, and by rounding by none.
    for seed in (53, 145, 156, 197, 207, 328):
        rng = np.random.default_rng(seed)
        moves = rng.dirichlet(np.full(6, 0.3), size=(6, 2))
        mdp = TabularMDP(moves, 0.05 * rng.random((2, 6, 2)), discount=0.95)
        reached = constrained_program(mdp, [0.4, 0.6]).returns
        found = constrained_program(mdp, np.eye(2), np.where(np.eye(2) > 0, FREE, reached))
        np.testing.assert_allclose(found.returns, [reached, reached], rtol=1e-6)
        assert found.shortfall.max() < 1e-7


def test_never_ending_is_named():
    moves = np.eye(2)[[[0, 1, 1], [1, 1, 1]]]
    rewards = np.zeros((2, 2, 3))
    rewards[:, 0] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.5]]
    mdp = TabularMDP(moves, rewards, discount=1.0, terminal=[False, True])
    # What is not paid for may go on for ever.
    assert constrained_program(mdp, [-1.0, 1.0]).value == pytest.approx(1.0)
    with pytest.raises(ValueError, match="never ending is worth more"):
        constrained_program(mdp, [1.0, 0.0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0],), r"weights must have trailing shape \(2\)"),
        (([1.0, np.nan],), "weights must be finite"),
        (([1.0, 0.0], [np.nan, 0.0]), "at_least must be finite, or -inf"),
        (([1.0, 0.0], [np.inf, 0.0]), "at_least must be finite, or -inf"),
        (([1.0, 0.0], [0.0]), r"at_least must have trailing shape \(2\)"),
        (([[1.0, 0.0]] * 2, [[FREE, 0.0]] * 3), "at_least must fit the weights"),
    ],
)
def test_bad_numbers(arguments, message):
    with pytest.raises(ValueError, match=message):
        constrained_program(process(0), *arguments)


@pytest.mark.parametrize(
    "mdp",
    [
        TabularMDP.random(4, 2, discount=0.9, seed=0),
        TabularMDP.random(4, 2, discount=0.9, seed=0, batch_shape=(2,)),
        TabularMDP.random_sparse(6, 2, 3, discount=0.9, seed=0),
    ],
    ids=["one reward", "other moves", "sparse"],
)
def test_several_rewards_are_needed(mdp):
    with pytest.raises(ValueError, match="one dense process with several rewards"):
        objective_returns(mdp, np.full((mdp.n_states, 2), 0.5))


def test_horizons_are_refused():
    mdp = TabularMDP.random(4, 2, discount=0.9, seed=0, horizon=3)
    with pytest.raises(ValueError, match="largest_slack needs an infinite horizon"):
        largest_slack(mdp, [0.0])


def test_something_must_be_asked():
    with pytest.raises(ValueError, match="at_least must ask for something"):
        largest_slack(process(0), [FREE, FREE])


@pytest.mark.parametrize("size", [1e-13, 1e-9, 1e-6, 1e9])
def test_rewards_of_any_size(size):
    mdp = process(0, n_objectives=2)
    level = 1.02 * middle(mdp)
    known = constrained_program(mdp, [1.0, 0.0], [FREE, level[1]])
    small = mdp.replace_checked(reward=size * mdp.reward)
    found = constrained_program(small, [1.0, 0.0], [FREE, size * level[1]])
    np.testing.assert_allclose(found.returns / size, known.returns, rtol=1e-9)
    np.testing.assert_allclose(found.multipliers, known.multipliers, rtol=1e-9)
    assert abs(found.gap) <= 1e-9 * size
    slack, _ = largest_slack(small, size * level)
    assert slack == pytest.approx(size * largest_slack(mdp, level)[0], rel=1e-8)


def test_one_reward_may_be_much_smaller_than_another():
    mdp = process(0, n_objectives=2)
    sizes = np.array([1e6, 1e-9])
    level = np.array([FREE, 1.02 * middle(mdp)[1]])
    known = constrained_program(mdp, [1.0, 0.0], level)
    found = constrained_program(
        mdp.replace_checked(reward=sizes[:, None, None] * mdp.reward), [1.0, 0.0], sizes * level
    )
    np.testing.assert_allclose(found.returns / sizes, known.returns, rtol=1e-9)
    np.testing.assert_allclose(
        found.multipliers[1], known.multipliers[1] * sizes[0] / sizes[1], rtol=1e-9
    )
