"""Policies evaluated: values, occupancies, successor features; finite horizons."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planning_oracles import certificate

from prefsim.policies import TabularPolicy
from prefsim.solvers import planning
from prefsim.testing.bandits import tables
from prefsim.testing.mdps import (
    action_tables,
    mdps,
    mdps_with_policy,
    stochastic_policies,
)
from prefsim.worlds.mdp import TabularMDP


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

    @pytest.mark.parametrize("horizon", [None, 3])
    def test_who_starts_at_an_end_visits_nothing(self, horizon):
        drawn = TabularMDP.random(4, 2, discount=0.9, seed=3, n_terminal=1)
        mdp = TabularMDP(
            drawn.transitions,
            drawn.reward,
            discount=0.9,
            terminal=drawn.terminal,
            start_probs=np.full(4, 0.25),
            horizon=horizon,
        )
        policy = TabularPolicy.random(4, 2, seed=1).probs
        visits = planning.occupancy(mdp, policy)
        assert not visits[..., mdp.terminal, :].any()
        value = planning.policy_evaluation(mdp, policy).value
        first = value if horizon is None else value[0]
        assert (visits * mdp.reward).sum() == pytest.approx(first.mean(), abs=1e-12)
        if horizon is not None:
            assert visits[0].sum() == pytest.approx(0.75, abs=1e-12)

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
