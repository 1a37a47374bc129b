"""Layers against one large table, and what is linear."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.solvers import planning
from prefsim.solvers.planning.layered import (
    check_linear_q,
    layered_occupancy,
    layered_optimum,
    layered_values,
    linear_q_residual,
)
from prefsim.worlds import LinearMDP
from prefsim.worlds.transitions import arriving, expected_next

H, S, A = 3, 2, 3


def drawn(seed, batch=()):
    rng = np.random.default_rng(seed)
    process = LinearMDP.random(H, S, A, 2, seed=rng, batch_shape=batch)
    return process, rng.random((*batch, H, S, A)), rng.dirichlet(np.ones(A), (*batch, H, S))


def as_table(policy):
    """The policy of the one large table, which plays anything at the end."""
    evenly = np.full((1, A), 1 / A)
    return np.concatenate([policy.reshape(H * S, A), evenly])


@given(st.integers(0, 10**6))
def test_values_and_visits_are_those_of_one_large_table(seed):
    process, losses, policy = drawn(seed)
    mdp, table = process.to_mdp(losses), as_table(policy)
    plan = planning.policy_evaluation(mdp, table)
    q_value = layered_values(process.transitions, losses, policy)
    visits = layered_occupancy(process.transitions, policy, process.start_probs)
    best = layered_optimum(process.transitions, losses)
    optimal = planning.value_iteration(mdp)
    counted = planning.occupancy(mdp, table)
    for h in range(H):
        rows = slice(h * S, (h + 1) * S)
        np.testing.assert_allclose(-plan.q_value[h, rows], q_value[h], atol=1e-12)
        np.testing.assert_allclose(counted[h, rows], visits[h], atol=1e-13)
        np.testing.assert_allclose(-optimal.value[h, rows], best.value[h], atol=1e-12)
    np.testing.assert_allclose(visits.sum(axis=(1, 2)), 1.0, atol=1e-13)
    np.testing.assert_allclose((best.policy * best.q_value).sum(axis=-1), best.value, atol=1e-13)
    assert (best.policy.sum(axis=-1) == 1).all()


def test_no_policy_costs_less_than_the_optimum():
    process, losses, _ = drawn(3)
    every = np.eye(A)[np.array(list(itertools.product(range(A), repeat=H * S)))]
    q_value = layered_values(process.transitions, losses, every.reshape(-1, H, S, A))
    values = (every.reshape(-1, H, S, A) * q_value)[:, 0].sum(axis=-1)
    best = layered_optimum(process.transitions, losses)
    np.testing.assert_allclose(values.min(axis=0), best.value[0], atol=1e-13)


def test_axes_before_the_batch_are_shared():
    process, losses, policy = drawn(0, (2,))
    more = np.stack([policy, policy[..., ::-1], policy[..., ::-1, :]])
    together = layered_values(process.transitions, losses, more, growth=1.5)
    visits = layered_occupancy(process.transitions, more, process.start_probs)
    for i, j in itertools.product(range(3), range(2)):
        alone = layered_values(process.transitions[j], losses[j], more[i, j], growth=1.5)
        np.testing.assert_allclose(together[i, j], alone, atol=1e-14)
        seen = layered_occupancy(process.transitions[j], more[i, j], process.start_probs)
        np.testing.assert_allclose(visits[i, j], seen, atol=1e-14)


def test_growth_counts_the_layers():
    moves, ones, policy = np.ones((2, 1, 1, 1)), np.ones((3, 1, 1)), np.ones((3, 1, 1))
    found = layered_values(moves, ones, policy, growth=2.0)[:, 0, 0]
    assert found.tolist() == [7.0, 3.0, 1.0]


def test_on_torch():
    process, losses, policy = drawn(1)
    moves, costs, probs = map(torch.as_tensor, (process.transitions, losses, policy))
    np.testing.assert_allclose(
        layered_values(moves, costs, probs), layered_values(process.transitions, losses, policy)
    )
    best = layered_optimum(moves, costs)
    np.testing.assert_allclose(best.value, layered_optimum(process.transitions, losses).value)


@given(st.integers(0, 10**6))
def test_linear_processes_are_linear_and_others_are_not(seed):
    rng = np.random.default_rng(seed)
    process, rough, policy = drawn(seed)
    losses = process.losses(rng.random((H, 2)))
    args = (process.features, policy)
    assert (linear_q_residual(process.transitions, losses, *args) < 1e-13).all()
    check_linear_q(process.transitions, losses, *args)
    assert linear_q_residual(process.transitions, rough, *args)[-1] > 1e-6
    with pytest.raises(ValueError, match="action values must be linear in the features"):
        check_linear_q(process.transitions, rough, *args)


@given(st.integers(0, 10**6))
def test_what_arrives_is_the_transpose_of_what_is_expected(seed):
    process, _, _ = drawn(seed)
    rng = np.random.default_rng(seed)
    visits, value = rng.random((S, A)), rng.standard_normal(S)
    moves = np.asarray(process.transitions[0])
    there = (arriving(moves, visits) * value).sum()
    np.testing.assert_allclose(there, (visits * expected_next(moves, value)).sum(), atol=1e-13)


def test_bad_input():
    process, losses, policy = drawn(0)
    with pytest.raises(ValueError, match=r"transitions must have trailing shape \(2, 2, 3, 2\)"):
        layered_values(process.transitions[:1], losses, policy)
    with pytest.raises(ValueError, match="policy must have trailing shape"):
        layered_values(process.transitions, losses, policy[..., :2])
    with pytest.raises(ValueError, match="growth must be"):
        layered_values(process.transitions, losses, policy, growth=0.0)
    with pytest.raises(ValueError, match="start_probs must have trailing shape"):
        layered_occupancy(process.transitions, policy, np.ones(5))
    with pytest.raises(ValueError, match="costs must have trailing shape"):
        layered_optimum(process.transitions, losses[0, 0])
    with pytest.raises(ValueError, match="features must have trailing shape"):
        linear_q_residual(process.transitions, losses, process.features[:1], policy)


@pytest.mark.parametrize("size", [1e-10, 1.0, 1e10])
def test_how_linear_does_not_depend_on_the_unit(size):
    moves, evenly = np.ones((0, 1, 3, 1)), np.full((1, 1, 3), 1 / 3)
    features = np.array([[[[1.0], [2.0], [3.0]]]])
    check_linear_q(moves, size * np.array([[[1.0, 2.0, 3.0]]]), features, evenly)
    with pytest.raises(ValueError, match="action values must be linear"):
        check_linear_q(moves, size * np.array([[[1.0, 3.0, 9.0]]]), features, evenly)
