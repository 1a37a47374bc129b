"""Soft-optimal planning: certificates, references, limits and exact gradients."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from planning_oracles import SOFT, certificate

from prefsim.backend import use_backend
from prefsim.policies import TabularPolicy
from prefsim.solvers import planning
from prefsim.testing.mdps import (
    mdps,
    mdps_with_policy,
    stochastic_policies,
)
from prefsim.worlds.mdp import TabularMDP

SWAP = np.eye(2)[[[0, 1], [1, 0]]]


class TestSoft:
    @pytest.mark.parametrize("solve", SOFT)
    @pytest.mark.parametrize("sparse", [False, True])
    def test_reference_values(self, solve, sparse):
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

    @given(
        mdp=mdps(max_states=4, horizon=3),
        temperature=st.floats(0.1, 2.0),
        seed=st.integers(0, 2**16),
    )
    def test_reference_at_a_finite_horizon(self, mdp, temperature, seed):
        reference = TabularPolicy.random(mdp.n_states, mdp.n_actions, seed=seed).probs
        result = planning.soft_value_iteration(mdp, temperature=temperature, reference=reference)
        value = np.zeros(mdp.n_states)
        going = ~mdp.terminal
        for t in (2, 1, 0):
            q = mdp.reward + mdp.discount * np.einsum("sat,t->sa", mdp.transitions, value)
            weight = reference * np.exp((q - q.max(-1, keepdims=True)) / temperature)
            value = np.where(going, q.max(-1) + temperature * np.log(weight.sum(-1)), 0.0)
            np.testing.assert_allclose(result.value[t], value, atol=1e-10)
            policy = weight / weight.sum(-1, keepdims=True)
            np.testing.assert_allclose(result.policy[t][going], policy[going], atol=1e-10)

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


@pytest.mark.parametrize("method", ["sweeps", "newton"])
def test_rewards_far_below_the_temperature(method):
    """Rewards of 1e-16 beside logarithms of the reference: these are what rounds."""
    mdp = TabularMDP(np.ones((1, 3, 1)), [[0.0, 0.0, 2.0**-52]], discount=0.625)
    result = planning.soft_value_iteration(
        mdp, temperature=1.0, reference=np.array([[0.0, 0.5, 0.5]]), method=method
    )
    assert result.converged
    np.testing.assert_allclose(result.policy, [[0.0, 0.5, 0.5]], atol=1e-15)
    np.testing.assert_allclose(result.value, 0.0, atol=1e-15)
