"""Planners: certificates, other programs, batches, undiscounted processes."""

import functools

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from planning_oracles import OPTIMAL, SOFT, certificate
from scipy.optimize import linprog

from prefsim.solvers import ConvergenceWarning, planning
from prefsim.testing.bandits import tables
from prefsim.testing.mdps import (
    grid_worlds,
    mdps,
)
from prefsim.worlds.mdp import TabularMDP
from prefsim.worlds.transitions import make_absorbing


def lp_values(mdp):
    """Optimal values by a linear program written here over the rows of the table."""
    dense = mdp.to_dense()
    rows = dense.discount * dense.transitions.reshape(-1, mdp.n_states) - np.repeat(
        np.eye(mdp.n_states), mdp.n_actions, axis=0
    )
    bounds = [(0, 0) if ended else (None, None) for ended in mdp.terminal]
    return linprog(
        np.ones(mdp.n_states),
        A_ub=rows,
        b_ub=-dense.reward.ravel(),
        bounds=bounds,
        method="highs-ipm",
    ).x


class TestOptimal:
    @pytest.mark.parametrize("solve", OPTIMAL)
    def test_a_process_that_is_solved_at_once_beside_one_that_is_not(self, solve):
        world = TabularMDP.random(12, 3, discount=0.95, seed=2)
        reward = np.stack([0 * world.reward, world.reward])
        batch = TabularMDP(world.transitions, reward, discount=0.95)
        with np.errstate(divide="raise", invalid="raise"):
            value = solve(batch).value
        np.testing.assert_array_equal(value[0], 0.0)
        np.testing.assert_allclose(value[1], solve(world).value, atol=1e-10)

    @pytest.mark.parametrize("solve", OPTIMAL)
    @given(mdp=mdps())
    def test_residual_is_certified(self, solve, mdp):
        before = mdp.transitions.copy(), mdp.reward.copy()
        result = solve(mdp)
        assert result.converged is True and result.residual <= 1e-12
        assert certificate(mdp, result.value) <= 1.1e-12
        np.testing.assert_allclose(result.advantage, result.q_value - result.value[:, None], atol=0)
        np.testing.assert_allclose(result.policy.sum(-1), 1.0, rtol=1e-15)
        assert (result.advantage <= 1e-11).all() and np.abs(result.advantage.max(-1)).max() <= 1e-11
        np.testing.assert_array_equal(mdp.transitions, before[0])
        np.testing.assert_array_equal(mdp.reward, before[1])

    @given(mdps())
    def test_all_methods_agree_with_an_independent_program(self, mdp):
        expected = lp_values(mdp)
        for solve in OPTIMAL:
            np.testing.assert_allclose(solve(mdp).value, expected, atol=1e-6)
        found = [solve(mdp).value for solve in OPTIMAL]
        for value in found[1:]:
            np.testing.assert_allclose(value, found[0], atol=1e-9)

    @pytest.mark.parametrize("solve", OPTIMAL)
    @given(mdp=mdps(max_states=4))
    def test_sparse_equals_dense(self, solve, mdp):
        dense, sparse = solve(mdp), solve(mdp.to_sparse())
        assert sparse.converged and sparse.residual <= 1e-12
        for name in ("value", "q_value", "advantage"):
            np.testing.assert_allclose(getattr(sparse, name), getattr(dense, name), atol=1e-9)

    @pytest.mark.parametrize("solve", OPTIMAL)
    @pytest.mark.parametrize("n_terminal", [0, 2])
    def test_batched_equals_looped(self, solve, n_terminal):
        batch = TabularMDP.random(
            6, 3, discount=0.9, seed=0, batch_shape=(2, 3), n_terminal=n_terminal
        )
        together = solve(batch)
        assert (
            together.value.shape == (2, 3, 6)
            and together.residual.shape == (2, 3)
            and together.converged.all()
        )
        for i in np.ndindex(2, 3):
            alone = solve(
                TabularMDP(
                    batch.transitions[i], batch.reward[i], discount=0.9, terminal=batch.terminal
                )
            )
            np.testing.assert_allclose(together.value[i], alone.value, atol=1e-10)
            np.testing.assert_allclose(together.policy[i], alone.policy, atol=1e-12)

    @pytest.mark.parametrize(
        "solve", [*OPTIMAL, *(functools.partial(s, temperature=0.3) for s in SOFT)]
    )
    def test_batches_of_any_part(self, solve):
        rng = np.random.default_rng(0)
        single = TabularMDP.random(5, 2, discount=0.8, seed=0)
        rewards = rng.standard_normal((4, 5, 2))
        result = solve(TabularMDP(single.transitions, rewards, discount=0.8))
        for i in range(4):
            np.testing.assert_allclose(
                result.value[i], solve(single.with_reward(rewards[i])).value, atol=1e-10
            )
        ends = np.array([[False] * 5, [False] * 4 + [True]])
        absorbing = [make_absorbing(single.transitions, single.reward, end) for end in ends]
        mixed = TabularMDP(
            np.stack([a[0] for a in absorbing]),
            np.stack([a[1] for a in absorbing]),
            discount=0.8,
            terminal=ends,
        )
        result = solve(mixed)
        for i in range(2):
            alone = solve(TabularMDP(*absorbing[i], discount=0.8, terminal=ends[i]))
            np.testing.assert_allclose(result.value[i], alone.value, atol=1e-10)

    def test_a_thousand_processes_in_one_call(self):
        batch = TabularMDP.random(8, 3, discount=0.95, seed=1, batch_shape=(1000,))
        for solve in (
            planning.value_iteration,
            planning.policy_iteration,
            functools.partial(planning.soft_value_iteration, temperature=0.5),
        ):
            result = solve(batch)
            assert result.converged.all() and result.residual.max() <= 1e-12

    def test_frozen_lake_against_an_independent_program(self):
        pytest.importorskip("gymnasium")
        mdp = TabularMDP.from_gymnasium("FrozenLake-v1", discount=0.97, is_slippery=True)
        expected = lp_values(mdp)
        for solve in OPTIMAL:
            result = solve(mdp)
            np.testing.assert_allclose(result.value, expected, atol=1e-7)
            assert result.residual <= 1e-12 and certificate(mdp, result.value) <= 1e-12
        assert (result.value[mdp.terminal] == 0).all() and result.value.max() < 1

    @given(mdps(max_states=4), st.data())
    def test_backups_contract(self, mdp, data):
        draw = functools.partial(data.draw, tables((mdp.n_states,), low=-5, high=5))
        u, v = draw(), draw()
        gap = np.abs(u - v).max()
        for backup in (
            planning.bellman_backup,
            functools.partial(planning.soft_bellman_backup, temperature=0.7),
        ):
            up, down = (
                backup(mdp.transitions, mdp.reward, x, discount=mdp.discount) for x in (u, v)
            )
            assert np.abs(up - down).max() <= mdp.discount * gap + 1e-12
            higher = backup(mdp.transitions, mdp.reward, np.maximum(u, v), discount=mdp.discount)
            assert (higher >= np.maximum(up, down) - 1e-12).all()

    @given(mdps(discount=0.9, transition_rewards=False), st.data())
    def test_shaping_leaves_advantages_alone(self, mdp, data):
        phi = np.where(mdp.terminal, 0.0, data.draw(tables((mdp.n_states,), low=-3, high=3)))
        shaped = mdp.shaped(phi)
        for solve in (
            planning.policy_iteration,
            functools.partial(planning.soft_value_iteration, temperature=0.4),
        ):
            np.testing.assert_allclose(solve(shaped).advantage, solve(mdp).advantage, atol=1e-10)
            np.testing.assert_allclose(solve(shaped).value, solve(mdp).value - phi, atol=1e-10)

    @given(mdps(terminal=False, max_discount=0.9), st.floats(-3, 3))
    def test_a_constant_reward_moves_values_only(self, mdp, shift):
        plain, moved = (
            planning.value_iteration(mdp),
            planning.value_iteration(mdp.with_reward(mdp.reward + shift)),
        )
        np.testing.assert_allclose(moved.value, plain.value + shift / (1 - mdp.discount), atol=1e-9)
        np.testing.assert_allclose(moved.advantage, plain.advantage, atol=1e-9)

    @pytest.mark.parametrize("solve", OPTIMAL)
    @given(mdp=grid_worlds())
    def test_grid_worlds(self, solve, mdp):
        result = solve(mdp)
        assert result.residual <= 1e-12 and certificate(mdp, result.value) <= 1e-12

    def test_greedy_policy_is_optimal_and_shares_ties(self):
        mdp = TabularMDP(
            np.full((2, 3, 2), 0.5), np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]), discount=0.5
        )
        result = planning.value_iteration(mdp)
        np.testing.assert_allclose(result.policy, [[0.5, 0, 0.5], [1 / 3] * 3])
        np.testing.assert_allclose(
            planning.policy_evaluation(mdp, result.policy).value, result.value, atol=1e-12
        )
        np.testing.assert_array_equal(
            planning.greedy_policy(result.q_value, ties="first"), [[1, 0, 0], [1, 0, 0]]
        )

    @pytest.mark.parametrize(
        "solve", [planning.value_iteration, planning.modified_policy_iteration]
    )
    def test_the_span_stop_saves_sweeps_and_keeps_the_error(self, solve):
        mdp = TabularMDP.random_sparse(400, 3, 5, discount=0.99, seed=0)
        result = solve(mdp, tolerance=1e-8)
        exact = planning.policy_iteration(mdp).value
        assert result.residual <= 1e-8 and np.abs(result.value - exact).max() <= 1e-8 / (1 - 0.99)
        # The largest difference falls by 1 % a sweep: it alone would need log(1e8)/log(1/.99), more
        # than 1800 sweeps.
        assert result.iterations < 100

    @pytest.mark.parametrize("discount", [0.99, 0.999, 0.9999])
    @given(
        rewards=tables((3, 7, 2), low=-10.0, high=10.0),
        scale=st.sampled_from([1e-3, 1.0, 1e3]),
        length=st.integers(2, 7),
    )
    def test_the_rounding_of_sweeps_around_a_ring_does_not_add_up(
        self, discount, rewards, scale, length
    ):
        step = np.roll(np.eye(length), 1, axis=1)
        moves = np.stack([step, step.T], axis=1)
        mdp = TabularMDP(moves, scale * rewards[:, :length], discount=discount)
        result = planning.modified_policy_iteration(mdp, max_iterations=100)
        assert result.converged.all()
        exact = planning.policy_iteration(mdp)
        # Either is off by its residual over 1 - discount; a residual is known to some units of the
        # last place of the values.
        unit = 16 * np.finfo(float).eps * np.abs(exact.value).max(axis=-1)
        bound = (np.maximum(result.residual, unit) + exact.residual) / (1 - discount)
        assert (np.abs(result.value - exact.value).max(axis=-1) <= bound).all()

    def test_more_than_32_actions_take_the_general_path(self):
        mdp = TabularMDP.random(4, 40, discount=0.9, seed=0)
        for solve in OPTIMAL:
            np.testing.assert_allclose(solve(mdp).value, lp_values(mdp), atol=1e-6)

    def test_initial_value(self):
        mdp = TabularMDP.random(6, 3, discount=0.9, seed=0)
        exact = planning.policy_iteration(mdp).value
        warm = planning.value_iteration(mdp, initial_value=exact)
        assert warm.iterations <= 2 < planning.value_iteration(mdp).iterations
        np.testing.assert_allclose(warm.value, exact, atol=1e-11)


class TestBatches:
    """One call for many processes is a call for each of them."""

    @pytest.mark.parametrize("shared", ["nothing", "moves", "rewards"])
    def test_modified_policy_iteration_takes_what_is_shared(self, shared):
        batch = TabularMDP.random(6, 3, discount=0.9, seed=0, batch_shape=(2, 4))
        transitions = batch.transitions[0, 0] if shared == "moves" else batch.transitions
        reward = batch.reward[0, 0] if shared == "rewards" else batch.reward
        together = planning.modified_policy_iteration(TabularMDP(transitions, reward, discount=0.9))
        for index in np.ndindex(2, 4):
            alone = planning.modified_policy_iteration(
                TabularMDP(
                    transitions if shared == "moves" else transitions[index],
                    reward if shared == "rewards" else reward[index],
                    discount=0.9,
                )
            )
            np.testing.assert_allclose(together.value[index], alone.value, atol=1e-10)
            np.testing.assert_array_equal(together.policy[index], alone.policy)


class TestQuantEcon:
    @pytest.mark.parametrize("seed", range(3))
    def test_same_values_and_policy(self, seed):
        markov = pytest.importorskip("quantecon.markov")
        mdp = TabularMDP.random_sparse(60, 4, 6, discount=0.95, seed=seed)
        pairs = np.repeat(np.arange(60), 4), np.tile(np.arange(4), 60)
        theirs = markov.DiscreteDP(
            mdp.reward.ravel(), sp.csr_matrix(mdp.transitions), 0.95, *pairs
        ).solve(method="policy_iteration")
        for solve in OPTIMAL:
            ours = solve(mdp)
            np.testing.assert_allclose(ours.value, theirs.v, atol=1e-10)
            np.testing.assert_array_equal(ours.policy.argmax(-1), theirs.sigma)

    def test_finite_horizon(self):
        markov = pytest.importorskip("quantecon.markov")
        mdp = TabularMDP.random(7, 3, discount=1.0, horizon=6, seed=0)
        values, policies = markov.backward_induction(
            markov.DiscreteDP(mdp.reward, mdp.transitions, 1.0), 6
        )
        ours = planning.value_iteration(mdp)
        np.testing.assert_allclose(ours.value, values, atol=1e-12)
        np.testing.assert_array_equal(ours.policy.argmax(-1), policies)


class TestUndiscounted:
    def corridor(self):
        return TabularMDP.grid_world(
            [[-1.0, -1.0, -1.0, 10.0]], terminal=[[False] * 3 + [True]], discount=1.0
        )

    @pytest.mark.parametrize("solve", OPTIMAL)
    def test_corridor(self, solve):
        for mdp in (self.corridor(), self.corridor().to_sparse()):
            np.testing.assert_allclose(solve(mdp).value, [8.0, 9.0, 10.0, 0.0], atol=1e-12)

    @pytest.mark.parametrize("solve", OPTIMAL)
    def test_lake(self, solve):
        pytest.importorskip("gymnasium")
        mdp = TabularMDP.from_gymnasium("FrozenLake-v1", discount=1.0, is_slippery=True)
        # Every step is free, so waiting is as good as walking: the returned policy must still
        # arrive.
        result = solve(mdp)
        np.testing.assert_allclose(result.value, lp_values(mdp), atol=1e-6)
        np.testing.assert_allclose(
            planning.policy_evaluation(mdp, result.policy).value, result.value, atol=1e-8
        )

    def test_expected_steps_to_the_end(self):
        mdp = TabularMDP(
            [[[0.75, 0.25]], [[0.0, 1.0]]], [[1.0], [0.0]], discount=1.0, terminal=[False, True]
        )
        for process in (mdp, mdp.to_sparse()):
            assert planning.policy_evaluation(process, [0, 0]).value[0] == pytest.approx(
                4.0, abs=1e-11
            )
            np.testing.assert_allclose(
                planning.occupancy(process, [0, 0]), [[4.0], [0.0]], atol=1e-10
            )

    def test_a_policy_that_never_ends(self):
        with pytest.raises(ValueError, match="by this policy, state 0 reaches none"):
            planning.policy_evaluation(self.corridor(), np.zeros(4, dtype=int))

    def test_infinite_value(self):
        free = TabularMDP.grid_world([[1.0, 1.0]], terminal=[[False, True]], discount=1.0)
        with pytest.warns(
            ConvergenceWarning,
            match="value_iteration stopped after 50 iterations with Bellman residual 1 ",
        ):
            assert not planning.value_iteration(free, max_iterations=50).converged
        with pytest.raises(ValueError, match="no finite solution"):
            planning.linear_program(free)
        with pytest.raises(ValueError, match="reaches none"):
            planning.policy_iteration(free)
