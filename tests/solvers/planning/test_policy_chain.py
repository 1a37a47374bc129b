"""Linear systems of chains too large to factorise, or too slow to iterate."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from prefsim.solvers import planning
from prefsim.solvers.planning.policy_chain import policy_chain, solve_chain
from prefsim.worlds.mdp import TabularMDP


def test_large_sparse_systems():
    mdp = TabularMDP.random_sparse(30_000, 2, 4, discount=0.99, seed=0)
    actions = np.random.default_rng(0).integers(2, size=30_000)
    result = planning.policy_evaluation(mdp, actions)
    assert result.residual <= 1e-12
    transposed = solve_chain(
        policy_chain(mdp, np.eye(2)[actions]), mdp.start_probs, mdp, transposed=True
    )
    assert transposed.sum() == pytest.approx(100.0, rel=1e-9)


def test_slow_cycle_falls_back_to_a_factorisation():
    # Krylov methods stall on a long, barely discounted cycle; the factorisation has no fill-in
    # there.
    n = 3000
    table = sp.csr_array((np.ones(n), ((np.arange(n) + 1) % n), np.arange(n + 1)), shape=(n, n))
    mdp = TabularMDP(table, np.eye(n)[:, :1], discount=0.9999)
    result = planning.policy_evaluation(mdp, np.zeros(n, dtype=int))
    expected = 0.9999 ** ((n - np.arange(n)) % n) / (1 - 0.9999**n)
    np.testing.assert_allclose(result.value, expected, rtol=1e-9)


@pytest.mark.parametrize("library", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
def test_a_policy_in_single_precision_stands_for_what_it_rounds(library):
    transitions = np.full((3, 3, 3), 1 / 3)
    mdp = TabularMDP(transitions, np.ones((3, 3)), discount=0.999)
    policy = library(np.full((3, 3), 1 / 3, dtype=np.float32))
    value = planning.policy_evaluation(mdp, policy).value
    np.testing.assert_allclose(value, np.full(3, 1000.0), rtol=1e-9)
