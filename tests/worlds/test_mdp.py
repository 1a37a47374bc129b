"""Tabular decision processes: tables, layouts, generators and backends."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from gymnasium_tables import REWARD, SWAP
from hypothesis import given
from hypothesis import strategies as st

from prefsim.backend import use_backend
from prefsim.solvers import planning
from prefsim.testing.mdps import grid_worlds, mdps
from prefsim.worlds.grid import grid_moves
from prefsim.worlds.mdp import TabularMDP
from prefsim.worlds.transitions import expected_next, make_absorbing


class TestTables:
    @given(mdps())
    def test_dense_and_sparse_hold_the_same(self, mdp):
        sparse = mdp.to_sparse()
        assert sparse.is_sparse and sparse.to_sparse() is sparse and mdp.to_dense() is mdp
        back = sparse.to_dense()
        np.testing.assert_array_equal(back.transitions, mdp.transitions)
        np.testing.assert_allclose(back.reward, mdp.reward, atol=1e-14)
        v = np.linspace(-1, 1, mdp.n_states)
        np.testing.assert_allclose(
            expected_next(sparse.transitions, v), expected_next(mdp.transitions, v), atol=1e-14
        )
        stacked = np.stack([v, 2 * v, v**2])
        np.testing.assert_allclose(
            expected_next(sparse.transitions, stacked),
            expected_next(mdp.transitions, stacked),
            atol=1e-14,
        )

    def test_rewards_of_transitions_are_expected(self):
        each = np.arange(8.0).reshape(2, 2, 2)
        half = np.full((2, 2, 2), 0.5)
        mdp = TabularMDP(half, each, discount=0.9)
        np.testing.assert_array_equal(mdp.reward, each.mean(-1))
        assert mdp.transition_reward_at([0, 1], [1, 0], [1, 1]).tolist() == [3.0, 5.0]
        assert mdp.to_sparse().transition_reward_at([0, 1], [1, 0], [1, 1]).tolist() == [3.0, 5.0]
        assert TabularMDP(half, REWARD, discount=0.9).transition_reward_at(
            [0, 1], 1, [1, 1]
        ).tolist() == [2.0, 4.0]

    def test_reward_forms_are_told_apart(self):
        assert TabularMDP(SWAP, np.zeros((5, 2, 2)), discount=0.9).batch_shape == (5,)
        assert TabularMDP(SWAP, np.ones((2, 2, 2)), discount=0.9).transition_reward is not None
        assert (
            TabularMDP(np.stack([SWAP, SWAP]), np.ones((2, 2, 2)), discount=0.9).transition_reward
            is None
        )
        assert (
            TabularMDP(np.stack([SWAP] * 3), np.ones((2, 2, 2)), discount=0.9).transition_reward
            is not None
        )

    def test_default_start_is_uniform_over_states_that_go_on(self):
        table, reward = make_absorbing(SWAP, REWARD, [False, True])
        assert TabularMDP(
            table, reward, discount=1.0, terminal=[False, True]
        ).start_probs.tolist() == [1.0, 0.0]
        assert TabularMDP(SWAP, REWARD, discount=0.5).start_probs.tolist() == [0.5, 0.5]

    def test_with_reward(self):
        mdp = TabularMDP.random(4, 2, discount=0.9, seed=0, n_terminal=1)
        changed = mdp.with_reward(2 * mdp.reward)
        np.testing.assert_allclose(
            planning.policy_iteration(changed).value,
            2 * planning.policy_iteration(mdp).value,
            rtol=1e-12,
        )
        assert changed.transitions is mdp.transitions
        with pytest.raises(ValueError, match="reward 0"):
            mdp.with_reward(np.ones((4, 2)))
        with pytest.raises(ValueError, match="trailing shape"):
            mdp.with_reward(np.ones((2, 4)))

    def test_the_callers_arrays_stay_as_they_are(self):
        table = sp.csr_array(SWAP.reshape(4, 2))
        unsorted = sp.csr_array(([0.5, 0.5] * 4, [1, 0] * 4, [0, 2, 4, 6, 8]), shape=(4, 2))
        before = unsorted.indices.copy()
        planning.modified_policy_iteration(TabularMDP(unsorted, REWARD, discount=0.9))
        planning.modified_policy_iteration(TabularMDP(table, REWARD, discount=0.9))
        np.testing.assert_array_equal(unsorted.indices, before)
        np.testing.assert_array_equal(table.toarray(), SWAP.reshape(4, 2))

    @given(st.integers(0, 50))
    def test_draws_follow_the_rows(self, seed):
        mdp = TabularMDP.random_sparse(9, 2, 3, discount=0.9, seed=seed)
        pairs = np.random.default_rng(seed).integers(0, [9, 2], size=(200, 2))
        dense = mdp.to_dense()
        after = mdp.sample_next(pairs[:, 0], pairs[:, 1], seed=seed)
        assert (dense.transitions[pairs[:, 0], pairs[:, 1], after] > 0).all()
        np.testing.assert_array_equal(after, dense.sample_next(pairs[:, 0], pairs[:, 1], seed=seed))

    def test_draws_have_the_right_frequencies(self):
        mdp = TabularMDP.random(4, 2, discount=0.9, seed=0)
        counts = np.bincount(mdp.sample_next(np.full(20_000, 2), 1, seed=1), minlength=4)
        p = mdp.transitions[2, 1]
        assert (np.abs(counts / 20_000 - p) <= 5 * np.sqrt(p * (1 - p) / 20_000)).all()


class TestGenerators:
    def test_seeds(self):
        for make in (
            lambda seed: TabularMDP.random(4, 3, discount=0.9, seed=seed),
            lambda seed: TabularMDP.random_sparse(40, 3, 5, discount=0.9, seed=seed).to_dense(),
        ):
            first, second, other = make(1), make(np.random.default_rng(1)), make(2)
            np.testing.assert_array_equal(first.transitions, second.transitions)
            assert not np.array_equal(first.transitions, other.transitions)

    def test_sparse_successors(self):
        mdp = TabularMDP.random_sparse(103, 3, 5, discount=0.9, seed=0)
        assert (np.diff(mdp.transitions.indptr) == 5).all()
        assert TabularMDP.random_sparse(4, 2, 4, discount=0.9, seed=0).transitions.nnz == 32

    def test_shapes_and_flags(self):
        mdp = TabularMDP.random(
            5,
            2,
            discount=0.9,
            seed=0,
            batch_shape=(3, 2),
            n_terminal=2,
            deterministic=True,
            transition_rewards=True,
        )
        assert (
            mdp.batch_shape == (3, 2)
            and mdp.transitions.shape == (3, 2, 5, 2, 5)
            and int(mdp.terminal.sum()) == 2
        )
        assert ((mdp.transitions == 0) | (mdp.transitions == 1)).all()

    def test_grid(self):
        mdp = TabularMDP.grid_world(
            [[-1.0, -2.0, 7.0], [-3.0, -4.0, -5.0]],
            terminal=[[False, False, True], [False] * 3],
            blocked=[[False] * 3, [False, True, False]],
            bump_reward=np.full((2, 3), -9.0),
            discount=0.9,
        )
        assert mdp.terminal.tolist() == [False, False, True, False, True, False]
        assert mdp.reward[0].tolist() == [-9.0, -3.0, -9.0, -2.0]
        assert mdp.reward[5].tolist() == [7.0, -9.0, -9.0, -9.0]
        assert mdp.transitions[1, 1].argmax() == 1 and mdp.start_probs[4] == 0

    @given(grid_worlds())
    def test_grids_are_deterministic_and_moves_are_inverse(self, mdp):
        assert (mdp.transitions.max(axis=-1) == 1).all()
        assert (mdp.transitions.sum(axis=-1) == 1).all()

    def test_grid_moves_come_back(self):
        moves = grid_moves(np.zeros((3, 4), dtype=bool))
        cells = np.arange(12)
        for there, back in ((0, 1), (2, 3)):
            moved = moves[cells, there] != cells
            np.testing.assert_array_equal(moves[moves[cells, there], back][moved], cells[moved])

    def test_large_grids_are_sparse(self):
        assert TabularMDP.grid_world(np.zeros((50, 50)), discount=0.9).is_sparse

    def test_shaping_keeps_advantages(self):
        for mdp in (
            TabularMDP.random(5, 3, discount=0.9, seed=0, n_terminal=1),
            TabularMDP.random(5, 3, discount=0.9, seed=0, n_terminal=1, transition_rewards=True),
            TabularMDP.random(
                5, 3, discount=0.9, seed=0, n_terminal=1, transition_rewards=True
            ).to_sparse(),
        ):
            phi = np.array([1.0, -2.0, 3.0, 0.5, 0.0])
            shaped = mdp.shaped(phi)
            np.testing.assert_allclose(
                planning.advantages(shaped), planning.advantages(mdp), atol=1e-11
            )
            np.testing.assert_allclose(
                planning.value_iteration(shaped).value,
                planning.value_iteration(mdp).value - phi,
                atol=1e-10,
            )
            if mdp.transition_reward is not None:
                dense, base = shaped.to_dense(), mdp.to_dense()
                supported = base.transitions > 0
                expected = base.transition_reward + 0.9 * phi[None, None, :] - phi[:, None, None]
                np.testing.assert_allclose(
                    dense.transition_reward[supported], expected[supported], atol=1e-12
                )
        with pytest.raises(ValueError, match="terminal"):
            mdp.shaped(np.ones(5))
        with pytest.raises(ValueError, match="infinite horizon"):
            TabularMDP.random(3, 2, discount=0.9, horizon=2, seed=0).shaped(np.ones(3))


class TestBackend:
    def test_torch_tables(self):
        with use_backend("torch"):
            mdp = TabularMDP.random(4, 2, discount=0.9, seed=0, n_terminal=1, batch_shape=(2,))
            assert all(
                isinstance(part, torch.Tensor)
                for part in (mdp.transitions, mdp.reward, mdp.start_probs, mdp.terminal)
            )
            assert mdp.batch_shape == (2,) and mdp.terminal.dtype == torch.bool
            assert (
                TabularMDP.random(4, 2, discount=0.9, seed=0).to_sparse().reward.dtype == np.float64
            )

    def test_import_is_light(self):
        code = (
            "import prefsim.worlds.mdp, sys; print([m for m in ('torch', 'gymnasium', 'hypothesis',"
            " 'cvxpy') if m in sys.modules])"
        )
        assert (
            subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            ).stdout.strip()
            == "[]"
        )
