import functools
import warnings

import array_api_strict
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from prefsim.backend import use_backend
from prefsim.policies import TabularPolicy
from prefsim.solvers import ConvergenceWarning, planning
from prefsim.solvers.planning.evaluation import policy_chain, solve_chain
from prefsim.testing.bandits import tables
from prefsim.testing.mdps import (
    action_tables,
    grid_worlds,
    mdps,
    mdps_with_policy,
    stochastic_policies,
)
from prefsim.worlds.mdp import TabularMDP
from prefsim.worlds.transitions import make_absorbing

OPTIMAL = [
    planning.value_iteration,
    planning.policy_iteration,
    planning.modified_policy_iteration,
    planning.linear_program,
]
SOFT = [
    functools.partial(planning.soft_value_iteration, method=method)
    for method in ("newton", "sweeps")
]
SWAP = np.eye(2)[[[0, 1], [1, 0]]]


def certificate(mdp, value, policy=None, temperature=None, log_reference=0.0):
    """The Bellman residual in plain NumPy loops over states and actions, without the library."""
    dense = mdp.to_dense()
    worst = 0.0
    for s in range(mdp.n_states):
        q = np.array(
            [
                dense.reward[s, a] + mdp.discount * dense.transitions[s, a] @ value
                for a in range(mdp.n_actions)
            ]
        )
        if policy is not None:
            backed_up = policy[s] @ q
        elif temperature is None:
            backed_up = q.max()
        else:
            z = q / temperature + np.broadcast_to(log_reference, dense.reward.shape)[s]
            backed_up = temperature * (z.max() + np.log(np.exp(z - z.max()).sum()))
        worst = max(worst, abs((0.0 if mdp.terminal[s] else backed_up) - value[s]))
    return worst


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


def simulate(mdp, policy, steps, seed, n):
    """Discounted returns of played episodes."""
    rng = np.random.default_rng(seed)
    state = rng.choice(mdp.n_states, size=n, p=mdp.start_probs)
    total = np.zeros(n)
    for t in range(steps):
        action = (rng.random((n, 1)) < np.cumsum(policy[state], axis=-1)).argmax(-1)
        after = mdp.sample_next(state, action, seed=rng)
        total += mdp.discount**t * mdp.transition_reward_at(state, action, after)
        state = after
    return total


class TestOptimal:
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


class TestSoft:
    @pytest.mark.parametrize("solve", SOFT)
    @pytest.mark.parametrize("sparse", [False, True])
    def test_golden_values(self, solve, sparse):
        mdp = TabularMDP(SWAP, [[0.0, 1.0], [0.5, 0.0]], discount=0.9)
        result = solve(mdp.to_sparse() if sparse else mdp, temperature=0.5)
        np.testing.assert_allclose(result.value, [7.97830252, 7.62777071], atol=5e-9)
        np.testing.assert_allclose(
            result.advantage, [[-0.79783025, -0.11330888], [-0.26277707, -0.44729844]], atol=5e-9
        )
        np.testing.assert_allclose(
            result.policy, [[0.20277455, 0.79722545], [0.59122765, 0.40877235]], atol=5e-9
        )

    @pytest.mark.parametrize("solve", SOFT)
    @given(mdp=mdps(max_states=4), temperature=st.floats(0.05, 3.0))
    def test_certificate_and_identities(self, solve, mdp, temperature):
        result = solve(mdp, temperature=temperature)
        assert result.converged and result.residual <= 1e-12
        assert certificate(mdp, result.value, temperature=temperature) <= 1e-11
        going = ~mdp.terminal
        np.testing.assert_allclose(
            np.exp(result.advantage[going] / temperature).sum(-1), 1.0, atol=1e-10
        )
        np.testing.assert_allclose(
            result.advantage[going], temperature * np.log(result.policy[going]), atol=1e-10
        )
        np.testing.assert_array_equal(result.value[mdp.terminal], 0.0)
        sparse = solve(mdp.to_sparse(), temperature=temperature)
        np.testing.assert_allclose(sparse.value, result.value, atol=1e-10)

    @pytest.mark.parametrize("solve", SOFT)
    @given(
        instance=mdps_with_policy(max_states=4, full_support=False), temperature=st.floats(0.1, 2.0)
    )
    def test_reference(self, solve, instance, temperature):
        mdp, reference = instance
        result = solve(mdp, temperature=temperature, reference=reference)
        with np.errstate(divide="ignore"):
            log_reference = np.log(reference)
        assert (
            certificate(mdp, result.value, temperature=temperature, log_reference=log_reference)
            <= 1e-11
        )
        assert (result.policy[reference == 0] == 0).all()
        allowed = reference > 0
        np.testing.assert_allclose(
            result.policy[allowed],
            (reference * np.exp(result.advantage / temperature))[allowed],
            atol=1e-10,
        )
        # The value is the return minus the discounted divergence from the reference, evaluated with
        # the policy held fixed.
        used = result.policy > 0
        ratio = np.log(np.where(used, result.policy, 1.0)) - np.where(used, log_reference, 0.0)
        divergence = result.policy * np.where(used, ratio, 0.0)
        penalty = np.where(mdp.terminal, 0.0, divergence.sum(-1))
        kept = mdp.with_reward(mdp.reward - temperature * penalty[:, None])
        np.testing.assert_allclose(
            planning.policy_evaluation(kept, result.policy).value, result.value, atol=1e-8
        )

    @given(mdps(max_states=4, max_discount=0.9))
    def test_limits_of_the_temperature(self, mdp):
        hard = planning.policy_iteration(mdp).value
        temperature = 1e-3
        soft = planning.soft_value_iteration(mdp, temperature=temperature).value
        slack = temperature * np.log(mdp.n_actions) / (1 - mdp.discount)
        assert (soft >= hard - 1e-9).all() and (soft <= hard + slack + 1e-9).all()

    @given(mdps(terminal=False), st.data())
    def test_any_policy_is_soft_optimal_for_its_own_logarithm(self, mdp, data):
        policy, temperature = data.draw(stochastic_policies(mdp)), 0.3
        result = planning.soft_value_iteration(
            mdp.with_reward(temperature * np.log(policy)), temperature=temperature
        )
        np.testing.assert_allclose(result.value, 0.0, atol=1e-11)
        np.testing.assert_allclose(result.policy, policy, atol=1e-11)

    def test_uniform_reference_is_entropy_up_to_a_constant(self):
        mdp = TabularMDP.random(5, 3, discount=0.9, seed=0)
        free = planning.soft_value_iteration(mdp, temperature=0.5)
        tied = planning.soft_value_iteration(
            mdp, temperature=0.5, reference=TabularPolicy.uniform(5, 3)
        )
        np.testing.assert_allclose(free.value - tied.value, 0.5 * np.log(3) / 0.1, atol=1e-10)
        np.testing.assert_allclose(free.policy, tied.policy, atol=1e-12)

    def test_undiscounted(self):
        mdp = TabularMDP.grid_world(
            [[-1.0, -1.0, -1.0, 10.0]], terminal=[[False] * 3 + [True]], discount=1.0
        )
        for solve in SOFT:
            result = solve(mdp, temperature=0.1)
            assert (
                result.residual <= 1e-12
                and certificate(mdp, result.value, temperature=0.1) <= 1e-12
            )

    def test_gradients_are_exact(self):
        single = TabularMDP.random(4, 3, discount=0.9, seed=0, n_terminal=1)
        weight = torch.as_tensor(np.random.default_rng(0).standard_normal((4, 3)))
        alive = torch.as_tensor(~single.terminal)[:, None]
        logits = torch.as_tensor(np.random.default_rng(1).standard_normal((4, 3, 4)))
        stay = torch.eye(4, dtype=torch.float64)[:, None, :].expand(4, 3, 4)

        def output(reward, moves):
            table = torch.where(alive[..., None], torch.softmax(moves, -1), stay)
            with use_backend("torch"):
                mdp = TabularMDP(
                    table, torch.where(alive, reward, 0.0), discount=0.9, terminal=single.terminal
                )
            result = planning.soft_value_iteration(mdp, temperature=0.4)
            return (
                (weight * result.policy).sum()
                + result.value.sum()
                + (weight**2 * result.advantage).sum()
            )

        reward = torch.as_tensor(single.reward).clone().requires_grad_()
        assert torch.autograd.gradcheck(
            output, (reward, logits.clone().requires_grad_()), atol=1e-6, fast_mode=True
        )

    def test_gradient_of_optimal_values_is_the_occupancy(self):
        single = TabularMDP.random(5, 3, discount=0.9, seed=0)
        with use_backend("torch"):
            reward = torch.as_tensor(single.reward).clone().requires_grad_()
            mdp = TabularMDP(single.transitions, reward, discount=0.9)
            result = planning.policy_iteration(mdp)
            (mdp.start_probs @ result.value).backward()
            visits = planning.occupancy(mdp.with_reward(reward.detach()), result.policy.detach())
        torch.testing.assert_close(reward.grad, visits, atol=1e-10, rtol=0)


class TestEvaluation:
    @given(mdps_with_policy())
    def test_certificate(self, instance):
        mdp, policy = instance
        for process in (mdp, mdp.to_sparse()):
            result = planning.policy_evaluation(process, policy)
            assert result.converged and result.residual <= 1e-12
            assert certificate(mdp, result.value, policy=policy) <= 1.1e-12

    @given(mdps_with_policy())
    def test_no_policy_beats_the_optimum(self, instance):
        mdp, policy = instance
        best = planning.policy_iteration(mdp)
        assert (planning.policy_evaluation(mdp, policy).value <= best.value + 1e-9).all()
        assert (planning.advantages(mdp, policy).max(-1) >= -1e-12).all()

    @given(mdps_with_policy())
    def test_performance_difference(self, instance):
        mdp, policy = instance
        other = planning.value_iteration(mdp).policy
        gain = (
            planning.policy_evaluation(mdp, policy).value
            - planning.policy_evaluation(mdp, other).value
        ) @ mdp.start_probs
        visits = planning.occupancy(mdp, policy)
        assert (visits * planning.advantages(mdp, other)).sum() == pytest.approx(gain, abs=1e-9)

    @given(mdps_with_policy())
    def test_occupancy_gives_the_return(self, instance):
        mdp, policy = instance
        for process in (mdp, mdp.to_sparse()):
            visits = planning.occupancy(process, policy)
            assert (visits >= -1e-14).all() and (visits[mdp.terminal] == 0).all()
            expected = planning.policy_evaluation(mdp, policy).value @ mdp.start_probs
            assert (visits * mdp.reward).sum() == pytest.approx(expected, abs=1e-10)
            if not mdp.terminal.any():
                assert visits.sum() == pytest.approx(1 / (1 - mdp.discount), rel=1e-10)

    @given(mdps_with_policy(max_states=4, horizon=None), st.data())
    def test_successor_features_give_values_of_linear_rewards(self, instance, data):
        mdp, policy = instance
        phi = data.draw(tables((mdp.n_states, mdp.n_actions, mdp.n_states, 2), low=-2, high=2))
        w = np.array([0.7, -1.3])
        expected_phi = (mdp.transitions[..., None] * phi).sum(-2)
        linear = mdp.with_reward(np.where(mdp.terminal[:, None], 0.0, expected_phi @ w))
        result = planning.policy_evaluation(linear, policy)
        for process, features in ((mdp, phi), (mdp, expected_phi), (mdp.to_sparse(), expected_phi)):
            found = planning.successor_features(process, policy, features)
            np.testing.assert_allclose(found.state @ w, result.value, atol=1e-10)
            np.testing.assert_allclose(found.state_action @ w, result.q_value, atol=1e-10)

    def test_values_are_mean_returns_of_play(self):
        mdp = TabularMDP.random(5, 3, discount=0.8, seed=0, n_terminal=1, transition_rewards=True)
        policy = np.asarray(TabularPolicy.random(5, 3, seed=1).probs)
        returns = simulate(mdp, policy, 80, 2, 20_000)
        expected = planning.policy_evaluation(mdp, policy).value @ mdp.start_probs
        assert abs(returns.mean() - expected) <= 5 * returns.std() / np.sqrt(20_000)

    @given(mdps(), st.data())
    def test_actions_stand_for_their_policy(self, mdp, data):
        actions = data.draw(action_tables(mdp))
        table = np.eye(mdp.n_actions)[actions]
        np.testing.assert_array_equal(
            planning.policy_evaluation(mdp, actions).value,
            planning.policy_evaluation(mdp, table).value,
        )

    def test_policy_objects(self):
        mdp, policy = (
            TabularMDP.random(4, 3, discount=0.9, seed=0),
            TabularPolicy.random(4, 3, seed=0),
        )
        np.testing.assert_array_equal(
            planning.advantages(mdp, policy), planning.advantages(mdp, policy.probs)
        )

    def test_batches_of_policies_and_processes(self):
        mdp = TabularMDP.random(4, 2, discount=0.9, seed=0, batch_shape=(3,))
        policies = np.asarray(TabularPolicy.random(4, 2, seed=0, batch_shape=(3,)).probs)
        phi = np.random.default_rng(0).standard_normal((4, 2, 5))
        values, visits = (
            planning.policy_evaluation(mdp, policies).value,
            planning.occupancy(mdp, policies),
        )
        successor = planning.successor_features(mdp, policies, phi)
        own = planning.successor_features(mdp, policies, np.stack([phi, 2 * phi, 3 * phi]))
        assert successor.state.shape == (3, 4, 5) and successor.state_action.shape == (3, 4, 2, 5)
        for i in range(3):
            single = TabularMDP(mdp.transitions[i], mdp.reward[i], discount=0.9)
            np.testing.assert_allclose(
                values[i], planning.policy_evaluation(single, policies[i]).value, atol=1e-11
            )
            np.testing.assert_allclose(
                visits[i], planning.occupancy(single, policies[i]), atol=1e-11
            )
            alone = planning.successor_features(single, policies[i], phi)
            np.testing.assert_allclose(successor.state[i], alone.state, atol=1e-11)
            np.testing.assert_allclose(
                own.state_action[i], (i + 1) * alone.state_action, atol=1e-10
            )
        shared = planning.policy_evaluation(mdp, policies[0]).value
        np.testing.assert_allclose(shared[0], values[0], atol=1e-12)

    def test_large_sparse_systems(self):
        mdp = TabularMDP.random_sparse(30_000, 2, 4, discount=0.99, seed=0)
        actions = np.random.default_rng(0).integers(2, size=30_000)
        result = planning.policy_evaluation(mdp, actions)
        assert result.residual <= 1e-12
        transposed = solve_chain(
            policy_chain(mdp, np.eye(2)[actions]), mdp.start_probs, mdp, transposed=True
        )
        assert transposed.sum() == pytest.approx(100.0, rel=1e-9)

    def test_slow_cycle_falls_back_to_a_factorisation(self):
        # Krylov methods stall on a long, barely discounted cycle; the factorisation has no fill-in
        # there.
        n = 3000
        table = sp.csr_array((np.ones(n), ((np.arange(n) + 1) % n), np.arange(n + 1)), shape=(n, n))
        mdp = TabularMDP(table, np.eye(n)[:, :1], discount=0.9999)
        result = planning.policy_evaluation(mdp, np.zeros(n, dtype=int))
        expected = 0.9999 ** ((n - np.arange(n)) % n) / (1 - 0.9999**n)
        np.testing.assert_allclose(result.value, expected, rtol=1e-9)


class TestFiniteHorizon:
    @given(mdps(max_states=4, horizon=3, discount=1.0))
    def test_backward_induction_by_enumeration_of_time(self, mdp):
        result = planning.value_iteration(mdp)
        assert result.value.shape == (4, mdp.n_states) and result.q_value.shape == (
            3,
            mdp.n_states,
            mdp.n_actions,
        )
        value = np.zeros(mdp.n_states)
        for t in (2, 1, 0):
            q = mdp.reward + np.einsum("sat,t->sa", mdp.transitions, value)
            np.testing.assert_allclose(result.q_value[t], q, atol=1e-12)
            value = q.max(-1)
            np.testing.assert_allclose(result.value[t], value, atol=1e-12)
        assert result.residual <= 1e-12 and result.converged
        np.testing.assert_allclose(
            planning.value_iteration(mdp.to_sparse()).value, result.value, atol=1e-12
        )

    @given(mdps(max_states=3, max_actions=2, terminal=False, horizon=2), st.data())
    def test_policies_of_time(self, mdp, data):
        policy = data.draw(stochastic_policies(mdp))
        assert policy.shape == (2, mdp.n_states, mdp.n_actions)
        result = planning.policy_evaluation(mdp, policy)
        last = (policy[1] * mdp.reward).sum(-1)
        first = (
            policy[0] * (mdp.reward + mdp.discount * np.einsum("sat,t->sa", mdp.transitions, last))
        ).sum(-1)
        np.testing.assert_allclose(result.value, [first, last, np.zeros(mdp.n_states)], atol=1e-12)
        visits = planning.occupancy(mdp, policy)
        assert (visits * mdp.reward).sum() == pytest.approx(first @ mdp.start_probs, abs=1e-12)
        np.testing.assert_allclose(visits.sum((-1, -2)), [1.0, mdp.discount], atol=1e-12)
        psi = planning.successor_features(mdp, policy, mdp.reward[..., None])
        np.testing.assert_allclose(psi.state[..., 0], result.value, atol=1e-12)
        np.testing.assert_allclose(psi.state_action[..., 0], result.q_value, atol=1e-12)

    def test_long_horizons_approach_the_infinite_one(self):
        mdp = TabularMDP.random(5, 3, discount=0.5, seed=0)
        long = TabularMDP(mdp.transitions, mdp.reward, discount=0.5, horizon=60)
        np.testing.assert_allclose(
            planning.value_iteration(long).value[0],
            planning.policy_iteration(mdp).value,
            atol=1e-12,
        )
        soft_long, soft = (planning.soft_value_iteration(m, temperature=0.3) for m in (long, mdp))
        np.testing.assert_allclose(soft_long.value[0], soft.value, atol=1e-12)
        np.testing.assert_allclose(
            planning.advantages(long)[0], planning.advantages(mdp), atol=1e-12
        )
        np.testing.assert_allclose(
            planning.advantages(long, temperature=0.3)[0],
            planning.advantages(mdp, temperature=0.3),
            atol=1e-12,
        )

    def test_batches(self):
        mdp = TabularMDP.random(
            4, 2, discount=1.0, horizon=3, seed=0, batch_shape=(5,), n_terminal=1
        )
        policy = np.asarray(TabularPolicy.random(4, 2, seed=0).probs)
        timed = np.broadcast_to(policy, (5, 3, 4, 2))
        result, evaluated = planning.value_iteration(mdp), planning.policy_evaluation(mdp, policy)
        assert (
            result.value.shape == (5, 4, 4)
            and result.policy.shape == (5, 3, 4, 2)
            and result.residual.shape == (5,)
        )
        np.testing.assert_allclose(
            evaluated.value, planning.policy_evaluation(mdp, timed).value, atol=1e-13
        )
        assert planning.occupancy(mdp, policy).shape == (5, 3, 4, 2)
        psi = planning.successor_features(
            mdp, policy, np.broadcast_to(mdp.reward[..., None], (5, 4, 2, 1))
        )
        np.testing.assert_allclose(psi.state[..., 0], evaluated.value, atol=1e-12)
        for i in range(5):
            alone = planning.value_iteration(
                TabularMDP(
                    mdp.transitions[i],
                    mdp.reward[i],
                    discount=1.0,
                    horizon=3,
                    terminal=mdp.terminal,
                )
            )
            np.testing.assert_allclose(result.value[i], alone.value, atol=1e-12)


class TestArrays:
    @pytest.mark.parametrize("reference", [None, np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])])
    def test_pure_backups_on_every_library(self, reference):
        rng = np.random.default_rng(0)
        table = rng.dirichlet(np.ones(2), size=(4, 2, 3))
        reward, value = rng.standard_normal((4, 2, 3)), rng.standard_normal((4, 2))
        with np.errstate(divide="ignore"):
            log_reference = None if reference is None else np.log(reference)
        terminal = np.array([False, True])
        expected = planning.bellman_backup(table, reward, value, discount=0.9)
        np.testing.assert_allclose(
            expected, (reward + 0.9 * np.einsum("bsat,bt->bsa", table, value)).max(-1), atol=1e-14
        )
        options = {"discount": 0.9, "temperature": 0.3}
        soft = planning.soft_bellman_backup(
            table, reward, value, **options, log_reference=log_reference, terminal=terminal
        )
        for convert in (array_api_strict.asarray, torch.as_tensor):
            arrays = [convert(x) for x in (table, reward, value)]
            log_mu = None if log_reference is None else convert(log_reference)
            found = planning.bellman_backup(*arrays, discount=0.9)
            again = planning.soft_bellman_backup(
                *arrays, **options, log_reference=log_mu, terminal=convert(terminal)
            )
            np.testing.assert_allclose(np.asarray(found), expected, atol=1e-14)
            np.testing.assert_allclose(np.asarray(again), soft, atol=1e-13)
            q = planning.action_values(*arrays, discount=0.9)
            for ties in ("first", "shared"):
                np.testing.assert_array_equal(
                    np.asarray(planning.greedy_policy(q, ties=ties)),
                    planning.greedy_policy(np.asarray(q), ties=ties),
                )
            policy = planning.soft_policy(q, temperature=0.3, log_reference=log_mu)
            np.testing.assert_allclose(np.asarray(policy).sum(-1), 1.0, atol=1e-14)

    def test_backups_have_gradients(self):
        rng = np.random.default_rng(0)
        table = torch.as_tensor(rng.dirichlet(np.ones(3), size=(3, 2)))
        inputs = [
            torch.as_tensor(rng.standard_normal(shape)).requires_grad_() for shape in ((3, 2), (3,))
        ]
        for backup in (
            planning.bellman_backup,
            functools.partial(planning.soft_bellman_backup, temperature=0.5),
        ):
            assert torch.autograd.gradcheck(
                lambda r, v, backup=backup: backup(table, r, v, discount=0.9), inputs
            )

    @pytest.mark.parametrize("n_terminal", [0, 1])
    def test_torch_equals_numpy(self, n_terminal):
        mdp = TabularMDP.random(6, 3, discount=0.9, seed=0, n_terminal=n_terminal, batch_shape=(4,))
        solvers = [*OPTIMAL, functools.partial(planning.soft_value_iteration, temperature=0.4)]
        policy = np.asarray(TabularPolicy.random(6, 3, seed=0).probs)
        phi = np.random.default_rng(0).standard_normal((6, 3, 2))
        with use_backend("torch"):
            other = TabularMDP.random(
                6, 3, discount=0.9, seed=0, n_terminal=n_terminal, batch_shape=(4,)
            )
            found = [solve(other) for solve in solvers]
            visits, psi = (
                planning.occupancy(other, policy),
                planning.successor_features(other, torch.as_tensor(policy), phi),
            )
        for solve, result in zip(solvers, found, strict=True):
            assert isinstance(result.value, torch.Tensor) and result.converged.all()
            np.testing.assert_allclose(result.value.numpy(), solve(mdp).value, atol=1e-11)
        np.testing.assert_allclose(visits.numpy(), planning.occupancy(mdp, policy), atol=1e-12)
        np.testing.assert_allclose(
            psi.state.numpy(), planning.successor_features(mdp, policy, phi).state, atol=1e-11
        )

    def test_single_precision(self):
        exact = planning.policy_iteration(TabularMDP.random(6, 3, discount=0.9, seed=0)).value
        for backend in ("numpy", "torch"):
            with use_backend(backend, dtype="float32"):
                mdp = TabularMDP.random(6, 3, discount=0.9, seed=0)
                for solve in (
                    *OPTIMAL,
                    functools.partial(planning.soft_value_iteration, temperature=1e-4),
                ):
                    result = solve(mdp)
                    assert result.converged and str(result.value.dtype).endswith("float32")
                    np.testing.assert_allclose(np.asarray(result.value), exact, rtol=1e-3)


class TestEdges:
    @pytest.mark.parametrize(
        "solve", [*OPTIMAL, *(functools.partial(s, temperature=0.5) for s in SOFT)]
    )
    def test_degenerate_processes(self, solve):
        single = TabularMDP(np.ones((1, 1, 1)), np.array([[2.0]]), discount=0.5)
        assert solve(single).value == pytest.approx([4.0])
        myopic = TabularMDP.random(3, 2, discount=0.0, seed=0)
        result = solve(myopic)
        np.testing.assert_allclose(result.q_value, myopic.reward)
        ended = TabularMDP(np.ones((1, 2, 1)), np.zeros((1, 2)), discount=1.0, terminal=[True])
        assert solve(ended).value == 0.0 and solve(ended).policy.tolist() == [[0.5, 0.5]]

    @pytest.mark.parametrize("solve", OPTIMAL)
    def test_large_values_converge_to_rounding(self, solve):
        mdp = TabularMDP.random(5, 3, discount=0.999, seed=0)
        result = solve(mdp.with_reward(1e6 * mdp.reward))
        assert (
            result.converged
            and result.residual <= 16 * np.finfo(float).eps * np.abs(result.value).max()
        )

    def test_stops_short_with_a_warning(self):
        mdp = TabularMDP.random(5, 3, discount=0.9, seed=0, batch_shape=(3,), n_terminal=1)
        for solve in (
            planning.value_iteration,
            functools.partial(planning.soft_value_iteration, temperature=0.1, method="sweeps"),
        ):
            with pytest.warns(
                ConvergenceWarning, match="stopped after 3 iterations.*3 of 3 processes"
            ):
                result = solve(mdp, max_iterations=3)
            assert not result.converged.any() and result.residual.min() > 1e-12
        with pytest.warns(ConvergenceWarning, match="modified_policy_iteration"):
            planning.modified_policy_iteration(mdp, max_iterations=1)
        with pytest.warns(ConvergenceWarning, match="policy_iteration"):
            planning.policy_iteration(
                TabularMDP.random(20, 5, discount=0.99, seed=0), max_iterations=1
            )

    @pytest.mark.parametrize(
        "option",
        [{"sweeps": 1}, {"sweeps": 5, "contraction": 1.0}, {"contraction": 0.01, "sweeps": 500}],
    )
    def test_options_of_modified_policy_iteration(self, option):
        mdp = TabularMDP.random_sparse(200, 3, 4, discount=0.95, seed=0)
        plain, other = (
            planning.modified_policy_iteration(mdp),
            planning.modified_policy_iteration(mdp, **option),
        )
        np.testing.assert_allclose(other.value, plain.value, atol=1e-10)
        assert other.residual != plain.residual

    def test_slow_chain_ends_in_a_krylov_solve(self, monkeypatch):
        from prefsim.solvers.planning import modified as module

        n = 300
        s = np.arange(n)[:, None]
        columns = np.stack([(s + np.array([1, -1])) % n, np.repeat(s, 2, 1)], -1).reshape(-1)
        table = sp.csr_array(
            (np.tile([0.5, 0.5], 2 * n), columns, np.arange(0, 4 * n + 1, 2)), shape=(2 * n, n)
        )
        mdp = TabularMDP(table, np.cos(2 * np.pi * s / n) + np.zeros((n, 2)), discount=0.999)
        called = []
        original = module.spla.bicgstab
        monkeypatch.setattr(
            module.spla,
            "bicgstab",
            lambda *args, **options: called.append(1) or original(*args, **options),
        )
        result = planning.modified_policy_iteration(mdp)
        assert called and result.residual <= 1e-12
        np.testing.assert_allclose(
            result.value, planning.policy_iteration(mdp.to_dense()).value, atol=1e-9
        )

    @pytest.mark.parametrize("lengths", [(3, 3), (2, 4)])
    def test_patched_chains_equal_fresh_ones(self, lengths):
        from prefsim.solvers.planning.bellman import SpanStop
        from prefsim.solvers.planning.modified import _SparseEvaluation

        rng = np.random.default_rng(0)
        table = np.zeros((12, 2, 12))
        for s, a in np.ndindex(12, 2):
            table[s, a, rng.choice(12, size=lengths[a], replace=False)] = 1 / lengths[a]
        mdp = TabularMDP(table, rng.standard_normal((12, 2)), discount=0.9).to_sparse()
        patched = _SparseEvaluation(mdp, SpanStop(mdp))
        action = rng.integers(2, size=12)
        for flip in range(6):
            action = np.where(np.arange(12) == flip, 1 - action, action)
            patched._adopt(patched.first_row + action)
            np.testing.assert_array_equal(patched.chain.toarray(), table[np.arange(12), action])
            np.testing.assert_array_equal(patched.paid, mdp.reward[np.arange(12), action])
        np.testing.assert_array_equal(mdp.to_dense().transitions, table)


MDP = TabularMDP.random(3, 2, discount=0.9, seed=0)
FINITE = TabularMDP.random(3, 2, discount=0.9, seed=0, horizon=2)
ENDED = TabularMDP.random(3, 2, discount=0.9, seed=0, n_terminal=1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: planning.value_iteration(MDP, tolerance=0.0),
            "tolerance must be a finite number > 0",
        ),
        (
            lambda: planning.value_iteration(MDP, tolerance=float("nan")),
            "tolerance must be a finite number > 0",
        ),
        (
            lambda: planning.value_iteration(MDP, max_iterations=0),
            "max_iterations must be an integer >= 1",
        ),
        (
            lambda: planning.value_iteration(MDP, initial_value=[0.0, 1.0]),
            "initial_value must have trailing shape",
        ),
        (
            lambda: planning.value_iteration(ENDED, initial_value=[0.0, 1.0, 2.0]),
            "initial_value must be 0 in every terminal state",
        ),
        (
            lambda: planning.value_iteration(FINITE, initial_value=[0.0] * 3),
            "initial_value is for an infinite horizon",
        ),
        (
            lambda: planning.soft_value_iteration(MDP, temperature=0.0),
            "temperature must be a finite number > 0",
        ),
        (
            lambda: planning.soft_value_iteration(FINITE, temperature=-1.0),
            "temperature must be a finite number > 0",
        ),
        (
            lambda: planning.soft_value_iteration(MDP, temperature=1.0, method="fast"),
            "method must be one of 'auto', 'sweeps', 'newton'",
        ),
        (
            lambda: planning.soft_value_iteration(MDP, temperature=1.0, reference=np.ones((3, 2))),
            "policy must sum to 1",
        ),
        (lambda: planning.policy_iteration(FINITE), "policy_iteration needs an infinite horizon"),
        (
            lambda: planning.policy_iteration(MDP, tolerance=-1.0),
            "tolerance must be a finite number > 0",
        ),
        (lambda: planning.linear_program(FINITE), "linear_program needs an infinite horizon"),
        (
            lambda: planning.linear_program(MDP, tolerance=0),
            "tolerance must be a finite number > 0",
        ),
        (
            lambda: planning.modified_policy_iteration(FINITE),
            "modified_policy_iteration needs an infinite horizon",
        ),
        (
            lambda: planning.modified_policy_iteration(MDP, sweeps=0),
            "sweeps must be an integer >= 1",
        ),
        (
            lambda: planning.modified_policy_iteration(MDP, contraction=0.0),
            r"contraction must lie in \(0.0, 1.0\]",
        ),
        (
            lambda: planning.policy_evaluation(MDP, np.full((3, 3), 1 / 3)),
            "policy must have trailing shape",
        ),
        (lambda: planning.policy_evaluation(MDP, np.full((3, 2), 0.6)), "policy must sum to 1"),
        (lambda: planning.policy_evaluation(MDP, [[1.5, -0.5]] * 3), "policy must be >= 0"),
        (lambda: planning.policy_evaluation(MDP, [[np.nan, 1.0]] * 3), "policy must be finite"),
        (
            lambda: planning.policy_evaluation(MDP, [0, 1, 2]),
            "policy must be >= 0 and < 2, got 2 at index 2",
        ),
        (lambda: planning.policy_evaluation(MDP, [0, 1]), "policy must have trailing shape"),
        (
            lambda: planning.policy_evaluation(MDP, np.full((2, 3, 2), 0.5)),
            r"policy must have shape \(3, 2\), got \(2, 3, 2\)",
        ),
        (
            lambda: planning.policy_evaluation(FINITE, np.full((3, 3, 2), 0.5)),
            r"shape \(3, 2\) or \(2, 3, 2\), got \(3, 3, 2\)",
        ),
        (lambda: planning.occupancy(MDP, "greedy"), "policy must"),
        (
            lambda: planning.successor_features(MDP, [0, 0, 0], np.ones((3, 3, 1))),
            "features must have trailing shape",
        ),
        (
            lambda: planning.successor_features(MDP, [0, 0, 0], np.full((3, 2, 1), np.inf)),
            "features must be finite",
        ),
        (
            lambda: planning.successor_features(MDP.to_sparse(), [0, 0, 0], np.ones((3, 2, 3, 1))),
            "need a dense process",
        ),
        (lambda: planning.advantages(MDP, [0, 0, 0], temperature=1.0), "a policy or a temperature"),
        (lambda: planning.greedy_policy(MDP.reward, ties="last"), "ties must be one of"),
        (lambda: planning.greedy_policy(MDP.reward, tolerance=-1.0), "tolerance must be"),
        (lambda: planning.soft_policy(MDP.reward, temperature=float("inf")), "temperature must be"),
    ],
)
def test_bad_input(call, message):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=message):
            call()
